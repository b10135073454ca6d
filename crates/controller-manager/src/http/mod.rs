//! The HTTP listeners: health with debug pages, metrics, and those of the user.
//!
//! Routers are plain values, so tests call them without a socket. The manager binds every address before it starts
//! anything, because an address that is in use does not become free by waiting.

mod body;
mod debug;
mod head_deadline;
mod health;
mod listener;
mod metrics;
mod own_thread;
mod routers;
mod server;
mod stall_limit;

#[cfg(test)]
mod test_support;

pub(crate) use health::{Check, CheckStatus, HealthSource};
pub use listener::BindError;
pub(crate) use listener::bind;
pub(crate) use own_thread::serve_on_own_thread;
pub(crate) use routers::{health_router, metrics_router};
pub use server::ListenOptions;
pub(crate) use server::{Limits, serve};
