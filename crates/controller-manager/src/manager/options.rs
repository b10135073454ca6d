//! [`ManagerOptions`]: the parameters of a manager.

use std::time::Duration;

use crate::bind_address::BindAddress;

/// The parameters of a manager. The default listens on nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerOptions {
    /// Where `/metrics` is served.
    pub metrics_address: BindAddress,
    /// Where `/livez`, `/healthz`, `/readyz` and the [routes of the user](crate::Manager::routes) are served.
    pub health_address: BindAddress,
    /// How long a kind may be without a watch before `/readyz` fails. Lookups show the old view meanwhile. Zero: forever.
    pub stale_after: Duration,
    /// Serves `/debug/cache/{plural}` on the health address: names, versions and index values of the cached objects.
    pub debug: bool,
    /// How long handlers and runnables may go on after the shutdown has begun.
    pub grace_period: Duration,
    /// First part of the names of the cache's metrics: `<prefix>_cache_*` and `<prefix>_wait*`.
    pub metric_prefix: String,
    /// Name of this process in Kubernetes events, for instance its pod.
    pub instance: Option<String>,
}

impl Default for ManagerOptions {
    fn default() -> Self {
        Self {
            metrics_address: BindAddress::Off,
            health_address: BindAddress::Off,
            stale_after: Duration::from_mins(5),
            debug: false,
            grace_period: Duration::from_secs(30),
            metric_prefix: "controller_manager".to_owned(),
            instance: None,
        }
    }
}
