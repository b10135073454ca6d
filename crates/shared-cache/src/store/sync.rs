//! The lock and the thread numbers that [`ShardedLock`](super::sharded_lock::ShardedLock) uses. They are in a separate
//! file, so that the model checker, which includes that file in `tests/lock_model.rs`, can replace them.

pub(super) use std::sync::Arc;

pub(super) use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(super) use super::thread_number::thread_number;
