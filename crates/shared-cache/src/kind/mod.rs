//! The properties of a kind that the cache needs: decoder, indexes, and time-driven changes.
//!
//! [`CacheObject`] is the bound that every kind satisfies. [`KindParams`] contains the settings that the
//! builder collected for one kind. A kind with its own definitions implements [`CachedResource`].

mod cached_resource;
mod decode;
mod index;
mod params;
mod partial;

pub use cached_resource::{CacheObject, CachedResource};
pub use decode::{DecodeError, decode_json, decode_text};
pub use index::{Index, IndexFunc, IndexKeys};
pub(crate) use index::{IndexValues, NAMESPACE_INDEX, Transition};
pub(crate) use params::{IndexDefinition, KindParams};
pub use partial::decode_partially;
