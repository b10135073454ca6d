//! [`SharedCacheBuilder`]: collects the kinds of a cache, their indexes and transforms.

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use kube::core::ClusterResourceScope;
use serde::de::DeserializeOwned;

use super::kinds::Kinds;
use super::shared_cache::{Parts, SharedCache};
use super::watch::Watch;
use super::watched::Watched;
use crate::kind::{CacheObject, CachedResource, DecodeError, Index, IndexDefinition, IndexKeys, KindParams};
use crate::runtime_thread::RuntimeThread;
use crate::wait::WaitMetrics;

/// Default time that [`SharedCache::start`] waits for the initial lists.
const SYNC_TIMEOUT: Duration = Duration::from_mins(2);

/// The reason why a cache could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A kind was added twice.
    #[error("kind {kind} was added twice; one watch serves all its readers")]
    KindAddedTwice {
        /// The kind.
        kind: Cow<'static, str>,
    },
    /// An index, a decoder or a transform was added for a kind that was not added before.
    #[error("{what} was added for kind {kind}, which the cache does not have; add the kind first")]
    UnknownKind {
        /// The kind.
        kind: Cow<'static, str>,
        /// The addition, such as `index "nodeName"`.
        what: String,
    },
    /// An index name was used twice for one kind.
    #[error("kind {kind} has two indexes named {index:?}; index names must be unique")]
    IndexAddedTwice {
        /// The kind.
        kind: Cow<'static, str>,
        /// The name.
        index: &'static str,
    },
    /// A cluster-scoped kind was added with a namespace to watch.
    #[error("kind {kind} is cluster-scoped and cannot be watched in a namespace; use Watch::all()")]
    ClusterScoped {
        /// The kind.
        kind: Cow<'static, str>,
    },
}

/// The reason why the watch thread could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchThreadError<E: std::error::Error + 'static> {
    /// The operating system did not start a thread.
    #[error("cannot start a thread for the watches: {0}")]
    Thread(#[source] io::Error),
    /// The client of the watches could not be created.
    #[error(transparent)]
    Client(E),
}

/// The inputs with which every kind is built.
struct KindContext<'a> {
    client: &'a kube::Client,
    page_size: u32,
}

/// A kind that was added and is not built yet.
struct PendingKind<K> {
    watch: Watch,
    params: KindParams<K>,
}

/// A [`PendingKind`] without its type parameter.
struct ErasedPending {
    type_id: TypeId,
    pending: Box<dyn Any + Send>,
    build: fn(Box<dyn Any + Send>, &KindContext<'_>, &mut Kinds),
}

/// Collects the kinds of a cache. Created by [`SharedCache::builder`].
#[must_use]
pub struct SharedCacheBuilder {
    client: kube::Client,
    watch_thread: Option<(RuntimeThread, kube::Client)>,
    page_size: u32,
    sync_timeout: Duration,
    kinds: Vec<ErasedPending>,
    error: Option<BuildError>,
}

impl SharedCache {
    /// Creates a builder. The cache uses the client for the watches and for live reads. Handlers can get the
    /// client from the cache.
    pub fn builder(client: kube::Client) -> SharedCacheBuilder {
        SharedCacheBuilder::new(client)
    }
}

impl SharedCacheBuilder {
    fn new(client: kube::Client) -> Self {
        Self {
            client,
            watch_thread: None,
            page_size: 0,
            sync_timeout: SYNC_TIMEOUT,
            kinds: Vec::new(),
            error: None,
        }
    }

    /// Adds a kind without its own indexes, decoder or time rule.
    pub fn kind<K: CacheObject + DeserializeOwned>(self, watch: Watch) -> Self {
        self.add_kind::<K>(watch, KindParams::plain())
    }

    /// Adds a kind with the indexes, the decoder and the time rule of its [`CachedResource`] implementation.
    pub fn cached_kind<K: CachedResource>(self, watch: Watch) -> Self {
        let params = KindParams::<K>::cached();
        let names: Vec<_> = params.index_names().collect();
        let mut builder = self.add_kind::<K>(watch, params);
        for (position, name) in names.iter().enumerate() {
            if names[..position].contains(name) {
                builder.fail(BuildError::IndexAddedTwice { kind: K::kind(&()), index: name });
            }
        }
        builder
    }

