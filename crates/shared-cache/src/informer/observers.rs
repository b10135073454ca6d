//! [`Observers`]: the observers of the changes of one kind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::kind::CacheObject;
use crate::object::{Batch, Observer};
use crate::store::{Filter, Store};

/// The objects of a kind at the time when an observer was attached.
pub struct Snapshot<K> {
    /// The objects, in no particular order.
    pub objects: Vec<Arc<K>>,
    /// Number of the last batch that is contained in `objects`; see [`Batch::sequence`].
    pub sequence: u64,
    /// True if the initial list had completed, so that [`Observer::synced`] will not be called.
    pub synced: bool,
    /// `Some` if the informer has ended, so that no batch will come. See [`Observer::closed`].
    pub closed: Option<bool>,
}

/// The observers of one kind: the fixed ones, and those that were attached later.
pub(crate) struct Observers<K> {
    /// Called before all others, in this order.
    fixed: Vec<Arc<dyn Observer<K>>>,
    attached: Mutex<Attached<K>>,
    /// Number of panics.
    panics: Arc<AtomicU64>,
}

struct Attached<K> {
    /// Each observer and the number of the last batch in its snapshot. Dropping the observer detaches it.
    observers: Vec<(Weak<dyn Observer<K>>, u64)>,
    synced: bool,
    closed: Option<bool>,
}

impl<K: CacheObject> Observers<K> {
    pub(crate) fn new(fixed: Vec<Arc<dyn Observer<K>>>, panics: Arc<AtomicU64>) -> Self {
        let attached = Attached { observers: Vec::new(), synced: false, closed: None };
        Self { fixed, attached: Mutex::new(attached), panics }
    }

    /// Attaches an observer and returns a snapshot of the existing objects.
    ///
    /// The observer is registered under the store's read lock, and the objects are copied as they are under this
    /// lock. So the observer misses no change and sees no change twice. The copies of many objects are made from a
    /// snapshot after unlocking.
    pub(crate) fn attach(&self, store: &Store<K>, observer: Weak<dyn Observer<K>>) -> Snapshot<K> {
        let view = store.view();
        let sequence = view.sequence();
        let (synced, closed) = {
            let mut attached = self.attached.lock();
            attached.observers.retain(|(observer, _)| observer.strong_count() > 0);
            attached.observers.push((observer, sequence));
            (attached.synced, attached.closed)
        };
        Snapshot { objects: view.members(Filter::All).copy(), sequence, synced, closed }
    }

    pub(crate) fn observe(&self, batch: &Batch<K>) {
        if batch.deltas.is_empty() {
            return;
        }
        for observer in &self.fixed {
            self.guarded(|| observer.observe(batch));
        }
        for (observer, since) in self.live() {
            if batch.sequence > since {
                self.guarded(|| observer.observe(batch));
            }
        }
    }

    /// Notifies the observers that the initial list has completed. Only the first call has an effect.
    pub(crate) fn synced(&self) {
        let live = {
            // One lock for both: an observer that attaches in between would see the completion twice.
            let mut attached = self.attached.lock();
            if std::mem::replace(&mut attached.synced, true) {
                return;
            }
            attached.live()
        };
        self.fixed.iter().for_each(|observer| self.guarded(|| observer.synced()));
        for (observer, _) in live {
            self.guarded(|| observer.synced());
        }
    }

    /// Notifies the observers that no batch will come any more.
    pub(crate) fn close(&self, stopped: bool) {
        self.attached.lock().closed = Some(stopped);
        self.fixed.iter().for_each(|observer| self.guarded(|| observer.closed(stopped)));
        self.live().iter().for_each(|(observer, _)| self.guarded(|| observer.closed(stopped)));
    }

    /// Records that a new run begins, so that batches come again.
    pub(crate) fn open(&self) {
        self.attached.lock().closed = None;
    }

    fn live(&self) -> Vec<(Arc<dyn Observer<K>>, u64)> {
        self.attached.lock().live()
    }

    /// Calls one observer. A panic is logged and counted, and the other observers are still called. The informer
    /// goes on, because the store is in order; a restart would not repeat the batch for the observer.
    fn guarded(&self, call: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(call)).is_err() {
            self.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(kind = %K::kind(&()), "an observer panicked");
        }
    }
}

impl<K> Attached<K> {
    fn live(&self) -> Vec<(Arc<dyn Observer<K>>, u64)> {
        let live = self.observers.iter();
        live.filter_map(|(observer, since)| Some((observer.upgrade()?, *since))).collect()
    }
}
