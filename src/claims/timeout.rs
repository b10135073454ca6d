//! Changes when a sandbox ends.

use std::sync::Arc;

use jiff::Timestamp;

use super::change::Decision;
use super::deadline::{self, TimeoutChange};
use super::engine::Engine;
use super::error::{ClaimError, ConflictReason};
use super::lookup::Activity;
use super::target::Target;
use crate::api::v1alpha1::{Sandbox, SandboxPhase};

/// Changes when a sandbox ends, in one write.
pub(super) async fn set_timeout(
    engine: &Engine,
    target: &Target,
    change: TimeoutChange,
) -> Result<Arc<Sandbox>, ClaimError> {
    let found = engine.visible(target)?;
    engine
        .change(found, &target.id, |sandbox, activity, now| match activity {
            // Only the runtime is not initialised yet, and nobody may be doing that.
            Activity::Resuming if sandbox.phase() == Some(&SandboxPhase::Running) => {
                decide(change, sandbox, Activity::Running, now)
            }
            activity => decide(change, sandbox, activity, now),
        })
        .await
}

/// Changes when this sandbox ends.
pub(super) async fn change_end(
    engine: &Engine,
    sandbox: Arc<Sandbox>,
    id: &str,
    change: TimeoutChange,
) -> Result<Arc<Sandbox>, ClaimError> {
    engine.change(sandbox, id, |sandbox, activity, now| decide(change, sandbox, activity, now)).await
}

/// Decides about a change of the end.
pub(super) fn decide(
    change: TimeoutChange,
    sandbox: &Sandbox,
    activity: Activity,
    now: Timestamp,
) -> Decision {
    match activity {
        Activity::Paused | Activity::Pausing | Activity::Resuming => Decision::Refuse(ConflictReason::Paused),
        Activity::Running | Activity::NotReady | Activity::Gone => match change {
            TimeoutChange::Extend(lifetime) if !deadline::ends_before(sandbox, lifetime, now) => {
                Decision::Done
            }
            TimeoutChange::Extend(lifetime) | TimeoutChange::Set(lifetime) => {
                Decision::write(move |sandbox| deadline::set_end(sandbox, lifetime, now))
            }
        },
    }
}
