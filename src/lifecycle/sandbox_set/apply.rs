//! Executes the actions of a [`Decision`](super::decide::Decision).
//!
//! Every request of a batch is sent at once. What was sent, and what became of it, is recorded in the [`Memory`] of the
//! set: creations before they are sent, because the future may be dropped while they are on their way.

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use shared_cache::{ApiReader, SharedCache};
use tokio::time::Instant;
use uuid::Uuid;

use super::blueprint;
use super::memory::{Attempted, Memory};
use super::metrics::PoolMetrics;
use super::requests::{Failure, Requests};
use super::rollout::{Cause, TakeDown};
use crate::api::v1alpha1::{ANNOTATION_LOCK, Sandbox, SandboxSet, annotation};
use crate::lifecycle::events::{Events, Reason};

/// Number of members that are taken down at once. After each such batch the set is observed anew.
const DELETIONS: usize = 64;

/// Executes actions.
pub(super) struct Executor {
    pub(super) requests: Requests,
    pub(super) live: ApiReader,
    pub(super) cache: SharedCache,
    pub(super) events: Events,
    pub(super) metrics: PoolMetrics,
}

/// What became of a member that was to be taken down.
enum Taken {
    Deleted,
    /// Somebody has changed the member, for instance by a claim.
    Changed,
    /// Locked, but not deleted. The sandbox as the lock has left it.
    Locked(Arc<Sandbox>, Failure),
    Failed(Failure),
}

impl Executor {
    /// Creates members. Returns true if all of them were created.
    pub(super) async fn create(
        &self,
        set: &SandboxSet,
        revision: &Arc<str>,
        count: usize,
        memory: &mut Memory,
    ) -> bool {
        let prototype = blueprint::prototype(set, revision);
        let mut sandboxes = Vec::with_capacity(count);
        for _ in 0..count {
            let mut sandbox = prototype.clone();
            let name = blueprint::new_name(set);
            memory.creations.send(&name, revision, Instant::now());
            sandbox.metadata.name = Some(name);
            sandboxes.push(sandbox);
        }
        let answers = join_all(sandboxes.iter().map(|sandbox| self.requests.create(sandbox))).await;
        let mut created = Vec::with_capacity(count);
        for (sandbox, answer) in sandboxes.iter().zip(answers) {
            let name = sandbox.name_or_empty();
            match answer {
                Ok(sandbox) => {
                    self.record_creation(&sandbox, memory);
                    created.push(name);
                }
                Err(failure) => self.record_failure(set, name, &failure, memory),
            }
        }
        self.metrics.created.inc_by(created.len() as u64);
        self.publish(set, Reason::SandboxCreated, &created, "created");
        if !created.is_empty() && created.len() == count {
            memory.refusals.reset();
        }
        created.len() == count
    }

    fn record_creation(&self, sandbox: &Arc<Sandbox>, memory: &mut Memory) {
        self.cache.expect(&**sandbox);
        memory.creations.created(sandbox);
    }

    /// Records a creation that failed. If it may have been executed, it still counts.
    fn record_failure(&self, set: &SandboxSet, name: &str, failure: &Failure, memory: &mut Memory) {
        let (now, message) = (Instant::now(), failure.to_string());
        match failure {
            // Another sandbox has the name. The next one gets another name.
            Failure::AlreadyExists(_) => memory.creations.refused(name),
            Failure::Unknown(_) => memory.failed(Attempted::Creation, failure),
            Failure::Busy(_) => {
                memory.creations.refused(name);
                memory.failed(Attempted::Creation, failure);
            }
            Failure::Refused(_) | Failure::NotFound(_) | Failure::Conflict(_) => {
                memory.creations.refused(name);
                if memory.refusals.waits_until(now).is_none() {
                    self.events.publish(set, Reason::CreateSandboxFailed, &message);
                }
                memory.refused(message);
            }
        }
    }

