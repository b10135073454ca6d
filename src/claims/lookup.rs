//! Finds claimed sandboxes as their owners see them: the cache, and the own writes and reads that it does not show yet.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shared_cache::{LookupError, ObjectKey, version_of};

use super::engine::Engine;
use super::error::ClaimError;
use super::keyed::key_of;
use super::recent::Write;
use super::runtime::pending_init;
use super::target::Target;
use crate::api::v1alpha1::{
    ANNOTATION_CLAIM_UNFINISHED_UNTIL, CONDITION_SANDBOX_PAUSED, Sandbox, SandboxPhase, annotation,
};
use crate::cache::{GetClaimedSandboxOptions, ListSandboxesOptions, Provider as _};

/// How long a claim with a key waits for the watch. It is milliseconds behind, unless it is down.
const SHOWN: Duration = Duration::from_secs(5);

/// What a claimed sandbox is doing, as far as pauses are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// Its time is over, or it has failed, or is being deleted, or its claim is not complete.
    Gone,
    /// It runs and is ready.
    Running,
    /// It runs, or is about to, and is not ready.
    NotReady,
    /// A pause is wanted, and not complete.
    Pausing,
    Paused,
    /// It was paused, and shall run again; or it runs, and its runtime is not initialised since.
    Resuming,
}

/// Returns what a claimed sandbox is doing.
pub(super) fn activity(sandbox: &Sandbox, now: Timestamp) -> Activity {
    use SandboxPhase::{Paused, Resuming, Running};
    if !is_visible(sandbox, now) {
        return Activity::Gone;
    }
    let is_wanted = sandbox.spec.paused == Some(true);
    match sandbox.phase() {
        Some(Paused) if is_wanted && sandbox.condition_is_true(CONDITION_SANDBOX_PAUSED) => Activity::Paused,
        _ if is_wanted => Activity::Pausing,
        Some(Paused | Resuming) => Activity::Resuming,
        _ if pending_init(sandbox).is_some() => Activity::Resuming,
        Some(Running) if sandbox.is_ready() => Activity::Running,
        _ => Activity::NotReady,
    }
}

/// Returns true if the owner sees the sandbox.
pub(super) fn is_visible(sandbox: &Sandbox, now: Timestamp) -> bool {
    use SandboxPhase::{Failed, Succeeded, Terminating};
    exists(sandbox)
        && !matches!(sandbox.phase(), Some(Failed | Succeeded | Terminating))
        && sandbox.shutdown_at().is_none_or(|end| end >= now)
        && annotation(&sandbox.metadata, ANNOTATION_CLAIM_UNFINISHED_UNTIL).is_none()
}

/// Returns true if the owner may release the sandbox: also one that has failed, and one that is not complete.
fn exists(sandbox: &Sandbox) -> bool {
    sandbox.is_claimed() && !sandbox.is_deleting() && !sandbox.is_reserved_failed() && !sandbox.is_recycling()
}

impl Engine {
    /// Finds a sandbox that the owner may release.
    pub(super) fn existing(&self, target: &Target) -> Result<Arc<Sandbox>, ClaimError> {
        self.find(target, exists)
    }

    /// Finds a sandbox that the owner sees.
    pub(super) fn visible(&self, target: &Target) -> Result<Arc<Sandbox>, ClaimError> {
        let now = Timestamp::now();
        self.find(target, |sandbox| is_visible(sandbox, now))
    }

    fn find(&self, target: &Target, accepts: impl Fn(&Sandbox) -> bool) -> Result<Arc<Sandbox>, ClaimError> {
        let not_found = || ClaimError::NotFound { id: target.id.clone() };
        let options =
            GetClaimedSandboxOptions { namespace: target.namespace.as_deref(), sandbox_id: &target.id };
        let cached = || match self.cache.get_claimed_sandbox(options) {
            Ok(cached) => Ok(Some(cached)),
            Err(LookupError::NotSynced { .. }) => Err(ClaimError::unavailable("the cache is not synced yet")),
            Err(_) => Ok(None),
        };
        let found = present(|| self.shared.watched.recent.get(&target.id), cached)?;
        let is_target = |sandbox: &Arc<Sandbox>| {
            target.namespace.as_deref().is_none_or(|namespace| sandbox.namespace_or_empty() == namespace)
                && target.owner.as_deref().is_none_or(|owner| sandbox.owner() == Some(owner))
                && accepts(sandbox)
        };
        found.filter(is_target).ok_or_else(not_found)
    }

