//! The course of a claim, in a task of its own.
//!
//! The result is handed over to the caller. A caller that is gone takes no result, and what nobody takes is removed.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use shared_cache::{LookupError, ObjectKey, WaitError};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::claimed::{Claimed, LockType};
use super::engine::Engine;
use super::error::{ClaimError, Step};
use super::lock::{Claim, Locked};
use super::lookup::unshown;
use super::request::ClaimRequest;
use super::runtime;
use crate::api::label_syntax::is_label_value;
use crate::api::v1alpha1::{Sandbox, SandboxSet};

/// A locked sandbox that is removed unless somebody keeps it.
struct Held {
    engine: Arc<Engine>,
    sandbox: Arc<Sandbox>,
    reserve: bool,
    is_kept: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_kept {
            self.engine.discard(Arc::clone(&self.sandbox), self.reserve);
        }
    }
}

/// A complete claim on its way to the caller.
struct Handover {
    held: Held,
    claimed: Claimed,
}

impl Handover {
    fn take(mut self) -> Claimed {
        self.held.is_kept = true;
        self.claimed
    }
}

/// Claims a sandbox. Dropping the future undoes the claim, unless the caller answers for it from the lock on.
pub(super) async fn claim(engine: &Arc<Engine>, request: ClaimRequest) -> Result<Claimed, ClaimError> {
    let span = tracing::info_span!(
        "claim",
        namespace = request.namespace,
        pool = request.pool,
        sandbox = tracing::field::Empty
    );
    if !request.wait_until_ready {
        // Nothing follows the lock, so nothing needs to outlive the caller.
        return counted(engine, &request, pending()).instrument(span).await.map(Handover::take);
    }
    let (mut sender, receiver) = oneshot::channel();
    let task_engine = Arc::clone(engine);
    let course = async move {
        let gone = async {
            match request.key() {
                // The caller may repeat the claim anywhere.
                Some(_) => pending().await,
                None => sender.closed().await,
            }
        };
        let ended = counted(&task_engine, &request, gone).await;
        // A handover that nobody receives is dropped here.
        let _ = sender.send(ended);
    };
    engine.spawn(course.instrument(span));
    receiver.await.map_err(|_| ClaimError::Interrupted)?.map(Handover::take)
}

/// Counts a claim in the metrics. `gone` is ready if nobody waits for the claim any more.
async fn counted(
    engine: &Arc<Engine>,
    request: &ClaimRequest,
    gone: impl Future<Output = ()>,
) -> Result<Handover, ClaimError> {
    let started = Instant::now();
    let mut retries = 0;
    let result = course(engine, request, gone, &mut retries).await;
    let outcome = match &result {
        Ok(handover) => Ok(handover.claimed.lock_type),
        Err(error) => Err(error),
    };
    engine.shared.metrics.claimed(&request.namespace, outcome, started.elapsed(), retries);
    result
}

async fn course(
    engine: &Arc<Engine>,
    request: &ClaimRequest,
    gone: impl Future<Output = ()>,
    retries: &mut u32,
) -> Result<Handover, ClaimError> {
    validate(request)?;
    let set = set_of(engine, request)?;
    let deadline = Instant::now() + request.claim_timeout;
    let mut claim = Claim { engine, request, set: &set, deadline, retries: 0 };
    let locked = claim.take().await;
    *retries = claim.retries;
    let locked = locked?;
    tracing::Span::current().record("sandbox", locked.sandbox.name_or_empty());
    let mut held = Held {
        engine: Arc::clone(engine),
        sandbox: Arc::clone(&locked.sandbox),
        reserve: request.reserve_failed,
        is_kept: !request.wait_until_ready,
    };
    let complete = complete(engine, request, &locked, &mut held, deadline);
    let in_time = tokio::time::timeout_at(deadline, complete);
    tokio::select! {
        ended = in_time => ended.unwrap_or_else(|_| Err(too_late(request)))?,
        // What is locked is given back at once, and not when it is ready.
        () = gone => {
            held.reserve = false;
            return Err(ClaimError::Interrupted);
        }
    }
    // What fails is kept for inspection, and what nobody takes is not. What has a key can be taken on every replica.
    held.reserve = false;
    held.is_kept = request.key().is_some();
    let sandbox = Arc::clone(&held.sandbox);
    let claimed = Claimed { sandbox, lock_type: locked.lock_type, lock: locked.lock, retries: *retries };
    Ok(Handover { held, claimed })
}

