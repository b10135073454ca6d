//! [`Waits`]: all waits for objects of one kind.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::WaitAction;
use super::holds::Holds;
use super::outcome::{End, ObjectWaiter, Place, Seen, WaitRegistry};
use super::registry::Registry;
use crate::kind::CacheObject;
use crate::object::{Batch, DeletionReason, Delta, KeyRef, ObjectKey, Observer};

/// All waits for objects of one kind. It observes the informer of the kind.
pub(crate) struct Waits<K: CacheObject> {
    registry: Arc<WaitRegistry<K>>,
    pub(super) holds: Arc<Holds<WaitAction>>,
}

impl<K: CacheObject> Waits<K> {
    pub(crate) fn new() -> Self {
        Self { registry: Arc::new(Registry::new()), holds: Arc::new(Holds::new()) }
    }

    /// Returns the number of waits.
    pub(crate) fn len(&self) -> usize {
        self.registry.len()
    }

    /// Returns the objects that callers wait for, each once.
    pub(crate) fn awaited(&self) -> BTreeSet<ObjectKey> {
        self.registry.names().iter().map(|subject| subject.key().into()).collect()
    }

    /// Passes the result of a live read to the waits. It replaces the events that are missing while the watch
    /// is down (F13).
    pub(crate) fn see_live(&self, key: &ObjectKey, found: Option<Arc<K>>) {
        self.registry.see(&KeyRef::from(key), || found.map_or(Seen::Missing, Seen::Present));
    }

    pub(super) fn register(&self, waiter: ObjectWaiter<K>) -> Option<Place<K>> {
        self.registry.register(waiter)
    }
}

impl<K: CacheObject> Observer<K> for Waits<K> {
    fn observe(&self, batch: &Batch<K>) {
        for delta in &batch.deltas {
            self.registry.see(&delta.key(), || match delta {
                Delta::Applied { new, .. } => Seen::Present(Arc::clone(new)),
                Delta::Deleted { reason: DeletionReason::Undecodable, .. } => Seen::UNDECODABLE,
                Delta::Deleted { reason: DeletionReason::KindRemoved, .. } => Seen::NOT_SERVED,
                Delta::Deleted { last_known, reason } => Seen::Deleted {
                    last_known: Arc::clone(last_known),
                    is_final_state: *reason == DeletionReason::Removed,
                },
            });
        }
    }

    /// Ends every wait, including later waits, as stopped.
    fn closed(&self, _stopped: bool) {
        self.registry.close(&Err(End::Stopped));
    }
}