    /// Finds out what became of the creations whose answers were lost. A sandbox of the revision `wanted` that does not
    /// exist is created anew, under its old name. Returns true if the fate of at least one is known now.
    ///
    /// A failure ends this, so that an outage does not cost a request for each of them.
    pub(super) async fn settle_unknown(
        &self,
        set: &SandboxSet,
        wanted: Option<&Arc<str>>,
        memory: &mut Memory,
    ) -> bool {
        let unknown = memory.creations.unknown();
        for name in &unknown {
            let is_wanted = memory.creations.revision(name).as_ref() == wanted;
            match self.live.get::<Sandbox>(set.namespace_or_empty(), name).await {
                Ok(Some(sandbox)) if is_of(set, &sandbox) => self.record_creation(&sandbox, memory),
                Ok(None) if is_wanted => self.repeat(set, name, memory).await,
                Ok(None) if memory.creations.may_arrive(name, Instant::now()) => {}
                // Another sandbox has the name, or the request cannot arrive any more.
                Ok(_) => memory.creations.refused(name),
                Err(error) => memory.failed(Attempted::Creation, &error),
            }
            if memory.is_held() {
                break;
            }
        }
        memory.creations.unknown().len() < unknown.len()
    }

    /// Sends a creation again.
    async fn repeat(&self, set: &SandboxSet, name: &str, memory: &mut Memory) {
        let Some(revision) = memory.creations.revision(name) else { return };
        let mut sandbox = blueprint::prototype(set, &revision);
        sandbox.metadata.name = Some(name.to_owned());
        memory.creations.send(name, &revision, Instant::now());
        match self.requests.create(&sandbox).await {
            Ok(sandbox) => {
                self.record_creation(&sandbox, memory);
                self.metrics.created.inc();
                self.publish(set, Reason::SandboxCreated, &[name], "created");
            }
            // The first request has arrived meanwhile. The next pass reads the sandbox.
            Err(Failure::AlreadyExists(_)) => {}
            // Nothing was done by this request, but the first one may arrive still.
            Err(failure @ Failure::Busy(_)) => memory.failed(Attempted::Creation, &failure),
            Err(failure) => self.record_failure(set, name, &failure, memory),
        }
    }

    /// Deletes dead members. Returns true if one is gone, or if more of them are left.
    pub(super) async fn bury(&self, set: &SandboxSet, dead: &[Arc<Sandbox>], memory: &mut Memory) -> bool {
        let (batch, rest) = dead.split_at(dead.len().min(DELETIONS));
        let gone = self.delete_unchanged(batch, memory).await;
        self.report(set, Reason::FailedSandboxDeleted, &self.metrics.dead, &gone);
        !gone.is_empty() || !rest.is_empty()
    }

    /// Deletes members that were locked before. Returns true if one is gone, or if more of them are left.
    pub(super) async fn finish(
        &self,
        set: &SandboxSet,
        locked: &[Arc<Sandbox>],
        memory: &mut Memory,
    ) -> bool {
        let (batch, rest) = locked.split_at(locked.len().min(DELETIONS));
        let gone = self.delete_unchanged(batch, memory).await;
        self.report(set, Reason::SandboxScaledDown, &self.metrics.scaled_down, &gone);
        !gone.is_empty() || !rest.is_empty()
    }

