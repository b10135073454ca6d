//! Faults on demand: a [`FaultPlan`] says which requests and events go wrong, and how.
//!
//! A plan is a value. Its `Debug` output shows everything in it, and [`FaultPlan::random`] makes the same plan again
//! from the same seed, so that a failure can be reproduced. Each fault counts by itself the requests or events that
//! match its trigger, from the moment in which the plan is injected.

mod active;
mod interference;
mod plan;

pub use plan::{Fault, FaultPlan, On, RequestFault, Times, WatchFault};

pub(crate) use active::Faults;
pub(crate) use interference::{Failure, Interference};
