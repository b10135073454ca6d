//! [`SharedCache`]: starts and stops the watches, and gives access to the kinds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use label_selector::LabelSelector;
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::api_reader::ApiReader;
use super::cached_kind::CachedKind;
use super::kinds::Kinds;
use super::reader::Reader;
use super::watched::Watched;
use crate::informer::Snapshot;
use crate::kind::CacheObject;
use crate::object::Observer;
use crate::runtime_thread::RuntimeThread;
use crate::subscription::Subscription;
use crate::wait::WaitMetrics;

/// The reason why a cache could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The cache was started before. A stopped cache cannot be started again either.
    #[error("the cache was started before")]
    AlreadyStarted,
    /// Some kinds were not synced in time. All watches have been stopped.
    #[error("not synced within {} s: {}", .timeout.as_secs_f64(), .kinds.iter().map(|(k, e)| format!("{k} ({e})")).collect::<Vec<_>>().join(", "))]
    NotSynced {
        /// How long the start waited.
        timeout: Duration,
        /// Plural of each kind that is not synced, and the reason.
        kinds: Vec<(String, String)>,
    },
}

/// The shared cache. Cheap to clone; all clones are one cache, which stops when the last clone is dropped.
///
/// Use it in one of two ways. [`SharedCache::start`] runs the watches on the current tokio runtime until
/// [`SharedCache::stop`]. Or a process with its own task management runs the futures of
/// [`SharedCache::informers`].
///
/// # Guarantees
///
/// - There is one watch per kind (and namespace, if several are given) for any number of readers. Lookups are
///   synchronous and never do I/O.
/// - Returned objects are immutable and shared.
/// - A lookup that has no result returns an error, never an empty list: not synced, out of scope, unknown
///   index.
/// - No failure of the API server ends a watch. [`SharedCache::kinds`] reports the state of each.
///
/// # Staleness
///
/// A lookup shows the state after the last event of the watch. That is milliseconds behind the API server
/// while the watch is up, and as old as the outage while the watch is down. [`SharedCache::await_version`]
/// and [`SharedCache::expect`] let a writer read its own writes. [`SharedCache::refresh`] reads from the API
/// server if the cache is too old.
#[derive(Clone)]
pub struct SharedCache {
    inner: Arc<Inner>,
    /// The client of this clone, if it has its own.
    client: Option<Arc<kube::Client>>,
}

/// The parts of a built cache.
pub(super) struct Parts {
    pub(super) client: kube::Client,
    pub(super) kinds: Kinds,
    /// The thread on which the watches run. `None` if they run on the runtime on which the cache is started.
    ///
    /// An API server sends a list event by event. If the connection's task, the reading task and the rest of the
    /// process share the workers of one runtime, each event wakes several threads. Measured, that costs more than
    /// all decoding. On one thread no data moves between threads until a batch is in the store, and no handler
    /// can delay the reading of a watch.
    pub(super) watch_thread: Option<RuntimeThread>,
    pub(super) wait_metrics: WaitMetrics,
    pub(super) sync_timeout: Duration,
}

struct Inner {
    parts: Parts,
    stop: CancellationToken,
    tasks: TaskTracker,
    started: Mutex<bool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for SharedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.kinds().iter().map(|kind| (kind.plural(), kind.objects()));
        f.debug_map().entries(kinds).finish()
    }
}

/// A reference to a cache that does not keep it running.
#[derive(Clone)]
pub(super) struct WeakCache(Weak<Inner>);

impl WeakCache {
    pub(super) fn upgrade(&self) -> Option<SharedCache> {
        self.0.upgrade().map(|inner| SharedCache { inner, client: None })
    }
}

/// Cancels `to` when `from` is cancelled.
async fn forward(from: &CancellationToken, to: &CancellationToken) {
    from.cancelled().await;
    to.cancel();
}

