//! [`Manager`]: runs the sandbox cache, its controllers and the HTTP listeners.
//!
//! The generic manager is [`controller_manager`]. This module adds the kinds, names and metrics of
//! sandbox-manager.

mod metrics;

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use controller_manager::{
    BoundManager as GenericBoundManager, CancellationToken, ClientError, Connector, ConnectorOptions,
    Controller, LeaderElection, Manager as GenericManager, ManagerError as RunError, ManagerOptions, Metrics,
    MetricsError, pod_namespace,
};
use shared_cache::WatchThreadError;

pub use metrics::{SandboxFleet, SandboxSetFleet};

use crate::api::v1alpha1::{Sandbox, SandboxSet};
use crate::cache::{SandboxCache, SandboxCacheBuilder, Scope};
use crate::options::{ClientOptions, LeaderElectionError, SandboxManagerOptions, ScopeError};
use crate::version::{REVISION, VERSION};

/// Prefix of the names of the program's own metrics.
const METRIC_PREFIX: &str = "sandbox_manager";

/// Name of the controller of Sandboxes, in metrics and logs.
const SANDBOX_CONTROLLER: &str = "sandbox";

/// Name of the controller of SandboxSets, in metrics and logs.
const SANDBOX_SET_CONTROLLER: &str = "sandboxset";

/// The reason why a manager could not be built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// The options do not form a valid scope.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// The metrics could not be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The watch thread or its client could not be created.
    #[error(transparent)]
    Watches(#[from] WatchThreadError<ClientError>),
    /// The client could not be created.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The leader election could not be set up.
    #[error(transparent)]
    LeaderElection(#[from] LeaderElectionError),
    /// The manager could not start, or did not stop in order.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Runs the sandbox cache, the controllers on it and the HTTP listeners. It dereferences to
/// [`controller_manager::Manager`], which adds controllers, runnables, health checks and routes.
///
/// ```no_run
/// use sandbox_manager::api::v1alpha1::Sandbox;
/// use sandbox_manager::{Action, Manager, Observed, SandboxManagerOptions, signals};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = kube::Client::try_default().await?;
/// let mut manager = Manager::builder(SandboxManagerOptions::default()).client(client).build()?;
/// manager.sandbox_controller().add_reconcile_handler(|observed: Observed<Sandbox>| async move {
///     println!("{}", observed.key());
///     Ok(Action::await_change())
/// });
/// manager.run(signals()?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Manager {
    generic: GenericManager,
    cache: SandboxCache,
    selected_labels: BTreeSet<String>,
}

impl Deref for Manager {
    type Target = GenericManager;

    fn deref(&self) -> &GenericManager {
        &self.generic
    }
}

impl DerefMut for Manager {
    fn deref_mut(&mut self) -> &mut GenericManager {
        &mut self.generic
    }
}

/// A builder that has no client yet. Created by [`Manager::builder`].
#[must_use]
pub struct ManagerBuilder {
    options: SandboxManagerOptions,
    metrics: Option<Metrics>,
}

/// A builder that has all required parts.
#[must_use]
pub struct ReadyManagerBuilder {
    builder: ManagerBuilder,
    cache: SandboxCacheBuilder,
    /// For a client and a thread of the leader election's own.
    connector: Option<Connector>,
    lifecycle: bool,
}

impl ManagerBuilder {
    /// Adds to these metrics, for example the metrics in which the client counts its requests. By default new
    /// metrics are created.
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Uses this client for watches, live reads, handlers and the leader election. The watches run on the runtime
    /// on which the manager runs.
    pub fn client(self, client: kube::Client) -> ReadyManagerBuilder {
        ReadyManagerBuilder {
            builder: self,
            cache: SandboxCache::builder(client),
            connector: None,
            lifecycle: false,
        }
    }

    /// Creates clients: one for live reads and handlers, one for the watches, and one for the leader election if it
    /// is enabled. The watches get their [own thread](SandboxCacheBuilder::watch_thread), and so does the election.
    ///
    /// # Errors
    ///
    /// [`ManagerError::Client`], [`ManagerError::Watches`].
    pub fn connector(self, connector: &Connector) -> Result<ReadyManagerBuilder, ManagerError> {
        let watches = connector.with_own_rate_limit();
        let cache = SandboxCache::builder(connector.client()?).watch_thread(|| watches.client())?;
        Ok(ReadyManagerBuilder { builder: self, cache, connector: Some(connector.clone()), lifecycle: false })
    }
}

impl ReadyManagerBuilder {
    /// Runs the watches on their own thread with their own client; see [`SandboxCacheBuilder::watch_thread`].
    ///
    /// # Errors
    ///
    /// If the operating system does not start a thread, or `make_client` fails.
    pub fn watch_thread<E: std::error::Error + 'static>(
        self,
        make_client: impl FnOnce() -> Result<kube::Client, E>,
    ) -> Result<Self, WatchThreadError<E>> {
        Ok(Self { cache: self.cache.watch_thread(make_client)?, ..self })
    }

    /// Adds to these metrics; see [`ManagerBuilder::metrics`].
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.builder = self.builder.metrics(metrics);
        self
    }

    /// Also watches the kinds that the [lifecycle controllers](crate::lifecycle::add) need.
    pub fn lifecycle(mut self, enabled: bool) -> Self {
        self.lifecycle = enabled;
        self
    }

    /// Builds the manager. Nothing is started.
    ///
    /// # Errors
    ///
    /// [`ManagerError::Scope`] and [`ManagerError::LeaderElection`] for options that were not validated, or if no
    /// namespace is known for the Lease; [`ManagerError::Metrics`] or
    /// [`ManagerError::Run`] if another manager already uses the metrics.
    pub fn build(self) -> Result<Manager, ManagerError> {
        let Self { builder: ManagerBuilder { options, metrics }, cache, connector, lifecycle } = self;
        let metrics = metrics.map_or_else(Metrics::new, Ok)?;
        metrics.add_build_info(METRIC_PREFIX, VERSION, REVISION)?;
        let scope = Scope::from_options(&options)?;
        let requirements = scope.label_selector.iter().flat_map(|selector| &selector.requirements);
        let selected_labels = requirements.map(|requirement| requirement.key.clone()).collect();
        let cache = cache
            .scope(Scope { lifecycle: scope.lifecycle || lifecycle, ..scope })
            .page_size(options.cache.page_size)
            .sync_timeout(options.cache.sync_timeout)
            .build();
        let generic = ManagerOptions {
            metrics_address: options.metrics.bind_address,
            health_address: options.health.bind_address,
            stale_after: options.health.stale_after,
            debug: options.debug.enabled,
            grace_period: options.shutdown.grace_period,
            metric_prefix: METRIC_PREFIX.to_owned(),
            ..ManagerOptions::default()
        };
        let mut generic = GenericManager::builder(cache.shared().clone(), generic).metrics(metrics);
        if options.leader_election.enabled {
            let election = options.leader_election.for_this_process(pod_namespace())?;
            let election = match &connector {
                Some(connector) => LeaderElection::connect(election, connector),
                None => LeaderElection::new(election, cache.client().clone()),
            };
            generic = generic.leader_election(election.map_err(LeaderElectionError::Setup)?);
        }
        let generic = generic.build()?;
        let mut manager = Manager { generic, cache, selected_labels };
        let concurrency = options.controllers;
        let sandboxes = concurrency.sandbox.max_concurrent_reconciles;
        manager.sandbox_controller().max_concurrent_reconciles(sandboxes.into());
        let sets = concurrency.sandbox_set.max_concurrent_reconciles;
        manager.sandbox_set_controller().max_concurrent_reconciles(sets.into());
        Ok(manager)
    }
}

