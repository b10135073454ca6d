//! [`Controller`] and what its handlers see.

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