impl SharedCache {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            inner: Arc::new(Inner {
                parts,
                stop: CancellationToken::new(),
                tasks: TaskTracker::new(),
                started: Mutex::new(false),
            }),
            client: None,
        }
    }

    /// Returns a clone whose writes and live reads use another client, for example one that limits or checks requests.
    /// The watches, and the clones that exist, keep their client.
    #[must_use]
    pub fn with_client(&self, client: kube::Client) -> Self {
        Self { inner: Arc::clone(&self.inner), client: Some(Arc::new(client)) }
    }

    /// Starts the watches and returns once every kind that is not optional is synced.
    ///
    /// If the future is dropped, the watches continue until [`SharedCache::stop`].
    ///
    /// # Errors
    ///
    /// [`StartError::NotSynced`] after the sync timeout, with each kind that is not synced and the reason;
    /// all watches have been stopped then. [`StartError::AlreadyStarted`] for a second start.
    pub async fn start(&self) -> Result<(), StartError> {
        self.spawn()?;
        let timeout = self.inner.parts.sync_timeout;
        if tokio::time::timeout(timeout, self.wait_for_cache_sync()).await.is_ok() {
            return Ok(());
        }
        let kinds = self.not_synced();
        self.stop().await;
        Err(StartError::NotSynced { timeout, kinds })
    }

    /// Starts the watches and returns at once. They run on the current tokio runtime unless they have their
    /// [own thread](crate::SharedCacheBuilder::watch_thread). They recover from every failure.
    ///
    /// # Errors
    ///
    /// [`StartError::AlreadyStarted`] for a second start.
    pub fn spawn(&self) -> Result<(), StartError> {
        for informer in self.informers(&self.inner.stop)? {
            match &self.inner.parts.watch_thread {
                Some(thread) => self.inner.tasks.spawn_on(informer, thread.handle()),
                None => self.inner.tasks.spawn(informer),
            };
        }
        Ok(())
    }

    /// Returns the watches as futures, one per kind, for a process that manages its own tasks. Each future
    /// ends soon after `stop` is cancelled, or when it is dropped.
    ///
    /// # Errors
    ///
    /// [`StartError::AlreadyStarted`] for a second start.
    pub fn informers(&self, stop: &CancellationToken) -> Result<Vec<BoxFuture<'static, ()>>, StartError> {
        let mut started = self.inner.started.lock();
        if std::mem::replace(&mut *started, true) || self.inner.stop.is_cancelled() {
            return Err(StartError::AlreadyStarted);
        }
        let run = |kind: &Arc<dyn CachedKind>| {
            let (own, theirs) = (self.inner.stop.child_token(), stop.clone());
            let reader = ApiReader::new(self.inner.parts.client.clone());
            let kind = Arc::clone(kind);
            async move {
                let run = kind.run(reader, own.clone());
                futures::future::join(run, own.clone().run_until_cancelled(forward(&theirs, &own))).await;
            }
            .boxed()
        };
        Ok(self.kinds().iter().map(run).collect())
    }

    /// Resolves once every kind that is not optional is synced. Cancel safe.
    pub async fn wait_for_cache_sync(&self) {
        let required = self.kinds().iter().filter(|kind| !kind.is_optional());
        join_all(required.map(|kind| CachedKind::synced(Arc::clone(kind)))).await;
    }

    /// Resolves once one kind is synced; never resolves if the cache does not have the kind. Cancel safe.
    pub async fn wait_for_sync_of<K: CacheObject>(&self) {
        match self.watched::<K>() {
            Some(watched) => watched.informer.wait_for_sync().await,
            None => std::future::pending().await,
        }
    }

    /// Stops the watches and returns once all their tasks have ended. Lookups then show the last state that
    /// was seen. Before the start this does nothing; a second stop waits like the first.
    pub async fn stop(&self) {
        if !*self.inner.started.lock() {
            return;
        }
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Returns the number of running watches: tasks of [`SharedCache::spawn`] that have not ended.
    #[must_use]
    pub fn running_watches(&self) -> usize {
        self.inner.tasks.len()
    }

    /// Returns a guard that stops the watches when it is dropped, even if clones of the cache exist.
    #[must_use]
    pub fn stop_on_drop(&self) -> DropGuard {
        self.inner.stop.clone().drop_guard()
    }

    /// Returns the reader of one kind. If the cache does not have the kind, every lookup returns
    /// [`LookupError::OutOfScope`](crate::LookupError::OutOfScope); use [`SharedCache::has_kind`] to check
    /// beforehand.
    #[must_use]
    pub fn reader<K: CacheObject>(&self) -> Reader<K> {
        Reader::new(self.watched::<K>())
    }

    /// Returns true if the cache watches the kind.
    #[must_use]
    pub fn has_kind<K: CacheObject>(&self) -> bool {
        self.watched::<K>().is_some()
    }

    /// Returns true if a label or field selector limits the watch of the kind. An object that leaves the cache may
    /// then still exist.
    #[must_use]
    pub fn has_selector<K: CacheObject>(&self) -> bool {
        self.watched::<K>().is_some_and(|watched| watched.informer.options().has_selector())
    }

    /// Returns true if the label selector of the kind selects an object with these labels, or if there is no such
    /// selector. Ask before a write that would let an object leave the cache. A field selector is not considered.
    #[must_use]
    pub fn selects_labels<K: CacheObject>(&self, labels: &BTreeMap<String, String>) -> bool {
        let watched = self.watched::<K>();
        let selector =
            watched.as_ref().and_then(|watched| watched.informer.options().label_selector.as_ref());
        // The text was made of a selector.
        let selector = selector.and_then(|text| text.parse::<LabelSelector>().ok());
        selector.is_none_or(|selector| selector.matches(labels))
    }

    /// Returns a stream of the objects of a kind and then of every change; `None` if the cache does not have
    /// the kind.
    #[must_use]
    pub fn subscribe<K: CacheObject>(&self) -> Option<Subscription<K>> {
        let watched = self.watched::<K>()?;
        Some(Subscription::new(|observer| watched.informer.attach(observer)))
    }

    /// Attaches an observer until it is dropped, and returns the existing objects. Returns `None` if the cache
    /// does not have the kind. For most uses [`SharedCache::subscribe`] is simpler.
    pub fn observe<K: CacheObject>(&self, observer: &Arc<impl Observer<K> + 'static>) -> Option<Snapshot<K>> {
        let observer: Arc<dyn Observer<K>> = Arc::clone(observer) as _;
        Some(self.watched::<K>()?.informer.attach(Arc::downgrade(&observer)))
    }

    /// Returns the kinds, for reports: the state of each watch and the contents of its store.
    #[must_use]
    pub fn kinds(&self) -> &[Arc<dyn CachedKind>] {
        self.inner.parts.kinds.all()
    }

    /// Returns the client, for writes and live reads.
    #[must_use]
    pub fn client(&self) -> &kube::Client {
        self.client.as_deref().unwrap_or(&self.inner.parts.client)
    }

    /// Returns a reader that bypasses the cache and reads from the API server.
    #[must_use]
    pub fn api_reader(&self) -> ApiReader {
        ApiReader::new(self.client().clone())
    }

    fn not_synced(&self) -> Vec<(String, String)> {
        let required = self.kinds().iter().filter(|kind| !kind.is_optional());
        let kinds = required.filter_map(|kind| {
            let report = kind.report();
            let problem = report.last_error.map_or("the list is not complete".into(), |error| error.message);
            (!report.synced).then(|| (kind.plural().into_owned(), problem))
        });
        kinds.collect()
    }

    pub(super) fn watched<K: CacheObject>(&self) -> Option<Arc<Watched<K>>> {
        self.inner.parts.kinds.get()
    }

    pub(super) fn wait_metrics(&self) -> &WaitMetrics {
        &self.inner.parts.wait_metrics
    }

    pub(super) fn downgrade(&self) -> WeakCache {
        WeakCache(Arc::downgrade(&self.inner))
    }
}
