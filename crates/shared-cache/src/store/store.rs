//! [`Store`]: the objects of one kind and their indexes, behind one lock.
//!
//! The kind's informer is the only writer; any number of readers may read. Objects are immutable `Arc`s, so a
//! reader keeps the objects it found after it has released the lock. The writer decodes objects and computes
//! index values outside the lock. It changes the store in batches of limited size, and drops replaced objects
//! after unlocking.
//!
//! A relist is mark and sweep in place. [`Store::begin_relist`] starts an epoch, each listed object is marked
//! with the epoch, and [`Store::sweep`] removes the unmarked objects. Readers see the old objects until then
//! (E5).
//!
//! A kind that is watched in several namespaces has a [`Partition`] for each. Every partition is listed and
//! swept separately, and all partitions share the objects and the indexes.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use kube::Resource;
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::Notify;

use crate::kind::{CacheObject, IndexValues, KindParams};
use crate::object::{Batch, DeletionReason, Delta, KeyRef, compare_versions, parse_version, version_of};

use super::keyed_slab::{Keyed, KeyedSlab, Slot};
use super::postings::{Indexes, Postings};
use super::tombstones::Tombstones;

/// Number of slots that one sweep step or one re-index step may visit under the lock.
const STEP: Slot = 512;

/// Number of one list and watch of a kind: the position of its namespace in the options.
pub(crate) type Partition = u16;

struct Entry<K> {
    object: Arc<K>,
    postings: Postings,
    /// The last relist that saw the object.
    epoch: u32,
    /// The list and watch that reported the object.
    partition: Partition,
}

/// The state of the relist of one list and watch.
#[derive(Clone, Copy, Default)]
struct Relist {
    epoch: u32,
    /// If true, stored versions cannot be compared with the server's, because the server lost some.
    versions_reset: bool,
}

impl<K: Resource<DynamicType = ()>> Keyed for Entry<K> {
    fn key(&self) -> KeyRef<'_> {
        KeyRef::of(&*self.object)
    }
}

/// A change that the API server reported, ready to be applied.
pub(crate) enum Change<K> {
    /// The object exists in this version.
    Upsert(Arc<K>, IndexValues),
    /// The watch reported the deletion; this is the last state.
    Delete(Arc<K>),
    /// An undecodable version of this key changed or deleted the object. The stored object is therefore
    /// outdated.
    Hide { namespace: String, name: String, version: Option<u64>, reason: DeletionReason },
}

/// Objects of one kind by key and by index value. The kind's informer writes; all others read.
pub(crate) struct Store<K> {
    inner: RwLock<Inner<K>>,
    /// Notified when the time of the next transition has changed.
    transitions_changed: Notify,
    params: Arc<KindParams<K>>,
}

struct Inner<K> {
    entries: KeyedSlab<Entry<K>>,
    indexes: Indexes,
    /// Slots by the time at which their index values change without an event.
    transitions: BTreeSet<(Timestamp, Slot)>,
    tombstones: Tombstones,
    relists: Vec<Relist>,
    /// Number of the last batch of changes.
    sequence: u64,
    params: Arc<KindParams<K>>,
}

