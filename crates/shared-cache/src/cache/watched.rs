//! [`Watched`]: one kind of the cache, with its informer and the cache's own state.

use std::sync::Arc;

use super::expectations::ResourceVersionExpectations;
use super::lookups::Lookups;
use super::watch::Watch;
use crate::informer::Informer;
use crate::kind::{CacheObject, KindParams};
use crate::object::Observer;
use crate::wait::{ChangeSignal, WaitSource, Waits};

/// One kind of the cache.
pub(crate) struct Watched<K: CacheObject> {
    /// True if the cache does not wait for the kind.
    pub(crate) optional: bool,
    pub(crate) params: Arc<KindParams<K>>,
    pub(crate) informer: Arc<Informer<K>>,
    pub(crate) waits: Arc<Waits<K>>,
    pub(crate) changes: Arc<ChangeSignal>,
    pub(crate) lookups: Lookups,
    pub(crate) expectations: Arc<ResourceVersionExpectations>,
}

impl<K: CacheObject> Watched<K> {
    pub(super) fn new(client: &kube::Client, params: KindParams<K>, watch: Watch, page_size: u32) -> Self {
        let optional = watch.is_optional();
        let params = Arc::new(params);
        let waits = Arc::new(Waits::new());
        let changes = Arc::new(ChangeSignal::new());
        let expectations = Arc::new(ResourceVersionExpectations::default());
        // Waits before expectations: a caller is blocked on them.
        let observers: Vec<Arc<dyn Observer<K>>> =
            vec![Arc::clone(&waits) as _, Arc::clone(&changes) as _, Arc::clone(&expectations) as _];
        let informer = Informer::new(client, Arc::clone(&params), watch.into_options(page_size), observers);
        Self {
            optional,
            params,
            informer: Arc::new(informer),
            waits,
            changes,
            lookups: Lookups::default(),
            expectations,
        }
    }

    /// Returns the source from which the waits of the kind get their states.
    pub(super) fn wait_source(&self) -> WaitSource<K> {
        WaitSource { informer: Arc::clone(&self.informer), waits: Arc::clone(&self.waits) }
    }

    /// Returns true if the kind is watched in this namespace.
    pub(crate) fn covers(&self, namespace: &str) -> bool {
        let namespaces = &self.informer.options().namespaces;
        namespaces.is_empty() || namespaces.iter().any(|watched| watched == namespace)
    }
}
