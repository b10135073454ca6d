//! The work queue of one controller: which keys have to be reconciled, and when.
//!
//! ```text
//!  informer ──▶ Observer::observe ─┐                                    ┌─▶ Attempt ──▶ handlers
//!  owned and watched kinds ────────┼──▶ one entry a key ──▶ pop ────────┘                  │
//!  initial list ───────────────────┘         ▲                                             │
//!                                            └── waits for a time ◀── Outcome ◀── finish ──┘
//! ```
//!
//! The queue knows which keys are due, and which deletions handlers have to be told of. It knows nothing of handlers:
//! the controller takes an [`Attempt`], calls the handlers, and reports the [`Outcome`].

mod attempt;
mod due;
mod entry;
mod gauges;
mod initial;
mod key;
mod metrics;
mod options;
mod retry;
mod state;
mod work_queue;

#[cfg(test)]
mod model;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod queue_tests;
#[cfg(test)]
mod test_support;

pub(crate) use attempt::{Attempt, Outcome, Owed, Work};
pub(crate) use initial::InitialVersion;
pub(crate) use key::QueueKey;
pub(crate) use metrics::QueueMetricFamilies;
pub use options::QueueOptions;
pub(crate) use work_queue::{Predicate, WorkQueue, accepts};
