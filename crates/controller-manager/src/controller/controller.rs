//! [`Controller`]: what a controller consists of before it runs.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use shared_cache::{CacheObject, Event, ObjectKey, SharedCache};
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::dispatcher::dispatch;
use super::error::{ControllerError, KindUse};
use super::handler::{Handlers, ReconcileHandler};
use super::metrics::ControllerMetricFamilies;
use super::reconciler::Reconciler;
use super::secondary::{Mapped, Secondary, controller_owner};
use crate::fence::{Fence, fenced_client};
use crate::queue::{Predicate, QueueOptions, WorkQueue};

/// Calls registered handlers for every object of one kind, again whenever it changes.
///
/// [`Manager::controller`](crate::Manager::controller) creates controllers and runs them. Handlers and everything else
/// are added before; running a controller consumes it.
///
/// ```text
///  informer of K ────────────┐
///  informers of owned kinds ─┼─▶ work queue ──▶ dispatcher ──▶ handler 1 ──▶ handler 2 ...
///  informers of watched kinds┘   (one entry     (one attempt     (newest object from the cache,
///                                 a key)         a key)           or a deletion)
/// ```
///
/// # Guarantees
///
/// - Handlers of one key never run twice at once. Distinct keys run in parallel up to the configured number.
/// - After the start every object is reconciled once. After each change the object is reconciled at least once;
///   changes that come while the key is queued are merged, and changes during a run lead to one more run.
/// - Handlers see the cache at least as new as the change that led to the run.
/// - A deletion is shown until all handlers have succeeded with it and none asks to run again, also if the name is in
///   use again. The new object of the name is shown only after that. An object that came and went meanwhile is not
///   shown at all, and neither is its deletion.
/// - A change of an idle key starts its handlers at once. Changes go before the initial list.
pub struct Controller<K: CacheObject> {
    context: Context,
    handlers: Handlers<K>,
    predicate: Option<Predicate<K>>,
    secondaries: Vec<Box<dyn Secondary<K>>>,
    max_concurrent_reconciles: usize,
    timeout: Option<Duration>,
    queue_options: QueueOptions,
    metrics: ControllerMetricFamilies,
    /// `None` without a leader election.
    fence: Option<Fence>,
    is_leader_only: bool,
    has_given_context: bool,
    leader_only_came_late: bool,
}

impl<K: CacheObject> fmt::Debug for Controller<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller")
            .field("name", &self.name())
            .field("kind", &type_name::<K>())
            .field("handlers", &self.handlers.len())
            .finish_non_exhaustive()
    }
}

impl<K: CacheObject> Controller<K> {
    /// Creates a controller without handlers. `name` is its label in metrics and logs, and the reporter of its events.
    /// `instance` names this process in events, for instance by its pod.
    #[must_use]
    pub fn new(
        name: impl Into<Arc<str>>,
        instance: Option<String>,
        cache: &SharedCache,
        metrics: &ControllerMetricFamilies,
    ) -> Self {
        Self {
            context: Context::new(name.into(), cache.clone(), instance),
            handlers: Vec::new(),
            predicate: None,
            secondaries: Vec::new(),
            max_concurrent_reconciles: 1,
            timeout: None,
            queue_options: QueueOptions::default(),
            metrics: metrics.clone(),
            fence: None,
            is_leader_only: false,
            has_given_context: false,
            leader_only_came_late: false,
        }
    }

    /// With the fence of the manager's leader election, which [`Self::leader_only`] uses.
    pub(crate) fn with_fence(self, fence: Option<Fence>) -> Self {
        Self { fence, ..self }
    }

    /// Adds a handler. Handlers are called in the order in which they were added.
    pub fn add_reconcile_handler(&mut self, handler: impl ReconcileHandler<K>) -> &mut Self {
        self.handlers.push(Arc::new(handler));
        self
    }

    /// The same as [`Self::add_reconcile_handler`].
    pub fn handler(&mut self, handler: impl ReconcileHandler<K>) -> &mut Self {
        self.add_reconcile_handler(handler)
    }

    /// Adds the handler that `create` makes of the controller's [`Context`].
    pub fn add_reconcile_handler_with<H: ReconcileHandler<K>>(
        &mut self,
        create: impl FnOnce(Context) -> H,
    ) -> &mut Self {
        let context = self.context();
        self.add_reconcile_handler(create(context))
    }

