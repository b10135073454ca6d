//! [`CacheObject`], which every cached kind satisfies, and [`CachedResource`], which a kind may implement.

use jiff::Timestamp;
use kube::Resource;
use serde::de::DeserializeOwned;

use super::decode::{DecodeError, decode_json};
use super::index::IndexFunc;

/// A type that the cache can store: any statically typed Kubernetes kind. Implemented for every such type.
pub trait CacheObject: Resource<DynamicType = (), Scope: 'static> + Send + Sync + 'static {}

impl<K: Resource<DynamicType = (), Scope: 'static> + Send + Sync + 'static> CacheObject for K {}

/// A kind that defines its own indexes, decoder and time-driven changes.
///
/// Register the kind with [`SharedCacheBuilder::cached_kind`](crate::SharedCacheBuilder::cached_kind). A kind
/// without such definitions needs no implementation:
/// [`SharedCacheBuilder::kind`](crate::SharedCacheBuilder::kind) accepts any kind.
///
/// The informer's task calls these functions without holding a lock. They must not block.
pub trait CachedResource: CacheObject + DeserializeOwned {
    /// Returns the indexes of the kind. Production and tests use this one definition.
    #[must_use]
    fn indexes() -> &'static [IndexFunc<Self>] {
        &[]
    }

    /// Returns the next instant at which the values of [`Self::indexes`] change without an event; `None` if
    /// they never do.
    ///
    /// The result depends only on the object. The store extracts the values again once the wall clock has
    /// passed the instant.
    fn next_transition(&self) -> Option<Timestamp> {
        None
    }

    /// Returns the fields that [`Self::decode`] could not read and has omitted; see
    /// [`decode_partially`](super::decode_partially). The informer counts and logs such objects.
    fn unread_fields(&self) -> &[DecodeError] {
        &[]
    }

    /// Decodes an object from its JSON text. The default is [`decode_json`].
    ///
    /// # Errors
    ///
    /// [`DecodeError`], which names the field that does not match its type.
    fn decode(json: &str) -> Result<Self, DecodeError> {
        decode_json(json)
    }
}
