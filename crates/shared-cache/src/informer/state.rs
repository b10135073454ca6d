//! [`InformerState`]: the state that the lists and watches of one kind share.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::health::Health;
use super::informer_options::InformerOptions;
use super::list_watch::ListWatch;
use super::observers::Observers;
use crate::kind::{CacheObject, KindParams};
use crate::object::Observer;
use crate::store::{Partition, Store};

/// The store of a kind, its health, its observers, and the requests of each partition.
pub(super) struct InformerState<K: CacheObject> {
    pub(super) store: Store<K>,
    pub(super) health: Health,
    pub(super) options: InformerOptions,
    /// The requests of each partition.
    pub(super) list_watches: Vec<ListWatch>,
    pub(super) observers: Observers<K>,
    pub(super) versions: Versions,
    /// Connects the reflector of each partition with its consistency check.
    pub(super) links: Vec<CheckLink>,
}

/// Connects the reflector of a partition with its consistency check.
#[derive(Default)]
pub(super) struct CheckLink {
    /// Notified when a watch works again after its connection was lost. The server may have been restored from a
    /// backup meanwhile.
    pub(super) reconnected: Notify,
    /// Counts the lists that have begun to change the store.
    lists: watch::Sender<u64>,
    /// The difference that a check has found, until the reflector begins to repair it.
    difference: Mutex<Option<String>>,
    found: Notify,
}

/// Notices the lists that begin after it was created.
pub(super) struct Lists(watch::Receiver<u64>);

impl Lists {
    /// Resolves once a list has begun. Cancel safe.
    pub(super) async fn begun(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl CheckLink {
    pub(super) fn list_begins(&self) {
        self.lists.send_modify(|lists| *lists += 1);
    }

    pub(super) fn lists(&self) -> Lists {
        Lists(self.lists.subscribe())
    }

    /// Requests a list that replaces all objects.
    pub(super) fn request_repair(&self, difference: String) {
        *self.difference.lock() = Some(difference);
        self.found.notify_one();
    }

    /// Resolves with the difference once a repair is requested. Cancel safe.
    pub(super) async fn repair_requested(&self) -> String {
        loop {
            if let Some(difference) = self.difference.lock().take() {
                return difference;
            }
            self.found.notified().await;
        }
    }
}

impl<K: CacheObject> InformerState<K> {
    pub(super) fn new(
        client: &kube::Client,
        params: Arc<KindParams<K>>,
        options: InformerOptions,
        observers: Vec<Arc<dyn Observer<K>>>,
    ) -> Self {
        let list_watch = |namespace: Option<&str>| {
            let (labels, fields) = (options.label_selector.clone(), options.field_selector.clone());
            ListWatch::new::<K>(client, namespace, labels, fields)
        };
        let list_watches: Vec<_> = if options.namespaces.is_empty() {
            vec![list_watch(None)]
        } else {
            options.namespaces.iter().map(|namespace| list_watch(Some(namespace))).collect()
        };
        let partitions = list_watches.len();
        let health = Health::new(partitions);
        Self {
            store: Store::new(params, partitions, options.has_selector()),
            options,
            list_watches,
            observers: Observers::new(observers, Arc::clone(health.panics())),
            health,
            versions: Versions::new(partitions),
            links: (0..partitions).map(|_| CheckLink::default()).collect(),
        }
    }
}

/// The resource version that each partition has reached.
pub(super) struct Versions {
    partitions: Mutex<Vec<u64>>,
    /// The lowest version of all partitions, which every partition has reached; 0 before the first list.
    reached: watch::Sender<u64>,
}

impl Versions {
    fn new(partitions: usize) -> Self {
        Self { partitions: Mutex::new(vec![0; partitions]), reached: watch::Sender::new(0) }
    }

    pub(super) fn of(&self, partition: Partition) -> u64 {
        self.partitions.lock()[usize::from(partition)]
    }

    /// Records that a partition has reached a version. Always wakes the waiters, because the kind may also
    /// have synced.
    pub(super) fn advance(&self, partition: Partition, version: u64) {
        let mut partitions = self.partitions.lock();
        partitions[usize::from(partition)] = version;
        let lowest = partitions.iter().copied().min().unwrap_or_default();
        self.reached.send_replace(lowest);
    }

    /// Resolves once a partition has reached a version. Cancel safe.
    pub(super) async fn reached_in(&self, partition: Partition, version: u64) {
        let mut changes = self.reached.subscribe();
        while self.of(partition) < version {
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    pub(super) fn reached(&self) -> u64 {
        *self.reached.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.reached.subscribe()
    }
}