    /// Also reconciles an object when an object of kind `C` that it controls has changed: one with a controller owner
    /// reference to it. If the owner has changed, both owners are reconciled.
    pub fn owns<C: CacheObject>(&mut self) -> &mut Self {
        self.add_secondary::<C>(KindUse::Owns, None, |object: &Arc<C>| controller_owner::<K, C>(object))
    }

    /// As [`Self::owns`], but only for the changes of `C` that `predicate` accepts.
    pub fn owns_where<C: CacheObject>(
        &mut self,
        predicate: impl Fn(&Event<C>) -> bool + Send + Sync + 'static,
    ) -> &mut Self {
        let predicate = Some(Box::new(predicate) as Predicate<C>);
        self.add_secondary::<C>(KindUse::Owns, predicate, |object: &Arc<C>| controller_owner::<K, C>(object))
    }

    /// Also reconciles the objects whose keys `map` returns when an object of kind `C` has changed. `map` is called
    /// with the old and the new state. A key without an object is ignored.
    ///
    /// `map` runs in the task that reads the watch, so it must be quick and must not block.
    pub fn watches<C: CacheObject>(
        &mut self,
        map: impl Fn(&Arc<C>) -> Vec<ObjectKey> + Send + Sync + 'static,
    ) -> &mut Self {
        self.add_secondary::<C>(KindUse::Watches, None, map)
    }

    /// As [`Self::watches`], but only for the changes of `C` that `predicate` accepts.
    pub fn watches_where<C: CacheObject>(
        &mut self,
        predicate: impl Fn(&Event<C>) -> bool + Send + Sync + 'static,
        map: impl Fn(&Arc<C>) -> Vec<ObjectKey> + Send + Sync + 'static,
    ) -> &mut Self {
        self.add_secondary::<C>(KindUse::Watches, Some(Box::new(predicate)), map)
    }

    /// Reconciles an object only for the changes of it that `predicate` accepts; see
    /// [`predicates`](shared_cache::predicates). With a predicate already set, both must accept. A deletion that is not
    /// accepted is not shown to the handlers.
    ///
    /// `predicate` runs in the task that reads the watch, so it must be quick and must not block.
    pub fn predicate(&mut self, predicate: impl Fn(&Event<K>) -> bool + Send + Sync + 'static) -> &mut Self {
        self.predicate = Some(match self.predicate.take() {
            None => Box::new(predicate),
            Some(first) => Box::new(move |event| first(event) && predicate(event)),
        });
        self
    }

    /// Sets how many keys may be reconciled at once, at least one. The default is 1.
    pub fn max_concurrent_reconciles(&mut self, max: usize) -> &mut Self {
        self.max_concurrent_reconciles = max.max(1);
        self
    }

    /// Sets how long the handlers of one reconcile may take together. Then they are dropped, and the key backs off.
    /// The default is no limit.
    pub fn timeout(&mut self, timeout: Duration) -> &mut Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the back-off of the queue.
    pub fn queue_options(&mut self, options: QueueOptions) -> &mut Self {
        self.queue_options = options;
        self
    }

    /// Calls the handlers only in the process that leads, if the manager has a
    /// [leader election](crate::ManagerBuilder::leader_election). The controller starts when the lease is won. When the
    /// lease is lost, it stops as in a shutdown, with the rest of the renew deadline instead of the grace period, and the
    /// manager ends with an error.
    ///
    /// The client of the [`Context`] refuses writes while this process does not lead, and so do the patches of its cache
    /// and its event recorder. A client from elsewhere does not: use that of the context in such handlers. So call this
    /// before [`Self::context`] and [`Self::add_reconcile_handler_with`], on a tokio runtime.
    pub fn leader_only(&mut self) -> &mut Self {
        if self.is_leader_only {
            return self;
        }
        self.is_leader_only = true;
        if let Some(fence) = &self.fence {
            self.leader_only_came_late = self.has_given_context;
            let client = fenced_client(self.context.client(), fence);
            self.context = self.context.clone().with_client(client);
        }
        self
    }

    /// True after [`Self::leader_only`].
    #[must_use]
    pub fn is_leader_only(&self) -> bool {
        self.is_leader_only
    }

