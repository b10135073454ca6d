//! [`Manager`]: the cache, the controllers on it and the HTTP endpoints, started and stopped in order.
//!
//! ```text
//!  start:  HTTP listeners ──▶ informers ──▶ each controller once its kind is synced
//!  stop:   not ready ──▶ no new reconciles ──▶ running handlers end ──▶ informers ──▶ HTTP listeners
//! ```
//!
//! Whatever may mend itself (the API server is away, a CRD or a permission is missing) keeps the process live
//! and not ready; it is told in `/readyz?verbose`, in metrics, and in the log: 5 s after
//! the start, when it changes to not ready, and every 30 s.

mod fleet;
mod health;
pub mod shutdown;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::future;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use fleet::{SandboxFleet, SandboxSetFleet};

use crate::api::v1alpha1::{Sandbox, SandboxSet};
use crate::cache::{Cache, CacheBuilder, CacheCollector, StartError, WatchedKind};
use crate::client::{ClientError, Connector};
use crate::controller::{Controller, ControllerMetricFamilies};
use crate::http::{self, BindError, DebugSource, HealthSource};
use crate::metrics::{Metrics, MetricsError};
use crate::options::{BindAddress, SandboxManagerOptions, Scope, ScopeError};
use health::{CacheDump, ManagerHealth};

/// How long after the start the log first tells what is missing; a sync is usually done by then.
const FIRST_REPORT: Duration = Duration::from_secs(5);

/// How often problems that last are told in the log.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// Why a manager could not be built or run.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The options describe no valid scope.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// The metrics could not be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A metric could not be registered.
    #[error("registering metrics: {0}")]
    Register(#[from] prometheus::Error),
    /// An address can't be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The cache was started by somebody else.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Handlers were still running when the grace period was over; they were dropped where they stood.
    #[error("handlers were still running after the grace period of {} s", .0.as_secs_f64())]
    GracePeriod(Duration),
}

/// Runs everything. See the [module](self).
///
/// ```no_run
/// use sandbox_manager::api::v1alpha1::Sandbox;
/// use sandbox_manager::controller::{Action, Observed};
/// use sandbox_manager::manager::{Manager, shutdown};
/// use sandbox_manager::options::SandboxManagerOptions;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = kube::Client::try_default().await?;
/// let mut manager = Manager::builder(SandboxManagerOptions::default()).client(client).build()?;
/// manager.sandbox_controller().add_reconcile_handler(|observed: Observed<Sandbox>| async move {
///     println!("{}", observed.key());
///     Ok(Action::await_change())
/// });
/// manager.run(shutdown::signals()?).await?;
/// # Ok(())
/// # }
/// ```
pub struct Manager {
    options: SandboxManagerOptions,
    cache: Cache,
    metrics: Metrics,
    sandboxes: Controller<Sandbox>,
    sandbox_sets: Controller<SandboxSet>,
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A builder that has no client yet. See [`Manager::builder`].
#[must_use]
pub struct ManagerBuilder {
    options: SandboxManagerOptions,
    metrics: Option<Metrics>,
}

/// A builder that has all it needs.
#[must_use]
pub struct ReadyManagerBuilder {
    builder: ManagerBuilder,
    cache: CacheBuilder,
}

impl ManagerBuilder {
    /// Metrics to add to, such as those that the client counts its requests in; otherwise new ones are made.
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// The client for watches, live reads and handlers. The watches then run on the runtime that the manager runs
    /// on.
    pub fn client(self, client: kube::Client) -> ReadyManagerBuilder {
        ReadyManagerBuilder { builder: self, cache: Cache::builder(client) }
    }

    /// Where clients come from: one for live reads and handlers, and one for the watches, which get a
    /// [thread of their own](CacheBuilder::watch_thread).
    ///
    /// # Errors
    ///
    /// As [`CacheBuilder::watch_thread`].
    pub fn connector(self, connector: &Connector) -> Result<ReadyManagerBuilder, ClientError> {
        let cache = Cache::builder(connector.client()?).watch_thread(connector)?;
        Ok(ReadyManagerBuilder { builder: self, cache })
    }
}

impl ReadyManagerBuilder {
    /// Metrics to add to; see [`ManagerBuilder::metrics`].
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.builder = self.builder.metrics(metrics);
        self
    }

