//! [`Cache`]: every kind that a sandbox manager reads, watched once and looked up from memory.
//!
//! ```text
//!  kube-apiserver ── list / watch ──▶ Informer<K> ──▶ Store<K> ◀── Reader<K>, Provider
//!                                         └── Subscription<K> (controllers, your own code)
//! ```
//!
//! # Guarantees
//!
//! - One watch per kind, whoever reads it. Lookups are synchronous and never do I/O.
//! - What is handed out is immutable and shared; nothing changes under its holder.
//! - A lookup that can't be answered is an error, never an empty answer: not synced, out of scope, ambiguous.
//! - No failure of the API server ends a watch. [`Cache::kinds`] says how each of them is.
//!
//! # Staleness
//!
//! A lookup shows what the last event of the watch left: milliseconds behind the API server while the watch
//! is up, as old as its outage while it is down. [`Cache::await_version`] and [`Cache::expect`] let a writer
//! read its own writes, and [`Cache::refresh_sandbox`] asks the API server itself when the cache can't know.

mod api_reader;
mod error;
mod expectations;
pub mod indexes;
mod lookups;
mod metrics;
mod outage;
mod provider;
mod reader;
mod refresh;
mod resources;
mod waits;
mod watch_thread;
mod watched;

#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wait_tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use api_reader::{ApiReader, READ_TIMEOUT, ReadError};
pub use error::LookupError;
pub use expectations::{EXPIRES_AFTER, Satisfaction};
pub use metrics::CacheCollector;
pub use provider::{
    GetCheckpointOptions, GetClaimedSandboxOptions, ListCheckpointsOptions, ListSandboxSetsOptions,
    ListSandboxesInPoolOptions, ListSandboxesOptions, PickSandboxSetOptions, Provider,
};
pub use reader::Reader;
pub use refresh::{RefreshError, VersionError};
pub use resources::WatchedKind;
pub use watched::{CachedObject, ErasedKind};

use crate::api::v1alpha1::{Checkpoint, Sandbox, SandboxSet};
use crate::client::{ClientError, Connector};
use crate::informer::Subscription;
use crate::options::Scope;
use crate::wait::WaitMetrics;
use resources::{Kinds, Making, Watched};
use watch_thread::WatchThread;

/// How long [`Cache::start`] waits unless told otherwise.
const SYNC_TIMEOUT: Duration = Duration::from_mins(2);

/// Why the cache could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// It was started before; a stopped cache can't be started again either.
    #[error("the cache was started before")]
    AlreadyStarted,
    /// Some kinds were not synced in time. Everything that had begun has been stopped.
    #[error("not synced within {} s: {}", .timeout.as_secs_f64(), .kinds.iter().map(|(k, e)| format!("{k} ({e})")).collect::<Vec<_>>().join(", "))]
    NotSynced {
        /// How long it was waited for.
        timeout: Duration,
        /// Plural of each kind that is not synced, and why not.
        kinds: Vec<(String, String)>,
    },
}

/// The shared cache. Cheap to clone; all clones are one cache, which stops when the last one is dropped.
///
/// Embed it in one of two ways: [`Cache::start`] runs the watches on the current tokio runtime until
/// [`Cache::stop`]; or a process with task management of its own drives the futures that
/// [`Cache::informers`] hands out.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sandbox_manager::cache::{Cache, GetClaimedSandboxOptions, Provider};
///
/// let client = kube::Client::try_default().await?;
/// let cache = Cache::builder(client).build();
/// cache.start().await?;
/// let options = GetClaimedSandboxOptions { sandbox_id: "default--my-sandbox", ..Default::default() };
/// println!("{:?}", cache.get_claimed_sandbox(options)?.status);
/// cache.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    client: kube::Client,
    kinds: Kinds,
    /// Where the watches run, if not where the cache is started.
    watch_thread: Option<WatchThread>,
    sync_timeout: Duration,
    stop: CancellationToken,
    tasks: TaskTracker,
    wait_metrics: WaitMetrics,
    started: Mutex<bool>,
    sandboxes: Reader<Sandbox>,
    sandbox_sets: Reader<SandboxSet>,
    checkpoints: Reader<Checkpoint>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.kinds().into_iter().map(|kind| (kind.plural(), kind.objects()));
        f.debug_map().entries(kinds).finish()
    }
}

