//! [`CachedKind`]: the common interface of all kinds of a cache, for start, health, metrics and debugging.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::api_reader::ApiReader;
use super::outage::read_through_outages;
use super::watched::Watched;
use crate::informer::{Report, restart_after_panics};
use crate::kind::CacheObject;
use crate::object::KeyRef;

/// A cached object without its content, for comparison with the API server's object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedObject {
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Resource version.
    pub resource_version: String,
    /// The values under which each index stores the object. Indexes without a value are omitted.
    pub indexes: BTreeMap<&'static str, Vec<String>>,
}

/// One kind of a cache without its type parameter. Only the cache implements this trait.
pub trait CachedKind: Driven {
    /// Returns the kind, such as `Sandbox`.
    fn kind(&self) -> Cow<'static, str>;
    /// Returns the plural, such as `sandboxes`.
    fn plural(&self) -> Cow<'static, str>;
    /// Returns the API group; empty for the core group.
    fn group(&self) -> Cow<'static, str>;
    /// Returns true if the cache does not wait for the kind; see [`Watch::optional`](crate::Watch::optional).
    fn is_optional(&self) -> bool;
    /// Resolves once the initial list has completed. Cancel safe.
    fn synced(self: Arc<Self>) -> BoxFuture<'static, ()>;
    /// Resolves once the store has reached a resource version. Cancel safe.
    fn reached(self: Arc<Self>, version: u64) -> BoxFuture<'static, ()>;
    /// Returns the state of the watch.
    fn report(&self) -> Report;
    /// Returns the resource version that the store has reached.
    fn version(&self) -> u64;
    /// Returns the number of objects in the store, synced or not.
    fn objects(&self) -> usize;
    /// Returns the number of lookups that found an object, and that found none.
    fn lookups(&self) -> (u64, u64);
    /// Returns the number of own writes that the store does not contain yet, and the age of the oldest.
    fn outstanding_writes(&self) -> (usize, Duration);
    /// Returns the number of waits for objects of the kind.
    fn waits(&self) -> usize;
    /// Returns every object of the store, sorted by name. Copies a limited number of names under each lock,
    /// so other threads are not delayed. On a large cache this takes long.
    fn dump(&self) -> Vec<CachedObject>;
}

/// Runs a kind for the cache. Sealed: other crates cannot name this supertrait.
pub trait Driven: Send + Sync {
    /// Watches until cancelled. While the watch is down, reads the objects that callers wait for with
    /// `reader`.
    fn run(self: Arc<Self>, reader: ApiReader, stop: CancellationToken) -> BoxFuture<'static, ()>;
}

impl<K: CacheObject> Driven for Watched<K> {
    fn run(self: Arc<Self>, reader: ApiReader, stop: CancellationToken) -> BoxFuture<'static, ()> {
        async move {
            let (health, kind) = (self.informer.health(), K::kind(&()));
            let reads = restart_after_panics(health, &kind, || read_through_outages(&self, &reader));
            tokio::select! {
                () = self.informer.run(stop) => {}
                () = reads => {}
            }
        }
        .boxed()
    }
}

impl<K: CacheObject> CachedKind for Watched<K> {
    fn kind(&self) -> Cow<'static, str> {
        K::kind(&())
    }

    fn plural(&self) -> Cow<'static, str> {
        K::plural(&())
    }

    fn group(&self) -> Cow<'static, str> {
        K::group(&())
    }

    fn is_optional(&self) -> bool {
        self.optional
    }

    fn synced(self: Arc<Self>) -> BoxFuture<'static, ()> {
        async move { self.informer.wait_for_sync().await }.boxed()
    }

    fn reached(self: Arc<Self>, version: u64) -> BoxFuture<'static, ()> {
        async move { self.informer.wait_for_version(version).await }.boxed()
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
        self.expectations.outstanding(self.informer.version())
    }

    fn waits(&self) -> usize {
        self.waits.len()
    }

    fn dump(&self) -> Vec<CachedObject> {
        let mut objects = Vec::new();
        self.informer.store().visit(|object, values| {
            let (meta, key) = (object.meta(), KeyRef::of(&**object));
            let mut indexes: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for (number, value) in values {
                if let Some(name) = self.params.index_name(number) {
                    indexes.entry(name).or_default().push(value.into());
                }
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
}
