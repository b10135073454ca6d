//! [`Manager`]: collects what is to run.

use std::fmt;

use axum::Router;
use shared_cache::{CacheCollector, CacheObject, SharedCache};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::bound::BoundManager;
use super::controllers::Controllers;
use super::error::ManagerError;
use super::health::{ManagerHealth, UserCheck};
use super::listeners::{Listeners, UserListener};
use super::options::ManagerOptions;
use super::runnable::{ErasedRunnable, Runnable};
use super::running::Parts;
use crate::bind_address::BindAddress;
use crate::controller::{Controller, ControllerMetricFamilies};
use crate::fence::fenced_client;
use crate::http::{ListenOptions, health_router, metrics_router};
use crate::leader_election::{ElectionMetrics, LeaderElection};
use crate::metrics::{Metrics, MetricsError};

/// Runs a cache, the controllers on it and the HTTP listeners.
///
/// ```text
///  start:  HTTP listeners ──▶ informers ──▶ synced ──▶ controllers and runnables
///                                             └──────▶ lease won ──▶ leader-only ones
///  stop:   not ready ──▶ no new reconciles ──▶ leader-only handlers end ──▶ lease released
///                                         └──▶ all handlers and runnables end ──▶ informers ──▶ HTTP listeners
/// ```
///
/// A problem that may go away by itself (the API server is away, a CRD or a permission is missing) does not end the
/// process: it stays live and not ready, and the problem is shown in `/readyz?verbose`, in the metrics and in the log.
pub struct Manager {
    options: ManagerOptions,
    cache: SharedCache,
    election: Option<(ElectionMetrics, LeaderElection)>,
    metrics: Metrics,
    families: ControllerMetricFamilies,
    controllers: Controllers,
    runnables: Vec<ErasedRunnable>,
    health_checks: Vec<UserCheck>,
    readiness_checks: Vec<UserCheck>,
    routes: Option<Router>,
    listeners: Vec<UserListener>,
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Creates a [`Manager`].
#[must_use]
pub struct ManagerBuilder {
    cache: SharedCache,
    options: ManagerOptions,
    metrics: Option<Metrics>,
    election: Option<LeaderElection>,
}

impl ManagerBuilder {
    /// Competes with other processes for a lease. [Leader-only](Controller::leader_only) controllers and
    /// [runnables](Manager::add_leader_only_runnable) run only while this process holds it; everything else runs in
    /// every process. Without this, leader-only is without effect.
    pub fn leader_election(mut self, election: LeaderElection) -> Self {
        self.election = Some(election);
        self
    }

    /// Sets the metrics to add to, for instance those in which the client counts its requests. Each manager needs its
    /// own.
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Builds the manager. Nothing is started.
    ///
    /// # Errors
    ///
    /// [`ManagerError::Metrics`] if the metrics serve another manager already, or the prefix is not a valid part of a
    /// metric name.
    pub fn build(self) -> Result<Manager, ManagerError> {
        let Self { cache, options, metrics, election } = self;
        let metrics = metrics.map_or_else(Metrics::new, Ok)?;
        let registry = metrics.registry();
        let collector =
            CacheCollector::new(&cache, &options.metric_prefix).map_err(MetricsError::Register)?;
        registry.register(Box::new(collector)).map_err(MetricsError::Register)?;
        let families = ControllerMetricFamilies::register(registry).map_err(MetricsError::Register)?;
        let election = election.map(|election| Ok((election.register(registry)?, election))).transpose();
        let election = election.map_err(MetricsError::Register)?;
        Ok(Manager {
            options,
            cache,
            election,
            metrics,
            families,
            controllers: Controllers::default(),
            runnables: Vec::new(),
            health_checks: Vec::new(),
            readiness_checks: Vec::new(),
            routes: None,
            listeners: Vec::new(),
        })
    }
}

impl Manager {
    /// Creates a builder. The manager starts the cache.
    pub fn builder(cache: SharedCache, options: ManagerOptions) -> ManagerBuilder {
        ManagerBuilder { cache, options, metrics: None, election: None }
    }

    /// The controller of this name; created if there is none. A kind may have several controllers.
    ///
    /// The name is a label in metrics and logs. Faults are reported by [`Manager::bind`] and [`Manager::run`]: a name
    /// that is used for two kinds, a kind that the cache does not have. A controller without handlers is not started.
    pub fn controller<K: CacheObject>(&mut self, name: &str) -> &mut Controller<K> {
        let Self { controllers, cache, families, options, election, .. } = self;
        let fence = election.as_ref().map(|(_, election)| election.fence());
        controllers.get_or_create(name, || {
            let controller = Controller::new(name, options.instance.clone(), cache, families);
            controller.with_fence(fence.cloned())
        })
    }

