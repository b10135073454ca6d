//! [`Store`]: the objects of one kind and their indexes, behind one lock.
//!
//! One writer, the kind's informer; any number of readers. Objects are immutable `Arc`s, so readers leave
//! the lock with what they found. The writer prepares everything outside the lock (decoding, index values),
//! changes the store in batches of bounded size, and drops replaced objects after unlocking.
//!
//! A relist is mark and sweep in place: [`Store::begin_relist`] starts an epoch, each listed object is
//! stamped with it, and [`Store::sweep`] removes what was not. Readers see the old view until then (E5).

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use kube::Resource;
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::Notify;

use super::event::{Batch, Event};
use super::index::{IndexKeys, Indexes, Postings};
use super::key::KeyRef;
use super::keyed_slab::{Keyed, KeyedSlab, Slot};
use super::resource::{CachedResource, index_keys};
use super::version::{self, Tombstones, parse_version};

/// Slots that one sweep step or one re-index step may touch under the lock.
const STEP: Slot = 512;

struct Entry<K> {
    object: Arc<K>,
    postings: Postings,
    /// The relist that saw the object last.
    epoch: u32,
}

impl<K: Resource<DynamicType = ()>> Keyed for Entry<K> {
    fn key(&self) -> KeyRef<'_> {
        KeyRef::of(&*self.object)
    }
}

/// A change that the API server reported, ready to be applied.
pub(crate) enum Change<K> {
    /// The object exists in this version.
    Upsert(Arc<K>, IndexKeys),
    /// The watch saw the object go; this is its last state.
    Delete(Arc<K>),
    /// An object of this key exists, but in a version that can't be shown: what is stored of it is outdated.
    Hide { namespace: String, name: String, version: Option<u64> },
}

impl<K: CachedResource> Change<K> {
    pub(crate) fn upsert(object: K, now: Timestamp) -> Self {
        let keys = index_keys(&object, now);
        Self::Upsert(Arc::new(object), keys)
    }
}

/// Objects of one kind by key and by index value: the kind's informer writes, everyone else reads.
pub struct Store<K> {
    inner: RwLock<Inner<K>>,
    /// Told when the next transition has become another one.
    transitions_changed: Notify,
}

struct Inner<K> {
    entries: KeyedSlab<Entry<K>>,
    indexes: Indexes,
    /// Slots by the time at which their index values change without an event.
    transitions: BTreeSet<(Timestamp, Slot)>,
    tombstones: Tombstones,
    epoch: u32,
    /// While true, versions of the store are not comparable with those of the server, which lost some.
    versions_reset: bool,
    /// Number of the last batch of changes.
    sequence: u64,
}

