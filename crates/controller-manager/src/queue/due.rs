//! [`DueKeys`]: the keys that wait for a time.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use tokio::time::Instant;

use super::key::QueueKey;

/// Keys in the order of the times at which they are due.
#[derive(Default)]
pub(super) struct DueKeys(BTreeSet<Due>);

struct Due {
    at: Instant,
    key: QueueKey,
}

impl DueKeys {
    pub(super) fn insert(&mut self, at: Instant, key: QueueKey) {
        self.0.insert(Due { at, key });
    }

    /// Removes a key that no longer waits for this time.
    pub(super) fn remove(&mut self, at: Instant, key: &QueueKey) {
        self.0.remove(&Due { at, key: key.clone() });
    }

    /// Takes a key whose time has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<QueueKey> {
        (self.first()? <= now).then(|| self.0.pop_first().map(|due| due.key)).flatten()
    }

    /// The next time at which a key is due.
    pub(super) fn first(&self) -> Option<Instant> {
        self.0.first().map(|due| due.at)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at).then_with(|| self.key.cmp_address(&other.key))
    }
}
