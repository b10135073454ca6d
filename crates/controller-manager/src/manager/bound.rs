//! [`BoundManager`]: a manager that holds its addresses.

use std::net::SocketAddr;

use shared_cache::SharedCache;
use tokio_util::sync::CancellationToken;

use super::error::ManagerError;
use super::listeners::{HEALTH, METRICS};
use super::running::{Parts, run};

/// A manager that holds its addresses and serves nothing on them yet. Created by
/// [`Manager::bind`](crate::Manager::bind).
#[must_use]
pub struct BoundManager {
    pub(super) parts: Parts,
}

impl BoundManager {
    /// Where the metrics will be served; `None` if they are not.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.address(METRICS)
    }

    /// Where the health will be served; `None` if it is not.
    #[must_use]
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.address(HEALTH)
    }

    /// The address of a listener that was added by [`Manager::listen`](crate::Manager::listen).
    #[must_use]
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.parts.listeners.address(listener)
    }

    /// The shared cache.
    #[must_use]
    pub fn cache(&self) -> &SharedCache {
        &self.parts.cache
    }

    /// The same as [`Manager::run`](crate::Manager::run).
    ///
    /// # Errors
    ///
    /// [`ManagerError::Thread`], [`ManagerError::Start`], [`ManagerError::Task`], [`ManagerError::LeaseLost`],
    /// [`ManagerError::GracePeriod`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ManagerError> {
        run(self.parts, shutdown).await
    }
}
