//! [`Hidden`]: the objects that exist in a version which cannot be decoded.
//!
//! A hidden object is not in the store, but it is not deleted either: waits must not take it for absent, and its true
//! deletion must still be reported.

use std::hash::RandomState;
use std::sync::Arc;

use hashbrown::HashMap;

use super::partition::Partition;
use crate::object::{KeyRef, ObjectKey};

/// What is remembered of a hidden object.
pub(super) struct HiddenObject<K> {
    /// The last state that was in the store; `None` if there was none.
    pub(super) last_known: Option<Arc<K>>,
    /// The version that cannot be decoded.
    pub(super) version: Option<u64>,
    pub(super) partition: Partition,
    /// The relist that saw the object last.
    pub(super) epoch: u32,
}

/// The hidden objects of one kind, by key.
pub(super) struct Hidden<K> {
    objects: HashMap<ObjectKey, HiddenObject<K>, RandomState>,
}

impl<K> Default for Hidden<K> {
    fn default() -> Self {
        Self { objects: HashMap::default() }
    }
}

impl<K> Hidden<K> {
    /// Hides an object. If it was hidden before, its last known state is kept. Returns the state that is kept no more.
    pub(super) fn insert(&mut self, key: ObjectKey, mut hidden: HiddenObject<K>) -> Option<Arc<K>> {
        let mut known = self.objects.remove(&key).and_then(|hidden| hidden.last_known);
        if hidden.last_known.is_none() {
            hidden.last_known = known.take();
        }
        self.objects.insert(key, hidden);
        known
    }

    /// Returns true if the object of this key is hidden in a newer version than this one.
    pub(super) fn is_newer_than(&self, key: KeyRef<'_>, version: Option<u64>) -> bool {
        let hidden = if self.objects.is_empty() { None } else { self.objects.get(&key) };
        let hidden = hidden.and_then(|hidden| hidden.version);
        matches!((hidden, version), (Some(hidden), Some(version)) if version < hidden)
    }

    /// Forgets an object and returns its last known state.
    pub(super) fn remove(&mut self, key: KeyRef<'_>) -> Option<Arc<K>> {
        if self.objects.is_empty() {
            return None;
        }
        self.objects.remove(&key)?.last_known
    }

    pub(super) fn get(&self, key: KeyRef<'_>) -> Option<&HiddenObject<K>> {
        if self.objects.is_empty() { None } else { self.objects.get(&key) }
    }

    pub(super) fn contains(&self, key: KeyRef<'_>) -> bool {
        !self.objects.is_empty() && self.objects.contains_key(&key)
    }

    /// Returns the keys of the hidden objects of a partition.
    pub(super) fn keys(&self, partition: Partition) -> impl Iterator<Item = &ObjectKey> {
        self.objects.iter().filter(move |(_, hidden)| hidden.partition == partition).map(|(key, _)| key)
    }

    /// Removes the objects of a partition that the relist of this epoch has not seen, and returns their last known
    /// states.
    pub(super) fn take_unlisted(&mut self, partition: Partition, epoch: u32) -> Vec<Arc<K>> {
        let unlisted = |hidden: &HiddenObject<K>| hidden.partition == partition && hidden.epoch != epoch;
        let taken = self.objects.extract_if(|_, hidden| unlisted(hidden));
        taken.filter_map(|(_, hidden)| hidden.last_known).collect()
    }
}
