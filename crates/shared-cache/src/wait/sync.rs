//! The lock and the counter that the registry and the holds use. They are in a separate file, so that the
//! model checker, which includes those files in `tests/wait_model.rs`, can replace them.

pub(super) use std::sync::atomic::AtomicUsize;

pub(super) use parking_lot::Mutex;

/// Number of shards of a registry. A shard of 100,000 waits has 6,250, which are copied under its lock.
pub(super) const SHARDS: usize = 16;