    /// Returns the sandboxes that an owner sees.
    pub(super) fn list(&self, owner: &str, namespace: Option<&str>) -> Result<Vec<Arc<Sandbox>>, ClaimError> {
        let now = Timestamp::now();
        // Before the cache, as in `present`.
        let own = self.shared.watched.recent.all();
        let mut sandboxes =
            match self.cache.list_sandboxes(ListSandboxesOptions { namespace, user: Some(owner) }) {
                Ok(sandboxes) => sandboxes,
                Err(LookupError::OutOfScope { .. }) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
        for write in own {
            let place = sandboxes.iter().position(|known| known.metadata.uid == write.sandbox().metadata.uid);
            match (place, write) {
                (Some(place), write) => {
                    let known = sandboxes.swap_remove(place);
                    sandboxes.extend(newer(write, known));
                }
                (None, Write::Written(written)) => sandboxes.push(written),
                (None, Write::Deleted(_)) => {}
            }
        }
        sandboxes.retain(|sandbox| {
            namespace.is_none_or(|namespace| sandbox.namespace_or_empty() == namespace)
                && sandbox.owner() == Some(owner)
                && is_visible(sandbox, now)
        });
        Ok(sandboxes)
    }

    /// Finds the sandbox of the first claim with a key. Only the watch says which lock was the first, so an own lock that it
    /// does not show yet is waited for.
    ///
    /// # Errors
    ///
    /// If the watch does not show that lock in time.
    pub(super) async fn of_key(&self, owner: &str, key: &str) -> Result<Option<Arc<Sandbox>>, ClaimError> {
        let first = || self.shared.watched.keyed.first(owner, key, Timestamp::now());
        if first().is_none()
            && let Some(own) = self.own_of_key(owner, key)
            && self.is_first_of_key(&own).await.is_none()
        {
            return Err(unshown(&own));
        }
        Ok(first().and_then(|shown| self.present_of(&shown)))
    }

    /// Returns the present state of a sandbox that the watch has shown. None if it is gone.
    fn present_of(&self, key: &ObjectKey) -> Option<Arc<Sandbox>> {
        let cached = self.sandboxes.get(&key.namespace, &key.name).ok().flatten()?;
        match self.shared.watched.recent.get(&cached.sandbox_id()) {
            Some(write) => newer(write, cached),
            // An own write may have been forgotten since, because the cache shows it now.
            None => self.sandboxes.get(&key.namespace, &key.name).ok().flatten(),
        }
    }

    /// Returns an own lock of a key that the cache does not show yet.
    fn own_of_key(&self, owner: &str, key: &str) -> Option<Arc<Sandbox>> {
        let has_key = |own: &Sandbox| key_of(own).is_some_and(|(of, has)| (&*of, &*has) == (owner, key));
        self.shared.watched.recent.all().into_iter().find_map(|write| match write {
            Write::Written(own) if has_key(&own) => Some(own),
            _ => None,
        })
    }

    /// Returns true if a claimed sandbox has the oldest lock of its key. None if the watch does not show the lock in time.
    pub(super) async fn is_first_of_key(&self, sandbox: &Sandbox) -> Option<bool> {
        let keyed = &self.shared.watched.keyed;
        tokio::time::timeout(SHOWN, keyed.is_shown(sandbox)).await.ok()?;
        Some(keyed.is_first(sandbox, Timestamp::now()))
    }

    /// Returns true if a repetition of the claim may have found a sandbox by its key, on any replica: nobody may remove it
    /// any more. One that is not complete is given to nobody.
    pub(super) async fn is_found_by_key(&self, sandbox: &Sandbox) -> bool {
        let is_complete = annotation(&sandbox.metadata, ANNOTATION_CLAIM_UNFINISHED_UNTIL).is_none();
        is_complete && key_of(sandbox).is_some() && self.is_first_of_key(sandbox).await != Some(false)
    }

    /// Reads a sandbox again after others have changed it.
    pub(super) async fn again(&self, sandbox: &Arc<Sandbox>, id: &str) -> Result<Arc<Sandbox>, ClaimError> {
        match self.live_again(sandbox).await {
            Ok(Some(live)) => {
                self.made(&live);
                Ok(live)
            }
            Ok(None) => {
                self.record(Write::Deleted(Arc::clone(sandbox)));
                Err(ClaimError::NotFound { id: id.to_owned() })
            }
            Err(cause) => Err(ClaimError::unavailable(cause)),
        }
    }
}

/// The error of a claim with a key whose lock the watch does not show in time.
pub(super) fn unshown(sandbox: &Sandbox) -> ClaimError {
    ClaimError::unavailable_after_write(sandbox, "the watch of sandboxes does not show the claim")
}

/// Returns the present state of a sandbox. The own write is looked up before the cache: it is forgotten when the cache shows
/// it. In the other order, a sandbox that is shown between the two looks would be found by neither.
fn present(
    own: impl FnOnce() -> Option<Write>,
    cached: impl FnOnce() -> Result<Option<Arc<Sandbox>>, ClaimError>,
) -> Result<Option<Arc<Sandbox>>, ClaimError> {
    let own = own();
    Ok(match (own, cached()?) {
        (None, cached) => cached,
        (Some(write), Some(cached)) => newer(write, cached),
        (Some(Write::Written(written)), None) => Some(written),
        (Some(Write::Deleted(_)), None) => None,
    })
}

/// Returns the newer one of an own write and what the cache shows.
fn newer(write: Write, cached: Arc<Sandbox>) -> Option<Arc<Sandbox>> {
    match write {
        Write::Deleted(deleted) if deleted.metadata.uid == cached.metadata.uid => None,
        Write::Written(written) if version_of(&*written) > version_of(&*cached) => Some(written),
        _ => Some(cached),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_claim_that_the_watch_shows_between_the_two_looks_is_found() {
        let claimed = Arc::new(Sandbox::default());
        let is_shown = Cell::new(false);
        // The event arrives after the first look, whichever that is.
        let own = || (!is_shown.replace(true)).then(|| Write::Written(Arc::clone(&claimed)));
        let cached = || Ok(is_shown.replace(true).then(|| Arc::clone(&claimed)));
        assert!(present(own, cached).unwrap().is_some());
    }
}
