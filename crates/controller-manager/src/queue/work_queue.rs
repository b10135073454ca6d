//! [`WorkQueue`]: the queue of one controller, fed by an informer and emptied by the dispatcher.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use shared_cache::{Batch, CacheObject, Delta, Event, KeyRef, ObjectKey, Observer, Snapshot};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::attempt::{Attempt, Outcome, Owed};
use super::gauges::{Depth, QueueGauges};
use super::key::QueueKey;
use super::metrics::QueueMetrics;
use super::options::QueueOptions;
use super::state::State;

/// Decides which changes of a kind lead to runs.
pub(crate) type Predicate<K> = Box<dyn Fn(&Event<K>) -> bool + Send + Sync>;

/// Asks the predicate, if there is one. If it panics, the event is accepted, so that nothing is lost.
pub(crate) fn accepts<K: CacheObject>(predicate: Option<&Predicate<K>>, event: &Event<K>) -> bool {
    let Some(predicate) = predicate else { return true };
    catch_unwind(AssertUnwindSafe(|| predicate(event))).unwrap_or_else(|_| {
        tracing::error!(kind = %K::kind(&()), "a predicate panicked, accepting the change");
        true
    })
}

/// The keys that have to be reconciled, one entry a key.
///
/// # Guarantees
///
/// - Per key at most one attempt runs at a time, and an event during an attempt leads to one more after it.
/// - A deletion is owed until an attempt that has shown it ends with [`Outcome::Done`]. While it is owed, no object of
///   that key is shown.
/// - Nothing is remembered of a key that is neither queued nor running nor waiting for a time.
///
/// The lock is held for the time of a few map operations, never while code of a user runs.
pub(crate) struct WorkQueue<K> {
    state: Mutex<State<K>>,
    /// Number of the last batch of changes that the queue has seen.
    observed: AtomicU64,
    /// True if no batch will come any more.
    closed: AtomicBool,
    /// Notified when either of them has changed.
    progress: Notify,
    /// Notified when a run became due.
    due: Notify,
    predicate: Option<Predicate<K>>,
}

impl<K: CacheObject> WorkQueue<K> {
    pub(crate) fn new(
        options: &QueueOptions,
        predicate: Option<Predicate<K>>,
        metrics: QueueMetrics,
    ) -> Self {
        Self {
            state: Mutex::new(State::new(options, metrics, Instant::now())),
            observed: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            progress: Notify::new(),
            due: Notify::new(),
            predicate,
        }
    }

    /// Takes over what existed when the queue was attached to its kind as an observer. Batches may have come before.
    pub(crate) fn start_from(&self, snapshot: Snapshot<K>) {
        let Snapshot { mut objects, sequence, closed, .. } = snapshot;
        if self.predicate.is_some() {
            objects.retain(|object| self.accepts(&Event::Applied { old: None, new: Arc::clone(object) }));
        }
        self.state.lock().set_initial(&objects, Instant::now());
        self.observed.fetch_max(sequence, Ordering::AcqRel);
        self.closed.fetch_or(closed.is_some(), Ordering::AcqRel);
        self.progress.notify_waiters();
        self.due.notify_one();
    }

    /// True if changes are filtered, so that a key may have changed without a run.
    pub(crate) fn has_predicate(&self) -> bool {
        self.predicate.is_some()
    }

    /// Queues keys because something has changed that their handlers depend on.
    pub(crate) fn trigger(&self, keys: &[ObjectKey]) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let due = keys.iter().fold(false, |due, key| state.object_changed(key.into(), now) | due);
        drop(state);
        if due {
            self.due.notify_one();
        }
    }

    /// Takes the next key that is due. If there is none, returns the time at which one will be.
    pub(crate) fn pop(&self) -> Result<Attempt<K>, Option<Instant>> {
        self.state.lock().pop(Instant::now())
    }

    /// Resolves after a run became due. For one caller. Cancel safe.
    pub(crate) async fn wait_until_due(&self) {
        self.due.notified().await;
    }

    /// Resolves once the queue has seen a batch of changes, or will see none any more. Cancel safe.
    ///
    /// The store changes before its observers are called. So an object that was read from it may be the successor of
    /// one whose deletion the queue does not know yet.
    pub(crate) async fn wait_until_observed(&self, sequence: u64) {
        loop {
            let mut progress = std::pin::pin!(self.progress.notified());
            // Registered before looking, so that no progress is missed in between.
            progress.as_mut().enable();
            if self.observed.load(Ordering::Acquire) >= sequence || self.closed.load(Ordering::Acquire) {
                return;
            }
            progress.await;
        }
    }

    /// The deletion that a running attempt has to show instead of the object that it has read, if one is owed.
    pub(crate) fn owed(&self, key: &QueueKey) -> Option<Owed<K>> {
        self.state.lock().owed(key)
    }

    /// Ends an attempt. `showed_deletion` tells whether it has shown a deletion.
    pub(crate) fn finish(&self, key: &QueueKey, showed_deletion: bool, outcome: Outcome) {
        if self.state.lock().finish(key, showed_deletion, outcome, Instant::now()) {
            self.due.notify_one();
        }
    }

    fn accepts(&self, event: &Event<K>) -> bool {
        accepts(self.predicate.as_ref(), event)
    }

    /// Number of keys for which there is memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.state.lock().capacity()
    }

    /// Number of keys that anything is remembered of.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.state.lock().remembered()
    }
}

impl<K: CacheObject> Observer<K> for WorkQueue<K> {
    fn observe(&self, batch: &Batch<K>) {
        let accepted: Vec<_> = match self.predicate {
            Some(_) => batch.deltas.iter().map(|delta| self.accepts(&delta.clone().into())).collect(),
            None => Vec::new(),
        };
        let now = Instant::now();
        let mut due = false;
        let mut state = self.state.lock();
        for (position, delta) in batch.deltas.iter().enumerate() {
            if !accepted.get(position).copied().unwrap_or(true) {
                continue;
            }
            due |= match delta {
                Delta::Applied { new, .. } => state.object_changed(KeyRef::of(&**new), now),
                Delta::Deleted { last_known, reason } => {
                    state.object_deleted(Owed { last_known: Arc::clone(last_known), reason: *reason }, now)
                }
                _ => false,
            };
        }
        drop(state);
        self.observed.fetch_max(batch.sequence, Ordering::AcqRel);
        self.closed.store(false, Ordering::Release);
        self.progress.notify_waiters();
        if due {
            self.due.notify_one();
        }
    }

    fn closed(&self, _stopped: bool) {
        self.closed.store(true, Ordering::Release);
        self.progress.notify_waiters();
    }
}

impl<K: CacheObject> QueueGauges for WorkQueue<K> {
    fn depth(&self) -> Depth {
        self.state.lock().depth()
    }

    fn running_for(&self) -> Vec<Duration> {
        self.state.lock().running_for(Instant::now()).collect()
    }
}
