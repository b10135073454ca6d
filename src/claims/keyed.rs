//! [`Keyed`]: the claims that carry a key, in the order in which the API server has written their locks.
//!
//! A caller repeats a claim with the same key, on any replica, and must get the same sandbox. The watch tells all locks in
//! one order, so every replica knows which lock of a key was the first. A claim with a key is answered only after the watch
//! has shown its own lock: a lock that is older was shown before that, and then the younger sandbox is given up. So two
//! replicas never answer for one key with two sandboxes, without asking one another and without a second write.
//!
//! Caveat: if a replica lists all sandboxes anew between two locks of one key, it sees both in one list, and takes the one
//! that the list names first for the older one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use shared_cache::{Delta, ObjectKey};
use tokio::sync::oneshot;

use crate::api::v1alpha1::{ANNOTATION_CLAIM_TIMESTAMP, Sandbox, SandboxPhase, annotation};

/// On a Sandbox: the key of the claim. At most one sandbox of an owner is given for it.
pub const ANNOTATION_IDEMPOTENCY_KEY: &str = "e2b.agents.kruise.io/idempotency-key";

/// How long a key is remembered, counted from the claim.
const REMEMBERED: Duration = Duration::from_hours(24);

/// The owner and the key.
type Key = (Box<str>, Box<str>);

/// The claims that carry a key. The lock is held for one step of constant time.
#[derive(Default)]
pub(super) struct Keyed {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The sandboxes of each key, the oldest lock first; never empty.
    by_key: HashMap<Key, Vec<Entry>>,
    /// The key of each sandbox, by its UID.
    keys: HashMap<Box<str>, Key>,
    /// Those who wait until the watch shows an own lock, by the UID of its sandbox: its claim, and repetitions of it.
    waiting: HashMap<Box<str>, Vec<oneshot::Sender<()>>>,
}

struct Entry {
    uid: Box<str>,
    name: ObjectKey,
    claimed: Timestamp,
}

impl Keyed {
    /// Takes over all sandboxes that `existing` returns, and returns them.
    pub(super) fn fill(&self, existing: impl FnOnce() -> Vec<Arc<Sandbox>>) {
        let mut state = self.state.lock();
        for sandbox in existing() {
            state.see(&sandbox);
        }
    }

    /// Sees changes of the cache.
    pub(super) fn see(&self, deltas: &[Delta<Sandbox>]) {
        let mut state = self.state.lock();
        for delta in deltas {
            match delta {
                Delta::Applied { old, new } => {
                    if let Some(old) = old.as_ref().filter(|old| old.metadata.uid != new.metadata.uid) {
                        state.forget(uid(old));
                    }
                    state.see(new);
                }
                delta => state.forget(uid(delta.object())),
            }
        }
    }

    /// Returns the sandbox with the oldest lock of a key that is remembered.
    pub(super) fn first(&self, owner: &str, key: &str, now: Timestamp) -> Option<ObjectKey> {
        let state = self.state.lock();
        state.remembered(&(owner.into(), key.into()), now).next().map(|entry| entry.name.clone())
    }

    /// Waits until the watch has shown a sandbox that this process has claimed, or its end. Cancel safe.
    pub(super) async fn is_shown(&self, sandbox: &Sandbox) {
        let shown = {
            let mut state = self.state.lock();
            if state.keys.contains_key(uid(sandbox)) {
                return;
            }
            let (sender, shown) = oneshot::channel();
            state.waiting.entry(uid(sandbox).into()).or_default().push(sender);
            shown
        };
        let mut waiting = Waiting { keyed: self, uid: uid(sandbox), shown };
        // The sender is dropped if the watch shows the end of the sandbox.
        let _ = (&mut waiting.shown).await;
    }

    /// Returns true if no remembered sandbox of the key of `sandbox` has an older lock. Only after [`Self::is_shown`].
    pub(super) fn is_first(&self, sandbox: &Sandbox, now: Timestamp) -> bool {
        let state = self.state.lock();
        let Some(key) = state.keys.get(uid(sandbox)) else { return false };
        state.remembered(key, now).next().is_none_or(|entry| *entry.uid == *uid(sandbox))
    }
}

/// Somebody who waits. Nothing is kept of one who has given up.
struct Waiting<'k> {
    keyed: &'k Keyed,
    uid: &'k str,
    shown: oneshot::Receiver<()>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shown.close();
        let waiting = &mut self.keyed.state.lock().waiting;
        if let Some(others) = waiting.get_mut(self.uid) {
            others.retain(|other| !other.is_closed());
            if others.is_empty() {
                waiting.remove(self.uid);
            }
        }
    }
}

impl State {
    fn see(&mut self, sandbox: &Sandbox) {
        let uid = uid(sandbox);
        match key_of(sandbox) {
            Some(_) if self.keys.contains_key(uid) => {}
            Some(key) => {
                let claimed = annotation(&sandbox.metadata, ANNOTATION_CLAIM_TIMESTAMP);
                let claimed = claimed.and_then(|at| at.parse().ok()).unwrap_or_else(Timestamp::now);
                let entry = Entry { uid: uid.into(), name: ObjectKey::of(sandbox), claimed };
                self.by_key.entry(key.clone()).or_default().push(entry);
                self.keys.insert(uid.into(), key);
            }
            None => return self.forget(uid),
        }
        for waiting in self.waiting.remove(uid).into_iter().flatten() {
            // It may have given up.
            let _ = waiting.send(());
        }
    }