    /// What handlers may need besides the object.
    #[must_use]
    pub fn context(&mut self) -> Context {
        self.has_given_context = true;
        self.context.clone()
    }

    /// The name in metrics and logs.
    #[must_use]
    pub fn name(&self) -> &str {
        self.context.controller()
    }

    /// True if there is a handler to call. A controller without handlers need not run.
    #[must_use]
    pub fn has_handlers(&self) -> bool {
        !self.handlers.is_empty()
    }

    /// Checks that the cache has every kind that the controller needs.
    ///
    /// # Errors
    ///
    /// [`ControllerError::UnknownKind`], [`ControllerError::LeaderOnlyTooLate`].
    pub fn check(&self) -> Result<(), ControllerError> {
        if self.leader_only_came_late {
            return Err(ControllerError::LeaderOnlyTooLate { controller: self.name().into() });
        }
        let cache = self.context.cache();
        let unknown =
            |kind, usage| Err(ControllerError::UnknownKind { controller: self.name().into(), kind, usage });
        if !cache.has_kind::<K>() {
            return unknown(K::kind(&()), KindUse::Reconciles);
        }
        match self.secondaries.iter().find(|secondary| !secondary.is_cached(cache)) {
            Some(secondary) => unknown(secondary.kind(), secondary.usage()),
            None => Ok(()),
        }
    }

    /// Waits until the cache is synced, then reconciles until `stop` is cancelled. No reconcile starts after that, and
    /// the future resolves once those that run have ended. Dropping it drops them.
    ///
    /// Kinds that are optional are not waited for, except the controller's own.
    ///
    /// # Errors
    ///
    /// As [`Self::check`], before anything is started.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ControllerError> {
        self.run_until(stop, CancellationToken::new()).await
    }

    /// As [`Self::run`]. When `abort` is cancelled after `stop`, drops the reconciles that still run.
    pub(crate) async fn run_until(
        self,
        stop: CancellationToken,
        abort: CancellationToken,
    ) -> Result<(), ControllerError> {
        self.check()?;
        let Self { context, handlers, predicate, secondaries, queue_options, timeout, .. } = self;
        let cache = context.cache();
        let synced = async {
            cache.wait_for_cache_sync().await;
            cache.wait_for_sync_of::<K>().await;
        };
        if stop.run_until_cancelled(synced).await.is_none() {
            return Ok(());
        }
        let name: Arc<str> = context.controller().into();
        let families = &self.metrics.queues;
        let queue = Arc::new(WorkQueue::new(&queue_options, predicate, families.of(&name)));
        families.watch(&name, Arc::downgrade(&queue) as _);
        if let Some(snapshot) = cache.observe(&queue) {
            queue.start_from(snapshot);
        }
        let attach = |secondary: Box<dyn Secondary<K>>| secondary.attach(cache, Arc::clone(&queue));
        let _attached: Vec<Box<dyn Any + Send + Sync>> = secondaries.into_iter().map(attach).collect();

        let limit = self.max_concurrent_reconciles;
        let metrics = self.metrics.of(&name, limit);
        let reader = cache.reader();
        let live = cache.has_selector::<K>().then(|| cache.api_reader());
        let name_in_logs = Arc::clone(&name);
        let reconciler =
            Arc::new(Reconciler { name: name_in_logs, reader, live, handlers, timeout, queue, metrics });
        tracing::info!(controller = &*name, kind = %K::kind(&()), "controller started");
        // Also when the future is dropped.
        let _told_at_the_end = context.shutdown().clone().drop_guard();
        let tell = async {
            stop.cancelled().await;
            context.shutdown().cancel();
        };
        let ((), ()) = tokio::join!(dispatch(reconciler, limit, stop.clone(), abort), tell);
        tracing::info!(controller = &*name, "controller stopped");
        Ok(())
    }

    fn add_secondary<C: CacheObject>(
        &mut self,
        usage: KindUse,
        predicate: Option<Predicate<C>>,
        map: impl Fn(&Arc<C>) -> Vec<ObjectKey> + Send + Sync + 'static,
    ) -> &mut Self {
        self.secondaries.push(Box::new(Mapped::new(map, predicate, usage)));
        self
    }
}