    /// The manager, with nothing started.
    ///
    /// # Errors
    ///
    /// [`ManagerError::Scope`] for options that were not checked before; [`ManagerError::Register`] if the
    /// metrics serve another manager already.
    pub fn build(self) -> Result<Manager, ManagerError> {
        let Self { builder: ManagerBuilder { options, metrics }, cache } = self;
        let metrics = metrics.map_or_else(Metrics::new, Ok)?;
        let cache = cache
            .scope(Scope::from_options(&options)?)
            .page_size(options.cache.page_size)
            .sync_timeout(options.cache.sync_timeout)
            .build();
        metrics.registry().register(Box::new(CacheCollector::new(&cache)?))?;
        let families = ControllerMetricFamilies::register(metrics.registry())?;
        let controllers = &options.controllers;
        let sandboxes = controllers.sandbox.max_concurrent_reconciles;
        let sandboxes = Controller::new("sandbox", cache.clone(), sandboxes, families.clone());
        let sandbox_sets = controllers.sandbox_set.max_concurrent_reconciles;
        let sandbox_sets = Controller::new("sandboxset", cache.clone(), sandbox_sets, families);
        Ok(Manager { options, cache, metrics, sandboxes, sandbox_sets })
    }
}

/// The listeners, bound but not served yet.
struct Listeners {
    metrics: Option<TcpListener>,
    health: Option<TcpListener>,
}

impl Manager {
    /// Begins the making of a manager.
    pub fn builder(options: SandboxManagerOptions) -> ManagerBuilder {
        ManagerBuilder { options, metrics: None }
    }

    /// The controller of Sandboxes, to add handlers to.
    pub fn sandbox_controller(&mut self) -> &mut Controller<Sandbox> {
        &mut self.sandboxes
    }

    /// The controller of SandboxSets, to add handlers to.
    pub fn sandbox_set_controller(&mut self) -> &mut Controller<SandboxSet> {
        &mut self.sandbox_sets
    }

    /// The shared cache. [`Manager::run`] starts it; handlers may keep a clone.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The metrics, to register one's own in.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Adds the handlers that the binary runs with: gauges of the fleet's states.
    ///
    /// # Errors
    ///
    /// When called twice.
    pub fn add_fleet_metrics(&mut self) -> Result<(), ManagerError> {
        let sandboxes = SandboxFleet::register(self.metrics.registry())?;
        let sandbox_sets = SandboxSetFleet::register(self.metrics.registry())?;
        self.sandboxes.add_reconcile_handler(sandboxes);
        self.sandbox_sets.add_reconcile_handler(sandbox_sets);
        Ok(())
    }

    /// Runs until `shutdown` is cancelled, then ends in order (see the [module](self)). A problem that may
    /// mend itself never ends it.
    ///
    /// Dropping the future drops handlers where they stand and stops the watches.
    ///
    /// # Errors
    ///
    /// [`ManagerError::Bind`] at once; [`ManagerError::GracePeriod`] at the end.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ManagerError> {
        self.bind().await?.run(shutdown).await
    }

    /// Takes the addresses of the options and starts nothing yet: for those who want to know which ones were free.
    ///
    /// # Errors
    ///
    /// [`ManagerError::Bind`].
    pub async fn bind(self) -> Result<BoundManager, ManagerError> {
        let SandboxManagerOptions { metrics, health, .. } = &self.options;
        let listeners = Listeners {
            metrics: bind("metrics.bindAddress", &metrics.bind_address).await?,
            health: bind("health.bindAddress", &health.bind_address).await?,
        };
        Ok(BoundManager { manager: self, listeners })
    }

    fn serve(
        &self,
        listeners: Listeners,
        health: &Arc<ManagerHealth>,
        close: &CancellationToken,
    ) -> TaskTracker {
        let dump = self
            .options
            .debug
            .enabled
            .then(|| Arc::new(CacheDump(self.cache.clone())) as Arc<dyn DebugSource>);
        let health = http::health_router(Arc::clone(health) as Arc<dyn HealthSource>, dump);
        let servers = TaskTracker::new();
        let serve = |listener: Option<TcpListener>, router: Router| {
            listener.map(|listener| servers.spawn(http::serve(listener, router, close.clone())));
        };
        serve(listeners.health, health);
        serve(listeners.metrics, http::metrics_router(self.metrics.clone()));
        servers.close();
        servers
    }
}