    fn forget(&mut self, uid: &str) {
        // A member that is not claimed yet is no end. Only a claim of this process waits for one.
        let Some(key) = self.keys.remove(uid) else { return };
        if let Some(entries) = self.by_key.get_mut(&key) {
            entries.retain(|entry| *entry.uid != *uid);
            if entries.is_empty() {
                self.by_key.remove(&key);
            }
        }
        self.waiting.remove(uid);
    }

    fn remembered(&self, key: &Key, now: Timestamp) -> impl Iterator<Item = &Entry> {
        let entries = self.by_key.get(key).into_iter().flatten();
        entries.filter(move |entry| now.duration_since(entry.claimed).unsigned_abs() <= REMEMBERED)
    }
}

/// Returns the key of a sandbox that counts as given: claimed, not being deleted, and not failed.
pub(super) fn key_of(sandbox: &Sandbox) -> Option<Key> {
    use SandboxPhase::{Failed, Succeeded, Terminating};
    let counts = sandbox.is_claimed()
        && !sandbox.is_deleting()
        && !sandbox.is_reserved_failed()
        && !matches!(sandbox.phase(), Some(Failed | Succeeded | Terminating));
    let key = annotation(&sandbox.metadata, ANNOTATION_IDEMPOTENCY_KEY).filter(|_| counts)?;
    Some((sandbox.owner()?.into(), key.into()))
}

fn uid(sandbox: &Sandbox) -> &str {
    sandbox.metadata.uid.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: &str = "2030-01-02T00:00:00Z";

    fn claimed(name: &str, key: &str, at: &str) -> Arc<Sandbox> {
        let sandbox = json!({"metadata": {
            "namespace": "ns", "name": name, "uid": name, "labels": {"agents.kruise.io/sandbox-claimed": "true"},
            "annotations": {
                ANNOTATION_IDEMPOTENCY_KEY: key, ANNOTATION_CLAIM_TIMESTAMP: at, "agents.kruise.io/owner": "owner",
            },
        }});
        Arc::new(serde_json::from_value(sandbox).unwrap())
    }

    fn apply(keyed: &Keyed, sandbox: &Arc<Sandbox>) {
        keyed.see(&[Delta::Applied { old: None, new: Arc::clone(sandbox) }]);
    }

    fn first(keyed: &Keyed, key: &str) -> Option<String> {
        keyed.first("owner", key, NOW.parse().unwrap()).map(|first| first.name.clone())
    }

    #[test]
    fn e2b_1_the_first_lock_of_a_key_wins_until_its_sandbox_ends() {
        let (keyed, now) = (Keyed::default(), NOW.parse().unwrap());
        let (one, two) = (claimed("one", "k", NOW), claimed("two", "k", NOW));
        apply(&keyed, &one);
        apply(&keyed, &two);
        apply(&keyed, &one);
        assert!(keyed.is_first(&one, now) && !keyed.is_first(&two, now));
        assert_eq!(first(&keyed, "k").as_deref(), Some("one"));
        assert_eq!((first(&keyed, "other"), keyed.first("other", "k", now)), (None, None));
        let mut ended = (*one).clone();
        ended.metadata.deletion_timestamp = Some(serde_json::from_value(json!(NOW)).unwrap());
        apply(&keyed, &Arc::new(ended));
        assert!(keyed.is_first(&two, now));
        keyed.see(&[Delta::Deleted { last_known: two, reason: shared_cache::DeletionReason::Removed }]);
        assert!(keyed.state.lock().by_key.is_empty() && keyed.state.lock().keys.is_empty());
    }

    #[test]
    fn e2b_1_a_key_is_remembered_for_a_day() {
        let keyed = Keyed::default();
        apply(&keyed, &claimed("old", "k", "2029-12-31T23:59:59Z"));
        assert_eq!(first(&keyed, "k"), None);
        let new = claimed("new", "k", "2030-01-01T00:00:00Z");
        apply(&keyed, &new);
        assert_eq!(first(&keyed, "k").as_deref(), Some("new"));
        assert!(keyed.is_first(&new, NOW.parse().unwrap()));
    }

    #[tokio::test]
    async fn e2b_1_a_claim_waits_until_the_watch_has_shown_it() {
        let (keyed, own) = (Keyed::default(), claimed("own", "k", NOW));
        let [mut shown, mut repeated, mut given_up] = [(); 3].map(|()| Box::pin(keyed.is_shown(&own)));
        assert!(futures::poll!(&mut shown).is_pending());
        assert!(futures::poll!(&mut repeated).is_pending(), "both wait");
        assert!(futures::poll!(&mut given_up).is_pending());
        drop(given_up);
        apply(&keyed, &claimed("other", "k", NOW));
        assert!(futures::poll!(&mut shown).is_pending());
        assert!(futures::poll!(&mut repeated).is_pending());
        apply(&keyed, &own);
        shown.await;
        repeated.await;
        keyed.is_shown(&own).await;
        let gone = claimed("gone", "k", NOW);
        assert!(futures::poll!(Box::pin(keyed.is_shown(&gone))).is_pending());
        assert!(keyed.state.lock().waiting.is_empty(), "nothing is kept of those who have given up");
    }
}
