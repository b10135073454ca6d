//! [`Event`]: an item of a subscription.

use std::sync::Arc;

use kube::Resource;

use crate::object::{DeletionReason, Delta, KeyRef};

/// An item of a [`Subscription`](super::Subscription).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<K> {
    /// The object exists in this version. If `old` and `new` are the same `Arc`, only time changed its index
    /// values.
    Applied {
        /// The last state of the object that this subscription has seen; `None` if there is none.
        old: Option<Arc<K>>,
        /// The newest state.
        new: Arc<K>,
    },
    /// The object was removed from the cache.
    Deleted {
        /// The last state of the object that was seen.
        last_known: Arc<K>,
        /// The reason of the removal.
        reason: DeletionReason,
    },
    /// Every object of the initial list was delivered before this item. Delivered exactly once.
    Synced,
}

impl<K> Event<K> {
    /// Returns the newest state in the event; `None` for [`Event::Synced`].
    #[must_use]
    pub fn object(&self) -> Option<&Arc<K>> {
        match self {
            Self::Applied { new, .. } => Some(new),
            Self::Deleted { last_known, .. } => Some(last_known),
            Self::Synced => None,
        }
    }
}

impl<K: Resource> Event<K> {
    /// Returns the key of the object; `None` for [`Event::Synced`].
    #[must_use]
    pub fn key(&self) -> Option<KeyRef<'_>> {
        self.object().map(|object| KeyRef::of(&**object))
    }
}

impl<K> Clone for Event<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Applied { old, new } => Self::Applied { old: old.clone(), new: Arc::clone(new) },
            Self::Deleted { last_known, reason } => {
                Self::Deleted { last_known: Arc::clone(last_known), reason: *reason }
            }
            Self::Synced => Self::Synced,
        }
    }
}

impl<K> From<Delta<K>> for Event<K> {
    fn from(delta: Delta<K>) -> Self {
        match delta {
            Delta::Applied { old, new } => Self::Applied { old, new },
            Delta::Deleted { last_known, reason } => Self::Deleted { last_known, reason },
        }
    }
}
