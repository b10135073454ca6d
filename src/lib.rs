//! Keeps every agent sandbox of a Kubernetes cluster in one shared, indexed, watch-driven cache.

pub mod api;
pub mod cache;
pub mod controller;
pub mod informer;
pub mod options;
