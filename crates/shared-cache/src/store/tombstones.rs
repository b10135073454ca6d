//! [`Tombstones`]: remembers recent deletions, so that a late event does not restore a deleted object.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// Number of deletions that are remembered. Only events that are reordered within one connection can be late,
/// so a few seconds of heavy churn are enough.
const TOMBSTONES: usize = 8192;

/// The versions at which objects were last deleted, by UID. The oldest entry is removed first.
#[derive(Default)]
pub(crate) struct Tombstones {
    versions: HashMap<u64, u64>,
    order: VecDeque<u64>,
    hasher: RandomState,
}

impl Tombstones {
    /// Records that the object of this UID was deleted at or before a version.
    pub(crate) fn record(&mut self, uid: &str, version: Option<u64>) {
        let Some(version) = version else { return };
        let uid = self.hasher.hash_one(uid);
        // A late deletion event must not lower the version.
        match self.versions.entry(uid) {
            Entry::Occupied(mut known) => *known.get_mut() = version.max(*known.get()),
            Entry::Vacant(new) => {
                new.insert(version);
                self.order.push_back(uid);
            }
        }
        if self.order.len() > TOMBSTONES
            && let Some(oldest) = self.order.pop_front()
        {
            self.versions.remove(&oldest);
        }
    }

    /// Returns true if an event of this UID and version happened before the object's deletion.
    pub(crate) fn is_outdated(&self, uid: &str, version: Option<u64>) -> bool {
        let (Some(version), false) = (version, self.versions.is_empty()) else {
            return false;
        };
        self.versions.get(&self.hasher.hash_one(uid)).is_some_and(|&deleted| version <= deleted)
    }

    /// Removes all entries, because the server's versions have restarted.
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
            tombstones.record(&format!("uid-{i}"), Some(100));
        }
        assert_eq!(tombstones.versions.len(), TOMBSTONES);
        assert!(!tombstones.is_outdated("uid-0", Some(99)));
        assert!(tombstones.is_outdated("uid-1", Some(100)));
        assert!(!tombstones.is_outdated("uid-1", Some(101)));
    }
}
