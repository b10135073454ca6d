//! [`ErasedKind`]: what the watches of all kinds have in common, for starting, health, metrics and debugging.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::api_reader::ApiReader;
use super::outage::read_through_outages;
use super::resources::Watched;
use crate::informer::{CachedResource, KeyRef, NAMESPACE_INDEX, Report};

/// How long a watch whose task has panicked rests before it is run again.
const REST_AFTER_PANIC: Duration = Duration::from_secs(1);

/// A cached object as the debug endpoint shows it: enough to hold it against the API server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedObject {
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Resource version.
    pub resource_version: String,
    /// The values that the object is filed under, by index; indexes that do not hold it are left out.
    pub indexes: BTreeMap<&'static str, Vec<String>>,
}

/// One watched kind without its type. Used by the cache and whoever reports on it.
pub trait ErasedKind: Send + Sync {
    /// As in `Sandbox`.
    fn kind(&self) -> Cow<'static, str>;
    /// As in `sandboxes`.
    fn plural(&self) -> Cow<'static, str>;
    /// The state of the watch.
    fn report(&self) -> Report;
    /// The version that the store has reached.
    fn version(&self) -> u64;
    /// Number of objects in the store, synced or not.
    fn objects(&self) -> usize;
    /// Lookups so far that found something, and that did not.
    fn lookups(&self) -> (u64, u64);
    /// Own writes that the store does not show yet, and the age of the oldest.
    fn outstanding_writes(&self) -> (usize, Duration);
    /// Every object of the store, sorted by name. Copies their names, a bounded step under each lock, so that
    /// nobody waits for it: for debugging.
    fn dump(&self) -> Vec<CachedObject>;
    /// Watches until cancelled. A panic, which only an extension of the cache could cause, is logged and
    /// the watch begins anew with a list.
    /// Live reads with `reader` stand in for the watch while it is down and somebody waits.
    fn run(self: Arc<Self>, reader: ApiReader, stop: CancellationToken) -> BoxFuture<'static, ()>;
    /// Resolves once the first list is complete.
    fn synced(self: Arc<Self>) -> BoxFuture<'static, ()>;
    /// Resolves once the store has reached a version.
    fn reached(self: Arc<Self>, version: u64) -> BoxFuture<'static, ()>;
}

impl<K: CachedResource> Watched<K> {
    async fn watch(&self, stop: CancellationToken) {
        while AssertUnwindSafe(self.informer.run(stop.clone())).catch_unwind().await.is_err() {
            tracing::error!(kind = %K::kind(&()), "watch panicked, beginning anew");
            if stop.run_until_cancelled(tokio::time::sleep(REST_AFTER_PANIC)).await.is_none() {
                return;
            }
        }
    }
}

impl<K: CachedResource> ErasedKind for Watched<K> {
    fn kind(&self) -> Cow<'static, str> {
        K::kind(&())
    }

    fn plural(&self) -> Cow<'static, str> {
        K::plural(&())
    }

    fn report(&self) -> Report {
        self.informer.health().report()
    }

    fn version(&self) -> u64 {
        self.informer.version()
    }

    fn objects(&self) -> usize {
        self.informer.store().len()
    }

    fn lookups(&self) -> (u64, u64) {
        self.lookups.totals()
    }

    fn outstanding_writes(&self) -> (usize, Duration) {
        self.expectations.outstanding()
    }

    fn dump(&self) -> Vec<CachedObject> {
        let mut objects = Vec::new();
        self.informer.store().visit(|object, values| {
            let (meta, key) = (object.meta(), KeyRef::of(&**object));
            let mut indexes: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for (number, value) in values.filter(|(number, _)| *number > NAMESPACE_INDEX) {
                let index = &K::indexes()[usize::from(number - NAMESPACE_INDEX - 1)];
                indexes.entry(index.name).or_default().push(value.into());
            }
            objects.push(CachedObject {
                namespace: key.namespace.into(),
                name: key.name.into(),
                uid: meta.uid.clone().unwrap_or_default(),
                resource_version: meta.resource_version.clone().unwrap_or_default(),
                indexes,
            });
        });
        objects.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        objects
    }

    fn run(self: Arc<Self>, reader: ApiReader, stop: CancellationToken) -> BoxFuture<'static, ()> {
        async move {
            tokio::select! {
                () = self.watch(stop) => {}
                () = read_through_outages(&self, &reader) => {}
            }
            self.waits.close();
        }
        .boxed()
    }

    fn synced(self: Arc<Self>) -> BoxFuture<'static, ()> {
        async move { self.informer.wait_for_sync().await }.boxed()
    }

    fn reached(self: Arc<Self>, version: u64) -> BoxFuture<'static, ()> {
        async move { self.informer.wait_for_version(version).await }.boxed()
    }
}