/// Collects what a [`Cache`] is made with. See [`Cache::builder`].
#[must_use]
pub struct CacheBuilder {
    client: kube::Client,
    watch_thread: Option<(WatchThread, kube::Client)>,
    scope: Scope,
    page_size: u32,
    sync_timeout: Duration,
}

impl CacheBuilder {
    /// What to watch; by default the sandbox kinds in every namespace, and no Secrets or ConfigMaps.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Objects in a page where the API server has no streaming lists; 500 by default.
    pub fn page_size(mut self, page_size: u32) -> Self {
        self.page_size = page_size;
        self
    }

    /// How long [`Cache::start`] waits for the first lists; two minutes by default.
    pub fn sync_timeout(mut self, timeout: Duration) -> Self {
        self.sync_timeout = timeout;
        self
    }

    /// Gives the watches a thread, connections and a rate limit of their own: a first sync then costs half the CPU
    /// time, and neither busy handlers nor a flood of their requests can hold a watch up.
    ///
    /// # Errors
    ///
    /// As [`Connector::client`], and when the system refuses a thread.
    pub fn watch_thread(mut self, connector: &Connector) -> Result<Self, ClientError> {
        let thread = WatchThread::start().map_err(ClientError::Thread)?;
        let client = {
            // What the client spawns, it spawns on the runtime that it is made in.
            let _entered = thread.handle().enter();
            connector.separate().client()?
        };
        self.watch_thread = Some((thread, client));
        Ok(self)
    }

    /// The cache, not started.
    #[must_use]
    pub fn build(self) -> Cache {
        let wait_metrics = WaitMetrics::new();
        let (watch_thread, watch_client) = self.watch_thread.unzip();
        let kinds = Kinds::new(&Making {
            client: watch_client.as_ref().unwrap_or(&self.client),
            scope: &self.scope,
            page_size: self.page_size,
            wait_metrics: &wait_metrics,
        });
        Cache {
            inner: Arc::new(Inner {
                client: self.client,
                sandboxes: reader(&kinds),
                sandbox_sets: reader(&kinds),
                checkpoints: reader(&kinds),
                kinds,
                watch_thread,
                wait_metrics,
                sync_timeout: self.sync_timeout,
                stop: CancellationToken::new(),
                tasks: TaskTracker::new(),
                started: Mutex::new(false),
            }),
        }
    }
}

/// Cancels `to` when `from` is.
async fn forward(from: &CancellationToken, to: &CancellationToken) {
    from.cancelled().await;
    to.cancel();
}

fn reader<K: WatchedKind>(kinds: &Kinds) -> Reader<K> {
    Reader::new(Arc::clone(K::watched(kinds)))
}

impl Cache {
    /// Begins the making of a cache. The client is used for the watches, for live reads, and handed out.
    pub fn builder(client: kube::Client) -> CacheBuilder {
        CacheBuilder {
            client,
            watch_thread: None,
            scope: Scope::default(),
            page_size: 0,
            sync_timeout: SYNC_TIMEOUT,
        }
    }

    /// Starts the watches on the current tokio runtime; returns once every kind in scope is synced (D1).
    ///
    /// If the future is dropped, the watches go on until [`Cache::stop`].
    ///
    /// # Errors
    ///
    /// [`StartError::NotSynced`] past the sync timeout, naming each kind that is not synced and why; all that
    /// had begun is stopped by then. [`StartError::AlreadyStarted`] the second time.
    pub async fn start(&self) -> Result<(), StartError> {
        self.spawn()?;
        let timeout = self.inner.sync_timeout;
        if tokio::time::timeout(timeout, self.wait_for_cache_sync()).await.is_ok() {
            return Ok(());
        }
        let kinds = self.not_synced();
        self.stop().await;
        Err(StartError::NotSynced { timeout, kinds })
    }

