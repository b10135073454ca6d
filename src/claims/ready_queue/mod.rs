//! [`ReadyQueue`]: the sandboxes that can be claimed now, one queue per pool (Q1).
//!
//! The watch feeds the queues, so a claim neither lists a pool nor copies one. A [`Candidate`] is held by one claim at a
//! time. The lock of the queues is held for one step of constant time, and never across I/O (Q5).

mod pools;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use shared_cache::{Delta, version_of};
use tokio::time::Instant;

use self::pools::{Pools, Tried};
use crate::api::v1alpha1::{LABEL_SANDBOX_POOL, Sandbox, SandboxSet, StateKind, label};

/// How long a candidate is left alone after a conflict, unless the watch shows a newer version before that.
const CONFLICT: Duration = Duration::from_secs(1);

/// How long a candidate is left alone after this process has written it. Only a watch that is down takes so long, and the
/// expectations of the cache then tell that the write was not seen.
const WRITTEN: Duration = Duration::from_mins(1);

/// The sandboxes that can be claimed now.
#[derive(Default)]
pub(super) struct ReadyQueue {
    pools: Mutex<Pools>,
}

impl ReadyQueue {
    /// Takes over all sandboxes that `existing` returns. No change is seen before that is done.
    pub(super) fn fill(&self, existing: impl FnOnce() -> Vec<Arc<Sandbox>>) {
        let mut pools = self.pools.lock();
        let now = Timestamp::now();
        for sandbox in existing() {
            pools.see(&sandbox, pool_of(&sandbox, now));
        }
    }

    /// Sees changes of sandboxes.
    pub(super) fn see(&self, deltas: &[Delta<Sandbox>]) {
        let mut pools = self.pools.lock();
        let now = Timestamp::now();
        for delta in deltas {
            match delta {
                Delta::Applied { old, new } => {
                    if let Some(old) = old.as_ref().filter(|old| old.metadata.uid != new.metadata.uid) {
                        pools.forget(old.metadata.uid.as_deref().unwrap_or_default());
                    }
                    pools.see(new, pool_of(new, now));
                }
                delta => pools.forget(delta.object().metadata.uid.as_deref().unwrap_or_default()),
            }
        }
    }

    /// Takes a candidate out of the queue of a set, one of the current revision if there is any.
    pub(super) fn next(self: &Arc<Self>, set: &SandboxSet) -> Option<Candidate> {
        let revision = set.status.as_ref().and_then(|status| status.update_revision.as_deref());
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let sandbox =
            self.pools.lock().take(uid, revision, rand::random_range(0..usize::MAX), Instant::now())?;
        Some(Candidate { sandbox, queue: Arc::clone(self), tried: Tried::Unchanged })
    }

    /// Returns the number of candidates in the queue of a set, by its UID.
    pub(super) fn len(&self, set: &str) -> usize {
        self.pools.lock().len(set, Instant::now())
    }
}

/// A sandbox that one claim tries. Dropping it puts the sandbox back.
pub(super) struct Candidate {
    pub(super) sandbox: Arc<Sandbox>,
    queue: Arc<ReadyQueue>,
    tried: Tried,
}

impl Candidate {
    /// Returns true if the sandbox can be claimed still. Time may have passed since its last event.
    pub(super) fn is_claimable(&self) -> bool {
        is_claimable(&self.sandbox, Timestamp::now())
    }

    /// Puts the sandbox back when the watch shows a newer version than the one that was tried.
    pub(super) fn outdated(mut self) {
        let above = version_of(&*self.sandbox).unwrap_or_default();
        self.tried = Tried::Changed { above, until: Instant::now() + CONFLICT };
    }

    /// Lets the sandbox go, which this process has written as this version.
    pub(super) fn written(mut self, written: &Sandbox) {
        let above = version_of(written).unwrap_or_default().saturating_sub(1);
        self.tried = Tried::Changed { above, until: Instant::now() + WRITTEN };
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        let uid = self.sandbox.metadata.uid.as_deref().unwrap_or_default();
        self.queue.pools.lock().put_back(uid, self.tried);
    }
}

/// Returns true if claims can take the sandbox.
pub(crate) fn is_claimable(sandbox: &Sandbox, now: Timestamp) -> bool {
    pool_of(sandbox, now).is_some()
}

/// Returns the UID of the set whose pool the sandbox can be claimed from: an available, unlocked member with an address.
/// The set is its controller, and its label names the set too. A sandbox of which a field could not be read is none: the
/// claim might overwrite the field.
fn pool_of(sandbox: &Sandbox, now: Timestamp) -> Option<&str> {
    let set = sandbox.controller_sandbox_set()?;
    let is_candidate = sandbox.state(now).kind == StateKind::Available
        && sandbox.is_free_member(now)
        && label(&sandbox.metadata, LABEL_SANDBOX_POOL) == Some(&*set.name)
        && sandbox.pod_ip().is_some()
        && sandbox.partially_decoded().is_empty();
    is_candidate.then_some(&*set.uid)
}
