//! [`TestCache`]: a real cache for tests on an API server in memory, with [`fixtures`] as objects.
//!
//! Nothing is mocked: the scope, the indexes, the informers and the controllers are those of production, and
//! they receive their events over real watches. A test takes milliseconds and needs no cluster, socket or
//! sleep. It works under paused tokio time.
//!
//! ```
//! use sandbox_manager::Provider as _;
//! use sandbox_manager::api::v1alpha1::Sandbox;
//! use sandbox_manager::cache::GetClaimedSandboxOptions;
//! use sandbox_manager::testing::TestCache;
//! use sandbox_manager::testing::fixtures::{SandboxFixture as _, TestObject as _};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let test = TestCache::builder().object(Sandbox::test("a").claimed_by("alice").ready()).build().await?;
//!
//! let by_id = GetClaimedSandboxOptions { sandbox_id: "default--a", ..Default::default() };
//! assert_eq!(test.cache().get_claimed_sandbox(by_id)?.owner(), Some("alice"));
//!
//! let sandboxes = kube::Api::<Sandbox>::default_namespaced(test.client());
//! sandboxes.delete("a", &Default::default()).await?;
//! test.wait_until_synced().await;
//! assert!(test.cache().get_claimed_sandbox(by_id).is_err());
//! test.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The test server can also inject faults: see [`TestCache::server`] and [`FaultPlan`].

pub mod fixtures;

use std::sync::Arc;
use std::time::Duration;

use controller_manager::{BindAddress, MetricsError, ReconcileHandler};
use futures::future::join_all;
use memory_apiserver::{ApiServer, FaultPlan, LoadError};
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::v1alpha1::{Sandbox, SandboxSet, crds};
use crate::cache::Cache;
use crate::claims;
use crate::lifecycle::{self, LifecycleError};
use crate::manager::{Manager, ManagerError};
use crate::options::SandboxManagerOptions;

/// Time between two bookmarks for a cache that is behind the server.
const BOOKMARK_INTERVAL: Duration = Duration::from_millis(50);

