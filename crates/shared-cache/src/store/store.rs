//! [`Store`]: the objects of one kind and their indexes, behind one lock.
//!
//! The kind's informer is the only writer; any number of readers may read. Objects are immutable `Arc`s, so a
//! reader keeps the objects it found after it has released the lock. The writer decodes objects and computes
//! index values outside the lock. It changes the store in batches of limited size, and drops replaced and outdated
//! objects after unlocking.
//!
//! The lock is a [`ShardedLock`], so readers on different cores do not slow each other. A reader holds it for a limited
//! number of objects: a lookup of many takes a snapshot ([`Members`]), and a visit of all objects locks again for each
//! [`VISITED`]. Only the snapshot of a long posting list grows with its length, because it copies 4 bytes for each
//! object of the list.
//!
//! [`Members`]: super::members::Members
//!
//! A relist is mark and sweep in place. [`Store::begin_relist`] starts an epoch, each listed object is marked
//! with the epoch, and [`Store::sweep`] removes the unmarked objects. Readers see the old objects until then
//! (E5).
//!
//! A kind that is watched in several namespaces has a [`Partition`] for each. Every partition is listed and
//! swept separately, and all partitions share the objects and the indexes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use jiff::Timestamp;
use tokio::sync::Notify;

use super::inner::{Change, Inner};
use super::partition::Partition;
use super::sharded_lock::{MOST_SHARDS, ShardedLock};
use super::slots::Slot;
use super::view::{View, is_in_predicate};
use crate::kind::{CacheObject, KindParams};
use crate::object::{Batch, DeletionReason, Delta};

/// Number of slots that one sweep step or one re-index step may visit under the lock.
const STEP: Slot = 512;

/// Number of objects that [`Store::visit`] passes on under one lock. They are few, because the callback adds its time.
const VISITED: Slot = 64;

/// Number of shards of the lock of each store. There are more than cores, because threads share a shard by chance.
static SHARDS: LazyLock<usize> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(1, usize::from);
    (2 * cores).clamp(8, MOST_SHARDS)
});

/// Objects of one kind by key and by index value. The kind's informer writes; all others read.
pub(crate) struct Store<K> {
    pub(super) inner: ShardedLock<Inner<K>>,
    /// Notified when the time of the next transition has changed.
    transitions_changed: Notify,
    params: Arc<KindParams<K>>,
}

impl<K: CacheObject> Store<K> {
    /// Creates an empty store with this many partitions. With a selector, an object may leave the watch without being
    /// deleted.
    pub(crate) fn new(params: Arc<KindParams<K>>, partitions: usize, has_selector: bool) -> Self {
        Self {
            inner: ShardedLock::new(Inner::new(partitions, has_selector), *SHARDS),
            transitions_changed: Notify::new(),
            params,
        }
    }

    /// Returns the parameters of the kind.
    pub(crate) fn params(&self) -> &Arc<KindParams<K>> {
        &self.params
    }

    /// Returns the change that stores an object. Computes the index values, so call it without holding a
    /// lock.
    pub(crate) fn upsert(&self, object: K, now: Timestamp) -> Change<K> {
        let values = self.params.index_values(&object, now);
        Change::Upsert(Arc::new(object), values)
    }

    /// Applies the changes of one partition in order under one write lock and returns the resulting deltas.
    pub(crate) fn apply(
        &self,
        partition: Partition,
        changes: impl IntoIterator<Item = Change<K>>,
    ) -> Batch<K> {
        let changes: Vec<_> = changes.into_iter().collect();
        self.write(|inner, deltas| changes.iter().for_each(|change| inner.apply(partition, change, deltas)))
    }

    /// Calls `visit` with every object and its index values, a limited number of objects under each lock. An
    /// object that changes meanwhile is visited in its old or its new state; an object that is added or
    /// removed may be missed.
    pub(crate) fn visit(&self, mut visit: impl FnMut(&Arc<K>, &mut dyn Iterator<Item = (u8, &str)>)) {
        let mut next = Some(0);
        while let Some(start) = next {
            next = self.visit_from(start, &mut visit);
        }
    }

    /// Does one step of [`Self::visit`], which begins at a slot. Returns the slot of the next step.
    pub(crate) fn visit_from(
        &self,
        start: Slot,
        visit: &mut impl FnMut(&Arc<K>, &mut dyn Iterator<Item = (u8, &str)>),
    ) -> Option<Slot> {
        let inner = self.inner.read();
        let end = inner.entries.slot_end();
        let stop = end.min(start.saturating_add(VISITED));
        for entry in (start..stop).filter_map(|slot| inner.entries.get(slot)) {
            visit(&entry.object, &mut inner.indexes.describe(&entry.postings));
        }
        (stop < end).then_some(stop)
    }

    /// Starts a relist of a partition. [`Self::sweep`] removes the objects that are not upserted after this
    /// call. With `versions_reset` the listed objects replace the stored ones even if their versions look
    /// older.
    pub(crate) fn begin_relist(&self, partition: Partition, versions_reset: bool) {
        let mut inner = self.inner.write();
        let relist = inner.relist(partition);
        relist.epoch = relist.epoch.wrapping_add(1);
        relist.versions_reset = versions_reset;
        if versions_reset {
            inner.tombstones.clear();
        }
    }

