//! [`WorkQueue`]: the keys of one controller that have work outstanding, and what is remembered of each.
//!
//! `kube::runtime::Controller` looks every key up in a reflector store before it reconciles it, and never
//! reconciles one that is not there. A second map of all objects would cost a third of a kilobyte each, and
//! deletions would never arrive; so this store holds only keys with work outstanding, under a pointer
//! to the newest state, and a deleted object stays in it until its deletion has been reconciled.
//!
//! Which keys are queued, running or waiting for their turn is kube's to know; this module knows how often a
//! key has failed, which deletion it still owes, and whether anything came while it ran.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kube::Resource;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer};
use tokio::sync::Notify;

use super::metrics::ControllerMetrics;
use shared_cache::{CachedResource, Event};

/// First delay after an error; controller-runtime's default rate limiter has the same bounds.
const FIRST_BACKOFF: Duration = Duration::from_millis(5);

/// Longest delay after an error.
const LONGEST_BACKOFF: Duration = Duration::from_secs(1000);

/// A cached object as kube's controller handles it: a pointer, where kube would copy the whole object.
pub(super) struct Shared<K>(pub(super) Arc<K>);

impl<K> Clone for Shared<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Resource<DynamicType = ()>> fmt::Debug for Shared<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.meta().name.fmt(f)
    }
}

/// Asked for by kube's types, though nothing is decoded here.
impl<'de, K: Deserialize<'de>> Deserialize<'de> for Shared<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        K::deserialize(deserializer).map(|object| Self(Arc::new(object)))
    }
}

impl<K: CachedResource> Resource for Shared<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &kube::api::ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut kube::api::ObjectMeta {
        Arc::make_mut(&mut self.0).meta_mut()
    }
}

/// How kube names a key.
pub(super) type Key<K> = ObjectRef<Shared<K>>;

struct Outstanding<K> {
    /// The newest state that came; only its name is used, unless it is the last of a deleted object.
    object: Arc<K>,
    /// A deletion that not every handler has seen through yet.
    deleted: Option<Arc<K>>,
    /// The deletion that is owed after it, of an object that handlers were shown meanwhile.
    next_deleted: Option<Arc<K>>,
    /// UID of the object that handlers were shown last.
    shown: Option<String>,
    /// Rises with every event, so that a reconcile can tell whether one came meanwhile.
    sequence: u64,
    /// Whether a reconcile is due that has not begun.
    queued: bool,
    /// Errors in a row.
    failures: u32,
}

struct Inner<K: CachedResource> {
    outstanding: HashMap<Key<K>, Outstanding<K>>,
    /// Holds the same keys for kube.
    writer: Writer<Shared<K>>,
}

/// See the [module](self). Shared by the stream of triggers and the reconciles.
pub(super) struct WorkQueue<K: CachedResource> {
    inner: Mutex<Inner<K>>,
    queued: AtomicUsize,
    /// Told when a reconcile begins.
    begun: Notify,
    metrics: ControllerMetrics,
}

/// One reconcile of a key, from [`WorkQueue::begin`] to [`WorkQueue::finish`].
pub(super) struct Turn<K> {
    sequence: u64,
    /// The deletion to reconcile first, if one is owed.
    pub(super) deleted: Option<Arc<K>>,
}

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    /// Whether every handler is done with the deletion that was owed, whatever came after it.
    pub(super) deletion_done: bool,
}

/// What is to follow a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All is done until something changes.
    Done,
    /// All is done, and the key is to come back.
    Requeue,
    /// It failed.
    Failed,
}

impl<K: CachedResource> Outstanding<K> {
    /// A deletion is to be reconciled: at once, or after the one that is owed already. Of an object that handlers
    /// were never shown, which came and went while another one's deletion was owed, they need not know.
    fn owe(&mut self, last_known: Arc<K>) {
        if self.deleted.is_none() {
            self.deleted = Some(last_known);
        } else if self.shown == last_known.meta().uid {
            self.next_deleted = Some(last_known);
        }
    }
}

