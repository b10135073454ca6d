//! [`Informer`]: owns the store of one kind and runs its lists and watches.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::consistency::ConsistencyCheck;
use super::health::Health;
use super::informer_options::InformerOptions;
use super::observers::Snapshot;
use super::reflector::Reflector;
use super::state::InformerState;
use crate::kind::{CacheObject, KindParams};
use crate::object::{ObjectKey, Observer};
use crate::store::{Partition, Store};

/// Longest sleep before the wall clock is read again. The clock may be changed during a sleep.
const CLOCK_CHECK: Duration = Duration::from_secs(30);

/// Pause before a part that has panicked runs again. Each further panic doubles it.
const FIRST_REST: Duration = Duration::from_secs(1);

/// Longest pause after a panic. A part that ran this long begins with [`FIRST_REST`] again.
const LONGEST_REST: Duration = Duration::from_mins(1);

/// Runs a part of the informer, and again after each panic, which is logged and counted (behaviour V12).
pub(crate) async fn restart_after_panics<F: Future<Output = ()>>(
    health: &Health,
    kind: &str,
    mut run: impl FnMut() -> F,
) {
    let mut rest = FIRST_REST;
    loop {
        let begun = Instant::now();
        if AssertUnwindSafe(run()).catch_unwind().await.is_ok() {
            return;
        }
        health.panicked();
        if begun.elapsed() >= LONGEST_REST {
            rest = FIRST_REST;
        }
        tracing::error!(%kind, ?rest, "the informer panicked, restarting it");
        tokio::time::sleep(rest).await;
        rest = LONGEST_REST.min(2 * rest);
    }
}

/// The lists and watches of one kind. See the [module](super).
pub(crate) struct Informer<K: CacheObject> {
    state: InformerState<K>,
    /// Locked by the active run, so that only one run is active at a time.
    running: Mutex<()>,
}

impl<K: CacheObject> Informer<K> {
    /// Creates an informer that does nothing until it is run. The fixed `observers` are called with every
    /// batch before the attached observers.
    pub(crate) fn new(
        client: &kube::Client,
        params: Arc<KindParams<K>>,
        options: InformerOptions,
        observers: Vec<Arc<dyn Observer<K>>>,
    ) -> Self {
        Self { state: InformerState::new(client, params, options, observers), running: Mutex::new(()) }
    }

    /// Lists and watches until `stop` is cancelled, which closes the connections at once. Failures are
    /// retried and reported in [`Self::health`]. Runs on any executor with tokio's time. A second run waits
    /// until the first has ended.
    ///
    /// If the future is dropped, the store keeps its objects, and observers are notified that no batch will
    /// come. If a decoder, a transform or an index function panics, everything starts again with a list (V12).
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let _running = self.running.lock().await;
        self.state.observers.open();
        let mut ended = Ended { state: &self.state, stopped: false };
        let after_panic = AtomicBool::new(false);
        let kind = K::kind(&());
        let watch = restart_after_panics(&self.state.health, &kind, || {
            self.watch(after_panic.swap(true, Ordering::Relaxed))
        });
        stop.run_until_cancelled(watch).await;
        ended.stopped = true;
    }

    /// Lists, watches and checks every partition. Never returns.
    async fn watch(&self, after_panic: bool) {
        // Also a panic drops this, so that the kind counts as down until the next run.
        let _down = DownAtEnd(&self.state.health);
        let reflectors = self.partitions().map(|partition| async move {
            Reflector::new(&self.state, partition, after_panic).list_and_watch().await;
        });
        let checks = self.partitions().map(|partition| async move {
            ConsistencyCheck::new(&self.state, partition).repeat().await;
        });
        tokio::select! {
            biased;
            _ = join_all(reflectors) => {}
            () = self.follow_the_clock() => {}
            _ = join_all(checks) => {}
        }
    }

    /// Returns the partitions: one for each watched namespace, or one.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = Partition> + use<K> {
        0..Partition::try_from(self.state.list_watches.len()).unwrap_or(Partition::MAX)
    }

    /// Returns the partition that watches the objects of a namespace.
    pub(crate) fn partition_of(&self, namespace: &str) -> Partition {
        let namespaces = &self.state.options.namespaces;
        let position = namespaces.iter().position(|watched| watched == namespace).unwrap_or_default();
        Partition::try_from(position).unwrap_or_default()
    }

    pub(crate) fn store(&self) -> &Store<K> {
        &self.state.store
    }

    pub(crate) fn health(&self) -> &Health {
        &self.state.health
    }

    /// Returns true if the store contains a complete list.
    pub(crate) fn has_synced(&self) -> bool {
        self.state.health.has_synced()
    }

    /// Returns what is watched.
    pub(crate) fn options(&self) -> &InformerOptions {
        &self.state.options
    }

    /// Resolves once the store contains a complete list; at once if it already does. Cancel safe.
    pub(crate) async fn wait_for_sync(&self) {
        let mut version = self.state.versions.subscribe();
        while !self.has_synced() {
            if version.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Resolves once the store has passed a resource version, by an event or a bookmark. Cancel safe. If no
    /// object of this kind changes, this takes until the next bookmark, about a minute.
    pub(crate) async fn wait_for_version(&self, version: u64) {
        let mut reached = self.state.versions.subscribe();
        if reached.wait_for(|&reached| reached >= version).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns the version that the store has reached; 0 before the first list.
    pub(crate) fn version(&self) -> u64 {
        self.state.versions.reached()
    }

    /// The version that the store has reached for the objects of a namespace.
    pub(crate) fn version_in(&self, namespace: &str) -> u64 {
        self.state.versions.of(self.partition_of(namespace))
    }

    /// Attaches an observer until it is dropped, and returns the existing objects.
    pub(crate) fn attach(&self, observer: Weak<dyn Observer<K>>) -> Snapshot<K> {
        self.state.observers.attach(&self.state.store, observer)
    }

    /// Indexes objects again when their index values change with time alone (behaviour B2). An object whose index
    /// function panics keeps its values until it changes, because every restart would panic at the same object.
    async fn follow_the_clock(&self) {
        let (store, observers) = (&self.state.store, &self.state.observers);
        let panicked = |object: &K| {
            self.state.health.panicked();
            let (kind, key) = (K::kind(&()), ObjectKey::of(object));
            tracing::error!(%kind, %key, "an index function panicked, the object keeps its index values");
        };
        loop {
            let next = store.reindex_due(Timestamp::now(), panicked, |batch| observers.observe(&batch));
            let until = next.map_or(CLOCK_CHECK, |at| time_until(at).min(CLOCK_CHECK));
            tokio::select! {
                () = tokio::time::sleep(until) => {}
                () = store.transitions_changed() => {}
            }
        }
    }
}

/// Records at its end that no watch feeds the store any more.
struct DownAtEnd<'a>(&'a Health);

impl Drop for DownAtEnd<'_> {
    fn drop(&mut self) {
        self.0.all_down();
    }
}

/// Closes the observers at the end of a run.
struct Ended<'a, K: CacheObject> {
    state: &'a InformerState<K>,
    stopped: bool,
}

impl<K: CacheObject> Drop for Ended<'_, K> {
    fn drop(&mut self) {
        self.state.observers.close(self.stopped);
    }
}

/// Returns the time until the wall clock has passed an instant, rounded up to the resolution of a timer.
fn time_until(at: Timestamp) -> Duration {
    let left = at.duration_since(Timestamp::now()).unsigned_abs();
    let ahead = at > Timestamp::now();
    if ahead { left + Duration::from_millis(1) } else { Duration::from_millis(1) }
}
