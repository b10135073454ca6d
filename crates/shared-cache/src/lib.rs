//! A shared, indexed, watch-driven cache of any Kubernetes kinds.
//!
//! ```text
//!  kube-apiserver ── list / watch ──▶ Informer<K> ──▶ Store<K> ◀── Reader<K>
//!                                         │ deltas (old, new)
//!                                         ├──▶ waits        wakes the waiters of that key
//!                                         └──▶ Subscription one entry per key, never delays the watch
//! ```
//!
//! Data flows one way: the informer writes the store, all others read the store. Objects are changed only
//! through the API server. There is one watch per kind, and lookups do no I/O.
//!
//! Rule numbers refer to docs/behaviours.md.
//!
#![doc = include_str!("../README.md")]

mod cache;
mod error_text;
mod informer;
mod kind;
mod not_sent;
mod object;
mod runtime_thread;
mod store;
mod subscription;
mod wait;

#[cfg(test)]
mod scripted_server;
#[cfg(test)]
mod test_support;

pub use cache::{
    ApiReader, BuildError, CacheCollector, CachedKind, CachedObject, EXPIRES_AFTER, LookupError, NotSynced,
    Patch, PatchError, READ_TIMEOUT, ReadError, Reader, RefreshError, Satisfaction, Selection, SharedCache,
    SharedCacheBuilder, StartError, VersionError, Watch, WatchThreadError,
};
pub use error_text::error_text;
pub use informer::{Freshness, Health, LastError, Report, Snapshot, Verb, WatchError};
pub use kind::{
    CacheObject, CachedResource, DecodeError, Index, IndexFunc, IndexKeys, decode_json, decode_partially,
    decode_text,
};
pub use not_sent::{NotSent, is_not_sent};
pub use object::{Batch, DeletionReason, Delta, KeyRef, ObjectKey, Observer, parse_version, version_of};
pub use runtime_thread::RuntimeThread;
pub use subscription::{Event, Subscription, SubscriptionEnd, predicates};
pub use wait::{
    AcquiredWaitTask, Check, Floor, KeyWait, SetWait, WaitAction, WaitConflict, WaitError, WaitTarget,
    WaitTask,
};

pub use jiff;
pub use k8s_openapi;
pub use kube;
pub use label_selector::LabelSelector;
