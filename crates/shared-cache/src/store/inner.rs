//! [`Inner`]: the content of a store, and how changes alter it. The caller holds the store's lock.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Resource;

use super::hidden::{Hidden, HiddenObject};
use super::keyed_slab::{Keyed, KeyedSlab};
use super::partition::Partition;
use super::postings::{Indexes, Postings};
use super::slots::Slot;
use super::tombstones::Tombstones;
use super::transitions::Transitions;
use crate::kind::{CacheObject, IndexValues, KindParams};
use crate::object::{DeletionReason, Delta, KeyRef, ObjectKey, compare_versions, parse_version, version_of};

pub(super) struct Entry<K> {
    pub(super) object: Arc<K>,
    pub(super) postings: Postings,
    /// The last relist that saw the object.
    pub(super) epoch: u32,
    /// The list and watch that reported the object.
    pub(super) partition: Partition,
}

impl<K> Clone for Entry<K> {
    fn clone(&self) -> Self {
        Self { object: Arc::clone(&self.object), postings: self.postings.clone(), ..*self }
    }
}

/// The state of the relist of one list and watch.
#[derive(Clone, Copy, Default)]
pub(super) struct Relist {
    pub(super) epoch: u32,
    /// If true, stored versions cannot be compared with the server's, because the server lost some.
    pub(super) versions_reset: bool,
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
    /// The object of this key exists in a version that cannot be decoded.
    Hide { namespace: String, name: String, version: Option<u64> },
    /// The object of this key was deleted, in a version that cannot be decoded.
    DeleteHidden { namespace: String, name: String, version: Option<u64> },
}

/// The content of a store.
pub(super) struct Inner<K> {
    pub(super) entries: KeyedSlab<Entry<K>>,
    pub(super) indexes: Indexes,
    pub(super) transitions: Transitions,
    pub(super) tombstones: Tombstones,
    /// Objects in versions that cannot be decoded.
    pub(super) hidden: Hidden<K>,
    pub(super) relists: Vec<Relist>,
    /// Number of the last batch of changes.
    pub(super) sequence: u64,
    pub(super) params: Arc<KindParams<K>>,
}

impl<K: CacheObject> Inner<K> {
    pub(super) fn new(params: Arc<KindParams<K>>, partitions: usize) -> Self {
        Self {
            entries: KeyedSlab::new(),
            indexes: Indexes::new(),
            transitions: Transitions::default(),
            tombstones: Tombstones::default(),
            hidden: Hidden::default(),
            relists: vec![Relist::default(); partitions],
            sequence: 0,
            params,
        }
    }

    /// Reports the hidden objects of a partition that its relist has not seen as deleted.
    pub(super) fn take_out_hidden(
        &mut self,
        partition: Partition,
        reason: DeletionReason,
        deltas: &mut Vec<Delta<K>>,
    ) {
        let epoch = self.relist(partition).epoch;
        let gone = self.hidden.take_unlisted(partition, epoch).into_iter();
        deltas.extend(gone.map(|last_known| Delta::Deleted { last_known, reason }));
    }

    pub(super) fn relist(&mut self, partition: Partition) -> &mut Relist {
        &mut self.relists[usize::from(partition)]
    }

