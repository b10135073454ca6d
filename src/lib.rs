//! Keeps every agent sandbox of a Kubernetes cluster in one shared, indexed, watch-driven cache.

pub mod api;
pub mod cache;
pub mod cli;
pub mod client;
pub mod controller;
mod error_text;
pub mod http;
pub mod informer;
pub mod manager;
pub mod metrics;
pub mod options;
mod rate_limit;
pub mod telemetry;
pub mod wait;
