//! Controllers on a [shared cache](shared_cache), and the manager that runs them.
//!
#![doc = include_str!("../README.md")]

mod bind_address;
mod client;
mod controller;
mod fence;
mod http;
mod leader_election;
mod manager;
mod metrics;
mod queue;
mod resource_names;
pub mod telemetry;

pub use bind_address::{BindAddress, InvalidAddress};
pub use client::{ClientError, ClusterAccess, Connector, ConnectorOptions, RateLimit};
pub use controller::{
    Action, Context, Controller, ControllerError, ControllerMetricFamilies, FinalizerEvent, HandlerError,
    KindUse, Observed, ReconcileHandler, finalizer,
};
pub use fence::NotLeader;
pub use http::{BindError, ListenOptions};
pub use leader_election::{
    InvalidLeaderElection, LeaderElection, LeaderElectionError, LeaderElectionOptions, LeaseLost,
    pod_identity, pod_namespace,
};
pub use manager::{BoundManager, Manager, ManagerBuilder, ManagerError, ManagerOptions, Runnable, signals};
pub use metrics::{Metrics, MetricsError};
pub use queue::QueueOptions;

pub use axum;
pub use kube;
pub use prometheus;
pub use shared_cache;
pub use tokio_util::sync::CancellationToken;