impl<K: CachedResource> Default for Store<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: CachedResource> Store<K> {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: RwLock::new(Inner {
                entries: KeyedSlab::new(),
                indexes: Indexes::new(),
                transitions: BTreeSet::new(),
                tombstones: Tombstones::default(),
                epoch: 0,
                versions_reset: false,
                sequence: 0,
            }),
            transitions_changed: Notify::new(),
        }
    }

    /// Applies changes in order under one write lock and says what they came to.
    pub(crate) fn apply(&self, changes: impl IntoIterator<Item = Change<K>>) -> Batch<K> {
        self.write(|inner, events| changes.into_iter().for_each(|change| inner.apply(change, events)))
    }

    /// Shows every object with the index values that it is filed under, a bounded step under each lock: what
    /// changes meanwhile may be shown as it was before or after, or be missed if it came and went.
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

    /// Starts a relist: what is not upserted from here on will be swept. With `versions_reset` the listed
    /// objects replace the stored ones even where their versions look older.
    pub(crate) fn begin_relist(&self, versions_reset: bool) {
        let mut inner = self.inner.write();
        inner.epoch = inner.epoch.wrapping_add(1);
        inner.versions_reset = versions_reset;
        if versions_reset {
            inner.tombstones.clear();
        }
    }

    /// Ends a relist: removes what it did not see, a bounded step under each lock, handing the events of each
    /// step to `observe` after unlocking. What the list at `version` did not show was gone by then, so that no
    /// late news of it will bring it back.
    pub(crate) fn sweep(&self, version: Option<u64>, mut observe: impl FnMut(Batch<K>)) {
        let mut start: Slot = 0;
        loop {
            let mut done = false;
            let batch = self.write(|inner, events| {
                let end = inner.entries.slot_end();
                let stop = end.min(start.saturating_add(STEP));
                (start..stop).for_each(|slot| inner.sweep_slot(slot, version, events));
                start = stop;
                done = stop == end;
                if done {
                    inner.versions_reset = false;
                }
            });
            observe(batch);
            if done {
                return;
            }
        }
    }

    /// Files anew each object whose transition the wall clock has passed, and tells `observe` of it after
    /// unlocking, as of an object that was applied without a change. Returns when the next one is due.
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
            let keyed: Vec<_> =
                due.into_iter().map(|(slot, object)| (slot, index_keys(&*object, now), object)).collect();
            observe(self.write(|inner, events| {
                for (slot, keys, object) in keyed {
                    inner.reindex(slot, &keys);
                    events.push(Event::Applied { old: Some(Arc::clone(&object)), new: object });
                }
            }));
        }
    }

    fn write(&self, change: impl FnOnce(&mut Inner<K>, &mut Vec<Event<K>>)) -> Batch<K> {
        let mut events = Vec::new();
        let mut inner = self.inner.write();
        let first = inner.transitions.first().copied();
        change(&mut inner, &mut events);
        if inner.transitions.first().copied() != first {
            self.transitions_changed.notify_one();
        }
        if !events.is_empty() {
            inner.sequence += 1;
        }
        Batch { sequence: inner.sequence, events }
    }

    /// Resolves when [`Self::reindex_due`] may have a new answer. Cancel safe; for one caller.
    pub(crate) async fn transitions_changed(&self) {
        self.transitions_changed.notified().await;
    }

    /// A consistent look at the store. Holds the read lock: take what is needed and let go.
    pub(crate) fn view(&self) -> View<'_, K> {
        // Inside a predicate that runs under this very lock, waiting behind a writer would be a deadlock.
        let nested = IN_PREDICATE.with(Cell::get);
        View { inner: if nested { self.inner.read_recursive() } else { self.inner.read() } }
    }

    /// Number of stored objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.view().inner.entries.len()
    }

    /// Whether no object is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.view().inner.entries.is_empty()
    }
}

thread_local! {
    /// Whether this thread is inside a caller's predicate, and so holds a read lock already.
    static IN_PREDICATE: Cell<bool> = const { Cell::new(false) };
}

/// Runs a caller's predicate under the read lock such that it may itself look things up.
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

impl<K: CachedResource> Inner<K> {
    fn apply(&mut self, change: Change<K>, events: &mut Vec<Event<K>>) {
        match change {
            Change::Upsert(object, keys) => self.upsert(object, &keys, events),
            Change::Delete(object) => self.delete(object, events),
            Change::Hide { namespace, name, version } => {
                let slot = self.entries.find(KeyRef { namespace: &namespace, name: &name });
                let Some(slot) = slot.filter(|&slot| self.is_outdated_by(slot, version)) else {
                    return;
                };
                self.take_out(slot, events);
            }
        }
    }

    fn upsert(&mut self, object: Arc<K>, keys: &IndexKeys, events: &mut Vec<Event<K>>) {
        let Some(slot) = self.entries.find(KeyRef::of(&*object)) else {
            let meta = object.meta();
            let (uid, version) = (meta.uid.as_deref().unwrap_or_default(), meta.resource_version.as_deref());
            if self.tombstones.outlived_by(uid, version.and_then(parse_version)) {
                return;
            }
            self.put_in(Arc::clone(&object), keys);
            events.push(Event::Applied { old: None, new: object });
            return;
        };
        let Some(entry) = self.entries.get_mut(slot) else {
            return;
        };
        let order = version_order(&*object, &*entry.object);
        let same_uid = object.meta().uid == entry.object.meta().uid;
        if !self.versions_reset && (order.is_lt() || (same_uid && order.is_eq())) {
            // Nothing new, but the object does exist, which is what a relist wants to know.
            if same_uid {
                entry.epoch = self.epoch;
            }
            return;
        }
        if same_uid {
            let old = self.replace(slot, Arc::clone(&object), keys);
            events.push(Event::Applied { old, new: object });
        } else {
            self.take_out(slot, events);
            self.put_in(Arc::clone(&object), keys);
            events.push(Event::Applied { old: None, new: object });
        }
    }

