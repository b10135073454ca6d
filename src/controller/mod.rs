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

use futures::{FutureExt, StreamExt};
use kube::runtime::controller::{self, Action as KubeAction};
use kube::runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;

pub use handler::{Action, HandlerError, Observed, ReconcileHandler};
pub use metrics::ControllerMetricFamilies;

use crate::cache::{Cache, Reader, WatchedKind};
use crate::informer::ObjectKey;
use handler::ErasedHandler;
use metrics::{ControllerMetrics, ReconcileResult};
use queue::{Outcome, Shared, WorkQueue};

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
        let reconciler = Arc::new(Reconciler {
            name: self.name,
            reader: self.cache.reader(),
            handlers: self.handlers,
            queue: Arc::clone(&queue),
            metrics,
        });
        tracing::info!(controller = self.name, "controller started");
        let triggers = events.map(move |event| Ok(queue.enqueue(event)));
        controller::Controller::for_stream(triggers, store)
            .with_config(controller::Config::default().concurrency(self.max_concurrent_reconciles))
            .graceful_shutdown_on(stop.cancelled_owned())
            .run(
                Reconciler::reconcile,
                |_, TryAgain(delay), _| KubeAction::requeue(*delay),
                reconciler,
            )
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
        let result = {
            let _working = this.metrics.work();
            this.reconcile_observed(&ObjectKey::of(&*trigger.0), turn.deleted.clone())
                .await
        };
        let (result, outcome) = match result {
            Ok(action) if action.requeue_after().is_some() => (Ok(action), Outcome::Requeue),
            Ok(action) => (Ok(action), Outcome::Done),
            Err(error) => (Err(error), Outcome::Failed),
        };
        let delay = this.queue.finish(&key, &turn, outcome);
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

    /// The deletion that is owed, if any, and then what the cache has under the key now, if anything.
    async fn reconcile_observed(
        &self,
        key: &ObjectKey,
        deleted: Option<Arc<K>>,
    ) -> Result<Action, HandlerError> {
        let mut action = Action::await_change();
        if let Some(last_known) = deleted {
            let observed = Observed::Deleted {
                key: key.clone(),
                last_known: Some(last_known),
            };
            action = action.soonest(self.call_handlers(&observed).await?);
        }
        if let Some(object) = self.reader.get(&key.namespace, &key.name)? {
            action = action.soonest(self.call_handlers(&Observed::Present(object)).await?);
        }
        Ok(action)
    }

    async fn call_handlers(&self, observed: &Observed<K>) -> Result<Action, HandlerError> {
        let mut action = Action::await_change();
        for handler in &self.handlers {
            let called = AssertUnwindSafe(handler.reconcile_boxed(observed.clone()))
                .catch_unwind()
                .await;
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
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
