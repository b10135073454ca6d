//! Resource versions: their order, and the memory of recent deletions that keeps late events from
//! bringing the dead back.
//!
//! The API server declares versions opaque, but since Kubernetes 1.35 comparable as integers for every
//! built-in and custom resource; client-go's `resourceversion.CompareResourceVersion` relies on the same.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use kube::Resource;

/// The version of an object as a number; `None` when it has none or the server's versions are not numeric.
#[must_use]
pub fn version_of<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_deref().and_then(parse_version)
}

/// A resource version as a number; `None` when it is not one.
#[must_use]
pub fn parse_version(version: &str) -> Option<u64> {
    version.parse().ok()
}

/// How an incoming version stands to a stored one of the same object. Versions that are not numbers are
/// only ever equal or newer, since nothing else is known of them (behaviour E4).
pub(crate) fn compare(incoming: &str, stored: &str) -> Ordering {
    if incoming == stored {
        return Ordering::Equal;
    }
    match (parse_version(incoming), parse_version(stored)) {
        (Some(incoming), Some(stored)) => incoming.cmp(&stored),
        _ => Ordering::Greater,
    }
}

/// How many deletions are remembered. Only events that overtake one another within one connection can be
/// late, so a bound of a few seconds of heavy churn is ample.
const TOMBSTONES: usize = 8192;

/// The versions at which objects were last deleted, by UID; the oldest is forgotten first.
#[derive(Default)]
pub(crate) struct Tombstones {
    versions: HashMap<u64, u64>,
    order: VecDeque<u64>,
    hasher: RandomState,
}

impl Tombstones {
    /// Remembers that the object of this UID was gone as of a version.
    pub(crate) fn bury(&mut self, uid: &str, version: Option<u64>) {
        let Some(version) = version else { return };
        let uid = self.hasher.hash_one(uid);
        if self.versions.insert(uid, version).is_none() {
            self.order.push_back(uid);
        }
        if self.order.len() > TOMBSTONES
            && let Some(oldest) = self.order.pop_front()
        {
            self.versions.remove(&oldest);
        }
    }

    /// Whether an event of this UID and version happened before the object's deletion.
    pub(crate) fn outlived_by(&self, uid: &str, version: Option<u64>) -> bool {
        let (Some(version), false) = (version, self.versions.is_empty()) else {
            return false;
        };
        self.versions.get(&self.hasher.hash_one(uid)).is_some_and(|&deleted| version <= deleted)
    }

    /// Forgets everything: the server's versions have started anew.
    pub(crate) fn clear(&mut self) {
        self.versions.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4_versions_compare_as_integers_and_else_only_by_equality() {
        assert_eq!(compare("10", "9"), Ordering::Greater);
        assert_eq!(compare("9", "10"), Ordering::Less);
        assert_eq!(compare("10", "10"), Ordering::Equal);
        assert_eq!(compare("a", "b"), Ordering::Greater);
        assert_eq!(compare("b", "a"), Ordering::Greater);
        assert_eq!(compare("a", "a"), Ordering::Equal);
    }

    #[test]
    fn tombstones_are_bounded_and_the_oldest_goes_first() {
        let mut tombstones = Tombstones::default();
        for i in 0..=TOMBSTONES {
            tombstones.bury(&format!("uid-{i}"), Some(100));
        }
        assert_eq!(tombstones.versions.len(), TOMBSTONES);
        assert!(!tombstones.outlived_by("uid-0", Some(99)));
        assert!(tombstones.outlived_by("uid-1", Some(100)));
        assert!(!tombstones.outlived_by("uid-1", Some(101)));
    }
}
