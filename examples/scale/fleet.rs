//! The measured cache and controllers, with handlers that only count.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxSet};
use sandbox_manager::cache::Cache;
use sandbox_manager::controller_manager::{ClientError, Connector, HandlerError};
use sandbox_manager::manager::ManagerError;
use sandbox_manager::options::BindAddress;
use sandbox_manager::{Action, Manager, Observed, ReconcileHandler, SandboxManagerOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::expiry::Expiry;

/// Timeout of the initial lists.
const SYNC_TIMEOUT: Duration = Duration::from_mins(30);

/// A running manager.
pub(crate) struct Fleet {
    pub(crate) cache: Cache,
    pub(crate) reconciles: Reconciles,
    /// Makes the cache list the sandboxes again.
    pub(crate) expiry: Expiry,
    /// The address of `/metrics`, if it is served.
    pub(crate) metrics: Option<SocketAddr>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), ManagerError>>,
}

/// A handler that only counts its calls.
#[derive(Clone, Default)]
pub(crate) struct Reconciles {
    count: Arc<AtomicU64>,
    /// Time at which the handler first saw each version, for the measured objects.
    seen: Arc<Mutex<HashMap<String, Instant>>>,
    notes: Arc<std::sync::atomic::AtomicBool>,
}

impl Reconciles {
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Starts to record the time at which each version is seen.
    pub(crate) fn note_versions(&self) {
        self.notes.store(true, Ordering::Relaxed);
    }

    /// Returns the time at which the handler was called with a version.
    pub(crate) fn seen(&self, version: &str) -> Option<Instant> {
        self.seen.lock().get(version).copied()
    }
}

impl ReconcileHandler<Sandbox> for Reconciles {
    async fn reconcile(&self, observed: Observed<Sandbox>) -> Result<Action, HandlerError> {
        self.count.fetch_add(1, Ordering::Relaxed);
        if self.notes.load(Ordering::Relaxed)
            && let Observed::Present(sandbox) = &observed
            && let Some(version) = &sandbox.metadata.resource_version
        {
            self.seen.lock().entry(version.clone()).or_insert_with(Instant::now);
        }
        Ok(Action::await_change())
    }
}

impl Fleet {
    /// Starts the manager as the binary does, with separate clients of which that of the watches is wrapped.
    /// Returns once every kind is synced. `serve_metrics` also adds the metrics of the binary.
    pub(crate) async fn start(connector: &Connector, serve_metrics: bool) -> anyhow::Result<Self> {
        let mut options = SandboxManagerOptions::default();
        let any_port = BindAddress::listen("127.0.0.1", 0);
        options.metrics.bind_address = if serve_metrics { any_port } else { BindAddress::Off };
        options.health.bind_address = BindAddress::Off;
        let (watches, expiry) = (connector.with_own_rate_limit(), Expiry::new());
        let builder = Manager::builder(options).client(connector.client()?);
        let builder = builder.watch_thread(|| Ok::<_, ClientError>(expiry.wrap(&watches.client()?)))?;
        let mut manager = builder.build()?;
        if serve_metrics {
            manager.add_fleet_metrics()?;
        }
        let reconciles = Reconciles::default();
        manager.sandbox_controller().add_reconcile_handler(reconciles.clone());
        manager
            .sandbox_set_controller()
            .add_reconcile_handler(|_: Observed<SandboxSet>| std::future::ready(Ok(Action::await_change())));
        let (cache, stop) = (manager.cache().clone(), CancellationToken::new());
        let manager = manager.bind().await?;
        let metrics = manager.metrics_address();
        let running = tokio::spawn(manager.run(stop.clone()));
        if tokio::time::timeout(SYNC_TIMEOUT, cache.wait_for_cache_sync()).await.is_err() {
            bail!("not synced within {} min: {cache:?}", SYNC_TIMEOUT.as_secs() / 60);
        }
        Ok(Self { cache, reconciles, expiry, metrics, stop, running })
    }

    /// Waits until every sandbox has been reconciled.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let objects = self.cache.reader::<Sandbox>().len()? as u64;
        let end = Instant::now() + SYNC_TIMEOUT;
        while self.reconciles.count() < objects {
            if Instant::now() > end {
                bail!("{} of {objects} sandboxes were reconciled", self.reconciles.count());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.running.await.context("the manager panicked")??;
        Ok(())
    }
}
