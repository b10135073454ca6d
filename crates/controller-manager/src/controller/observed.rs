//! [`Observed`]: what a handler is called with.

use std::sync::Arc;

use kube::Resource;
use shared_cache::{DeletionReason, KeyRef, ObjectKey};

/// What is to be reconciled.
#[derive(Debug)]
pub enum Observed<K> {
    /// The object as the cache has it now, at least as new as the change that led to the call.
    Present(Arc<K>),
    /// The object is no longer in the cache.
    ///
    /// Release external resources only if [`DeletionReason::is_final`] is true: in all other cases the object may still
    /// exist. A deletion that happens while no manager runs is never shown; for a cleanup that must not be missed, use
    /// the [`finalizer`](crate::finalizer) helper.
    Deleted {
        /// Namespace and name of the object.
        key: ObjectKey,
        /// The last state that was seen.
        last_known: Option<Arc<K>>,
        /// Why the object left the cache.
        reason: DeletionReason,
    },
}

impl<K> Clone for Observed<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Present(object) => Self::Present(Arc::clone(object)),
            Self::Deleted { key, last_known, reason } => {
                Self::Deleted { key: key.clone(), last_known: last_known.clone(), reason: *reason }
            }
        }
    }
}

impl<K: Resource> Observed<K> {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> KeyRef<'_> {
        match self {
            Self::Present(object) => KeyRef::of(&**object),
            Self::Deleted { key, .. } => key.into(),
        }
    }

    /// The newest state that is known.
    #[must_use]
    pub fn object(&self) -> Option<&Arc<K>> {
        match self {
            Self::Present(object) => Some(object),
            Self::Deleted { last_known, .. } => last_known.as_ref(),
        }
    }
}
