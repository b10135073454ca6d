//! [`Reconciler`]: runs one attempt: shows a deletion or an object to the handlers and reports how it ended.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use shared_cache::{
    ApiReader, CacheObject, DeletionReason, LookupError, ReadError, Reader, error_text, version_of,
};
use tracing::Instrument;

use super::action::Action;
use super::handler::{HandlerError, Handlers, is_not_synced};
use super::metrics::{ControllerMetrics, ReconcileResult};
use super::observed::Observed;
use crate::queue::{Attempt, InitialVersion, Outcome, Owed, QueueKey, Work, WorkQueue};

/// When a key runs again whose handler needs a kind that is not synced.
const NOT_SYNCED_RETRY: Duration = Duration::from_secs(1);

/// Everything that the attempts of one controller share.
pub(super) struct Reconciler<K: CacheObject> {
    pub(super) name: Arc<str>,
    pub(super) reader: Reader<K>,
    /// Reads from the API server if a selector limits the kind: an object that has left the cache may then exist.
    pub(super) live: Option<ApiReader>,
    pub(super) handlers: Handlers<K>,
    pub(super) timeout: Option<Duration>,
    pub(super) queue: Arc<WorkQueue<K>>,
    pub(super) metrics: ControllerMetrics,
}

/// What an attempt found to show.
enum Shown<K> {
    Object(Arc<K>),
    Deletion(Owed<K>),
    /// The object does not exist, or was shown in this state before.
    Nothing,
    /// The store has no answer.
    NotSynced,
}

/// Why the handlers of an attempt did not all succeed.
enum Failure {
    Error(HandlerError),
    Panic(String),
    Timeout(Duration),
}

impl<K: CacheObject> Reconciler<K> {
    /// Runs an attempt to its end. Dropping the future leaves the key running in the queue, so drop the queue too.
    pub(super) async fn run(self: Arc<Self>, attempt: Attempt<K>) {
        static RECONCILES: AtomicU64 = AtomicU64::new(1);
        let Attempt { key, work } = attempt;
        let object_key = key.object_key();
        let span = tracing::info_span!(
            "reconcile",
            controller = &*self.name,
            namespace = object_key.namespace,
            name = object_key.name,
            reconcile_id = RECONCILES.fetch_add(1, Ordering::Relaxed),
        );
        async {
            let shown = self.find(&key, work).await;
            let showed_deletion = matches!(shown, Shown::Deletion(_));
            let outcome = self.show(&key, shown).await;
            self.queue.finish(&key, showed_deletion, outcome);
        }
        .instrument(span)
        .await;
    }

    /// Decides what to show. An object is shown only if no deletion is owed that happened before it came to be.
    async fn find(&self, key: &QueueKey, work: Work<K>) -> Shown<K> {
        let initial = match work {
            Work::Deletion(owed) => return Shown::Deletion(owed),
            Work::Present { initial } => initial,
        };
        let object_key = key.object_key();
        let (object, sequence) = match self.reader.get_at(&object_key.namespace, &object_key.name) {
            Ok(found) => found,
            Err(LookupError::NotSynced { .. }) => return Shown::NotSynced,
            // A mapping has returned a key in a namespace that is not watched.
            Err(error) => {
                tracing::debug!(error = error_text(&error), "nothing to reconcile");
                return Shown::Nothing;
            }
        };
        self.queue.wait_until_observed(sequence).await;
        if let Some(owed) = self.queue.owed(key) {
            return Shown::Deletion(owed);
        }
        // If the store has another object by now, a change of it has been queued, unless a predicate dropped it.
        let superseded = |initial: InitialVersion| {
            !self.queue.has_predicate()
                && object.as_ref().is_none_or(|object| version_of(&**object) != initial)
        };
        if initial.is_some_and(superseded) {
            return Shown::Nothing;
        }
        object.map_or(Shown::Nothing, Shown::Object)
    }

