//! [`Event`]: what happened to one object, as observers and subscribers of a kind see it.

use std::sync::Arc;

use kube::Resource;

use super::key::KeyRef;

/// A change of one object in the store. Per key, events come in the order in which the store changed.
#[derive(Debug)]
pub enum Event<K> {
    /// The object was added (`old` is `None`), has a new version, or, when both are the very same, has changed its
    /// state by time alone ([`CachedResource::next_transition`](super::CachedResource::next_transition)).
    Applied {
        /// What the store held before.
        old: Option<Arc<K>>,
        /// What it holds now.
        new: Arc<K>,
    },
    /// The object has left the store: it was deleted, left the label selector, or can't be read any more.
    Deleted {
        /// Its last state that was seen.
        last_known: Arc<K>,
        /// Whether nobody saw it go, so that its true last state may differ from `last_known` (the term is
        /// client-go's). True for all that a relist no longer finds.
        final_state_unknown: bool,
    },
}

impl<K> Event<K> {
    /// The newest state that the event carries.
    #[must_use]
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Applied { new, .. } => new,
            Self::Deleted { last_known, .. } => last_known,
        }
    }
}

impl<K: Resource> Event<K> {
    /// Key of the object.
    #[must_use]
    pub fn key(&self) -> KeyRef<'_> {
        KeyRef::of(&**self.object())
    }
}

impl<K> Clone for Event<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Applied { old, new } => Self::Applied { old: old.clone(), new: Arc::clone(new) },
            Self::Deleted { last_known, final_state_unknown } => Self::Deleted {
                last_known: Arc::clone(last_known),
                final_state_unknown: *final_state_unknown,
            },
        }
    }
}

/// The events of one step of the store.
pub struct Batch<K> {
    /// Rises by one with each batch that holds events. An observer that registered while looking at the
    /// store in state `n` skips batches up to `n`: it has seen what they made.
    pub sequence: u64,
    /// What happened, in order.
    pub events: Vec<Event<K>>,
}

/// Is told of every change of a kind, in order, by the informer's task and outside of every lock.
///
/// Must return quickly and never block: the watch waits for it. A panic is logged, and the batch lost to this
/// observer alone.
pub trait Observer<K>: Send + Sync {
    /// Called once for each batch that holds events.
    fn observe(&self, batch: &Batch<K>);
}
