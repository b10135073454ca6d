//! The lock and the counter that the registry and the holds use. They are in a separate file, so that the
//! model checker, which includes those files in `tests/wait_model.rs`, can replace them.

pub(super) use std::sync::atomic::AtomicUsize;

pub(super) use parking_lot::Mutex;
