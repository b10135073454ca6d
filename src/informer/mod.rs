//! [`Informer`]: one list and watch of one kind, kept in a [`Store`] and told to [`Observer`]s. Knows no kind.
//!
//! ```text
//!  list / watch ──▶ Informer<K> ──▶ Store<K> ◀── readers
//!                       │ Batch<K> (events in order, outside every lock)
//!                       └──▶ Observer<K>…  ──▶ Subscription<K> (merged per key, never blocks)
//! ```
//!
//! One task writes, everyone else reads. Nothing here calls back into whoever uses it but through
//! [`Observer`], and no failure of the API server ends the task: it retries, counts and says so in [`Health`].

mod backoff;
mod error;
mod event;
mod health;
mod index;
mod isolation;
mod key;
mod keyed_slab;
mod list_watch;
mod reflect;
mod resource;
mod store;
mod subscription;
mod version;

#[cfg(test)]
mod scripted_server;
#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

pub use error::WatchError;
pub use event::{Batch, Event, Observer};
pub use health::{Health, LastError, Report, STALE_AFTER, Verb};
pub use index::IndexFunc;
pub use key::{KeyRef, ObjectKey};
pub use resource::{CachedResource, DecodeError};
pub use store::Store;
pub use subscription::Subscription;
pub use version::{parse_version, version_of};

#[cfg(test)]
pub(crate) use scripted_server::{Server as ScriptedServer, WatchStream, server as scripted_server};

pub(crate) use resource::{NAMESPACE_INDEX, index_number};
pub(crate) use store::{View, in_predicate};

use list_watch::ListWatch;
use reflect::Reflector;
use subscription::Subscriptions;

/// How long the wall clock is trusted to run as fast as the timer: it may be set while we sleep.
const CLOCK_CHECK: Duration = Duration::from_secs(30);

/// What an informer watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InformerOptions {
    /// The one namespace to watch; `None` watches all of them, or a cluster-scoped kind.
    pub namespace: Option<String>,
    /// Kubernetes label selector; `None` selects everything.
    pub label_selector: Option<String>,
    /// Objects in one page of a paged list; 0 means 500.
    pub page_size: u32,
}

/// The one list and watch of a kind. See the [module](self).
///
/// Made with [`Informer::new`], driven by [`Informer::run`], read through [`Informer::store`].
pub struct Informer<K: CachedResource> {
    store: Store<K>,
    health: Health,
    list_watch: ListWatch,
    options: InformerOptions,
    subscriptions: Subscriptions<K>,
    observers: Vec<Arc<dyn Observer<K>>>,
    /// The version that the store has reached; 0 before the first list.
    version: watch::Sender<u64>,
    /// Held by the one run at a time.
    running: Mutex<()>,
}

impl<K: CachedResource> Informer<K> {
    /// An informer that does nothing until it is run. `observers` are told of every batch before any
    /// subscriber is.
    #[must_use]
    pub fn new(client: kube::Client, options: InformerOptions, observers: Vec<Arc<dyn Observer<K>>>) -> Self {
        let path = K::url_path(&(), options.namespace.as_deref());
        Self {
            store: Store::new(),
            health: Health::new(),
            list_watch: ListWatch::new(client, path, options.label_selector.clone()),
            options,
            subscriptions: Subscriptions::new(),
            observers,
            version: watch::Sender::new(0),
            running: Mutex::new(()),
        }
    }

    /// Lists and watches until `stop` is cancelled, which drops connections at once. Never fails: see
    /// [`Informer::health`]. Runs on any executor with tokio's time; a second run waits for the first to end.
    ///
    /// Dropping the future is the same as stopping it; the store stays as it is.
    pub async fn run(&self, stop: CancellationToken) {
        let _running = self.running.lock().await;
        let _ended = Ended(self);
        let mut reflector = Reflector::new(self);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = reflector.list_and_watch() => {}
            () = self.follow_the_clock() => {}
        }
    }

    /// The objects.
    #[must_use]
    pub fn store(&self) -> &Store<K> {
        &self.store
    }

    /// The state of the watch.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Whether the store shows a whole list.
    #[must_use]
    pub fn has_synced(&self) -> bool {
        self.health.has_synced()
    }

    /// What is watched.
    #[must_use]
    pub fn options(&self) -> &InformerOptions {
        &self.options
    }

    /// Resolves once the store shows a whole list; at once when it does. Cancel safe.
    pub async fn wait_for_sync(&self) {
        let mut version = self.version.subscribe();
        while !self.has_synced() {
            if version.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Resolves once the store has passed a resource version, by an event or a bookmark. Cancel safe.
    /// May take until the next bookmark, about a minute, when no object of this kind changes any more.
    pub async fn wait_for_version(&self, version: u64) {
        let mut reached = self.version.subscribe();
        if reached.wait_for(|&reached| reached >= version).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The version that the store has reached; 0 before the first list.
    #[must_use]
    pub fn version(&self) -> u64 {
        *self.version.borrow()
    }

    /// A stream of what is there and then of every change.
    #[must_use]
    pub fn subscribe(&self) -> Subscription<K> {
        self.subscriptions.subscribe(&self.store)
    }

    /// Tells everyone. A panic of one observer keeps nobody else from being told.
    fn observe(&self, batch: &Batch<K>) {
        if batch.events.is_empty() {
            return;
        }
        for observer in &self.observers {
            if catch_unwind(AssertUnwindSafe(|| observer.observe(batch))).is_err() {
                tracing::error!(kind = %K::kind(&()), "an observer panicked");
            }
        }
        self.subscriptions.observe(batch);
    }

    /// Files objects anew when time alone has changed what they are, and tells so (behaviour B2).
    async fn follow_the_clock(&self) {
        loop {
            let next = self.store.reindex_due(Timestamp::now(), |batch| self.observe(&batch));
            let until = next.map_or(CLOCK_CHECK, |at| time_until(at).min(CLOCK_CHECK));
            tokio::select! {
                () = tokio::time::sleep(until) => {}
                () = self.store.transitions_changed() => {}
            }
        }
    }
}

/// Whichever way a run ends, the watch is down; and unless it is about to begin anew after a panic, there will
/// be no more events.
struct Ended<'a, K: CachedResource>(&'a Informer<K>);

impl<K: CachedResource> Drop for Ended<'_, K> {
    fn drop(&mut self) {
        self.0.health.down();
        if !std::thread::panicking() {
            self.0.subscriptions.close();
        }
    }
}

/// How long until the wall clock has passed an instant, rounded up to what a timer can do.
fn time_until(at: Timestamp) -> Duration {
    let left = at.duration_since(Timestamp::now()).unsigned_abs();
    let ahead = at > Timestamp::now();
    if ahead { left + Duration::from_millis(1) } else { Duration::from_millis(1) }
}
