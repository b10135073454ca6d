//! [`Tombstones`]: remembers recent deletions, so that a late event does not bring a deleted object back.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

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