impl<K: CacheObject> Store<K> {
    /// Creates an empty store with this many partitions.
    pub(crate) fn new(params: Arc<KindParams<K>>, partitions: usize) -> Self {
        Self {
            inner: RwLock::new(Inner {
                entries: KeyedSlab::new(),
                indexes: Indexes::new(),
                transitions: BTreeSet::new(),
                tombstones: Tombstones::default(),
                relists: vec![Relist::default(); partitions],
                sequence: 0,
                params: Arc::clone(&params),
            }),
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
        self.write(|inner, deltas| {
            changes.into_iter().for_each(|change| inner.apply(partition, change, deltas));
        })
    }

    /// Calls `visit` with every object and its index values, a limited number of objects under each lock. An
    /// object that changes meanwhile is visited in its old or its new state; an object that is added or
    /// removed may be missed.
    pub(crate) fn visit(&self, mut visit: impl FnMut(&Arc<K>, &mut dyn Iterator<Item = (u8, &str)>)) {
        let mut start: Slot = 0;
        loop {
            let inner = self.inner.read();
            let end = inner.entries.slot_end();
            let stop = end.min(start.saturating_add(STEP));
            for entry in (start..stop).filter_map(|slot| inner.entries.get(slot)) {
                visit(&entry.object, &mut inner.indexes.describe(&entry.postings));
            }
            if stop == end {
                return;
            }
            start = stop;
        }
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
        self.remove_unlisted(partition, observe, |inner, slot, deltas| {
            if let Some(entry) = inner.entries.get(slot) {
                inner.tombstones.record(entry.object.meta().uid.as_deref().unwrap_or_default(), version);
            }
            inner.take_out(slot, DeletionReason::FinalStateUnknown, deltas);
        });
    }

    /// Removes every object of a partition, because the API server no longer serves the kind. Keeps no
    /// tombstones: if the kind is served again, the same objects may return in the same versions (behaviour
    /// V1).
    pub(crate) fn clear(&self, partition: Partition, observe: impl FnMut(Batch<K>)) {
        self.begin_relist(partition, false);
        self.remove_unlisted(partition, observe, |inner, slot, deltas| {
            inner.take_out(slot, DeletionReason::KindRemoved, deltas);
        });
        self.inner.write().tombstones.clear();
    }

    fn remove_unlisted(
        &self,
        partition: Partition,
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
                    inner.relist(partition).versions_reset = false;
                }
            });
            observe(batch);
            if done {
                return;
            }
        }
    }

    /// Indexes each object again whose transition time has passed. Calls `observe` with a delta of the
    /// unchanged object after unlocking. Returns the time of the next transition.
    pub(crate) fn reindex_due(&self, now: Timestamp, mut observe: impl FnMut(Batch<K>)) -> Option<Timestamp> {
        loop {
            let due: Vec<(Slot, Arc<K>)> = {
                let inner = self.inner.read();
                let due = inner.transitions.iter().take_while(|(at, _)| *at < now).take(STEP as usize);
                due.filter_map(|&(_, slot)| Some((slot, Arc::clone(&inner.entries.get(slot)?.object))))
                    .collect()
            };
            if due.is_empty() {
                return self.inner.read().transitions.first().map(|&(at, _)| at);
            }
            let keyed: Vec<_> = due
                .into_iter()
                .map(|(slot, object)| (slot, self.params.index_values(&object, now), object))
                .collect();
            observe(self.write(|inner, deltas| {
                for (slot, values, object) in keyed {
                    inner.reindex(slot, &values);
                    deltas.push(Delta::Applied { old: Some(Arc::clone(&object)), new: object });
                }
            }));
        }
    }

    fn write(&self, change: impl FnOnce(&mut Inner<K>, &mut Vec<Delta<K>>)) -> Batch<K> {
        let mut deltas = Vec::new();
        let mut inner = self.inner.write();
        let first = inner.transitions.first().copied();
        change(&mut inner, &mut deltas);
        if inner.transitions.first().copied() != first {
            self.transitions_changed.notify_one();
        }
        if !deltas.is_empty() {
            inner.sequence += 1;
        }
        Batch { sequence: inner.sequence, deltas }
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
        let nested = IN_PREDICATE.with(Cell::get);
        View { inner: if nested { self.inner.read_recursive() } else { self.inner.read() } }
    }

    /// Returns the number of stored objects.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.view().inner.entries.len()
    }
}

thread_local! {
    /// True while this thread runs a caller's predicate and therefore already holds a read lock.
    static IN_PREDICATE: Cell<bool> = const { Cell::new(false) };
}

/// Runs a caller's predicate under the read lock, so that the predicate itself may look up objects.
pub(crate) fn in_predicate<R>(run: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IN_PREDICATE.with(|flag| flag.set(self.0));
        }
    }
    let _restore = Restore(IN_PREDICATE.with(|flag| flag.replace(true)));
    run()
}

impl<K: CacheObject> Inner<K> {
    fn relist(&mut self, partition: Partition) -> &mut Relist {
        &mut self.relists[usize::from(partition)]
    }