/// A manager that holds its addresses and serves nothing on them yet. See [`Manager::bind`].
#[must_use]
pub struct BoundManager {
    manager: Manager,
    listeners: Listeners,
}

impl BoundManager {
    /// Where the metrics will be served; `None` if they are not.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.listeners.metrics.as_ref()?.local_addr().ok()
    }

    /// Where the health will be served; `None` if it is not.
    #[must_use]
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.listeners.health.as_ref()?.local_addr().ok()
    }

    /// The shared cache.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        self.manager.cache()
    }

    /// As [`Manager::run`].
    ///
    /// # Errors
    ///
    /// [`ManagerError::GracePeriod`] at the end.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ManagerError> {
        let Self { manager, listeners } = self;
        let health = ManagerHealth::new(manager.cache.clone());
        let close = CancellationToken::new();
        let _close_on_drop = close.clone().drop_guard();
        let servers = manager.serve(listeners, &health, &close);
        manager.cache.spawn()?;
        let _stop_on_drop = manager.cache.stop_on_drop();

        let Manager { options, cache, sandboxes, sandbox_sets, .. } = manager;
        let grace_period = options.shutdown.grace_period;
        let running = shutdown.clone();
        // Boxed, so that dropping it drops the handlers and not only a pointer to them.
        let mut controllers = Box::pin(future::maybe_done(async move {
            tokio::join!(run_controller(sandboxes, &running), run_controller(sandbox_sets, &running));
        }));
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = future::join(&mut controllers, report(&health)) => {}
        }
        health.shut_down();
        let in_time = tokio::time::timeout(grace_period, &mut controllers).await.is_ok();
        if !in_time {
            tracing::warn!(?grace_period, "handlers are still running, dropping them");
        }
        drop(controllers);
        cache.stop().await;
        close.cancel();
        servers.wait().await;
        tracing::info!("stopped");
        if in_time { Ok(()) } else { Err(ManagerError::GracePeriod(grace_period)) }
    }
}

async fn bind(field: &'static str, address: &BindAddress) -> Result<Option<TcpListener>, BindError> {
    let listener = http::bind(field, address).await?;
    if let Some(address) = listener.as_ref().and_then(|listener| listener.local_addr().ok()) {
        tracing::info!(listener = field, %address, "listening");
    }
    Ok(listener)
}

/// A controller without handlers is not even started.
async fn run_controller<K: WatchedKind>(controller: Controller<K>, shutdown: &CancellationToken) {
    if controller.has_handlers() {
        controller.run(shutdown.clone()).await;
    }
}

/// Tells in the log what keeps the manager from being ready, and when nothing does any more. Never returns.
async fn report(health: &ManagerHealth) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    let mut ready = false;
    let mut next = tokio::time::Instant::now() + FIRST_REPORT;
    loop {
        every.tick().await;
        let problems = health.problems();
        if problems.is_empty() {
            if !std::mem::replace(&mut ready, true) {
                tracing::info!("ready");
            }
        } else if ready || tokio::time::Instant::now() >= next {
            (ready, next) = (false, tokio::time::Instant::now() + REPORT_EVERY);
            for (check, problem) in problems {
                tracing::warn!(check, problem, "not ready");
            }
        }
    }
}
