//! The manager.

pub mod shutdown;
