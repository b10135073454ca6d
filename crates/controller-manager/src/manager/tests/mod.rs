//! The manager on an API server in memory.

mod http;
mod leader;
mod lifecycle;
mod registration;
mod support;
