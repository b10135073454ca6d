//! [`Inner`]: the content of a store, and how changes alter it. The caller holds the store's lock.

use std::sync::Arc;

use kube::Resource;

use super::hidden::{Hidden, HiddenObject};
use super::keyed_slab::{Keyed, KeyedSlab};
use super::partition::Partition;
use super::postings::{Indexes, Postings};
use super::slots::Slot;
use super::tombstones::Tombstones;
use super::transitions::{Filed, Transitions};
use crate::kind::{CacheObject, IndexValues};
use crate::object::{DeletionReason, Delta, KeyRef, compare_versions, parse_version, version_of};

pub(super) struct Entry<K> {
    pub(super) object: Arc<K>,
    pub(super) postings: Postings,
    /// The last relist that saw the object.
    pub(super) epoch: u32,
    /// The list and watch that reported the object.
    pub(super) partition: Partition,
    /// The transition under which the object is filed. It is removed as it was inserted, so the rules of the kind are
    /// not asked again under the lock.
    pub(super) transition: Option<Filed>,
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
    /// Objects that no delta contains any more. They are dropped after unlocking.
    pub(super) retired: Vec<Arc<K>>,
    /// True if a selector limits the watch, so that an object may leave it without being deleted.
    has_selector: bool,
}

impl<K: CacheObject> Inner<K> {
    pub(super) fn new(partitions: usize, has_selector: bool) -> Self {
        Self {
            entries: KeyedSlab::new(),
            indexes: Indexes::new(),
            transitions: Transitions::default(),
            tombstones: Tombstones::default(),
            hidden: Hidden::default(),
            relists: vec![Relist::default(); partitions],
            sequence: 0,
            retired: Vec::new(),
            has_selector,
        }
    }

    /// Returns the reason of a removal that no event with the last state has reported. With a selector the object may
    /// still exist (behaviour X3).
    pub(super) fn unseen_reason(&self) -> DeletionReason {
        if self.has_selector { DeletionReason::LeftScope } else { DeletionReason::FinalStateUnknown }
    }

    /// Returns the reason of a removal that the watch reported with the last state. With a selector the same event
    /// reports a deleted object and one that no longer matches. Only an object that is being deleted and that no
    /// finalizer keeps is certain to be gone (behaviour X3).
    fn seen_reason(&self, last: &K) -> DeletionReason {
        let meta = last.meta();
        let is_held = meta.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty());
        let is_gone = meta.deletion_timestamp.is_some() && !is_held;
        if self.has_selector && !is_gone { DeletionReason::LeftScope } else { DeletionReason::Removed }
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

    /// Applies a change. The caller drops the change after unlocking, so that an outdated object is not dropped here.
    pub(super) fn apply(&mut self, partition: Partition, change: &Change<K>, deltas: &mut Vec<Delta<K>>) {
        match change {
            Change::Upsert(object, values) => self.upsert(partition, object, values, deltas),
            Change::Delete(object) => self.delete(object, deltas),
            &Change::Hide { ref namespace, ref name, version } => {
                let key = KeyRef { namespace, name };
                let slot = self.entries.find(key);
                if slot.is_some_and(|slot| !self.is_outdated_by(partition, slot, version)) {
                    return;
                }
                let last_known = slot.and_then(|slot| self.remove_entry(slot));
                if let Some(last_known) = &last_known {
                    let reason = DeletionReason::Undecodable;
                    deltas.push(Delta::Deleted { last_known: Arc::clone(last_known), reason });
                }
                let epoch = self.relist(partition).epoch;
                let hidden = HiddenObject { last_known, version, partition, epoch };
                self.retired.extend(self.hidden.insert(key.into(), hidden));
            }
            &Change::DeleteHidden { ref namespace, ref name, version } => {
                let key = KeyRef { namespace, name };
                // Its final state cannot be decoded.
                let reason = self.unseen_reason();
                if let Some(last_known) = self.hidden.remove(key) {
                    deltas.push(Delta::Deleted { last_known, reason });
                }
                let slot =
                    self.entries.find(key).filter(|&slot| self.is_outdated_by(partition, slot, version));
                if let Some(slot) = slot {
                    self.take_out(slot, reason, deltas);
                }
            }
        }
    }

