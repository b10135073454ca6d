//! [`Controller`]: calls registered handlers for every object of one kind, again whenever it changes.
//!
//! ```text
//!  informer of K ────────────┐
//!  informers of owned kinds ─┼─▶ work queue ──▶ dispatcher ──▶ handler 1 ──▶ handler 2 ...
//!  informers of watched kinds┘   (one entry     (one attempt     (newest object from the cache,
//!                                 a key)         a key)           or a deletion)
//! ```
//!
//! # Guarantees
//!
//! - Handlers of one key never run twice at once. Distinct keys run in parallel up to the configured number.
//! - After the start every object is reconciled once. After each change the object is reconciled at least once;
//!   changes that come while the key is queued are merged, and changes during a run lead to one more run.
//! - Handlers see the cache at least as new as the change that led to the run.
//! - A deletion is shown until all handlers have succeeded with it, also if the name is in use again: the new object
//!   is shown only after the deletion.
//! - A change of an idle key starts its handlers at once. Changes go before the initial list.

mod action;
mod context;
mod controller;
mod dispatcher;
mod error;
mod finalizer;
mod handler;
mod metrics;
mod observed;
mod reconciler;
mod secondary;

#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

pub use action::Action;
pub use context::Context;
pub use controller::Controller;
pub use error::{ControllerError, KindUse};
pub use finalizer::{FinalizerEvent, finalizer};
pub use handler::{HandlerError, ReconcileHandler};
pub use metrics::ControllerMetricFamilies;
pub use observed::Observed;
