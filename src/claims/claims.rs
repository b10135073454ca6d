//! [`Claims`]: the engine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use shared_cache::SharedCache;
use tokio_util::task::TaskTracker;

use super::claimed::{Claimed, Connected};
use super::deadline::TimeoutChange;
use super::engine::{Engine, Shared, Watched};
use super::error::ClaimError;
use super::lost::{Fate, LostLock};
use super::metrics::ClaimMetrics;
use super::per_second::PerSecond;
use super::request::ClaimRequest;
use super::sweep::Sweeper;
use super::target::Target;
use super::{catch_up, claiming, pause, release, resume, timeout};
use crate::api::v1alpha1::{Sandbox, SandboxSet};
use crate::cache::SandboxCache;

/// Creations per second, if the builder does not say; as OpenKruise Agents limits them.
const CREATES_PER_SECOND: u32 = 49;

/// Collects the settings of [`Claims`]. Created by [`Claims::builder`].
#[must_use]
pub struct ClaimsBuilder {
    cache: SandboxCache,
    create_on_no_stock: bool,
    creates_per_second: u32,
    registry: Option<Registry>,
}

impl ClaimsBuilder {
    /// Sets whether a sandbox is created if a pool has none; true by default. A request may say otherwise.
    pub fn create_on_no_stock(mut self, create: bool) -> Self {
        self.create_on_no_stock = create;
        self
    }

    /// Limits how many sandboxes are created per second; 49 by default. 0 is no limit.
    pub fn max_creates_per_second(mut self, creates: u32) -> Self {
        self.creates_per_second = creates;
        self
    }

    /// Registers the metrics of the engine here. Without a registry they are counted and not shown.
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Builds the engine. Nothing is written, and nothing runs until the first claim. The ready queues follow the cache
    /// from now on. It may be built before the cache is started.
    ///
    /// # Errors
    ///
    /// If the registry already has a family of one of the names.
    pub fn build(self) -> Result<Claims, prometheus::Error> {
        let shared = Shared {
            watched: Watched::attach(&self.cache),
            creations: PerSecond::new(self.creates_per_second),
            resumes: Arc::default(),
            metrics: ClaimMetrics::new()?,
            create_on_no_stock: self.create_on_no_stock,
            tasks: TaskTracker::new(),
            looks: PerSecond::new(catch_up::LOOKS_PER_SECOND),
        };
        let engine = Engine::new(self.cache, Arc::new(shared));
        if let Some(registry) = &self.registry {
            engine.shared.metrics.register(registry, engine.ready(), &engine.sets)?;
        }
        Ok(Claims { engine: Arc::new(engine) })
    }
}

/// The claim engine. Cheap to clone; all clones are one engine. Needs a tokio runtime.
///
/// Each method is documented with what happens if its future is dropped.
#[derive(Clone)]
pub struct Claims {
    pub(super) engine: Arc<Engine>,
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").field("running", &self.engine.shared.tasks.len()).finish_non_exhaustive()
    }
}

impl Claims {
    /// Creates a builder of an engine on a cache.
    pub fn builder(cache: &SandboxCache) -> ClaimsBuilder {
        ClaimsBuilder {
            cache: cache.clone(),
            create_on_no_stock: true,
            creates_per_second: CREATES_PER_SECOND,
            registry: None,
        }
    }

    /// Returns the same engine, which writes and reads through another clone of the cache: one that checks that this
    /// process leads, for example. Both share the ready queues.
    #[must_use]
    pub fn writes_by(&self, cache: SharedCache) -> Self {
        Self { engine: Arc::new(self.engine_of(cache)) }
    }