    fn upsert(
        &mut self,
        partition: Partition,
        object: &Arc<K>,
        values: &IndexValues,
        deltas: &mut Vec<Delta<K>>,
    ) {
        let Relist { epoch, versions_reset } = *self.relist(partition);
        let key = KeyRef::of(&**object);
        let Some(slot) = self.entries.find(key) else {
            let meta = object.meta();
            let (uid, version) = (meta.uid.as_deref().unwrap_or_default(), meta.resource_version.as_deref());
            let version = version.and_then(parse_version);
            if self.tombstones.is_outdated(uid, version)
                || (!versions_reset && self.hidden.is_newer_than(key, version))
            {
                return;
            }
            match self.hidden.remove(key) {
                Some(hidden) if hidden.meta().uid == meta.uid => self.retired.push(hidden),
                Some(last_known) => {
                    // The name has a new object, so the old one is gone, with a selector too.
                    deltas.push(Delta::Deleted { last_known, reason: DeletionReason::FinalStateUnknown });
                }
                None => {}
            }
            self.put_in(partition, object, values);
            deltas.push(Delta::Applied { old: None, new: Arc::clone(object) });
            return;
        };
        let Some(entry) = self.entries.get(slot) else {
            return;
        };
        let order = version_order(&**object, &*entry.object);
        let same_uid = object.meta().uid == entry.object.meta().uid;
        if !versions_reset && (order.is_lt() || (same_uid && order.is_eq())) {
            // The stored object is at least as new, but the list contains it, so the sweep must keep it.
            if same_uid {
                self.mark(slot, epoch);
            }
            return;
        }
        if same_uid {
            self.mark(slot, epoch);
            let old = self.replace(slot, object, values);
            deltas.push(Delta::Applied { old, new: Arc::clone(object) });
        } else {
            // The name has a new object, so the old one is gone, with a selector too.
            self.take_out(slot, DeletionReason::FinalStateUnknown, deltas);
            self.put_in(partition, object, values);
            deltas.push(Delta::Applied { old: None, new: Arc::clone(object) });
        }
    }

    /// Marks an object as seen by the relist of an epoch. Copies nothing if it is marked already.
    pub(super) fn mark(&mut self, slot: Slot, epoch: u32) {
        if self.entries.get(slot).is_some_and(|entry| entry.epoch != epoch)
            && let Some(entry) = self.entries.get_mut(slot)
        {
            entry.epoch = epoch;
        }
    }

    fn delete(&mut self, last: &Arc<K>, deltas: &mut Vec<Delta<K>>) {
        let meta = last.meta();
        let version = meta.resource_version.as_deref().and_then(parse_version);
        self.tombstones.record(meta.uid.as_deref().unwrap_or_default(), version);
        let key = KeyRef::of(&**last);
        let Some(slot) = self.entries.find(key) else {
            if self.hidden.is_newer_than(key, version) {
                return;
            }
            if let Some(hidden) = self.hidden.remove(key) {
                if hidden.meta().uid == meta.uid {
                    self.retired.push(hidden);
                    let reason = self.seen_reason(last);
                    deltas.push(Delta::Deleted { last_known: Arc::clone(last), reason });
                } else {
                    let reason = DeletionReason::FinalStateUnknown;
                    deltas.push(Delta::Deleted { last_known: hidden, reason });
                }
            }
            return;
        };
        let Some(entry) = self.entries.get(slot) else {
            return;
        };
        if version_order(&**last, &*entry.object).is_lt() {
            return;
        }
        if entry.object.meta().uid == meta.uid {
            let stored = self.remove_entry(slot);
            self.retired.extend(stored);
            let reason = self.seen_reason(last);
            deltas.push(Delta::Deleted { last_known: Arc::clone(last), reason });
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

    fn put_in(&mut self, partition: Partition, object: &Arc<K>, values: &IndexValues) {
        let (object, epoch) = (Arc::clone(object), self.relist(partition).epoch);
        let entry = Entry { object, postings: Postings::new(), epoch, partition, transition: None };
        let slot = self.entries.insert(entry);
        self.file(slot, values);
        self.set_transition(slot, values.transition().map(Filed::from));
    }

    fn replace(&mut self, slot: Slot, object: &Arc<K>, values: &IndexValues) -> Option<Arc<K>> {
        let old = std::mem::replace(&mut self.entries.get_mut(slot)?.object, Arc::clone(object));
        self.reindex(slot, values);
        Some(old)
    }

    /// Removes an entry whose deletion the watch did not report, and adds the delta.
    pub(super) fn take_out(&mut self, slot: Slot, reason: DeletionReason, deltas: &mut Vec<Delta<K>>) {
        if let Some(last_known) = self.remove_entry(slot) {
            deltas.push(Delta::Deleted { last_known, reason });
        }
    }

    fn remove_entry(&mut self, slot: Slot) -> Option<Arc<K>> {
        self.unfile(slot);
        self.set_transition(slot, None);
        Some(self.entries.remove(slot)?.object)
    }

    /// Files an object under its new values. If they are the old ones, which most changes keep, no posting list and no
    /// transition is touched.
    ///
    /// The slot still holds the object of the values, because the informer's task is the only writer.
    pub(super) fn reindex(&mut self, slot: Slot, values: &IndexValues) {
        if self.entries.get(slot).is_some_and(|entry| !self.indexes.are_filed(&entry.postings, values)) {
            self.unfile(slot);
            self.file(slot, values);
        }
        self.set_transition(slot, values.transition().map(Filed::from));
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

    /// Files an object under a transition, or under none.
    pub(super) fn set_transition(&mut self, slot: Slot, new: Option<Filed>) {
        let old = self.entries.get(slot).and_then(|entry| entry.transition);
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.transitions.remove(slot, old);
        }
        if let Some(new) = new {
            self.transitions.insert(slot, new);
        }
        if let Some(entry) = self.entries.get_mut(slot) {
            entry.transition = new;
        }
    }
}

fn version_order<K: Resource>(incoming: &K, stored: &K) -> std::cmp::Ordering {
    let incoming = incoming.meta().resource_version.as_deref().unwrap_or_default();
    compare_versions(incoming, stored.meta().resource_version.as_deref().unwrap_or_default())
}
