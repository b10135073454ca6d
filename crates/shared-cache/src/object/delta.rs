//! [`Delta`]: a change of one object. [`Observer`] is called with every delta of a kind.

use std::fmt;
use std::sync::Arc;

use kube::Resource;

use super::key::KeyRef;

/// A change of one object in the store. The deltas of a key are in the order in which the store changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Delta<K> {
    /// The object was added (`old` is `None`) or has a new version. If both are the same `Arc`, only time
    /// changed its index values ([`CachedResource::next_transition`](crate::CachedResource::next_transition)).
    Applied {
        /// The object that the store contained before.
        old: Option<Arc<K>>,
        /// The object that the store contains now.
        new: Arc<K>,
    },
    /// The object was removed from the store.
    Deleted {
        /// The last state of the object that was seen.
        last_known: Arc<K>,
        /// The reason of the removal.
        reason: DeletionReason,
    },
}

/// The reason why an object was removed from the store.
///
/// Release external resources only on [`Removed`](Self::Removed) and
/// [`FinalStateUnknown`](Self::FinalStateUnknown). In all other cases the object may still exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeletionReason {
    /// The watch reported the deletion, so `last_known` is the final state.
    Removed,
    /// A list no longer contains the object, or its name has a new object. The object's final state may differ from
    /// `last_known` (the term is client-go's).
    FinalStateUnknown,
    /// The object no longer matches the selector of the watch, or was deleted. A list omits the object in both cases,
    /// and the API server sends the same event for both: the last state that matched the selector. This state proves
    /// a deletion ([`Removed`](Self::Removed)) only if it has a deletion timestamp and no finalizer. An object that was
    /// deleted at once, without finalizers or a grace period, has no deletion timestamp, and the last state of an object
    /// with finalizers may still contain the last of them.
    /// [`ApiReader::still_has`](crate::ApiReader::still_has) asks the API server.
    LeftScope,
    /// The newest version of the object cannot be decoded.
    Undecodable,
    /// The API server no longer serves the kind.
    KindRemoved,
}

impl DeletionReason {
    /// Returns the reason in `snake_case`, for metric labels and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::FinalStateUnknown => "final_state_unknown",
            Self::LeftScope => "left_scope",
            Self::Undecodable => "undecodable",
            Self::KindRemoved => "kind_removed",
        }
    }

    /// Returns true if it is certain that the API server no longer has the object. Otherwise the object may exist, or
    /// be gone as well.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Removed | Self::FinalStateUnknown)
    }
}

impl fmt::Display for DeletionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<K> Delta<K> {
    /// Returns the newest state in the delta.
    #[must_use]
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Applied { new, .. } => new,
            Self::Deleted { last_known, .. } => last_known,
        }
    }
}

impl<K: Resource> Delta<K> {
    /// Returns the key of the object.
    #[must_use]
    pub fn key(&self) -> KeyRef<'_> {
        KeyRef::of(&**self.object())
    }
}

impl<K> Clone for Delta<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Applied { old, new } => Self::Applied { old: old.clone(), new: Arc::clone(new) },
            Self::Deleted { last_known, reason } => {
                Self::Deleted { last_known: Arc::clone(last_known), reason: *reason }
            }
        }
    }
}

/// The deltas of one step of the store.
pub struct Batch<K> {
    /// Increases by one with each batch that contains deltas. An observer that was attached while the store
    /// was at sequence `n` is called only with batches above `n`. The earlier batches are part of its initial
    /// objects.
    pub sequence: u64,
    /// The deltas, in order.
    pub deltas: Vec<Delta<K>>,
}

/// Receives every change of one kind, in order. The informer's task calls the observer without holding a
/// lock.
///
/// The watch waits for each call, so a call must be fast and must not block. A panic is logged; only this
/// observer then misses the batch.
pub trait Observer<K>: Send + Sync {
    /// Called once for each batch that contains deltas.
    fn observe(&self, batch: &Batch<K>);

    /// Called when the initial list of the kind has completed. Not called if the list had completed before
    /// the observer was attached.
    fn synced(&self) {}

    /// Called once when no further batch will come. `stopped` is false if the informer's future was dropped.
    fn closed(&self, stopped: bool) {
        let _ = stopped;
    }
}
