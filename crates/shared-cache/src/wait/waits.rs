//! [`Waits`]: all waits for objects of one kind.

use std::sync::Arc;

use super::error::WaitAction;
use super::holds::Holds;
use super::outcome::{End, Ending, Pending, Place, Seen, WaitRegistry};
use super::registry::{Registry, Waiter};
use crate::kind::CacheObject;
use crate::object::{Batch, DeletionReason, Delta, ObjectKey, Observer};

/// All waits for objects of one kind. An observer of its informer.
pub(crate) struct Waits<K: CacheObject> {
    registry: Arc<WaitRegistry<K>>,
    pub(super) holds: Arc<Holds<WaitAction>>,
}

impl<K: CacheObject> Waits<K> {
    pub(crate) fn new() -> Self {
        Self { registry: Arc::new(Registry::new()), holds: Arc::new(Holds::new()) }
    }

    /// The objects that callers wait for now.
    pub(crate) fn awaited(&self) -> Vec<ObjectKey> {
        self.registry.names()
    }

    /// A live read has returned this, in place of the events that an outage of the watch withholds (F13).
    pub(crate) fn see_live(&self, key: &ObjectKey, found: Option<Arc<K>>) {
        self.registry.see(key, || found.map_or(Seen::Missing, Seen::Present));
    }

    pub(super) fn register(
        &self,
        key: ObjectKey,
        waiter: Waiter<Seen<K>, Ending<K>, Pending>,
    ) -> Option<Place<K>> {
        self.registry.register(key, waiter)
    }
}

impl<K: CacheObject> Observer<K> for Waits<K> {
    fn observe(&self, batch: &Batch<K>) {
        for delta in &batch.deltas {
            self.registry.see(&delta.key(), || match delta {
                Delta::Applied { new, .. } => Seen::Present(Arc::clone(new)),
                Delta::Deleted { reason: DeletionReason::Undecodable, .. } => Seen::Undecodable,
                Delta::Deleted { last_known, .. } => Seen::Deleted(Arc::clone(last_known)),
            });
        }
    }

    /// Ends every wait, and every later one, as stopped.
    fn closed(&self, _stopped: bool) {
        self.registry.close(&Err(End::Stopped));
    }
}
