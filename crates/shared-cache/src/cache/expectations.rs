//! [`ResourceVersionExpectations`]: own writes that the cache has not seen yet (behaviours K1, K2).

use std::collections::HashMap;
use std::time::Duration;

use kube::Resource;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::kind::CacheObject;
use crate::object::{Batch, Delta, Observer, parse_version, version_of};

/// Age at which an unseen write becomes [`Satisfaction::Expired`].
pub const EXPIRES_AFTER: Duration = Duration::from_mins(1);

/// Number of writes that are tracked one by one. The limit is reached only if a watch is stuck during very
/// many writes. The writes are then tracked as one: no expectation is satisfied until the watch has passed
/// them all.
const CAPACITY: usize = 65_536;

/// The result of checking if the cache has seen an own write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Satisfaction {
    /// The cache is as new as the write, or no write was expected.
    Satisfied,
    /// The cache is still older than the write.
    Unsatisfied {
        /// Time since the write.
        age: Duration,
    },
    /// The cache is still older than the write after more than [`EXPIRES_AFTER`]. Do a live read.
    Expired {
        /// Time since the write.
        age: Duration,
    },
}

impl Satisfaction {
    /// Returns true if the cached object may be trusted.
    #[must_use]
    pub fn is_satisfied(self) -> bool {
        self == Self::Satisfied
    }
}

struct Expected {
    version: u64,
    since: Instant,
}

/// The newest version of each object that this process has written and the cache has not seen, by UID.
#[derive(Default)]
pub(crate) struct ResourceVersionExpectations {
    expected: Mutex<Expectations>,
}

#[derive(Default)]
struct Expectations {
    by_uid: HashMap<String, Expected>,
    /// The newest version, and the age of the oldest, of the writes beyond the capacity.
    overflow: Option<Expected>,
}

impl ResourceVersionExpectations {
    /// Records a write. A version older than the expected version has no effect.
    pub(crate) fn expect<K: Resource>(&self, object: &K) {
        let (Some(uid), Some(version)) = (object.meta().uid.clone(), version_of(object)) else {
            return;
        };
        let mut expected = self.expected.lock();
        if expected.by_uid.len() >= CAPACITY && !expected.by_uid.contains_key(&uid) {
            expected.overflow();
        }
        let now = Instant::now();
        let entry = expected.by_uid.entry(uid).or_insert(Expected { version, since: now });
        if version > entry.version {
            *entry = Expected { version, since: now };
        }
    }

    /// Returns the result for an object. `held` is the version of the cached object, if there is one;
    /// `reached` is the version of the whole watch.
    pub(crate) fn check(&self, uid: &str, held: Option<u64>, reached: u64) -> Satisfaction {
        let mut expected = self.expected.lock();
        if expected.overflow.as_ref().is_some_and(|overflow| reached >= overflow.version) {
            expected.overflow = None;
        }
        // The watch has passed the write. If the object is not cached, it was deleted since.
        let newest = held.unwrap_or_default().max(reached);
        if expected.by_uid.get(uid).is_some_and(|entry| newest >= entry.version) {
            expected.by_uid.remove(uid);
        }
        let Some(unmet) = expected.by_uid.get(uid).or(expected.overflow.as_ref()) else {
            return Satisfaction::Satisfied;
        };
        let age = unmet.since.elapsed();
        if age > EXPIRES_AFTER { Satisfaction::Expired { age } } else { Satisfaction::Unsatisfied { age } }
    }

    /// Returns the number of writes that the cache has not seen, and the age of the oldest. Forgets the writes that the
    /// watch has passed: no later event may settle the write of an object that was deleted before it was recorded.
    pub(crate) fn outstanding(&self, reached: u64) -> (usize, Duration) {
        let mut expected = self.expected.lock();
        expected.by_uid.retain(|_, entry| entry.version > reached);
        let all = expected.by_uid.values().chain(&expected.overflow);
        let oldest = all.map(|entry| entry.since.elapsed()).max();
        (expected.by_uid.len(), oldest.unwrap_or_default())
    }
}

impl Expectations {
    /// Merges all tracked writes into one.
    fn overflow(&mut self) {
        let all = || self.by_uid.values().chain(&self.overflow);
        let version = all().map(|entry| entry.version).max();
        let since = all().map(|entry| entry.since).min();
        self.overflow = version.zip(since).map(|(version, since)| Expected { version, since });
        self.by_uid.clear();
    }
}

