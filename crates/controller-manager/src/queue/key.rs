//! [`QueueKey`]: the key of an entry, shared by the map of entries and the queues.

use std::cmp::Ordering;
use std::sync::Arc;

use hashbrown::Equivalent;
use shared_cache::{KeyRef, ObjectKey};

/// An [`ObjectKey`] that is allocated once, however many collections hold it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct QueueKey(Arc<ObjectKey>);

impl QueueKey {
    pub(super) fn new(key: impl Into<ObjectKey>) -> Self {
        Self(Arc::new(key.into()))
    }

    pub(crate) fn object_key(&self) -> &ObjectKey {
        &self.0
    }

    /// Any total order in which clones are equal. The address is cheaper to compare than the texts, and the entry
    /// that holds the key keeps the address in use.
    pub(super) fn cmp_address(&self, other: &Self) -> Ordering {
        Arc::as_ptr(&self.0).cmp(&Arc::as_ptr(&other.0))
    }
}

/// Searches the map of entries without allocating a key: both hash the same two texts.
impl Equivalent<QueueKey> for KeyRef<'_> {
    fn equivalent(&self, key: &QueueKey) -> bool {
        self.namespace == key.0.namespace && self.name == key.0.name
    }
}
