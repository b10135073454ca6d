//! [`Manager`]: the cache, the controllers on it and the HTTP listeners, started and stopped in order.

mod bound;
mod builder;
mod controllers;
mod error;
mod health;
mod listeners;
mod options;
mod report;
mod runnable;
mod running;
mod signals;
mod tasks;

#[cfg(test)]
mod tests;

pub use bound::BoundManager;
pub use builder::{Manager, ManagerBuilder};
pub use error::ManagerError;
pub use options::ManagerOptions;
pub use runnable::Runnable;
pub use signals::signals;
