//! [`Controller`]: calls registered handlers for every object of one kind, again whenever it changes.
//!
//! ```text
//!  Subscription<K> ──▶ WorkQueue<K> ──▶ kube::runtime::Controller ──▶ handler 1 ──▶ handler 2 …
//!  (merged per key)    (outstanding     (one at a time a key,         (newest object from the
//!                       keys only)       N at once, timers)            cache, or its deletion)
//! ```
//!
//! Built on `kube::runtime::Controller` with a trigger stream of our own, so there is no second watch, plus
//! what it lacks: deletions reach the handlers with the last known object, a panic stays in its key, each
//! key backs off on its own, and of the handlers' wishes to come back the soonest is granted.
//!
//! # Guarantees
//!
//! - Handlers of one key never run twice at once; keys run in parallel up to the configured number (R5).
//! - After the start every object is reconciled once, and after every change at least once (R6).
//! - A handler sees the cache at least as new as the event that triggered it (R7).
//! - A deletion is shown until all handlers have succeeded with it, also if the name is in use again:
//!   then they are called with the deletion first and the new object after it.

mod handler;
mod metrics;
mod queue;

#[cfg(test)]
mod tests;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, stream};
use kube::runtime::controller::{self, Action as KubeAction};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

pub use handler::{Action, HandlerError, Observed, ReconcileHandler};
pub use metrics::ControllerMetricFamilies;

use crate::cache::{Cache, Reader, WatchedKind};
use handler::ErasedHandler;
use metrics::{ControllerMetrics, ReconcileResult};
use queue::{Ended, Outcome, Shared, WorkQueue};
use shared_cache::{ObjectKey, Subscription};

/// Keys that may wait in kube's scheduler for each one that can run, and the least number of them.
const AHEAD: usize = 4;
const SMALLEST_QUEUE: usize = 64;

/// Why a reconcile failed, for kube: when to try again. What happened has been logged and counted by then.
#[derive(Debug, thiserror::Error)]
#[error("reconcile failed, next try in {} ms", .0.as_millis())]
struct TryAgain(Duration);

/// Reconciles the objects of one kind. See the [module](self).
///
/// Handlers are added before it is run; running it consumes it.
pub struct Controller<K: WatchedKind> {
    name: &'static str,
    cache: Cache,
    handlers: Vec<Arc<dyn ErasedHandler<K>>>,
    max_concurrent_reconciles: u16,
    families: ControllerMetricFamilies,
}

impl<K: WatchedKind> fmt::Debug for Controller<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller")
            .field("name", &self.name)
            .field("handlers", &self.handlers.len())
            .finish_non_exhaustive()
    }
}

impl<K: WatchedKind> Controller<K> {
    /// A controller without handlers. `name` is its label in metrics and logs; at most
    /// `max_concurrent_reconciles` keys are reconciled at once, at least one.
    #[must_use]
    pub fn new(
        name: &'static str,
        cache: Cache,
        max_concurrent_reconciles: u16,
        families: ControllerMetricFamilies,
    ) -> Self {
        Self {
            name,
            cache,
            handlers: Vec::new(),
            max_concurrent_reconciles: max_concurrent_reconciles.max(1),
            families,
        }
    }

    /// Adds a handler; handlers are called in the order in which they were added.
    pub fn add_reconcile_handler(&mut self, handler: impl ReconcileHandler<K>) -> &mut Self {
        self.handlers.push(Arc::new(handler));
        self
    }

    /// Whether there is anything to call, and so a reason to run.
    #[must_use]
    pub fn has_handlers(&self) -> bool {
        !self.handlers.is_empty()
    }

    /// Its label in metrics and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Waits until the cache has the kind, then reconciles until `stop` is cancelled: nothing new begins
    /// then, and the future resolves once the reconciles that run have ended. Dropping it aborts them.
    ///
    /// Must run on a tokio runtime, which the reconciles are spawned on.
    pub async fn run(self, stop: CancellationToken) {
        let synced = stop.run_until_cancelled(self.cache.wait_for_sync_of::<K>()).await;
        let (Some(()), Some(events)) = (synced, self.cache.subscribe::<K>()) else {
            return;
        };
        let metrics = self.families.of(self.name, self.max_concurrent_reconciles);
        let (queue, store) = WorkQueue::new(metrics.clone());
        let queue = Arc::new(queue);
        let (waiting, backlog) = (Arc::clone(&queue), events.watch_backlog());
        metrics.read_depth(move || waiting.queued() + backlog.len());
        let reconciler = Arc::new(Reconciler {
            name: self.name,
            reader: self.cache.reader(),
            handlers: self.handlers,
            queue: Arc::clone(&queue),
            metrics,
        });
        tracing::info!(controller = self.name, "controller started");
        let triggers = triggers(events, queue, usize::from(self.max_concurrent_reconciles));
        controller::Controller::for_stream(triggers, store)
            .with_config(controller::Config::default().concurrency(self.max_concurrent_reconciles))
            .graceful_shutdown_on(stop.cancelled_owned())
            .run(Reconciler::reconcile, |_, TryAgain(delay), _| KubeAction::requeue(*delay), reconciler)
            .for_each(|result| async move {
                match result {
                    // Failures are logged where they happen; a key that is not found had its work done early.
                    Ok(_)
                    | Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) => {
                    }
                    Err(error) => tracing::error!(controller = self.name, %error, "controller error"),
                }
            })
            .await;
        tracing::info!(controller = self.name, "controller stopped");
    }
}

