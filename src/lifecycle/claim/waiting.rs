//! [`Waiting`]: the claims that wait until a set has a sandbox for them.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;
use shared_cache::ObjectKey;

/// The claims that wait, by the set that they wait for. Asked by the task that reads the watch of sandboxes, so every
/// method only looks up keys.
#[derive(Default)]
pub(super) struct Waiting {
    claims: Mutex<HashMap<ObjectKey, BTreeSet<ObjectKey>>>,
}

impl Waiting {
    /// Notes that a claim waits for a sandbox of the set.
    pub(super) fn add(&self, namespace: &str, set: &str, claim: ObjectKey) {
        self.claims.lock().entry(ObjectKey::new(namespace, set)).or_default().insert(claim);
    }

    /// Forgets a claim.
    pub(super) fn remove(&self, claim: &ObjectKey) {
        self.claims.lock().retain(|_, claims| {
            claims.remove(claim);
            !claims.is_empty()
        });
    }

    /// Returns the claims that wait for the set.
    pub(super) fn of(&self, namespace: &str, set: &str) -> Vec<ObjectKey> {
        let claims = self.claims.lock();
        if claims.is_empty() {
            return Vec::new();
        }
        claims.get(&ObjectKey::new(namespace, set)).into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lk1_a_sandbox_wakes_the_claims_that_wait_for_its_set_and_no_others() {
        let waiting = Waiting::default();
        let (a, b) = (ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
        waiting.add("ns", "pool", a.clone());
        waiting.add("ns", "pool", b.clone());
        waiting.add("ns", "pool", b.clone());
        assert_eq!(waiting.of("ns", "pool"), [a.clone(), b.clone()]);
        assert!(waiting.of("other", "pool").is_empty());
        waiting.remove(&a);
        assert_eq!(waiting.of("ns", "pool"), std::slice::from_ref(&b));
        waiting.remove(&b);
        assert!(waiting.claims.lock().is_empty());
    }
}
