//! [`ResourceVersionExpectations`]: own writes that the cache has not seen yet (behaviours K1, K2).

use std::collections::HashMap;
use std::time::Duration;

use kube::Resource;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::informer::{Batch, CachedResource, Event, Observer, parse_version, version_of};

/// After this long without the write being seen, the answer is [`Satisfaction::Expired`].
pub const EXPIRES_AFTER: Duration = Duration::from_mins(1);

/// How many writes are remembered at most. Reaching it takes a watch that stands still under a flood of
/// writes; the oldest are then dropped, and [`Satisfaction`] falls back to what the watch has reached.
const CAPACITY: usize = 65_536;

/// Whether the cache has seen an own write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Satisfaction {
    /// The cache is as new as the write, or nothing was expected.
    Satisfied,
    /// The cache is still older than the write.
    Unsatisfied {
        /// Time since the write.
        age: Duration,
    },
    /// The cache is still older than the write after more than [`EXPIRES_AFTER`]: do a live read.
    Expired {
        /// Time since the write.
        age: Duration,
    },
}

impl Satisfaction {
    /// Whether what the cache shows can be relied upon.
    #[must_use]
    pub fn is_satisfied(self) -> bool {
        self == Self::Satisfied
    }
}

struct Expected {
    version: u64,
    since: Instant,
}

/// The newest version of each object that this process has written and the cache has not shown yet, by UID.
#[derive(Default)]
pub(crate) struct ResourceVersionExpectations {
    expected: Mutex<HashMap<String, Expected>>,
}

impl ResourceVersionExpectations {
    /// Records a write. An older version than the one already expected changes nothing.
    pub(crate) fn expect<K: Resource>(&self, object: &K) {
        let (Some(uid), Some(version)) = (object.meta().uid.clone(), version_of(object)) else {
            return;
        };
        let mut expected = self.expected.lock();
        if expected.len() >= CAPACITY && !expected.contains_key(&uid) {
            let oldest = expected
                .iter()
                .min_by_key(|(_, entry)| entry.since)
                .map(|(uid, _)| uid.clone());
            oldest.and_then(|uid| expected.remove(&uid));
        }
        let entry = expected.entry(uid).or_insert(Expected {
            version,
            since: Instant::now(),
        });
        if version > entry.version {
            *entry = Expected {
                version,
                since: Instant::now(),
            };
        }
    }

    /// Whether the cache is as new as what was written of this object, given the version of the object that
    /// it holds, if any, and the version that the whole watch has reached.
    pub(crate) fn check(&self, uid: &str, held: Option<u64>, reached: u64) -> Satisfaction {
        let mut expected = self.expected.lock();
        let Some(entry) = expected.get(uid) else {
            return Satisfaction::Satisfied;
        };
        // The watch has passed the write: if the object is not there, it has gone since.
        if held.unwrap_or_default().max(reached) >= entry.version {
            expected.remove(uid);
            return Satisfaction::Satisfied;
        }
        let age = entry.since.elapsed();
        if age > EXPIRES_AFTER {
            Satisfaction::Expired { age }
        } else {
            Satisfaction::Unsatisfied { age }
        }
    }

    /// Number of writes that the cache has not shown yet, and the age of the oldest.
    pub(crate) fn outstanding(&self) -> (usize, Duration) {
        let expected = self.expected.lock();
        let oldest = expected.values().map(|entry| entry.since.elapsed()).max();
        (expected.len(), oldest.unwrap_or_default())
    }
}

impl<K: CachedResource> Observer<K> for ResourceVersionExpectations {
    fn observe(&self, batch: &Batch<K>) {
        let mut expected = self.expected.lock();
        if expected.is_empty() {
            return;
        }
        for event in &batch.events {
            let object = event.object();
            let Some(uid) = object.meta().uid.as_deref() else {
                continue;
            };
            let gone = matches!(event, Event::Deleted { .. });
            let seen = object.meta().resource_version.as_deref().and_then(parse_version);
            if gone
                || expected
                    .get(uid)
                    .is_some_and(|entry| seen.is_some_and(|seen| seen >= entry.version))
            {
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
        ConfigMap {
            metadata,
            ..ConfigMap::default()
        }
    }

    fn observe(expectations: &ResourceVersionExpectations, event: Event<ConfigMap>) {
        expectations.observe(&Batch {
            sequence: 1,
            events: vec![event],
        });
    }

    #[tokio::test(start_paused = true)]
    async fn k1_a_write_is_expected_until_the_cache_has_seen_its_version() {
        let expectations = ResourceVersionExpectations::default();
        assert!(
            expectations.check("u", None, 0).is_satisfied(),
            "nothing was expected"
        );
        expectations.expect(&object("u", "10"));
        expectations.expect(&object("u", "9"));
        assert_eq!(
            expectations.check("u", Some(9), 9),
            Satisfaction::Unsatisfied { age: Duration::ZERO }
        );
        assert!(expectations.check("other", Some(9), 9).is_satisfied());
        observe(
            &expectations,
            Event::Applied {
                old: None,
                new: Arc::new(object("u", "9")),
            },
        );
        assert!(!expectations.check("u", Some(9), 9).is_satisfied());
        observe(
            &expectations,
            Event::Applied {
                old: None,
                new: Arc::new(object("u", "10")),
            },
        );
        assert_eq!(expectations.outstanding().0, 0);
        assert!(expectations.check("u", Some(10), 10).is_satisfied());
    }

    #[tokio::test(start_paused = true)]
    async fn k1_a_write_that_was_seen_before_it_was_expected_is_satisfied() {
        let expectations = ResourceVersionExpectations::default();
        expectations.expect(&object("u", "10"));
        assert!(
            expectations.check("u", Some(10), 3).is_satisfied(),
            "the object has that version"
        );
        expectations.expect(&object("u", "10"));
        assert!(
            expectations.check("u", None, 11).is_satisfied(),
            "the object came and went"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn k1_deletion_clears_the_expectation_by_uid() {
        let expectations = ResourceVersionExpectations::default();
        expectations.expect(&object("u", "10"));
        let last_known = Arc::new(object("u", "5"));
        observe(
            &expectations,
            Event::Deleted {
                last_known,
                final_state_unknown: true,
            },
        );
        assert!(expectations.check("u", None, 5).is_satisfied());
    }

    #[tokio::test(start_paused = true)]
    async fn k1_after_a_minute_the_answer_is_expired_and_never_satisfied() {
        let expectations = ResourceVersionExpectations::default();
        expectations.expect(&object("u", "10"));
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(matches!(
            expectations.check("u", Some(9), 9),
            Satisfaction::Unsatisfied { .. }
        ));
        tokio::time::advance(Duration::from_secs(1)).await;
        let age = Duration::from_secs(61);
        assert_eq!(expectations.check("u", Some(9), 9), Satisfaction::Expired { age });
        assert_eq!(expectations.outstanding(), (1, age));
    }

    #[tokio::test(start_paused = true)]
    async fn k1_what_is_remembered_is_bounded() {
        let expectations = ResourceVersionExpectations::default();
        for i in 0..CAPACITY + 2 {
            expectations.expect(&object(&i.to_string(), "10"));
            if i == 0 {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
        }
        assert_eq!(expectations.outstanding().0, CAPACITY);
    }
}
