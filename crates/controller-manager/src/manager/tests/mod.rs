//! The manager on an API server in memory.

mod http;
mod lifecycle;
mod readiness;
mod registration;
mod support;