impl<K: CachedResource> WorkQueue<K> {
    /// An empty queue and the store that kube reads its keys from.
    pub(super) fn new(metrics: ControllerMetrics) -> (Self, reflector::Store<Shared<K>>) {
        let (store, mut writer) = reflector::store();
        // kube waits for a first list before it reconciles; the cache has had its own.
        writer.apply_watcher_event(&watcher::Event::Init);
        writer.apply_watcher_event(&watcher::Event::InitDone);
        (
            Self {
                inner: Mutex::new(Inner { outstanding: HashMap::new(), writer }),
                queued: AtomicUsize::new(0),
                begun: Notify::new(),
                metrics,
            },
            store,
        )
    }

    /// Takes note of an event and returns what triggers its reconcile.
    pub(super) fn enqueue(&self, event: Event<K>) -> Shared<K> {
        let object = Arc::clone(event.object());
        let shared = Shared(Arc::clone(&object));
        let mut inner = self.inner.lock();
        inner.writer.apply_watcher_event(&watcher::Event::Apply(shared.clone()));
        let entry = inner.outstanding.entry(ObjectRef::from_obj(&shared)).or_insert_with(|| Outstanding {
            object: Arc::clone(&object),
            deleted: None,
            next_deleted: None,
            shown: None,
            sequence: 0,
            queued: false,
            failures: 0,
        });
        entry.sequence += 1;
        if let Event::Deleted { last_known, .. } = event {
            entry.owe(last_known);
        }
        entry.object = object;
        if !std::mem::replace(&mut entry.queued, true) {
            self.queued.fetch_add(1, Ordering::AcqRel);
            self.metrics.queued();
        }
        shared
    }

    /// A reconcile of the key begins.
    pub(super) fn begin(&self, key: &Key<K>) -> Turn<K> {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.outstanding.get_mut(key) else {
            return Turn { sequence: 0, deleted: None };
        };
        if std::mem::take(&mut entry.queued) {
            self.queued.fetch_sub(1, Ordering::AcqRel);
            self.begun.notify_one();
        }
        Turn { sequence: entry.sequence, deleted: entry.deleted.clone() }
    }

    /// Whether handlers may be shown this object of the key now, which they then are: only one that an event has told
    /// of, since only of those a deletion is sure to be told.
    pub(super) fn show(&self, key: &Key<K>, object: &K) -> bool {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.outstanding.get_mut(key) else { return true };
        let told = entry.object.meta().uid == object.meta().uid;
        if told {
            entry.shown.clone_from(&object.meta().uid);
        }
        told
    }

    /// A reconcile of the key ended. After a failure, returns how long to wait before the next.
    pub(super) fn finish(&self, key: &Key<K>, turn: &Turn<K>, ended: Ended) -> Duration {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.outstanding.get_mut(key) else {
            return FIRST_BACKOFF;
        };
        let same = |owed: &Arc<K>| turn.deleted.as_ref().is_some_and(|done| Arc::ptr_eq(owed, done));
        if ended.deletion_done && entry.deleted.as_ref().is_some_and(same) {
            entry.deleted = entry.next_deleted.take();
        }
        match ended.outcome {
            Outcome::Failed => {
                let delay = FIRST_BACKOFF.saturating_mul(1 << entry.failures.min(20)).min(LONGEST_BACKOFF);
                entry.failures += 1;
                self.metrics.retried();
                return delay;
            }
            Outcome::Requeue => entry.failures = 0,
            Outcome::Done if entry.sequence != turn.sequence => entry.failures = 0,
            Outcome::Done => {
                if let Some(gone) = inner.outstanding.remove(key) {
                    inner.writer.apply_watcher_event(&watcher::Event::Delete(Shared(gone.object)));
                }
            }
        }
        Duration::ZERO
    }

    /// Resolves once there is room for another key: no more than `limit` wait for their reconcile.
    pub(super) async fn room(&self, limit: usize) {
        loop {
            // Asked for before looking, so that a reconcile that begins in between is not missed.
            let begun = self.begun.notified();
            if self.queued.load(Ordering::Acquire) < limit {
                return;
            }
            begun.await;
        }
    }

    /// Keys whose reconcile is due and has not begun.
    pub(super) fn queued(&self) -> usize {
        self.queued.load(Ordering::Acquire)
    }

    /// Number of keys that anything is remembered of.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let inner = self.inner.lock();
        assert_eq!(inner.outstanding.len(), inner.writer.as_reader().len());
        inner.outstanding.len()
    }
}