/// Does the steps after the lock.
async fn complete(
    engine: &Arc<Engine>,
    request: &ClaimRequest,
    locked: &Locked,
    held: &mut Held,
    deadline: Instant,
) -> Result<(), ClaimError> {
    if request.key().is_some() {
        be_first(engine, locked, held).await?;
    }
    if !request.wait_until_ready {
        return Ok(());
    }
    if !locked.is_unfinished {
        return follow(engine, request, locked, held, deadline).await;
    }
    let sandbox = Arc::clone(&locked.sandbox);
    tokio::select! {
        done = follow(engine, request, locked, held, deadline) => done?,
        never = engine.answer_for(&sandbox) => match never {},
    }
    held.sandbox = engine.finish(Arc::clone(&held.sandbox)).await?;
    Ok(())
}

/// Waits until the watch has shown the lock of a claim with a key, and gives up one that is not the first.
async fn be_first(engine: &Engine, locked: &Locked, held: &mut Held) -> Result<(), ClaimError> {
    match engine.is_first_of_key(&locked.sandbox).await {
        Some(true) => Ok(()),
        Some(false) => {
            held.reserve = false;
            Err(ClaimError::Repeated)
        }
        None => {
            // Other replicas may have seen the lock, and have given the sandbox to a repetition.
            held.is_kept = !locked.is_unfinished;
            Err(unshown(&locked.sandbox))
        }
    }
}

/// Makes the sandbox ready for its caller.
async fn follow(
    engine: &Engine,
    request: &ClaimRequest,
    locked: &Locked,
    held: &mut Held,
    deadline: Instant,
) -> Result<(), ClaimError> {
    if locked.lock_type == LockType::Create || request.inplace_update.is_some() {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = request.wait_ready_timeout.map_or(left, |limit| limit.min(left));
        held.sandbox = wait_ready(engine, &locked.sandbox, limit).await?;
    }
    if locked.has_runtime {
        initialise(&held.sandbox).await?;
    }
    Ok(())
}

fn too_late(request: &ClaimRequest) -> ClaimError {
    let (waited, reason) = (request.claim_timeout, "the claim was not completed".to_owned());
    ClaimError::Timeout { step: Step::WaitReady, waited, reason }
}

/// Waits until a sandbox is ready in the version that was written, or in a later one.
async fn wait_ready(
    engine: &Engine,
    sandbox: &Arc<Sandbox>,
    limit: Duration,
) -> Result<Arc<Sandbox>, ClaimError> {
    let ready = engine.cache.ready_task(sandbox).wait(limit).await;
    ready.map_err(|error| wait_error(error, Step::WaitReady, sandbox))
}

/// Initialises the runtime of a sandbox with the request that its claim has written.
pub(super) async fn initialise(sandbox: &Sandbox) -> Result<(), ClaimError> {
    let failed = |reason| ClaimError::Failed { sandbox: ObjectKey::of(sandbox), reason };
    runtime::initialise(sandbox).await.map_err(failed)
}

/// Returns the error of a wait for a sandbox.
pub(super) fn wait_error(error: WaitError, step: Step, sandbox: &Sandbox) -> ClaimError {
    let failed = |reason| ClaimError::Failed { sandbox: ObjectKey::of(sandbox), reason };
    match error {
        WaitError::NotSatisfied { waited, reason, .. } => ClaimError::Timeout { step, waited, reason },
        WaitError::Gone(_) => failed("it was deleted meanwhile".to_owned()),
        WaitError::Failed { cause, .. } => failed(cause.to_string()),
        error => ClaimError::unavailable_after_write(sandbox, error.to_string()),
    }
}

/// Checks what the API server does not check.
fn validate(request: &ClaimRequest) -> Result<(), ClaimError> {
    let owner = &request.owner;
    if !owner.is_empty() && is_label_value(owner) {
        Ok(())
    } else {
        Err(ClaimError::Invalid("the owner is not a valid value of a label"))
    }
}

/// Returns the set of a request.
fn set_of(engine: &Engine, request: &ClaimRequest) -> Result<Arc<SandboxSet>, ClaimError> {
    if !engine.sandboxes.has_synced() {
        return Err(ClaimError::unavailable("the cache of sandboxes is not synced yet"));
    }
    let set = match engine.sets.get(&request.namespace, &request.pool) {
        Err(LookupError::OutOfScope { .. }) => None,
        set => set?,
    };
    set.filter(|set| set.metadata.deletion_timestamp.is_none()).ok_or_else(|| ClaimError::PoolNotFound {
        namespace: request.namespace.clone(),
        pool: request.pool.clone(),
    })
}