    /// Starts the watches, on the current tokio runtime unless they have a
    /// [thread](CacheBuilder::watch_thread), and returns at once; they heal by themselves whatever happens, so a caller may prefer to report [`Cache::kinds`] over giving up.
    ///
    /// # Errors
    ///
    /// [`StartError::AlreadyStarted`] the second time.
    pub fn spawn(&self) -> Result<(), StartError> {
        for informer in self.informers(&self.inner.stop)? {
            match &self.inner.watch_thread {
                Some(thread) => self.inner.tasks.spawn_on(informer, thread.handle()),
                None => self.inner.tasks.spawn(informer),
            };
        }
        Ok(())
    }

    /// The watches as plain futures, one a kind, for a process that manages its own tasks (D4). Each ends
    /// soon after `stop` is cancelled, or when it is dropped.
    ///
    /// # Errors
    ///
    /// [`StartError::AlreadyStarted`] the second time.
    pub fn informers(&self, stop: &CancellationToken) -> Result<Vec<BoxFuture<'static, ()>>, StartError> {
        let mut started = self.inner.started.lock();
        if std::mem::replace(&mut *started, true) || self.inner.stop.is_cancelled() {
            return Err(StartError::AlreadyStarted);
        }
        let run = |kind: Arc<dyn ErasedKind>| {
            let (own, theirs, reader) = (self.inner.stop.child_token(), stop.clone(), self.api_reader());
            async move {
                let run = kind.run(reader, own.clone());
                futures::future::join(run, own.clone().run_until_cancelled(forward(&theirs, &own))).await;
            }
            .boxed()
        };
        Ok(self.kinds().into_iter().map(run).collect())
    }

    /// Resolves once every kind in scope is synced. Cancel safe.
    pub async fn wait_for_cache_sync(&self) {
        join_all(self.kinds().into_iter().map(ErasedKind::synced)).await;
    }

    /// Stops the watches and returns once all their tasks have ended (D3). Lookups then go on to show what
    /// was last seen. Before the start it does nothing, and afterwards a second stop waits like the first.
    pub async fn stop(&self) {
        if !*self.inner.started.lock() {
            return;
        }
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Stops the watches when it is dropped, however many clones of the cache there are.
    pub(crate) fn stop_on_drop(&self) -> DropGuard {
        self.inner.stop.clone().drop_guard()
    }

    /// Lookups of one kind.
    #[must_use]
    pub fn reader<K: WatchedKind>(&self) -> Reader<K> {
        reader(&self.inner.kinds)
    }

    /// A stream of what is there and then of every change of one kind; `None` when the kind is out of scope.
    #[must_use]
    pub fn subscribe<K: WatchedKind>(&self) -> Option<Subscription<K>> {
        let watched = self.watched::<K>();
        watched.in_scope.then(|| watched.informer.subscribe())
    }

    /// Resolves once one kind is synced; never if it is out of scope. Cancel safe.
    pub async fn wait_for_sync_of<K: WatchedKind>(&self) {
        self.watched::<K>().informer.wait_for_sync().await;
    }

    /// The kinds in scope, for reports: how each watch is, and what its store holds.
    #[must_use]
    pub fn kinds(&self) -> Vec<Arc<dyn ErasedKind>> {
        self.inner.kinds.in_scope()
    }

    fn not_synced(&self) -> Vec<(String, String)> {
        let kinds = self.kinds().into_iter().filter_map(|kind| {
            let report = kind.report();
            let problem = report.last_error.map_or("the list is not complete".into(), |error| error.message);
            (!report.synced).then(|| (kind.plural().into_owned(), problem))
        });
        kinds.collect()
    }

    fn watched<K: WatchedKind>(&self) -> &Arc<Watched<K>> {
        K::watched(&self.inner.kinds)
    }

    fn kube_client(&self) -> &kube::Client {
        &self.inner.client
    }

    fn sandboxes(&self) -> &Reader<Sandbox> {
        &self.inner.sandboxes
    }

    fn sandbox_sets(&self) -> &Reader<SandboxSet> {
        &self.inner.sandbox_sets
    }

    fn checkpoints(&self) -> &Reader<Checkpoint> {
        &self.inner.checkpoints
    }
}