    /// Adds a part of the process that runs beside the controllers.
    pub fn add_runnable(&mut self, runnable: impl Runnable) -> &mut Self {
        self.runnables.push(ErasedRunnable::new(runnable, false));
        self
    }

    /// Adds a part of the process that runs only while this process leads, as [`Controller::leader_only`] says. It should
    /// write by [`Self::leader_only_cache`] alone.
    pub fn add_leader_only_runnable(&mut self, runnable: impl Runnable) -> &mut Self {
        self.runnables.push(ErasedRunnable::new(runnable, true));
        self
    }

    /// The cache with a client that refuses writes while this process does not lead; without a leader election, the same
    /// as [`Self::cache`]. Call it on a tokio runtime.
    #[must_use]
    pub fn leader_only_cache(&self) -> SharedCache {
        match &self.election {
            Some((_, election)) => {
                self.cache.with_client(fenced_client(self.cache.client(), election.fence()))
            }
            None => self.cache.clone(),
        }
    }

    /// Adds a check to `/livez` and `/healthz`. `check` is called for each request, so it must answer from memory. It
    /// should fail only if a restart helps.
    pub fn add_health_check(
        &mut self,
        name: &str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> &mut Self {
        self.health_checks.push(UserCheck::new(name, check));
        self
    }

    /// Adds a check to `/readyz`. `check` is called for each request and each second, so it must answer from memory.
    pub fn add_readiness_check(
        &mut self,
        name: &str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> &mut Self {
        self.readiness_checks.push(UserCheck::new(name, check));
        self
    }

    /// Adds routes to the health listener. The routes of the manager go first.
    ///
    /// # Panics
    ///
    /// If two calls add the same route, as [`Router::merge`] does.
    pub fn routes(&mut self, routes: Router) -> &mut Self {
        self.routes = Some(match self.routes.take() {
            Some(earlier) => earlier.merge(routes),
            None => routes,
        });
        self
    }

    /// Adds a listener. It is served from the start on, before the cache is synced, until everything else has stopped.
    pub fn listen(&mut self, name: &str, address: BindAddress, router: Router) -> &mut Self {
        self.listen_with(name, address, router, ListenOptions::default())
    }

    /// Adds a listener as [`Self::listen`] does, and says how it treats its connections.
    pub fn listen_with(
        &mut self,
        name: &str,
        address: BindAddress,
        router: Router,
        options: ListenOptions,
    ) -> &mut Self {
        self.listeners.push(UserListener { name: name.to_owned(), address, router, options });
        self
    }

    /// The shared cache. [`Manager::run`] starts it; handlers may keep a clone.
    #[must_use]
    pub fn cache(&self) -> &SharedCache {
        &self.cache
    }

    /// The metrics, to register further ones.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Runs until `shutdown` is cancelled, then stops in order. A problem that may go away by itself never ends it.
    ///
    /// Dropping the future drops handlers at the point that they have reached, and stops the watches.
    ///
    /// # Errors
    ///
    /// As [`Manager::bind`], at once; [`ManagerError::Start`] if the cache was started before; [`ManagerError::Task`]
    /// if a runnable has failed; [`ManagerError::LeaseLost`] if another process may lead now;
    /// [`ManagerError::GracePeriod`] at the end.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ManagerError> {
        self.bind().await?.run(shutdown).await
    }

    /// Checks everything that was added, and binds the addresses. Starts nothing; for callers that need to know which
    /// free ports were taken.
    ///
    /// # Errors
    ///
    /// [`ManagerError::Bind`], [`ManagerError::Controller`], [`ManagerError::ControllerNameInUse`],
    /// [`ManagerError::NameInUse`].
    pub async fn bind(self) -> Result<BoundManager, ManagerError> {
        self.controllers.check()?;
        let Self { cache, health_checks, readiness_checks, options, election, .. } = self;
        let leader = election.as_ref().map(|(_, election)| election.status().clone());
        let health =
            ManagerHealth::new(cache.clone(), options.stale_after, health_checks, readiness_checks, leader)?;
        let listeners = Listeners::bind(&options, self.listeners).await?;
        let dump = options.debug.then(|| cache.clone());
        let parts = Parts {
            health_router: health_router(Handle::current(), health.clone(), dump, self.routes),
            metrics_router: metrics_router(self.metrics),
            health,
            listeners,
            cache,
            election,
            controllers: self.controllers,
            runnables: self.runnables,
            grace_period: options.grace_period,
        };
        Ok(BoundManager { parts })
    }
}
