//! [`SharedCache`]: many kinds, each watched once and looked up in memory. Rule numbers refer to
//! docs/behaviours.md.

mod api_reader;
mod builder;
mod cached_kind;
mod error;
mod expectations;
mod kinds;
mod lookups;
mod metrics;
mod outage;
mod own_writes;
mod patch;
mod reader;
mod selection;
mod shared_cache;
mod waits;
mod watch;
mod watched;

#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unread_tests;
#[cfg(test)]
mod unserved_tests;

pub use api_reader::{ApiReader, READ_TIMEOUT, ReadError};
pub use builder::{BuildError, SharedCacheBuilder, WatchThreadError};
pub use cached_kind::{CachedKind, CachedObject};
pub use error::{LookupError, NotSynced};
pub use expectations::{EXPIRES_AFTER, Satisfaction};
pub use metrics::CacheCollector;
pub use own_writes::{RefreshError, VersionError};
pub use patch::{Patch, PatchError};
pub use reader::Reader;
pub use selection::Selection;
pub use shared_cache::{SharedCache, StartError};
pub use watch::Watch;
