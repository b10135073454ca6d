//! Makes a sandbox run: extends a running one, resumes a paused one.
//!
//! ```text
//!  paused ── one write: no pause, the new end ──▶ resuming ── ready ── runtime initialised ──▶ end extended once more
//! ```
//!
//! A resume runs in a task of its own, so that it is whole also if its callers are gone. Pausing and waking need not count
//! as time of the user, so the end is extended once more when the sandbox runs.
//!
//! The process may end in the middle. So the first write marks a sandbox whose runtime is to be initialised, and the last one
//! removes the mark: a sandbox that runs and is marked is still being resumed, and the next connect completes that, on
//! whichever replica.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shared_cache::ObjectKey;
use tokio::time::Instant;
use uuid::Uuid;

use super::change::{Decision, conflict};
use super::claimed::Connected;
use super::claiming::{initialise, wait_error};
use super::deadline::{self, TimeoutChange};
use super::engine::Engine;
use super::error::{ClaimError, ConflictReason, Step};
use super::joint_resume::{Leader, Outcome, Resumed};
use super::lookup::{Activity, activity};
use super::pause::{self, ended, wait_paused};
use super::runtime::{self, pending_init};
use super::target::Target;
use super::timeout::{self, change_end};
use crate::api::v1alpha1::Sandbox;

/// How long a resume may take after its write, whatever its callers wait.
const LONGEST: Duration = Duration::from_mins(10);

/// How often a caller looks again, because others pause and resume the sandbox meanwhile.
const MAX_ROUNDS: usize = 8;