    pub(super) fn apply(&mut self, partition: Partition, change: Change<K>, deltas: &mut Vec<Delta<K>>) {
        match change {
            Change::Upsert(object, values) => self.upsert(partition, object, &values, deltas),
            Change::Delete(object) => self.delete(object, deltas),
            Change::Hide { namespace, name, version } => {
                let key = ObjectKey::new(namespace, name);
                let slot = self.entries.find(KeyRef::from(&key));
                if slot.is_some_and(|slot| !self.is_outdated_by(partition, slot, version)) {
                    return;
                }
                let last_known = slot.and_then(|slot| self.remove_entry(slot));
                if let Some(last_known) = &last_known {
                    let reason = DeletionReason::Undecodable;
                    deltas.push(Delta::Deleted { last_known: Arc::clone(last_known), reason });
                }
                let epoch = self.relist(partition).epoch;
                self.hidden.insert(key, HiddenObject { last_known, version, partition, epoch });
            }
            Change::DeleteHidden { namespace, name, version } => {
                let key = KeyRef { namespace: &namespace, name: &name };
                if let Some(last_known) = self.hidden.remove(key) {
                    // Its final state cannot be decoded.
                    let reason = DeletionReason::FinalStateUnknown;
                    deltas.push(Delta::Deleted { last_known, reason });
                }
                let slot =
                    self.entries.find(key).filter(|&slot| self.is_outdated_by(partition, slot, version));
                if let Some(slot) = slot {
                    self.take_out(slot, DeletionReason::FinalStateUnknown, deltas);
                }
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
            let version = version.and_then(parse_version);
            if self.tombstones.is_outdated(uid, version)
                || (!versions_reset && self.hidden.is_newer_than(KeyRef::of(&*object), version))
            {
                return;
            }
            let hidden = self.hidden.remove(KeyRef::of(&*object));
            if let Some(last_known) = hidden.filter(|hidden| hidden.meta().uid != object.meta().uid) {
                deltas.push(Delta::Deleted { last_known, reason: DeletionReason::FinalStateUnknown });
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
            if self.hidden.is_newer_than(KeyRef::of(&*last), version) {
                return;
            }
            if let Some(hidden) = self.hidden.remove(KeyRef::of(&*last)) {
                let same = hidden.meta().uid == last.meta().uid;
                let reason = if same { DeletionReason::Removed } else { DeletionReason::FinalStateUnknown };
                deltas.push(Delta::Deleted { last_known: if same { last } else { hidden }, reason });
            }
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
    pub(super) fn is_unlisted(&self, slot: Slot, partition: Partition) -> bool {
        let epoch = self.relists[usize::from(partition)].epoch;
        self.entries.get(slot).is_some_and(|entry| entry.partition == partition && entry.epoch != epoch)
    }

    fn is_outdated_by(&self, partition: Partition, slot: Slot, version: Option<u64>) -> bool {
        let stored = self.entries.get(slot).and_then(|entry| version_of(&*entry.object));
        self.relists[usize::from(partition)].versions_reset
            || !matches!((stored, version), (Some(stored), Some(version)) if version < stored)
    }

    fn put_in(&mut self, partition: Partition, object: Arc<K>, values: &IndexValues) {
        let epoch = self.relist(partition).epoch;
        let slot = self.entries.insert(Entry { object, postings: Postings::new(), epoch, partition });
        self.file(slot, values);
        self.file_transition(slot, values);
    }

    fn replace(&mut self, slot: Slot, object: Arc<K>, values: &IndexValues) -> Option<Arc<K>> {
        let old = std::mem::replace(&mut self.entries.get_mut(slot)?.object, object);
        self.refile(slot, self.params.next_transition(&old), values);
        Some(old)
    }

    /// The slot still holds the object that was read before, because the informer's task is the only writer.
    pub(super) fn reindex(&mut self, slot: Slot, values: &IndexValues) {
        let at = self.entries.get(slot).and_then(|entry| self.params.next_transition(&entry.object));
        self.refile(slot, at, values);
    }

    /// Removes an entry whose deletion the watch did not report, and adds the delta.
    pub(super) fn take_out(&mut self, slot: Slot, reason: DeletionReason, deltas: &mut Vec<Delta<K>>) {
        if let Some(last_known) = self.remove_entry(slot) {
            deltas.push(Delta::Deleted { last_known, reason });
        }
    }

    fn remove_entry(&mut self, slot: Slot) -> Option<Arc<K>> {
        self.unfile(slot);
        let object = self.entries.remove(slot)?.object;
        self.unfile_transition(slot, self.params.next_transition(&object));
        Some(object)
    }

    /// Files an object under its new values. If they are the old ones, which most changes keep, no posting list and no
    /// transition is touched.
    fn refile(&mut self, slot: Slot, old_transition: Option<Timestamp>, values: &IndexValues) {
        if self.entries.get(slot).is_some_and(|entry| !self.indexes.are_filed(&entry.postings, values)) {
            self.unfile(slot);
            self.file(slot, values);
        }
        let is_kept = match values.transition() {
            None => old_transition.is_none(),
            Some(new) => old_transition == Some(new.at) && self.transitions.contains(slot, new),
        };
        if !is_kept {
            self.unfile_transition(slot, old_transition);
            self.file_transition(slot, values);
        }
    }

    fn file(&mut self, slot: Slot, values: &IndexValues) {
        let postings = self.indexes.insert(slot, values);
        if let Some(entry) = self.entries.get_mut(slot) {
            entry.postings = postings;
        }
    }

    fn unfile(&mut self, slot: Slot) {
        let Some(entry) = self.entries.get_mut(slot) else {
            return;
        };
        let postings = std::mem::take(&mut entry.postings);
        let entries = &mut self.entries;
        self.indexes.remove(&postings, |other, step| {
            if let Some(entry) = entries.get_mut(other) {
                step.apply(&mut entry.postings);
            }
        });
    }

    fn file_transition(&mut self, slot: Slot, values: &IndexValues) {
        if let Some(transition) = values.transition() {
            self.transitions.insert(slot, transition);
        }
    }

    fn unfile_transition(&mut self, slot: Slot, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.transitions.remove(slot, at);
        }
    }
}

fn version_order<K: Resource>(incoming: &K, stored: &K) -> std::cmp::Ordering {
    let incoming = incoming.meta().resource_version.as_deref().unwrap_or_default();
    compare_versions(incoming, stored.meta().resource_version.as_deref().unwrap_or_default())
}