/// What triggers reconciles: the events, taken out of the subscription only as fast as they are worked on.
///
/// kube's scheduler takes whatever it is given, and gets slow with what it holds; in the subscription a waiting
/// key costs a pointer or one entry, however often it changes.
fn triggers<K: WatchedKind>(
    events: Subscription<K>,
    queue: Arc<WorkQueue<K>>,
    max_concurrent_reconciles: usize,
) -> impl Stream<Item = Result<Shared<K>, watcher::Error>> + Send {
    let limit = max_concurrent_reconciles.saturating_mul(AHEAD).max(SMALLEST_QUEUE);
    stream::unfold((events, queue), move |(mut events, queue)| async move {
        queue.room(limit).await;
        let event = events.next().await?;
        let trigger = queue.enqueue(event);
        Some((Ok(trigger), (events, queue)))
    })
}

struct Reconciler<K: WatchedKind> {
    name: &'static str,
    reader: Reader<K>,
    handlers: Vec<Arc<dyn ErasedHandler<K>>>,
    queue: Arc<WorkQueue<K>>,
    metrics: ControllerMetrics,
}

impl<K: WatchedKind> Reconciler<K> {
    /// One reconcile of a key.
    async fn reconcile(trigger: Arc<Shared<K>>, this: Arc<Self>) -> Result<KubeAction, TryAgain> {
        let key = ObjectRef::from_obj(&*trigger);
        let turn = this.queue.begin(&key);
        let (result, deletion_done) = {
            let _working = this.metrics.work();
            this.reconcile_observed(&key, &ObjectKey::of(&*trigger.0), turn.deleted.clone()).await
        };
        let outcome = match &result {
            Ok(action) if action.requeue_after().is_some() => Outcome::Requeue,
            Ok(_) => Outcome::Done,
            Err(_) => Outcome::Failed,
        };
        let delay = this.queue.finish(&key, &turn, Ended { outcome, deletion_done });
        this.metrics.reconciled(match outcome {
            Outcome::Done => ReconcileResult::Success,
            Outcome::Requeue => ReconcileResult::RequeueAfter,
            Outcome::Failed => ReconcileResult::Error,
        });
        result.map(KubeAction::from).map_err(|error| {
            tracing::warn!(controller = this.name, object = %key, %error, ?delay, "reconcile failed");
            TryAgain(delay)
        })
    }

    /// The deletion that is owed, if any, and then what the cache has under the key now, if anything. Also says
    /// whether the deletion is done with: all handlers have succeeded, and none of them wants it back.
    async fn reconcile_observed(
        &self,
        queue_key: &queue::Key<K>,
        key: &ObjectKey,
        deleted: Option<Arc<K>>,
    ) -> (Result<Action, HandlerError>, bool) {
        let mut action = Action::await_change();
        if let Some(last_known) = deleted {
            let observed = Observed::Deleted { key: key.clone(), last_known: Some(last_known) };
            match self.call_handlers(&observed).await {
                Ok(wish) => action = wish,
                Err(error) => return (Err(error), false),
            }
        }
        let deletion_done = action.requeue_after().is_none();
        // A kind that is not synced (any more) has no objects; those that come with the next list are told.
        let present = self.reader.get(&key.namespace, &key.name).ok().flatten();
        // One that no event has told of yet comes with that event.
        let present = present.filter(|object| self.queue.show(queue_key, object));
        let result = match present {
            Some(object) => self.call_handlers(&Observed::Present(object)).await,
            None => Ok(Action::await_change()),
        };
        (result.map(|wish| action.soonest(wish)), deletion_done)
    }

    async fn call_handlers(&self, observed: &Observed<K>) -> Result<Action, HandlerError> {
        let mut action = Action::await_change();
        for handler in &self.handlers {
            let called = AssertUnwindSafe(handler.reconcile_boxed(observed.clone())).catch_unwind().await;
            let result = called.unwrap_or_else(|panic| {
                self.metrics.panicked();
                Err(format!("handler panicked: {}", panic_message(&*panic)).into())
            });
            action = action.soonest(result?);
        }
        Ok(action)
    }
}

/// The text of a panic, if it has one.
fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
