//! [`TestCache`]: a real cache for tests, on an API server in memory; and [`fixtures`] to fill it with.
//!
//! Nothing is mocked: the scope, the indexes, the informers and the controllers are those of production, and what
//! they see comes over real watches. A test takes milliseconds, needs no cluster, no socket and no sleep, and works
//! under paused tokio time.
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
//! test.caught_up().await;
//! assert!(test.cache().get_claimed_sandbox(by_id).is_err());
//! test.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! What can go wrong is part of the test server, too: see [`TestCache::server`] and
//! [`FaultPlan`].

pub mod fixtures;

use std::time::Duration;

use futures::future::join_all;
use memory_apiserver::{ApiServer, FaultPlan, LoadError};
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::v1alpha1::{Sandbox, SandboxSet, crds};
use crate::cache::Cache;
use crate::controller::ReconcileHandler;
use crate::manager::{Manager, ManagerError};
use crate::options::{BindAddress, SandboxManagerOptions};

/// How often a cache that is behind is told how far the server is.
const NUDGE_EVERY: Duration = Duration::from_millis(50);

/// Why a test cache could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TestCacheError {
    /// An object is refused by the server.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An object can't be written as JSON.
    #[error("an object can't be written as JSON: {0}")]
    Serialize(#[from] serde_json::Error),
    /// The options make no manager.
    #[error(transparent)]
    Manager(#[from] ManagerError),
}

/// A cache that runs on an API server of its own. Dropping it stops it. See the [module](self).
pub struct TestCache {
    server: ApiServer,
    cache: Cache,
    stop: DropGuard,
    running: JoinHandle<Result<(), ManagerError>>,
}

/// Adds a handler to the controller that it is for.
type AddHandler = Box<dyn FnOnce(&mut Manager) + Send>;

/// Collects what a [`TestCache`] is made with.
#[must_use]
pub struct TestCacheBuilder {
    server: ApiServer,
    options: SandboxManagerOptions,
    objects: Vec<Result<Value, serde_json::Error>>,
    plan: FaultPlan,
    handlers: Vec<AddHandler>,
}

impl TestCacheBuilder {
    /// The options of the manager: scope, concurrency. Its listeners stay off.
    pub fn options(mut self, options: SandboxManagerOptions) -> Self {
        self.options = options;
        self
    }

    /// An object that is there from the beginning, with its status; in namespace `default` unless it says another
    /// one, which is then created. Kinds are told by what the object is written as: `apiVersion` and `kind`.
    pub fn object(mut self, object: impl Serialize) -> Self {
        self.objects.push(serde_json::to_value(object));
        self
    }

    /// Several objects; see [`Self::object`].
    pub fn objects(self, objects: impl IntoIterator<Item = impl Serialize>) -> Self {
        objects.into_iter().fold(self, Self::object)
    }

    /// A handler of the Sandbox controller.
    pub fn sandbox_handler(mut self, handler: impl ReconcileHandler<Sandbox>) -> Self {
        self.handlers.push(Box::new(move |manager| {
            manager.sandbox_controller().add_reconcile_handler(handler);
        }));
        self
    }

    /// A handler of the SandboxSet controller.
    pub fn sandbox_set_handler(mut self, handler: impl ReconcileHandler<SandboxSet>) -> Self {
        self.handlers.push(Box::new(move |manager| {
            manager.sandbox_set_controller().add_reconcile_handler(handler);
        }));
        self
    }

    /// What goes wrong from the first request of the cache on.
    pub fn faults(mut self, plan: FaultPlan) -> Self {
        self.plan = self.plan.and(plan);
        self
    }

    /// A server that exists already, in place of a new one.
    pub fn server(mut self, server: ApiServer) -> Self {
        self.server = server;
        self
    }

    /// Installs the CRDs, loads the objects, starts the cache and the controllers, and returns once every kind is
    /// synced.
    ///
    /// # Errors
    ///
    /// [`TestCacheError`]; nothing runs then.
    pub async fn build(self) -> Result<TestCache, TestCacheError> {
        let test = self.start()?;
        test.cache.wait_for_cache_sync().await;
        Ok(test)
    }

    /// As [`Self::build`], but returns before anything is synced: for what happens until then.
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
        let mut manager = Manager::builder(options).client(server.client()).build()?;
        for add in handlers {
            add(&mut manager);
        }
        let (cache, stop) = (manager.cache().clone(), CancellationToken::new());
        let running = tokio::spawn(manager.run(stop.clone()));
        Ok(TestCache { server, cache, stop: stop.drop_guard(), running })
    }
}

impl TestCache {
    /// Begins the making of one.
    pub fn builder() -> TestCacheBuilder {
        TestCacheBuilder {
            server: ApiServer::new(),
            options: SandboxManagerOptions::default(),
            objects: Vec::new(),
            plan: FaultPlan::default(),
            handlers: Vec::new(),
        }
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// A client of the server that may do everything, and whose requests no fault strikes.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.server.client_without_faults()
    }

    /// The server, to let things go wrong.
    #[must_use]
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// Resolves once every kind of the cache has seen what had been written when this was called; while a watch is
    /// down, once it is up again. Cancel safe.
    pub async fn caught_up(&self) {
        let revision = self.server.revision();
        let reached = join_all(self.cache.kinds().into_iter().map(|kind| kind.reached(revision)));
        tokio::pin!(reached);
        self.server.send_bookmarks();
        // A watch that nothing happens in learns from a bookmark how far it is.
        while tokio::time::timeout(NUDGE_EVERY, &mut reached).await.is_err() {
            self.server.send_bookmarks();
        }
    }

    /// Stops the controllers and the cache, and returns once nothing of them runs any more.
    ///
    /// # Errors
    ///
    /// When a handler has outlived the grace period.
    pub async fn stop(self) -> Result<(), ManagerError> {
        drop(self.stop);
        match self.running.await {
            Ok(ended) => ended,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