impl<K: CacheObject> Observer<K> for ResourceVersionExpectations {
    fn observe(&self, batch: &Batch<K>) {
        let expected = &mut self.expected.lock().by_uid;
        if expected.is_empty() {
            return;
        }
        for delta in &batch.deltas {
            let object = delta.object();
            let Some(uid) = object.meta().uid.as_deref() else {
                continue;
            };
            let gone = matches!(delta, Delta::Deleted { .. });
            let seen = object.meta().resource_version.as_deref().and_then(parse_version);
            if gone || expected.get(uid).is_some_and(|entry| seen.is_some_and(|seen| seen >= entry.version)) {
                expected.remove(uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::ObjectMeta;

    use super::*;

    fn object(uid: &str, version: &str) -> ConfigMap {
        let metadata = ObjectMeta {
            uid: Some(uid.into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    fn observe(expectations: &ResourceVersionExpectations, delta: Delta<ConfigMap>) {
        expectations.observe(&Batch { sequence: 1, deltas: vec![delta] });
    }

    #[tokio::test(start_paused = true)]
    async fn k1_a_write_is_expected_until_the_cache_has_seen_its_version() {
        let expectations = ResourceVersionExpectations::default();
        assert!(expectations.check("u", None, 0).is_satisfied(), "no write was expected");
        expectations.expect(&object("u", "10"));
        expectations.expect(&object("u", "9"));
        assert_eq!(expectations.check("u", Some(9), 9), Satisfaction::Unsatisfied { age: Duration::ZERO });
        assert!(expectations.check("other", Some(9), 9).is_satisfied());
        observe(&expectations, Delta::Applied { old: None, new: Arc::new(object("u", "9")) });
        assert!(!expectations.check("u", Some(9), 9).is_satisfied());
        observe(&expectations, Delta::Applied { old: None, new: Arc::new(object("u", "10")) });
        assert_eq!(expectations.outstanding(0).0, 0);
        assert!(expectations.check("u", Some(10), 10).is_satisfied());
    }

    #[tokio::test(start_paused = true)]
    async fn k1_a_write_that_was_seen_before_it_was_expected_is_satisfied() {
        let expectations = ResourceVersionExpectations::default();
        expectations.expect(&object("u", "10"));
        assert!(expectations.check("u", Some(10), 3).is_satisfied(), "the object has that version");
        expectations.expect(&object("u", "10"));
        assert!(expectations.check("u", None, 11).is_satisfied(), "the object was created and deleted");
    }

    #[tokio::test(start_paused = true)]
    async fn k1_deletion_clears_the_expectation_by_uid() {
        let expectations = ResourceVersionExpectations::default();
        expectations.expect(&object("u", "10"));
        let last_known = Arc::new(object("u", "5"));
        observe(
            &expectations,
            Delta::Deleted { last_known, reason: crate::object::DeletionReason::FinalStateUnknown },
        );
        assert!(expectations.check("u", None, 5).is_satisfied());
    }

    #[tokio::test(start_paused = true)]
    async fn k1_after_a_minute_the_answer_is_expired_and_never_satisfied() {
        let expectations = ResourceVersionExpectations::default();
        expectations.expect(&object("u", "10"));
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(matches!(expectations.check("u", Some(9), 9), Satisfaction::Unsatisfied { .. }));
        tokio::time::advance(Duration::from_secs(1)).await;
        let age = Duration::from_secs(61);
        assert_eq!(expectations.check("u", Some(9), 9), Satisfaction::Expired { age });
        assert_eq!(expectations.outstanding(0), (1, age));
    }

    #[tokio::test(start_paused = true)]
    async fn k1_what_is_remembered_is_bounded_and_nothing_of_it_counts_as_seen_too_early() {
        let expectations = ResourceVersionExpectations::default();
        for i in 0..=CAPACITY {
            expectations.expect(&object(&i.to_string(), &(100 + i).to_string()));
        }
        assert_eq!(expectations.outstanding(0).0, 1);
        let newest = 100 + CAPACITY as u64 - 1;
        assert!(!expectations.check("0", Some(100), newest - 1).is_satisfied());
        assert!(expectations.check("0", Some(100), newest).is_satisfied());
        assert!(!expectations.check(&CAPACITY.to_string(), None, newest).is_satisfied());
    }
}