/// Makes a sandbox run for at least `lifetime`.
pub(super) async fn connect(
    engine: &Arc<Engine>,
    target: &Target,
    lifetime: Duration,
    timeout: Duration,
) -> Result<Connected, ClaimError> {
    let deadline = Instant::now() + timeout;
    let mut sandbox = engine.visible(target)?;
    for _ in 0..MAX_ROUNDS {
        match activity(&sandbox, Timestamp::now()) {
            Activity::Gone => return Err(ClaimError::NotFound { id: target.id.clone() }),
            Activity::Running | Activity::NotReady => {
                match change_end(engine, Arc::clone(&sandbox), &target.id, TimeoutChange::Extend(lifetime))
                    .await
                {
                    Ok(sandbox) => return Ok(Connected { sandbox, resumed: false }),
                    // It was paused meanwhile.
                    Err(ClaimError::Conflict { reason: ConflictReason::Paused, .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Activity::Pausing => match wait_paused(engine, &sandbox, &target.id, deadline).await {
                Ok(_) | Err(ClaimError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            },
            Activity::Paused | Activity::Resuming => {
                match resume_joined(engine, &sandbox, &target.id, lifetime, deadline).await {
                    Ok(sandbox) => return Ok(Connected { sandbox, resumed: true }),
                    // It was paused again meanwhile.
                    Err(ClaimError::Conflict { reason: ConflictReason::Paused, .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        sandbox = engine.visible(target)?;
    }
    Err(conflict(&target.id, ConflictReason::Contended))
}

/// Resumes a paused sandbox. One that is not paused is refused.
pub(super) async fn resume(
    engine: &Arc<Engine>,
    target: &Target,
    lifetime: Duration,
    timeout: Duration,
) -> Result<Arc<Sandbox>, ClaimError> {
    match activity(&*engine.visible(target)?, Timestamp::now()) {
        Activity::Running | Activity::NotReady => Err(conflict(&target.id, ConflictReason::NotPaused)),
        _ => connect(engine, target, lifetime, timeout).await.map(|connected| connected.sandbox),
    }
}

/// Joins the resume of a sandbox, or begins it.
async fn resume_joined(
    engine: &Arc<Engine>,
    sandbox: &Arc<Sandbox>,
    id: &str,
    lifetime: Duration,
    deadline: Instant,
) -> Result<Arc<Sandbox>, ClaimError> {
    let started = Instant::now();
    let uid = sandbox.metadata.uid.as_deref().unwrap_or_default();
    let (outcome, leader) = engine.shared.resumes.join(uid, lifetime);
    if let Some(mut leader) = leader {
        let (task_engine, sandbox, id) = (Arc::clone(engine), Arc::clone(sandbox), id.to_owned());
        engine.spawn(async move {
            let outcome = course(&task_engine, sandbox, &id, &mut leader).await;
            let result = outcome.as_ref().map(|resumed| &resumed.sandbox);
            task_engine.shared.metrics.resumed(result, started.elapsed());
            leader.end(outcome);
        });
    }
    let Ok(outcome) = tokio::time::timeout_at(deadline, outcome).await else {
        let reason = "the sandbox is being resumed".to_owned();
        return Err(ClaimError::Timeout { step: Step::Resume, waited: started.elapsed(), reason });
    };
    let Resumed { sandbox, granted } = outcome?;
    if lifetime <= granted {
        return Ok(sandbox);
    }
    // This caller came after the end was written.
    change_end(engine, sandbox, id, TimeoutChange::Extend(lifetime)).await
}

/// The course of a resume.
async fn course(engine: &Engine, sandbox: Arc<Sandbox>, id: &str, leader: &mut Leader) -> Outcome {
    let resuming = engine
        .change(sandbox, id, |_, activity, now| match activity {
            Activity::Paused => {
                let lifetime = leader.lifetime();
                Decision::write(move |sandbox| {
                    sandbox.spec.paused = None;
                    if runtime::has_request(sandbox) {
                        runtime::set_pending(sandbox, &Uuid::new_v4().to_string());
                    }
                    if deadline::ends_at(sandbox).is_some() {
                        deadline::set_end(sandbox, lifetime, now);
                    }
                })
            }
            // Another process has written it, or has ended in the middle of it.
            Activity::Resuming | Activity::Running | Activity::NotReady => Decision::Done,
            Activity::Pausing | Activity::Gone => Decision::Refuse(ConflictReason::Paused),
        })
        .await;
    let result = match resuming {
        Ok(resuming) => woken(engine, &resuming, id).await,
        Err(error) => Err(error),
    };
    let granted = leader.close();
    let woken = result?;
    match complete(engine, Arc::clone(&woken), id, granted).await {
        Ok(sandbox) => Ok(Resumed { sandbox, granted }),
        // The resume itself is written.
        Err(ClaimError::Unavailable { cause, .. }) => Err(ClaimError::unavailable_after_write(&woken, cause)),
        Err(error) => Err(error),
    }
}

/// Waits until a sandbox runs again, and initialises its runtime as its claim did.
async fn woken(engine: &Engine, sandbox: &Arc<Sandbox>, id: &str) -> Result<Arc<Sandbox>, ClaimError> {
    let ready = engine.cache.resumed_wait(sandbox).wait(LONGEST).await;
    let ready =
        ready.map_err(|error| ended(wait_error(error, Step::Resume, sandbox), engine, sandbox, id))?;
    // Another replica may have done it meanwhile.
    let is_done = pending_init(sandbox).is_some() && pending_init(&ready).is_none();
    if runtime::has_request(&ready)
        && !is_done
        && let Err(error) = initialise(&ready).await
    {
        pause_again(engine, &ready, id).await;
        return Err(error);
    }
    Ok(ready)
}

/// Extends the end once more, and removes the mark of this resume in the same write.
async fn complete(
    engine: &Engine,
    woken: Arc<Sandbox>,
    id: &str,
    granted: Duration,
) -> Result<Arc<Sandbox>, ClaimError> {
    let (resume, pod) = (pending_init(&woken).map(str::to_owned), woken.pod_ip().cloned());
    engine
        .change(woken, id, |sandbox, activity, now| match activity {
            // A later resume has a mark or a pod of its own.
            Activity::Resuming
                if resume.is_some()
                    && pending_init(sandbox) == resume.as_deref()
                    && sandbox.is_ready()
                    && sandbox.pod_ip() == pod.as_ref() =>
            {
                Decision::write(move |sandbox| {
                    runtime::clear_pending(sandbox);
                    if deadline::ends_before(sandbox, granted, now) {
                        deadline::set_end(sandbox, granted, now);
                    }
                })
            }
            activity => timeout::decide(TimeoutChange::Extend(granted), sandbox, activity, now),
        })
        .await
}

/// Pauses a sandbox whose runtime was not initialised, so that it uses nothing until the next connect tries again. One that
/// another replica has completed, or resumed again, is left alone.
async fn pause_again(engine: &Engine, sandbox: &Arc<Sandbox>, id: &str) {
    let paused = engine
        .change(Arc::clone(sandbox), id, |live, activity, now| match activity {
            // Somebody who writes no mark has resumed it: a connect would hand it out as it is.
            Activity::Running if pending_init(sandbox).is_none() => pause::begin(now),
            Activity::Resuming
                if pending_init(sandbox).is_some() && pending_init(live) == pending_init(sandbox) =>
            {
                pause::begin(now)
            }
            _ => Decision::Done,
        })
        .await;
    if let Err(error) = paused {
        let sandbox = ObjectKey::of(&**sandbox);
        tracing::warn!(%sandbox, %error, "a sandbox runs without an initialised runtime, and cannot be paused again");
    }
}
