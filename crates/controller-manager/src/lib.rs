//! Controllers on a [shared cache](shared_cache), and the manager that runs them.
//!
#![doc = include_str!("../README.md")]

mod controller;
mod queue;

pub use controller::{
    Action, Context, Controller, ControllerError, ControllerMetricFamilies, FinalizerEvent, HandlerError,
    KindUse, Observed, ReconcileHandler, finalizer,
};
pub use queue::QueueOptions;

pub use kube;
pub use prometheus;
pub use shared_cache;
pub use tokio_util::sync::CancellationToken;