    /// Claims one sandbox for an owner.
    ///
    /// Dropping the future undoes the claim: it ends in its own task, and the sandbox is deleted. A claim with a key
    /// ([`ClaimRequest::idempotency_key`]) is completed instead, and [`Self::of_key`] finds its sandbox.
    /// With [`ClaimRequest::return_when_locked`] nothing is undone: the lock may have been written, or be written later.
    ///
    /// # Errors
    ///
    /// [`ClaimError::PoolNotFound`]; [`ClaimError::NoStock`], at once; [`ClaimError::Timeout`] and
    /// [`ClaimError::Failed`], with what was claimed deleted or reserved by a task of its own; [`ClaimError::Repeated`] if
    /// an earlier claim with the same key has a sandbox; [`ClaimError::Refused`]; [`ClaimError::OutOfScope`];
    /// [`ClaimError::Invalid`]; [`ClaimError::Unavailable`].
    pub async fn claim(&self, request: ClaimRequest) -> Result<Claimed, ClaimError> {
        claiming::claim(&self.engine, request).await
    }

    /// Reads from the API server what has become of a lock whose answer was lost.
    ///
    /// # Errors
    ///
    /// [`ClaimError::Unavailable`] if the API server does not answer.
    pub async fn fate(&self, lost: &LostLock) -> Result<Fate, ClaimError> {
        self.engine.fate(lost).await.map_err(ClaimError::unavailable)
    }

    /// Returns a claimed sandbox, with the writes that this process knows of and the cache does not show yet. No
    /// I/O.
    ///
    /// # Errors
    ///
    /// [`ClaimError::NotFound`] if the owner has no such sandbox, or its time is over, or it has failed, or is being
    /// deleted; [`ClaimError::Unavailable`] if the cache is not synced.
    pub fn get(&self, target: &Target) -> Result<Arc<Sandbox>, ClaimError> {
        self.engine.visible(target)
    }

    /// Looks at the API server for a sandbox that [`Self::get`] does not find, and lets all lookups of this process see it:
    /// another replica may have claimed it a moment ago. Call this before a lookup whose id comes from outside. Sends
    /// nothing if the sandbox is found, or if the id is not of the form `<namespace>--<name>`. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`ClaimError::Unavailable`] if there is no answer within two seconds, in which fifty of these looks a second are
    /// made: nobody knows then whether the sandbox exists.
    pub async fn catch_up(&self, target: &Target) -> Result<(), ClaimError> {
        self.engine.catch_up(target).await
    }

    /// Returns the sandboxes of an owner that [`Self::get`] would find. No order. No I/O.
    ///
    /// # Errors
    ///
    /// [`ClaimError::Unavailable`] if the cache is not synced.
    pub fn list(&self, owner: &str, namespace: Option<&str>) -> Result<Vec<Arc<Sandbox>>, ClaimError> {
        self.engine.list(owner, namespace)
    }

    /// Pauses a sandbox, and returns when it is paused, at most after `timeout`. Its end does not come nearer while it is
    /// paused. A pause that another caller has begun is waited for.
    ///
    /// Dropping the future ends the wait only: the pause stays wanted once it is written.
    ///
    /// # Errors
    ///
    /// [`ClaimError::NotFound`]; [`ClaimError::Conflict`] with `AlreadyPaused`, `Resuming`, `NotReady` or `Contended`;
    /// [`ClaimError::Timeout`]; [`ClaimError::Refused`]; [`ClaimError::Unavailable`].
    pub async fn pause(&self, target: &Target, timeout: Duration) -> Result<Arc<Sandbox>, ClaimError> {
        pause::pause(&self.engine, target, timeout).await
    }

    /// Makes a sandbox run for at least `lifetime` from now, and returns when it runs, at most after `timeout`.
    ///
    /// A running sandbox is only extended, never shortened. A paused one is resumed: one write removes the pause and sets
    /// the end, and a second one extends the end by the time that waking has taken. A sandbox that is being paused is
    /// waited for, and then resumed. Concurrent calls share one write, and the latest end wins.
    ///
    /// Dropping the future ends the wait only: a resume goes on in its own task.
    ///
    /// # Errors
    ///
    /// [`ClaimError::NotFound`]; [`ClaimError::Conflict`] with `NotReady` or `Contended`; [`ClaimError::Timeout`];
    /// [`ClaimError::Failed`]; [`ClaimError::Refused`]; [`ClaimError::Unavailable`].
    pub async fn connect(
        &self,
        target: &Target,
        lifetime: Duration,
        timeout: Duration,
    ) -> Result<Connected, ClaimError> {
        resume::connect(&self.engine, target, lifetime, timeout).await
    }