    /// Deletes members, each if it has not changed since: somebody may have claimed it, or removed its lock to keep it.
    /// Returns the names of those that are gone.
    async fn delete_unchanged<'a>(&self, sandboxes: &'a [Arc<Sandbox>], memory: &mut Memory) -> Vec<&'a str> {
        let answers = join_all(sandboxes.iter().map(|sandbox| self.requests.delete(sandbox, true))).await;
        let taken = answers.into_iter().map(|answer| match answer {
            Ok(()) | Err(Failure::NotFound(_)) => Taken::Deleted,
            Err(Failure::Conflict(_)) => Taken::Changed,
            Err(failure) => Taken::Failed(failure),
        });
        record(sandboxes, taken, memory)
    }

    /// Takes members down, at most one batch of them. For each candidate that has changed, the next one is taken.
    /// Returns true if one is gone.
    pub(super) async fn take_down(&self, set: &SandboxSet, what: &TakeDown, memory: &mut Memory) -> bool {
        let mut candidates = what.candidates.as_slice();
        let mut left = what.count.min(DELETIONS);
        let mut gone = Vec::new();
        while left > 0 && !candidates.is_empty() {
            let (batch, rest) = candidates.split_at(left.min(candidates.len()));
            candidates = rest;
            let taken = join_all(batch.iter().map(|sandbox| self.lock_and_delete(sandbox))).await;
            let changed = taken.iter().filter(|taken| matches!(taken, Taken::Changed)).count();
            gone.extend(record(batch, taken, memory));
            // A candidate that failed may be locked, so no other one takes its place.
            left = changed;
        }
        let (reason, counter) = match what.cause {
            Cause::ScaleDown => (Reason::SandboxScaledDown, &self.metrics.scaled_down),
            Cause::Rollout => (Reason::RollingUpdate, &self.metrics.rolled_out),
        };
        self.report(set, reason, counter, &gone);
        !gone.is_empty()
    }

    async fn lock_and_delete(&self, sandbox: &Arc<Sandbox>) -> Taken {
        let lock = Uuid::new_v4().to_string();
        match self.requests.lock(sandbox, &lock, Timestamp::now()).await {
            Ok(locked) => {
                self.cache.expect(&*locked);
                self.delete_locked(locked).await
            }
            Err(Failure::Conflict(_)) => Taken::Changed,
            Err(Failure::NotFound(_)) => Taken::Deleted,
            Err(Failure::Unknown(message)) => {
                let live = self.live.get::<Sandbox>(sandbox.namespace_or_empty(), sandbox.name_or_empty());
                match live.await {
                    Ok(Some(live)) if annotation(&live.metadata, ANNOTATION_LOCK) == Some(&*lock) => {
                        self.delete_locked(live).await
                    }
                    Ok(None) => Taken::Deleted,
                    _ => Taken::Failed(Failure::Unknown(message)),
                }
            }
            Err(failure) => Taken::Failed(failure),
        }
    }

    /// Deletes a member that was locked right now. Its status may have changed since.
    async fn delete_locked(&self, locked: Arc<Sandbox>) -> Taken {
        match self.requests.delete(&locked, false).await {
            // A conflict means that another sandbox has the name.
            Ok(()) | Err(Failure::NotFound(_) | Failure::Conflict(_)) => Taken::Deleted,
            Err(failure) => Taken::Locked(locked, failure),
        }
    }

    fn report(&self, set: &SandboxSet, reason: Reason, counter: &prometheus::IntCounter, gone: &[&str]) {
        counter.inc_by(gone.len() as u64);
        self.publish(set, reason, gone, "deleted");
    }

    /// Publishes one event for several sandboxes: an event for each would cost one more request for each.
    fn publish(&self, set: &SandboxSet, reason: Reason, names: &[&str], what: &str) {
        let note = match names {
            [] => return,
            [name] => format!("Sandbox {}/{name} {what}", set.namespace_or_empty()),
            names => format!("{} sandboxes {what}: {}", names.len(), names.join(", ")),
        };
        self.events.publish(set, reason, &note);
    }
}

/// Records what became of members. Returns the names of those that are gone.
fn record<'a>(
    sandboxes: &'a [Arc<Sandbox>],
    taken: impl IntoIterator<Item = Taken>,
    memory: &mut Memory,
) -> Vec<&'a str> {
    let mut gone = Vec::new();
    for (sandbox, taken) in sandboxes.iter().zip(taken) {
        match taken {
            Taken::Deleted => {
                memory.deleted(sandbox);
                gone.push(sandbox.name_or_empty());
            }
            Taken::Changed => memory.outdated(sandbox),
            Taken::Locked(locked, failure) => {
                memory.locked(&locked, Instant::now());
                record_failure(sandbox, &failure, memory);
            }
            Taken::Failed(failure) => record_failure(sandbox, &failure, memory),
        }
    }
    gone
}

/// Records why a member could not be locked or deleted. A refusal concerns this member alone (LC7).
fn record_failure(sandbox: &Sandbox, failure: &Failure, memory: &mut Memory) {
    match failure {
        Failure::Refused(message) => memory.deletion_refused(sandbox, Instant::now(), message.clone()),
        failure => memory.failed(Attempted::Deletion, failure),
    }
}

/// Returns true if a set has created the sandbox: it controls the sandbox, or did so before a claim.
pub(super) fn is_of(set: &SandboxSet, sandbox: &Sandbox) -> bool {
    match sandbox.controller_sandbox_set() {
        Some(owner) => Some(&owner.uid) == set.metadata.uid.as_ref(),
        None => sandbox.is_claimed(),
    }
}
