//! [`Queue`]: the undelivered events of one subscription, at most one entry per key.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::task::AtomicWaker;
use kube::Resource;
use parking_lot::Mutex;

use super::end::SubscriptionEnd;
use super::event::Event;
use crate::kind::CacheObject;
use crate::object::{Batch, DeletionReason, Delta, KeyRef, Observer};
use crate::store::{Keyed, KeyedSlab, Slot};

/// Represents [`Event::Synced`] in the order of keys.
const SYNCED: Slot = Slot::MAX;

/// The pending events of one key: a deletion, an application, or a deletion followed by an application.
struct Pending<K> {
    deleted: Option<(Arc<K>, DeletionReason)>,
    applied: Option<(Option<Arc<K>>, Arc<K>)>,
}

impl<K: Resource<DynamicType = ()>> Keyed for Pending<K> {
    fn key(&self) -> KeyRef<'_> {
        let object =
            self.applied.as_ref().map(|(_, new)| new).or(self.deleted.as_ref().map(|(last, _)| last));
        object.map_or(KeyRef { namespace: "", name: "" }, |object| KeyRef::of(&**object))
    }
}

impl<K> Clone for Pending<K> {
    fn clone(&self) -> Self {
        Self { deleted: self.deleted.clone(), applied: self.applied.clone() }
    }
}

impl<K> Pending<K> {
    fn new(delta: Delta<K>) -> Self {
        match delta {
            Delta::Applied { old, new } => Self { deleted: None, applied: Some((old, new)) },
            Delta::Deleted { last_known, reason } => {
                Self { deleted: Some((last_known, reason)), applied: None }
            }
        }
    }

    fn merge(&mut self, delta: Delta<K>)
    where
        K: Resource,
    {
        match delta {
            Delta::Applied { old, new } => {
                // The subscriber last saw the oldest `old` that is still pending.
                let old = self.applied.take().map_or(old, |(first, _)| first);
                self.applied = Some((old, new));
            }
            Delta::Deleted { last_known, reason } => {
                self.applied = None;
                // If the deletion of another object is pending, the subscriber never saw the object of this one. If it
                // is the same object, the final reason replaces one after which the object may still exist.
                let is_news = self.deleted.as_ref().is_none_or(|(known, known_reason)| {
                    let is_same = known.meta().uid == last_known.meta().uid;
                    is_same && reason.is_final() && !known_reason.is_final()
                });
                if is_news {
                    self.deleted = Some((last_known, reason));
                }
            }
        }
    }

    /// Returns the next event. A deletion is returned first.
    fn pop(&mut self) -> Option<Event<K>> {
        if let Some((last_known, reason)) = self.deleted.take() {
            return Some(Event::Deleted { last_known, reason });
        }
        self.applied.take().map(|(old, new)| Event::Applied { old, new })
    }
}

/// The queue of one subscription. The informer's task adds events, the subscriber removes them.
pub(super) struct Queue<K> {
    pub(super) state: Mutex<QueueState<K>>,
    pub(super) waker: AtomicWaker,
}

pub(super) struct QueueState<K> {
    /// The objects of the snapshot that were not delivered yet. They are delivered before all pending events.
    pub(super) initial: std::vec::IntoIter<Arc<K>>,
    pending: KeyedSlab<Pending<K>>,
    order: VecDeque<Slot>,
    pub(super) end: Option<SubscriptionEnd>,
}

impl<K: Resource<DynamicType = ()>> Queue<K> {
    pub(super) fn new() -> Self {
        let state = QueueState {
            initial: Vec::new().into_iter(),
            pending: KeyedSlab::new(),
            order: VecDeque::new(),
            end: None,
        };
        Self { state: Mutex::new(state), waker: AtomicWaker::new() }
    }
}

impl<K: Resource<DynamicType = ()>> QueueState<K> {
    pub(super) fn len(&self) -> usize {
        self.initial.len() + self.pending.len()
    }

    pub(super) fn push_synced(&mut self) {
        self.order.push_back(SYNCED);
    }

    fn push(&mut self, delta: Delta<K>) {
        if let Some(slot) = self.pending.find(delta.key())
            && let Some(pending) = self.pending.get_mut(slot)
        {
            pending.merge(delta);
            return;
        }
        let slot = self.pending.insert(Pending::new(delta));
        self.order.push_back(slot);
    }

    pub(super) fn pop(&mut self) -> Option<Event<K>> {
        if let Some(new) = self.initial.next() {
            return Some(Event::Applied { old: None, new });
        }
        if self.initial.as_slice().is_empty() && !self.order.is_empty() {
            // Frees the memory of the initial list.
            self.initial = Vec::new().into_iter();
        }
        let &slot = self.order.front()?;
        if slot == SYNCED {
            self.order.pop_front();
            return Some(Event::Synced);
        }
        let pending = self.pending.get_mut(slot)?;
        if pending.deleted.is_some() && pending.applied.is_some() {
            // The entry stays in front: its second event is next, and later changes must find the key.
            return pending.pop();
        }
        self.order.pop_front();
        self.pending.remove(slot).and_then(|mut pending| pending.pop())
    }
}

impl<K: CacheObject> Observer<K> for Queue<K> {
    fn observe(&self, batch: &Batch<K>) {
        let mut state = self.state.lock();
        batch.deltas.iter().for_each(|delta| state.push(delta.clone()));
        drop(state);
        self.waker.wake();
    }

    fn synced(&self) {
        self.state.lock().push_synced();
        self.waker.wake();
    }

    fn closed(&self, stopped: bool) {
        self.state.lock().end = Some(SubscriptionEnd::of(stopped));
        self.waker.wake();
    }
}