    /// Resumes a paused sandbox as [`Self::connect`] does.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`], and [`ClaimError::Conflict`] with `NotPaused` for a running sandbox.
    pub async fn resume(
        &self,
        target: &Target,
        lifetime: Duration,
        timeout: Duration,
    ) -> Result<Arc<Sandbox>, ClaimError> {
        resume::resume(&self.engine, target, lifetime, timeout).await
    }

    /// Changes when a sandbox ends. Writes nothing if it ends then already.
    ///
    /// If the future is dropped, the change may or may not have been written.
    ///
    /// # Errors
    ///
    /// [`ClaimError::NotFound`]; [`ClaimError::Conflict`] with `Paused` if the sandbox is paused, being paused or being
    /// resumed, or `Contended`; [`ClaimError::Refused`]; [`ClaimError::Unavailable`].
    pub async fn set_timeout(
        &self,
        target: &Target,
        change: TimeoutChange,
    ) -> Result<Arc<Sandbox>, ClaimError> {
        timeout::set_timeout(&self.engine, target, change).await
    }

    /// Deletes a sandbox, in whatever state it is, also one that has failed. A new sandbox of the same name is safe.
    ///
    /// If the future is dropped, the sandbox may or may not have been deleted.
    ///
    /// # Errors
    ///
    /// [`ClaimError::NotFound`], also if somebody else was faster; [`ClaimError::Refused`]; [`ClaimError::Unavailable`].
    pub async fn release(&self, target: &Target) -> Result<(), ClaimError> {
        release::release(&self.engine, target).await
    }

    /// Returns the sandbox of the first claim of an owner with this key, also one that is not complete. At most as old as
    /// the watch of sandboxes. Waits for the watch if a claim of this process has locked a sandbox that it does not show
    /// yet: another replica may have been faster. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`ClaimError::Unavailable`] if the watch does not show that lock within five seconds.
    pub async fn of_key(&self, owner: &str, key: &str) -> Result<Option<Arc<Sandbox>>, ClaimError> {
        self.engine.of_key(owner, key).await
    }

    /// Returns the number of sandboxes of a pool that can be claimed now, as far as this process knows.
    #[must_use]
    pub fn ready_in_pool(&self, namespace: &str, pool: &str) -> usize {
        let set = self.engine.sets.get(namespace, pool).ok().flatten();
        set.map_or(0, |set| self.engine.ready().len(set.metadata.uid.as_deref().unwrap_or_default()))
    }

    /// Returns whether the pods of a set have the port of a runtime. None if the template of the set is not known.
    pub(crate) fn has_runtime(&self, set: &SandboxSet) -> Option<bool> {
        let (template, reference) = (set.spec.template.as_ref(), set.spec.template_ref.as_ref());
        self.engine.has_runtime(set.namespace_or_empty(), template, reference)
    }

    /// Returns the sweep of claims that nobody answers for: add it with
    /// [`Manager::add_leader_only_runnable`](controller_manager::Manager::add_leader_only_runnable), and give it
    /// [`Manager::leader_only_cache`](controller_manager::Manager::leader_only_cache) to write by.
    pub fn sweeper(&self, cache: SharedCache) -> Sweeper {
        Sweeper::new(Arc::new(self.engine_of(cache)))
    }

    /// Waits until all claims, and the removals of failed ones, have ended. Call this at the end of the process, once no
    /// claim is begun any more, and limit it by the grace period. Cancel safe.
    pub async fn settled(&self) {
        self.engine.shared.tasks.close();
        self.engine.shared.tasks.wait().await;
    }

    fn engine_of(&self, cache: SharedCache) -> Engine {
        Engine::new(SandboxCache::new(cache), Arc::clone(&self.engine.shared))
    }
}
