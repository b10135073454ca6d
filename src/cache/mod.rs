//! [`SandboxCache`]: the kinds that a sandbox manager reads, watched once and looked up in memory.
//!
//! ```text
//!  kube-apiserver ── list / watch ──▶ SharedCache ◀── Provider, Reader<K>
//!                                         └── Subscription<K>, waits, controllers
//! ```
//!
//! The generic cache is [`shared_cache`]. This module adds the kinds, their indexes, their scope, and the
//! lookups and waits of a sandbox manager ([`Provider`]).
//!
//! Rule numbers refer to docs/behaviours.md.

mod conditions;
pub mod indexes;
mod kinds;
mod provider;
mod sandbox_cache;
mod scope;
mod system_objects;
mod waits;

#[cfg(test)]
mod conditions_tests;
#[cfg(test)]
mod partial_tests;
#[cfg(test)]
#[path = "../../crates/shared-cache/src/scripted_server.rs"]
pub(crate) mod scripted_server;
#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wait_tests;

pub use provider::{
    GetCheckpointOptions, GetClaimedSandboxOptions, ListCheckpointsOptions, ListSandboxSetsOptions,
    ListSandboxesInPoolOptions, ListSandboxesOptions, PickSandboxSetOptions, Provider,
};
pub use sandbox_cache::{SandboxCache, SandboxCache as Cache, SandboxCacheBuilder};
pub use scope::Scope;
pub use shared_cache::{
    ApiReader, CachedKind, CachedObject, EXPIRES_AFTER, LookupError, READ_TIMEOUT, ReadError, Reader,
    RefreshError, Satisfaction, StartError, VersionError,
};
pub use system_objects::KEY_STORE;
pub use waits::{CHECKPOINT, PAUSE, PVC_BIND, RESUME, WAIT_READY};
