//! Tests the lifecycle controllers on an API server in memory that runs pods.
//!
//! Most of them run under paused time: delays cost nothing, and the deadlines of waits are never missed because of a busy
//! machine.

mod pool_rig;
mod sandbox_set;
