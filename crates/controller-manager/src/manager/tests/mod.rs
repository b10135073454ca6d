//! The manager on an API server in memory.

mod http;
mod leader;
mod lifecycle;
mod readiness;
mod registration;
mod support;