    fn apply(&mut self, partition: Partition, change: Change<K>, deltas: &mut Vec<Delta<K>>) {
        match change {
            Change::Upsert(object, values) => self.upsert(partition, object, &values, deltas),
            Change::Delete(object) => self.delete(object, deltas),
            Change::Hide { namespace, name, version, reason } => {
                let slot = self.entries.find(KeyRef { namespace: &namespace, name: &name });
                let Some(slot) = slot.filter(|&slot| self.is_outdated_by(partition, slot, version)) else {
                    return;
                };
                self.take_out(slot, reason, deltas);
            }
        }
    }

    fn upsert(
        &mut self,
        partition: Partition,
        object: Arc<K>,
        values: &IndexValues,
        deltas: &mut Vec<Delta<K>>,
    ) {
        let Relist { epoch, versions_reset } = *self.relist(partition);
        let Some(slot) = self.entries.find(KeyRef::of(&*object)) else {
            let meta = object.meta();
            let (uid, version) = (meta.uid.as_deref().unwrap_or_default(), meta.resource_version.as_deref());
            if self.tombstones.is_outdated(uid, version.and_then(parse_version)) {
                return;
            }
            self.put_in(partition, Arc::clone(&object), values);
            deltas.push(Delta::Applied { old: None, new: object });
            return;
        };
        let Some(entry) = self.entries.get_mut(slot) else {
            return;
        };
        let order = version_order(&*object, &*entry.object);
        let same_uid = object.meta().uid == entry.object.meta().uid;
        if !versions_reset && (order.is_lt() || (same_uid && order.is_eq())) {
            // The stored object is at least as new, but the list contains it, so the sweep must keep it.
            if same_uid {
                entry.epoch = epoch;
            }
            return;
        }
        if same_uid {
            entry.epoch = epoch;
            let old = self.replace(slot, Arc::clone(&object), values);
            deltas.push(Delta::Applied { old, new: object });
        } else {
            self.take_out(slot, DeletionReason::FinalStateUnknown, deltas);
            self.put_in(partition, Arc::clone(&object), values);
            deltas.push(Delta::Applied { old: None, new: object });
        }
    }

    fn delete(&mut self, last: Arc<K>, deltas: &mut Vec<Delta<K>>) {
        let meta = last.meta();
        let version = meta.resource_version.as_deref().and_then(parse_version);
        self.tombstones.record(meta.uid.as_deref().unwrap_or_default(), version);
        let Some(slot) = self.entries.find(KeyRef::of(&*last)) else {
            return;
        };
        let Some(entry) = self.entries.get(slot) else {
            return;
        };
        if version_order(&*last, &*entry.object).is_lt() {
            return;
        }
        if entry.object.meta().uid == last.meta().uid {
            self.remove_entry(slot);
            deltas.push(Delta::Deleted { last_known: last, reason: DeletionReason::Removed });
        } else {
            // A later object of this name was created and deleted, so the stored object must be gone too.
            self.take_out(slot, DeletionReason::FinalStateUnknown, deltas);
        }
    }

    /// Returns true if a slot holds an object of the partition that its current relist has not seen.
    fn is_unlisted(&self, slot: Slot, partition: Partition) -> bool {
        let epoch = self.relists[usize::from(partition)].epoch;
        self.entries.get(slot).is_some_and(|entry| entry.partition == partition && entry.epoch != epoch)
    }

    fn is_outdated_by(&self, partition: Partition, slot: Slot, version: Option<u64>) -> bool {
        let stored = self.entries.get(slot).and_then(|entry| version_of(&*entry.object));
        self.relists[usize::from(partition)].versions_reset
            || !matches!((stored, version), (Some(stored), Some(version)) if version < stored)
    }

    fn put_in(&mut self, partition: Partition, object: Arc<K>, values: &IndexValues) {
        let transition = self.params.next_transition(&object);
        let epoch = self.relist(partition).epoch;
        let slot = self.entries.insert(Entry { object, postings: Postings::new(), epoch, partition });
        self.file(slot, values, transition);
    }

