//! Waiting until an object, or a set of objects, satisfies a condition.
//!
//! ```text
//!  Informer<K> ── batch ──▶ Waits<K> (observer) ──▶ Registry: waiters of that key
//!                                                      │ judge: UID, version floor, condition
//!                                                      ▼ (in the informer's task, no lock held)
//!                                                    slot ──▶ wakes the caller's task
//! ```
//!
//! A wait has no timer, task or polling other than the caller's own future. A change of a key without waiters
//! costs one lookup in a hash map, and no lookup if there are no waits.
//!
//! Rule numbers refer to docs/behaviours.md.

mod changes;
mod check;
mod error;
mod holds;
mod metrics;
mod on_key;
mod on_set;
mod outcome;
mod registry;
mod sync;
mod task;
mod waits;

#[cfg(test)]
mod holds_tests;

pub use check::{Check, Floor};
pub use error::{WaitAction, WaitConflict, WaitError, WaitTarget};
pub use on_key::KeyWait;
pub use on_set::SetWait;
pub use task::{AcquiredWaitTask, WaitTask};

pub(crate) use changes::ChangeSignal;
pub(crate) use metrics::{PrefixedWaitMetrics, WaitMetrics};
pub(crate) use task::WaitSource;
pub(crate) use waits::Waits;