    /// Calls the handlers, and counts and logs the result.
    async fn show(&self, key: &QueueKey, shown: Shown<K>) -> Outcome {
        let observed = match shown {
            Shown::Nothing => return Outcome::Done,
            Shown::NotSynced => return Outcome::Postponed(NOT_SYNCED_RETRY),
            Shown::Object(object) => Observed::Present(object),
            Shown::Deletion(Owed { last_known, reason }) => match self.confirm(&last_known, reason).await {
                Ok(reason) => {
                    Observed::Deleted { key: key.object_key().clone(), last_known: Some(last_known), reason }
                }
                Err(error) => {
                    tracing::warn!(
                        error = error_text(&error),
                        "cannot find out why the object left the cache"
                    );
                    self.metrics.reconciled(ReconcileResult::Error);
                    return Outcome::Failed { wish: None };
                }
            },
        };
        let mut wish = Action::await_change();
        let result = {
            let _active = self.metrics.start_worker();
            self.call_handlers(&observed, &mut wish).await
        };
        let wish = wish.requeue_after();
        let (outcome, counted) = match result {
            Ok(()) => match wish {
                None => (Outcome::Done, ReconcileResult::Success),
                Some(after) => (Outcome::Requeue(after), ReconcileResult::RequeueAfter),
            },
            Err(Failure::Error(error)) if is_not_synced(&error) => {
                tracing::debug!(error = error_text(&*error), "the cache cannot answer yet, requeueing");
                let delay = wish.map_or(NOT_SYNCED_RETRY, |wish| wish.min(NOT_SYNCED_RETRY));
                (Outcome::Postponed(delay), ReconcileResult::RequeueAfter)
            }
            Err(failure) => {
                self.report(&failure);
                (Outcome::Failed { wish }, ReconcileResult::Error)
            }
        };
        self.metrics.reconciled(counted);
        outcome
    }

    /// Finds out why an object left the cache if its watch cannot tell: asks the API server whether it still has the
    /// object (behaviour X3). Handlers release external resources only after this.
    async fn confirm(
        &self,
        last_known: &Arc<K>,
        reason: DeletionReason,
    ) -> Result<DeletionReason, ReadError> {
        let is_uncertain = matches!(reason, DeletionReason::LeftScope | DeletionReason::FinalStateUnknown);
        let Some(live) = self.live.as_ref().filter(|_| is_uncertain) else {
            return Ok(reason);
        };
        match live.still_has(&**last_known).await {
            Ok(true) => Ok(DeletionReason::LeftScope),
            Ok(false) if reason == DeletionReason::LeftScope => Ok(DeletionReason::Removed),
            Ok(false) => Ok(reason),
            // Without the permission to read it nobody can find out, now or later.
            Err(ReadError::Status { status, .. }) if status.code == 403 => Ok(DeletionReason::LeftScope),
            Err(error) => Err(error),
        }
    }

    /// Calls the handlers in order until one fails. `wish` collects what those before it ask for.
    async fn call_handlers(&self, observed: &Observed<K>, wish: &mut Action) -> Result<(), Failure> {
        let calls = async {
            for handler in &self.handlers {
                let action = handler.reconcile_boxed(observed.clone()).await.map_err(Failure::Error)?;
                *wish = wish.soonest(action);
            }
            Ok(())
        };
        // The handlers are dropped inside as well: a destructor that panics must not leave the key running.
        let guarded = AssertUnwindSafe(async move {
            match self.timeout {
                Some(timeout) => {
                    tokio::time::timeout(timeout, calls).await.unwrap_or(Err(Failure::Timeout(timeout)))
                }
                None => calls.await,
            }
        });
        guarded.catch_unwind().await.unwrap_or_else(|panic| Err(Failure::Panic(panic_text(&*panic))))
    }

    fn report(&self, failure: &Failure) {
        match failure {
            Failure::Error(error) => tracing::warn!(error = error_text(&**error), "reconcile failed"),
            Failure::Panic(message) => {
                self.metrics.panicked();
                tracing::error!(error = message, "reconcile panicked");
            }
            Failure::Timeout(timeout) => {
                self.metrics.timed_out();
                tracing::warn!(?timeout, "reconcile exceeded its timeout and was dropped");
            }
        }
    }
}

/// The text of a panic, if it has one.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