    /// Adds an index to a kind that was added before. `extract` adds the values of one object. It must be
    /// fast and must not block.
    pub fn index<K: CacheObject>(
        mut self,
        index: impl Into<Index<K>>,
        extract: impl Fn(&K, &mut IndexKeys<'_>) + Send + Sync + 'static,
    ) -> Self {
        let index = index.into();
        let Some(pending) = self.pending::<K>(|| format!("index {:?}", index.name())) else {
            return self;
        };
        if pending.params.index_number(index.name()).is_some() {
            self.fail(BuildError::IndexAddedTwice { kind: K::kind(&()), index: index.name() });
            return self;
        }
        pending.params.add_index(IndexDefinition { index, extract: Arc::new(extract) });
        self
    }

    /// Sets the decoder of a kind that was added before. A decoder can skip large fields, which a transform can drop
    /// only after they were decoded.
    pub fn decoder<K: CacheObject>(
        mut self,
        decode: impl Fn(&str) -> Result<K, DecodeError> + Send + Sync + 'static,
    ) -> Self {
        if let Some(pending) = self.pending::<K>(|| "a decoder".to_owned()) {
            pending.params.set_decoder(Arc::new(decode));
        }
        self
    }

    /// Adds a transform that changes each object of a kind before it is stored. A transform can drop large
    /// fields, for example. Transforms run in the order in which they were added. They must not change name,
    /// namespace, UID or resource version.
    pub fn transform<K: CacheObject>(mut self, transform: impl Fn(&mut K) + Send + Sync + 'static) -> Self {
        if let Some(pending) = self.pending::<K>(|| "a transform".to_owned()) {
            pending.params.add_transform(Arc::new(transform));
        }
        self
    }

    /// Sets the number of objects in a page if the API server has no streaming lists; 500 by default.
    pub fn page_size(mut self, page_size: u32) -> Self {
        self.page_size = page_size;
        self
    }

    /// Sets how long [`SharedCache::start`] waits for the initial lists; two minutes by default.
    pub fn sync_timeout(mut self, timeout: Duration) -> Self {
        self.sync_timeout = timeout;
        self
    }

    /// Runs the watches on their own thread with their own client. An initial sync then costs half the CPU
    /// time, and neither busy handlers nor many handler requests can delay a watch.
    ///
    /// `make_client` is called inside the thread's runtime, so that the client's connections run there.
    ///
    /// # Errors
    ///
    /// If the operating system does not start a thread, or `make_client` fails.
    pub fn watch_thread<E: std::error::Error + 'static>(
        mut self,
        make_client: impl FnOnce() -> Result<kube::Client, E>,
    ) -> Result<Self, WatchThreadError<E>> {
        let thread = RuntimeThread::start("watches").map_err(WatchThreadError::Thread)?;
        let client = {
            let _entered = thread.handle().enter();
            make_client().map_err(WatchThreadError::Client)?
        };
        self.watch_thread = Some((thread, client));
        Ok(self)
    }

    /// Builds the cache. Nothing is started.
    ///
    /// # Errors
    ///
    /// The first error of the builder calls; see [`BuildError`].
    pub fn build(self) -> Result<SharedCache, BuildError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let wait_metrics = WaitMetrics::new();
        let (watch_thread, watch_client) = self.watch_thread.unzip();
        let client = watch_client.as_ref().unwrap_or(&self.client);
        let context = KindContext { client, page_size: self.page_size };
        let mut kinds = Kinds::default();
        for kind in self.kinds {
            (kind.build)(kind.pending, &context, &mut kinds);
        }
        Ok(SharedCache::new(Parts {
            client: self.client,
            kinds,
            watch_thread,
            wait_metrics,
            sync_timeout: self.sync_timeout,
        }))
    }

    fn add_kind<K: CacheObject>(mut self, watch: Watch, params: KindParams<K>) -> Self {
        let type_id = TypeId::of::<K>();
        let cluster_scoped = TypeId::of::<K::Scope>() == TypeId::of::<ClusterResourceScope>();
        if self.kinds.iter().any(|kind| kind.type_id == type_id) {
            self.fail(BuildError::KindAddedTwice { kind: K::kind(&()) });
        } else if cluster_scoped && watch.has_namespaces() {
            self.fail(BuildError::ClusterScoped { kind: K::kind(&()) });
        } else {
            let pending = Box::new(PendingKind::<K> { watch, params });
            self.kinds.push(ErasedPending { type_id, pending, build: build_kind::<K> });
        }
        self
    }

    /// Returns the kind if it was added before, otherwise records an error.
    fn pending<K: CacheObject>(&mut self, what: impl FnOnce() -> String) -> Option<&mut PendingKind<K>> {
        let type_id = TypeId::of::<K>();
        let position = self.kinds.iter().position(|kind| kind.type_id == type_id);
        let Some(position) = position else {
            self.fail(BuildError::UnknownKind { kind: K::kind(&()), what: what() });
            return None;
        };
        self.kinds[position].pending.downcast_mut()
    }

    fn fail(&mut self, error: BuildError) {
        self.error.get_or_insert(error);
    }
}

fn build_kind<K: CacheObject>(pending: Box<dyn Any + Send>, context: &KindContext<'_>, kinds: &mut Kinds) {
    if let Ok(pending) = pending.downcast::<PendingKind<K>>() {
        let PendingKind { watch, params } = *pending;
        kinds.add(Arc::new(Watched::new(context.client, params, watch, context.page_size)));
    }
}