/// The reason why a test cache could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TestCacheError {
    /// The server rejected an object.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An object cannot be serialized as JSON.
    #[error("an object cannot be written as JSON: {0}")]
    Serialize(#[from] serde_json::Error),
    /// No manager can be built from the options.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// The lifecycle controllers cannot be added.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// The metrics of the claim engine cannot be registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// A cache that runs on its own API server. Dropping it stops the cache. See the [module](self).
pub struct TestCache {
    server: ApiServer,
    cache: Cache,
    stop: DropGuard,
    running: JoinHandle<Result<(), ManagerError>>,
}

/// Adds a handler to its controller.
type AddHandler = Box<dyn FnOnce(&mut Manager) + Send>;

/// Collects the settings of a [`TestCache`].
#[must_use]
pub struct TestCacheBuilder {
    server: ApiServer,
    options: SandboxManagerOptions,
    objects: Vec<Result<Value, serde_json::Error>>,
    plan: FaultPlan,
    handlers: Vec<AddHandler>,
}

impl TestCacheBuilder {
    /// Sets the options of the manager: scope, concurrency, the lifecycle controllers. Its listeners stay off.
    pub fn options(mut self, options: SandboxManagerOptions) -> Self {
        self.options = options;
        self
    }

    /// Adds an object that exists from the start, with its status. Its namespace is `default` unless the
    /// object has another namespace, which is then created. The serialized object must contain `apiVersion`
    /// and `kind`.
    pub fn object(mut self, object: impl Serialize) -> Self {
        self.objects.push(serde_json::to_value(object));
        self
    }

    /// Adds several objects; see [`Self::object`].
    pub fn objects(self, objects: impl IntoIterator<Item = impl Serialize>) -> Self {
        objects.into_iter().fold(self, Self::object)
    }

    /// Adds a handler to the Sandbox controller.
    pub fn sandbox_handler(mut self, handler: impl ReconcileHandler<Sandbox>) -> Self {
        self.handlers.push(Box::new(move |manager| {
            manager.sandbox_controller().add_reconcile_handler(handler);
        }));
        self
    }

    /// Adds a handler to the SandboxSet controller.
    pub fn sandbox_set_handler(mut self, handler: impl ReconcileHandler<SandboxSet>) -> Self {
        self.handlers.push(Box::new(move |manager| {
            manager.sandbox_set_controller().add_reconcile_handler(handler);
        }));
        self
    }

    /// Sets the faults that are injected from the first request of the cache on.
    pub fn faults(mut self, plan: FaultPlan) -> Self {
        self.plan = self.plan.and(plan);
        self
    }

    /// Uses an existing server instead of a new one.
    pub fn server(mut self, server: ApiServer) -> Self {
        self.server = server;
        self
    }

    /// Starts the cache and the controllers. Installs the CRDs and loads the objects first. Returns once every
    /// kind is synced.
    ///
    /// # Errors
    ///
    /// [`TestCacheError`]. Nothing runs then.
    pub async fn build(self) -> Result<TestCache, TestCacheError> {
        let test = self.start()?;
        test.cache.wait_for_cache_sync().await;
        Ok(test)
    }

    /// Builds as [`Self::build`] does, but returns before the sync, to test the time before the sync.
    ///
    /// # Errors
    ///
    /// As [`Self::build`].
    pub fn start(self) -> Result<TestCache, TestCacheError> {
        let Self { server, mut options, objects, plan, handlers } = self;
        for definition in crds() {
            server.ensure(&serde_json::to_value(definition)?)?;
        }
        for object in objects {
            server.load(&object?)?;
        }
        server.inject(&plan);
        options.metrics.bind_address = BindAddress::Off;
        options.health.bind_address = BindAddress::Off;
        let (controllers, lifecycle) = (options.controllers.clone(), options.lifecycle.clone());
        let mut manager = Manager::builder(options).client(server.client()).build()?;
        if lifecycle.enabled {
            let claims = claims::add(&mut manager)?;
            lifecycle::add(&mut manager, &controllers, &lifecycle, &claims)?;
        }
        for add in handlers {
            add(&mut manager);
        }
        let (cache, stop) = (manager.cache().clone(), CancellationToken::new());
        let running = tokio::spawn(manager.run(stop.clone()));
        Ok(TestCache { server, cache, stop: stop.drop_guard(), running })
    }
}

impl TestCache {
    /// Creates a builder.
    pub fn builder() -> TestCacheBuilder {
        TestCacheBuilder {
            server: ApiServer::new(),
            options: SandboxManagerOptions::default(),
            objects: Vec::new(),
            plan: FaultPlan::default(),
            handlers: Vec::new(),
        }
    }

    /// Returns the cache.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Returns a client of the server with all permissions. Its requests are never affected by faults.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.server.client_without_faults()
    }

    /// Returns the server, to inject faults.
    #[must_use]
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// Resolves once every kind of the cache has received the writes made before this call. If a watch is
    /// down, resolves once it is up again. Cancel safe.
    pub async fn wait_until_synced(&self) {
        let revision = self.server.revision();
        let reached = join_all(self.cache.kinds().iter().map(|kind| Arc::clone(kind).reached(revision)));
        tokio::pin!(reached);
        self.server.send_bookmarks();
        // A watch without events learns the version of the server from a bookmark.
        while tokio::time::timeout(BOOKMARK_INTERVAL, &mut reached).await.is_err() {
            self.server.send_bookmarks();
        }
    }

    /// Stops the controllers and the cache, and returns once all their tasks have ended.
    ///
    /// # Errors
    ///
    /// If a handler runs longer than the grace period.
    pub async fn stop(self) -> Result<(), ManagerError> {
        drop(self.stop);
        match self.running.await {
            Ok(ended) => ended,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