    /// Ends a relist of a partition: removes the objects that the list at `version` did not contain. Removes
    /// a limited number under each lock, and calls `observe` with the deltas of each step after unlocking.
    /// The removed objects get tombstones, so that a late event does not store them again.
    pub(crate) fn sweep(&self, partition: Partition, version: Option<u64>, observe: impl FnMut(Batch<K>)) {
        let reason = self.inner.read().unseen_reason();
        self.remove_unlisted(partition, reason, observe, |inner, slot, deltas| {
            if let Some(entry) = inner.entries.get(slot) {
                inner.tombstones.record(entry.object.meta().uid.as_deref().unwrap_or_default(), version);
            }
            inner.take_out(slot, reason, deltas);
        });
    }

    /// Removes every object of a partition, because the API server no longer serves the kind. Keeps no
    /// tombstones: if the kind is served again, the same objects may return in the same versions (behaviour
    /// V1).
    pub(crate) fn clear(&self, partition: Partition, observe: impl FnMut(Batch<K>)) {
        self.begin_relist(partition, false);
        let reason = DeletionReason::KindRemoved;
        self.remove_unlisted(partition, reason, observe, |inner, slot, deltas| {
            inner.take_out(slot, reason, deltas);
        });
        self.inner.write().tombstones.clear();
    }

    fn remove_unlisted(
        &self,
        partition: Partition,
        reason: DeletionReason,
        mut observe: impl FnMut(Batch<K>),
        mut remove: impl FnMut(&mut Inner<K>, Slot, &mut Vec<Delta<K>>),
    ) {
        let mut start: Slot = 0;
        loop {
            let mut done = false;
            let batch = self.write(|inner, deltas| {
                let end = inner.entries.slot_end();
                let stop = end.min(start.saturating_add(STEP));
                for slot in start..stop {
                    if inner.is_unlisted(slot, partition) {
                        remove(inner, slot, deltas);
                    }
                }
                start = stop;
                done = stop == end;
                if done {
                    inner.take_out_hidden(partition, reason, deltas);
                    inner.relist(partition).versions_reset = false;
                }
            });
            observe(batch);
            if done {
                return;
            }
        }
    }

    /// Indexes each object again whose transition time the clock has passed, in either direction: a clock that is set
    /// back also restores index values (behaviour V11). Calls `observe` with a delta of the unchanged object after
    /// unlocking. If an index function panics, calls `panicked` and drops the transition. Returns the time of the next
    /// transition.
    pub(crate) fn reindex_due(
        &self,
        now: Timestamp,
        mut panicked: impl FnMut(&K),
        mut observe: impl FnMut(Batch<K>),
    ) -> Option<Timestamp> {
        loop {
            let due: Vec<(Slot, Arc<K>)> = {
                let inner = self.inner.read();
                let due = inner.transitions.due(now).take(STEP as usize);
                due.filter_map(|slot| Some((slot, Arc::clone(&inner.entries.get(slot)?.object)))).collect()
            };
            if due.is_empty() {
                return self.inner.read().transitions.next();
            }
            let index = |object: &K| catch_unwind(AssertUnwindSafe(|| self.params.index_values(object, now)));
            let keyed: Vec<_> =
                due.into_iter().map(|(slot, object)| (slot, index(&object).ok(), object)).collect();
            keyed.iter().filter(|keyed| keyed.1.is_none()).for_each(|keyed| panicked(&keyed.2));
            observe(self.write(|inner, deltas| {
                for (slot, values, object) in keyed {
                    let Some(values) = values else {
                        inner.set_transition(slot, None);
                        continue;
                    };
                    inner.reindex(slot, &values);
                    deltas.push(Delta::Applied { old: Some(Arc::clone(&object)), new: object });
                }
            }));
        }
    }

    fn write(&self, change: impl FnOnce(&mut Inner<K>, &mut Vec<Delta<K>>)) -> Batch<K> {
        let mut deltas = Vec::new();
        let mut guard = self.inner.write();
        let inner = &mut *guard;
        let next = inner.transitions.next();
        change(inner, &mut deltas);
        if inner.transitions.next() != next {
            self.transitions_changed.notify_one();
        }
        if !deltas.is_empty() {
            inner.sequence += 1;
        }
        let batch = Batch { sequence: inner.sequence, deltas };
        let retired = std::mem::take(&mut inner.retired);
        drop(guard);
        drop(retired);
        batch
    }

    /// Resolves when [`Self::reindex_due`] may have a new result. Cancel safe; for one caller.
    pub(crate) async fn transitions_changed(&self) {
        self.transitions_changed.notified().await;
    }

    /// Returns a consistent view of the store. The view holds the read lock, so keep it only for a short
    /// time.
    pub(crate) fn view(&self) -> View<'_, K> {
        // A predicate already runs under this lock. If the predicate waited behind a writer, both would wait
        // forever.
        let nested = is_in_predicate();
        View::new(if nested { self.inner.read_recursive() } else { self.inner.read() })
    }

    /// Returns the number of stored objects.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.view().len()
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
