//! [`Waiting`]: the claims that wait until a set has a sandbox for them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use shared_cache::ObjectKey;
use tokio::time::Instant;

use super::decide::set_name;
use crate::api::v1alpha1::SandboxClaim;

/// How long a claim without stock waits at most until it looks again. A sandbox that becomes available wakes it earlier.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// The claims that wait, by the set that they wait for, those that wait longest first. Asked by the task that reads the
/// watch of sandboxes, so every method only looks up keys.
#[derive(Default)]
pub(super) struct Waiting {
    queues: Mutex<Queues>,
}

#[derive(Default)]
struct Queues {
    /// The claims by their set. A claim is in the queue of its set once.
    claims: HashMap<ObjectKey, VecDeque<ObjectKey>>,
    waits: HashMap<ObjectKey, Wait>,
}

/// The wait of one claim.
struct Wait {
    set: ObjectKey,
    generation: Option<i64>,
    retry_at: Instant,
}

impl Waiting {
    /// Notes that a claim waits for a sandbox of its set, and looks again after [`RETRY`]. A claim that waits already
    /// keeps its place.
    pub(super) fn add(&self, claim: &SandboxClaim) {
        let (mut queues, key) = (self.queues.lock(), ObjectKey::of(claim));
        let set = ObjectKey::new(claim.namespace_or_empty(), set_name(claim));
        if queues.waits.get(&key).is_none_or(|wait| wait.set != set) {
            queues.remove(&key);
            queues.claims.entry(set.clone()).or_default().push_back(key.clone());
        }
        let generation = claim.metadata.generation;
        queues.waits.insert(key, Wait { set, generation, retry_at: Instant::now() + RETRY });
    }

    /// Forgets a claim.
    pub(super) fn remove(&self, claim: &SandboxClaim) {
        self.queues.lock().remove(&ObjectKey::of(claim));
    }

    /// Returns the time until a claim looks again; `None` if it may look now. While a claim waits, no sandbox has become
    /// available for it, so it would look in vain.
    pub(super) fn remaining(&self, claim: &SandboxClaim) -> Option<Duration> {
        let queues = self.queues.lock();
        let wait = queues.waits.get(&ObjectKey::of(claim))?;
        // A new spec may allow what the old one did not.
        let left = wait.retry_at.saturating_duration_since(Instant::now());
        Some(left).filter(|left| !left.is_zero() && wait.generation == claim.metadata.generation)
    }

    /// Returns the claim that waits longest for a sandbox of the set, and forgets it. One sandbox is for one claim: the
    /// others would only look for it in vain. A claim that still waits afterwards adds itself again.
    pub(super) fn next(&self, namespace: &str, set: &str) -> Option<ObjectKey> {
        let mut queues = self.queues.lock();
        if queues.claims.is_empty() {
            return None;
        }
        let next = queues.claims.get(&ObjectKey::new(namespace, set))?.front()?.clone();
        queues.remove(&next);
        Some(next)
    }
}

impl Queues {
    fn remove(&mut self, claim: &ObjectKey) {
        let Some(Wait { set, .. }) = self.waits.remove(claim) else { return };
        let Some(claims) = self.claims.get_mut(&set) else { return };
        claims.retain(|waiting| waiting != claim);
        if claims.is_empty() {
            self.claims.remove(&set);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, generation: i64) -> SandboxClaim {
        let mut claim = SandboxClaim::default();
        claim.metadata.namespace = Some("ns".to_owned());
        claim.metadata.name = Some(name.to_owned());
        claim.metadata.generation = Some(generation);
        claim.spec.template_name = Some("pool".to_owned());
        claim
    }

    #[test]
    fn lk1_a_sandbox_wakes_the_claim_that_waits_longest_for_its_set_and_no_other() {
        let waiting = Waiting::default();
        let [first, second, third] = ["b", "a", "c"].map(|name| claim(name, 1));
        for claim in [&first, &second, &third, &first] {
            waiting.add(claim);
        }
        let next = || waiting.next("ns", "pool").map(|key| key.name);
        assert_eq!(waiting.next("other", "pool"), None);
        assert_eq!(next().as_deref(), Some("b"));
        waiting.add(&first);
        waiting.remove(&second);
        assert_eq!(next().as_deref(), Some("c"));
        assert_eq!(next().as_deref(), Some("b"));
        assert_eq!(next(), None);
        assert!(waiting.queues.lock().claims.is_empty() && waiting.queues.lock().waits.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn lk1_a_claim_that_waits_looks_again_when_it_is_woken_or_changed_or_after_a_time() {
        let waiting = Waiting::default();
        assert_eq!(waiting.remaining(&claim("a", 1)), None);
        waiting.add(&claim("a", 1));
        assert_eq!(waiting.remaining(&claim("a", 1)), Some(RETRY));
        assert_eq!(waiting.remaining(&claim("a", 2)), None, "changed");
        tokio::time::advance(RETRY).await;
        assert_eq!(waiting.remaining(&claim("a", 1)), None);
        waiting.add(&claim("a", 1));
        waiting.next("ns", "pool").unwrap();
        assert_eq!(waiting.remaining(&claim("a", 1)), None, "woken");
    }
}
