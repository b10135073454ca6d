//! Pauses a sandbox: one write, and a wait (Q4). The first writer wins.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::change::{Decision, conflict};
use super::claiming::wait_error;
use super::deadline;
use super::engine::Engine;
use super::error::{ClaimError, ConflictReason, Step};
use super::lookup::Activity;
use super::runtime::clear_pending;
use super::target::Target;
use crate::api::v1alpha1::Sandbox;

/// Pauses a sandbox, and waits until it is paused.
pub(super) async fn pause(
    engine: &Engine,
    target: &Target,
    timeout: Duration,
) -> Result<Arc<Sandbox>, ClaimError> {
    let started = Instant::now();
    let result = course(engine, target, timeout).await;
    engine.shared.metrics.paused(result.as_ref(), started.elapsed());
    result
}

async fn course(engine: &Engine, target: &Target, timeout: Duration) -> Result<Arc<Sandbox>, ClaimError> {
    let deadline = Instant::now() + timeout;
    let found = engine.visible(target)?;
    let first = found.metadata.resource_version.clone();
    let pausing = engine
        .change(found, &target.id, |sandbox, activity, now| match activity {
            Activity::Running => begin(now),
            Activity::Pausing => Decision::Done,
            // Paused by another caller while this one wrote: both have got what they asked for.
            Activity::Paused if sandbox.metadata.resource_version != first => Decision::Done,
            Activity::Paused => Decision::Refuse(ConflictReason::AlreadyPaused),
            Activity::Resuming => Decision::Refuse(ConflictReason::Resuming),
            Activity::NotReady | Activity::Gone => Decision::Refuse(ConflictReason::NotReady),
        })
        .await?;
    wait_paused(engine, &pausing, &target.id, deadline).await
}

/// Pauses a running sandbox. Its time stands still meanwhile.
pub(super) fn begin(now: Timestamp) -> Decision {
    Decision::write(move |sandbox| {
        sandbox.spec.paused = Some(true);
        clear_pending(sandbox);
        deadline::stop_time(sandbox, now);
    })
}

/// Waits until a pause that is written is complete.
pub(super) async fn wait_paused(
    engine: &Engine,
    sandbox: &Arc<Sandbox>,
    id: &str,
    deadline: Instant,
) -> Result<Arc<Sandbox>, ClaimError> {
    let left = deadline.saturating_duration_since(Instant::now());
    match engine.cache.paused_wait(sandbox).wait(left).await {
        // Somebody else has taken the pause back before it was complete.
        Ok(sandbox) if sandbox.spec.paused != Some(true) => Err(conflict(id, ConflictReason::Resuming)),
        Ok(sandbox) => Ok(sandbox),
        Err(error) => Err(ended(wait_error(error, Step::Pause, sandbox), engine, sandbox, id)),
    }
}

/// A sandbox that has failed or was deleted meanwhile is not found, as for the next caller. A pause that was taken
/// back cannot complete.
pub(super) fn ended(error: ClaimError, engine: &Engine, sandbox: &Sandbox, id: &str) -> ClaimError {
    if !matches!(error, ClaimError::Failed { .. }) {
        return error;
    }
    match engine.visible(&Target::new(id).in_namespace(sandbox.namespace_or_empty())) {
        Ok(live) if live.metadata.uid != sandbox.metadata.uid => ClaimError::NotFound { id: id.to_owned() },
        Ok(live) if sandbox.spec.paused == Some(true) && live.spec.paused != Some(true) => {
            conflict(id, ConflictReason::Resuming)
        }
        Ok(_) => error,
        Err(gone) => gone,
    }
}
