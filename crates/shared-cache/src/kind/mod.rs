//! What the cache must know of a kind: how to decode it, its indexes, and when time alone changes them.
//!
//! [`CacheObject`] is the bound that every kind satisfies. [`KindParams`] holds what the builder collected for one
//! kind; a kind that brings its own rules implements [`CachedResource`].

mod cached_resource;
mod decode;
mod index;
mod params;

pub use cached_resource::{CacheObject, CachedResource};
pub use decode::{DecodeError, decode_json};
pub use index::{Index, IndexFunc, IndexKeys};
pub(crate) use index::{IndexValues, NAMESPACE_INDEX};
pub(crate) use params::{IndexDefinition, KindParams};