    fn delete(&mut self, last: Arc<K>, events: &mut Vec<Event<K>>) {
        let meta = last.meta();
        let version = meta.resource_version.as_deref().and_then(parse_version);
        self.tombstones.bury(meta.uid.as_deref().unwrap_or_default(), version);
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
            events.push(Event::Deleted { last_known: last, final_state_unknown: false });
        } else {
            // A later incarnation came and went: the stored one must have gone before it.
            self.take_out(slot, events);
        }
    }

    fn sweep_slot(&mut self, slot: Slot, version: Option<u64>, events: &mut Vec<Event<K>>) {
        if let Some(entry) = self.entries.get(slot)
            && entry.epoch != self.epoch
        {
            self.tombstones.bury(entry.object.meta().uid.as_deref().unwrap_or_default(), version);
            self.take_out(slot, events);
        }
    }

    fn is_outdated_by(&self, slot: Slot, version: Option<u64>) -> bool {
        let stored = self.entries.get(slot).and_then(|entry| version::version_of(&*entry.object));
        self.versions_reset || !matches!((stored, version), (Some(stored), Some(version)) if version < stored)
    }

    fn put_in(&mut self, object: Arc<K>, keys: &IndexKeys) {
        let transition = object.next_transition();
        let slot = self.entries.insert(Entry { object, postings: Postings::new(), epoch: self.epoch });
        self.file(slot, keys, transition);
    }

    fn replace(&mut self, slot: Slot, object: Arc<K>, keys: &IndexKeys) -> Option<Arc<K>> {
        self.unfile(slot);
        let transition = object.next_transition();
        let entry = self.entries.get_mut(slot)?;
        entry.epoch = self.epoch;
        let old = std::mem::replace(&mut entry.object, object);
        self.file(slot, keys, transition);
        Some(old)
    }

    /// Nothing can have taken the slot since its object was read: the informer's task is the only writer.
    fn reindex(&mut self, slot: Slot, keys: &IndexKeys) {
        self.unfile(slot);
        self.file(slot, keys, None);
    }

    /// Removes an entry whose end nobody saw, and reports it.
    fn take_out(&mut self, slot: Slot, events: &mut Vec<Event<K>>) {
        if let Some(last_known) = self.remove_entry(slot) {
            events.push(Event::Deleted { last_known, final_state_unknown: true });
        }
    }

    fn remove_entry(&mut self, slot: Slot) -> Option<Arc<K>> {
        self.unfile(slot);
        self.entries.remove(slot).map(|entry| entry.object)
    }

    fn file(&mut self, slot: Slot, keys: &IndexKeys, transition: Option<Timestamp>) {
        let postings = self.indexes.insert(slot, keys);
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
        if let Some(at) = entry.object.next_transition() {
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
    version::compare(incoming, stored.meta().resource_version.as_deref().unwrap_or_default())
}

/// A read-locked store. Nothing changes while it lives; nothing may be awaited while it lives.
pub(crate) struct View<'a, K> {
    inner: RwLockReadGuard<'a, Inner<K>>,
}

impl<K: CachedResource> View<'_, K> {
    pub(crate) fn get(&self, key: KeyRef<'_>) -> Option<&Arc<K>> {
        let slot = self.inner.entries.find(key)?;
        self.inner.entries.get(slot).map(|entry| &entry.object)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<K>> {
        self.inner.entries.iter().map(|entry| &entry.object)
    }

    /// The objects filed under a value of an index.
    pub(crate) fn by_index(&self, index: u8, value: &str) -> impl Iterator<Item = &Arc<K>> {
        let slots = self.inner.indexes.members(index, value);
        slots.iter().filter_map(|&slot| self.inner.entries.get(slot)).map(|entry| &entry.object)
    }

    /// How many objects are filed under a value of an index.
    pub(crate) fn count(&self, index: u8, value: &str) -> usize {
        self.inner.indexes.members(index, value).len()
    }

    /// The objects filed under both values: the shorter list is walked, the other one looked up (B7).
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

    /// Number of the last batch of changes that this view shows.
    pub(crate) fn sequence(&self) -> u64 {
        self.inner.sequence
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
