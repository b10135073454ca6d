//! [`Delta`]: what happened to one object, and [`Observer`], which is called with every delta of a kind.

use std::fmt;
use std::sync::Arc;

use kube::Resource;

use super::key::KeyRef;

/// A change of one object in the store. Per key, deltas come in the order in which the store changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Delta<K> {
    /// The object was added (`old` is `None`) or has a new version. If both are the same `Arc`, time alone changed
    /// its index values ([`CachedResource::next_transition`](crate::CachedResource::next_transition)).
    Applied {
        /// The object that the store held before.
        old: Option<Arc<K>>,
        /// The object that the store holds now.
        new: Arc<K>,
    },
    /// The object has left the store.
    Deleted {
        /// Its last state that was seen.
        last_known: Arc<K>,
        /// Why it left.
        reason: DeletionReason,
    },
}

/// Why an object has left the store.
///
/// Release external resources only on [`Removed`](Self::Removed) and
/// [`FinalStateUnknown`](Self::FinalStateUnknown): in all other cases the object may still exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeletionReason {
    /// The watch reported the deletion, so `last_known` is the final state. With a selector this also covers an
    /// object that no longer matches it, since the API server sends the same event for both.
    Removed,
    /// A list no longer contains the object. Its final state may differ from `last_known` (the term is client-go's).
    FinalStateUnknown,
    /// The newest version of the object cannot be decoded.
    Undecodable,
    /// The API server no longer serves the kind.
    KindRemoved,
}

impl DeletionReason {
    /// The reason in `snake_case`, for metric labels and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::FinalStateUnknown => "final_state_unknown",
            Self::Undecodable => "undecodable",
            Self::KindRemoved => "kind_removed",
        }
    }

    /// True if the API server no longer has the object.
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
    /// The newest state that the delta carries.
    #[must_use]
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Applied { new, .. } => new,
            Self::Deleted { last_known, .. } => last_known,
        }
    }
}

impl<K: Resource> Delta<K> {
    /// Key of the object.
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
    /// Rises by one with each batch that holds deltas. An observer that was attached while the store was at
    /// sequence `n` is called only with batches above `n`: the earlier ones are part of its initial objects.
    pub sequence: u64,
    /// The deltas, in order.
    pub deltas: Vec<Delta<K>>,
}

/// Is called with every change of one kind, in order, by the informer's task, which holds no lock then.
///
/// The watch waits for each call, so a call must be quick and must not block. A panic is logged; the batch is then
/// lost to this observer alone.
pub trait Observer<K>: Send + Sync {
    /// Called once for each batch that holds deltas.
    fn observe(&self, batch: &Batch<K>);

    /// Called when the initial list of the kind has completed. Not called if it had completed before the observer
    /// was attached.
    fn synced(&self) {}

    /// Called once when no further batch will come. `stopped` is false if the informer's future was dropped.
    fn closed(&self, stopped: bool) {
        let _ = stopped;
    }
}