impl Manager {
    /// Creates a builder.
    pub fn builder(options: SandboxManagerOptions) -> ManagerBuilder {
        ManagerBuilder { options, metrics: None }
    }

    /// Returns the controller of Sandboxes, to add handlers.
    pub fn sandbox_controller(&mut self) -> &mut Controller<Sandbox> {
        self.generic.controller(SANDBOX_CONTROLLER)
    }

    /// Returns the controller of SandboxSets, to add handlers.
    pub fn sandbox_set_controller(&mut self) -> &mut Controller<SandboxSet> {
        self.generic.controller(SANDBOX_SET_CONTROLLER)
    }

    /// Returns the cache. [`Manager::run`] starts it; handlers may keep a clone.
    #[must_use]
    pub fn cache(&self) -> &SandboxCache {
        &self.cache
    }

    /// Returns the labels that decide which sandboxes this process watches.
    pub(crate) fn selected_labels(&self) -> &BTreeSet<String> {
        &self.selected_labels
    }

    /// Adds the handlers of the binary: gauges of the states of all sandboxes and sets.
    ///
    /// # Errors
    ///
    /// If this is called twice.
    pub fn add_fleet_metrics(&mut self) -> Result<(), ManagerError> {
        let registry = self.generic.metrics().registry();
        let sandboxes = SandboxFleet::register(registry).map_err(MetricsError::Register)?;
        let sandbox_sets = SandboxSetFleet::register(registry).map_err(MetricsError::Register)?;
        self.sandbox_controller().add_reconcile_handler(sandboxes);
        self.sandbox_set_controller().add_reconcile_handler(sandbox_sets);
        Ok(())
    }

    /// Runs until `shutdown` is cancelled, then stops in order; see [`controller_manager::Manager::run`].
    ///
    /// # Errors
    ///
    /// As [`controller_manager::Manager::run`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ManagerError> {
        Ok(self.generic.run(shutdown).await?)
    }

    /// Binds the addresses of the options without starting, for callers that need the ports before the start.
    ///
    /// # Errors
    ///
    /// As [`controller_manager::Manager::bind`].
    pub async fn bind(self) -> Result<BoundManager, ManagerError> {
        Ok(BoundManager { generic: self.generic.bind().await?, cache: self.cache })
    }
}

/// A manager that has bound its addresses and does not serve them yet. Created by [`Manager::bind`].
#[must_use]
pub struct BoundManager {
    generic: GenericBoundManager,
    cache: SandboxCache,
}

impl Deref for BoundManager {
    type Target = GenericBoundManager;

    fn deref(&self) -> &GenericBoundManager {
        &self.generic
    }
}

impl BoundManager {
    /// Returns the cache.
    #[must_use]
    pub fn cache(&self) -> &SandboxCache {
        &self.cache
    }

    /// Runs as [`Manager::run`] does.
    ///
    /// # Errors
    ///
    /// As [`Manager::run`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ManagerError> {
        Ok(self.generic.run(shutdown).await?)
    }
}

impl From<&ClientOptions> for ConnectorOptions {
    fn from(options: &ClientOptions) -> Self {
        Self { user_agent: format!("sandbox-manager/{VERSION}"), qps: options.qps, burst: options.burst }
    }
}