    fn replace(&mut self, slot: Slot, object: Arc<K>, values: &IndexValues) -> Option<Arc<K>> {
        self.unfile(slot);
        let transition = self.params.next_transition(&object);
        let entry = self.entries.get_mut(slot)?;
        let old = std::mem::replace(&mut entry.object, object);
        self.file(slot, values, transition);
        Some(old)
    }

    /// The slot still holds the object that was read before, because the informer's task is the only writer.
    fn reindex(&mut self, slot: Slot, values: &IndexValues) {
        self.unfile(slot);
        self.file(slot, values, None);
    }

    /// Removes an entry whose deletion the watch did not report, and adds the delta.
    fn take_out(&mut self, slot: Slot, reason: DeletionReason, deltas: &mut Vec<Delta<K>>) {
        if let Some(last_known) = self.remove_entry(slot) {
            deltas.push(Delta::Deleted { last_known, reason });
        }
    }

    fn remove_entry(&mut self, slot: Slot) -> Option<Arc<K>> {
        self.unfile(slot);
        self.entries.remove(slot).map(|entry| entry.object)
    }

    fn file(&mut self, slot: Slot, values: &IndexValues, transition: Option<Timestamp>) {
        let postings = self.indexes.insert(slot, values);
        if let Some(entry) = self.entries.get_mut(slot) {
            entry.postings = postings;
        }
        self.transitions.extend(transition.map(|at| (at, slot)));
    }

    fn unfile(&mut self, slot: Slot) {
        let Some(entry) = self.entries.get_mut(slot) else {
            return;
        };
        let postings = std::mem::take(&mut entry.postings);
        if let Some(at) = self.params.next_transition(&entry.object) {
            self.transitions.remove(&(at, slot));
        }
        let entries = &mut self.entries;
        self.indexes.remove(&postings, |other, step| {
            if let Some(entry) = entries.get_mut(other) {
                step.apply(&mut entry.postings);
            }
        });
    }
}

fn version_order<K: Resource>(incoming: &K, stored: &K) -> std::cmp::Ordering {
    let incoming = incoming.meta().resource_version.as_deref().unwrap_or_default();
    compare_versions(incoming, stored.meta().resource_version.as_deref().unwrap_or_default())
}

/// A read-locked store. Nothing changes while a view exists. Do not await while holding a view.
pub(crate) struct View<'a, K> {
    inner: RwLockReadGuard<'a, Inner<K>>,
}

impl<K: CacheObject> View<'_, K> {
    pub(crate) fn get(&self, key: KeyRef<'_>) -> Option<&Arc<K>> {
        let slot = self.inner.entries.find(key)?;
        self.inner.entries.get(slot).map(|entry| &entry.object)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<K>> {
        self.inner.entries.iter().map(|entry| &entry.object)
    }

    /// Returns the objects that have a value in an index.
    pub(crate) fn by_index(&self, index: u8, value: &str) -> impl Iterator<Item = &Arc<K>> {
        let slots = self.inner.indexes.members(index, value);
        slots.iter().filter_map(|&slot| self.inner.entries.get(slot)).map(|entry| &entry.object)
    }

    /// Returns the number of objects that have a value in an index.
    pub(crate) fn count(&self, index: u8, value: &str) -> usize {
        self.inner.indexes.members(index, value).len()
    }

    /// Returns the objects that have both values. Walks the shorter list and looks up the other value (B7).
    pub(crate) fn by_indexes(&self, a: (u8, &str), b: (u8, &str)) -> impl Iterator<Item = &Arc<K>> {
        let indexes = &self.inner.indexes;
        let both = indexes.lookup(a.0, a.1).zip(indexes.lookup(b.0, b.1));
        both.into_iter().flat_map(move |(a, b)| {
            let (walk, check) =
                if indexes.members_of(a).len() <= indexes.members_of(b).len() { (a, b) } else { (b, a) };
            let entries = indexes.members_of(walk).iter().filter_map(|&slot| self.inner.entries.get(slot));
            entries.filter(move |entry| Indexes::contains(&entry.postings, check)).map(|entry| &entry.object)
        })
    }

    /// Returns the number of the last batch of changes that this view contains.
    pub(crate) fn sequence(&self) -> u64 {
        self.inner.sequence
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
