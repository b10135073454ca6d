//! [`Informer`]: lists and watches one kind, and updates its [`Store`](crate::store::Store) and observers.
//!
//! ```text
//!  list / watch ──▶ Informer<K> ──▶ Store<K> ◀── readers
//!                       │ Batch<K> (deltas in order, outside every lock)
//!                       └──▶ Observer<K> (waits, expectations, subscriptions, work queues)
//! ```
//!
//! Only the informer's task writes the store. No failure of the API server ends the task: the task retries
//! and reports the failure in [`Health`].
//!
//! Rule numbers refer to docs/behaviours.md.

mod backoff;
mod consistency;
mod error;
mod health;
mod informer;
mod informer_options;
mod intake;
mod list_watch;
mod observers;
mod raw_event;
mod recovery;
mod reflector;
mod state;
mod undecodable;

#[cfg(test)]
mod consistency_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;

pub use error::WatchError;
pub use health::{Freshness, Health, LastError, Report, Verb};
pub(crate) use informer::{Informer, restart_after_panics};
pub(crate) use informer_options::InformerOptions;
pub use observers::Snapshot;

#[cfg(test)]
pub(crate) use observers::Observers;
