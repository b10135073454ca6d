//! The lock and the counter that the registry and the holds use. A file of its own so that the model checker,
//! which includes those files in `tests/wait_model.rs`, can put its own in this place.

pub(super) use std::sync::atomic::AtomicUsize;

pub(super) use parking_lot::Mutex;
