//! A controller of ConfigMaps on a cache that an API server in memory feeds, under paused time.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use memory_apiserver::ApiServer;
use parking_lot::Mutex;
use prometheus::{Registry, TextEncoder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use shared_cache::{CacheObject, SharedCache, Watch};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Action, Controller, ControllerError, ControllerMetricFamilies, Observed, ReconcileHandler};

pub(super) const NAMESPACE: &str = "default";

/// How long a test waits for what must happen; virtual time.
const SOON: Duration = Duration::from_mins(1);

/// What handlers were called with, in order.
#[derive(Clone, Default)]
pub(super) struct Calls {
    calls: Arc<Mutex<Vec<String>>>,
    called: Arc<Notify>,
}

impl Calls {
    pub(super) fn add(&self, call: String) {
        self.calls.lock().push(call);
        self.called.notify_one();
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.calls.lock().clone()
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock())
    }

    /// Waits until there are this many calls, and takes them out.
    pub(super) async fn next(&self, count: usize) -> Vec<String> {
        let enough = async {
            while self.calls.lock().len() < count {
                self.called.notified().await;
            }
        };
        let in_time = tokio::time::timeout(SOON, enough).await;
        let calls = self.take();
        assert!(in_time.is_ok() && calls.len() == count, "expected {count} calls, there are {calls:?}");
        calls
    }
}

/// A short text for what a handler was called with: the name and the value of the ConfigMap.
pub(super) fn show(observed: &Observed<ConfigMap>) -> String {
    let value =
        |map: &ConfigMap| map.data.as_ref().and_then(|data| data.get("v")).cloned().unwrap_or_default();
    match observed {
        Observed::Present(map) => format!("{}={}", map.name_any(), value(map)),
        Observed::Deleted { key, last_known, reason } => {
            format!("-{}={} {reason}", key.name, last_known.as_deref().map_or_else(String::new, value))
        }
    }
}

/// A namespaced kind that tests write.
pub(super) trait Written:
    CacheObject
    + Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + Serialize
    + DeserializeOwned
{
}

impl Written for ConfigMap {}
impl Written for Secret {}

pub(super) struct Fixture {
    pub(super) server: ApiServer,
    pub(super) cache: SharedCache,
    pub(super) registry: Registry,
    pub(super) calls: Calls,
    pub(super) controller: Option<Controller<ConfigMap>>,
    pub(super) stop: CancellationToken,
}

impl Fixture {
    /// Waits until the cache is synced with ConfigMaps of these names, all with the value `0`.
    pub(super) async fn new(names: &[&str]) -> Self {
        let this = Self::unsynced(names);
        this.cache.start().await.unwrap();
        this
    }

    /// The cache is not started.
    pub(super) fn unsynced(names: &[&str]) -> Self {
        Self::with_client(names, std::convert::identity)
    }

    /// The cache is not started, and uses the client that `wrap` makes of the server's.
    pub(super) fn with_client(names: &[&str], wrap: impl FnOnce(Client) -> Client) -> Self {
        Self::build(names, Watch::all(), wrap)
    }

    /// The cache watches only a selection of the ConfigMaps. Waits until it is synced.
    pub(super) async fn selective(names: &[&str], selector: &str) -> Self {
        let watch = Watch::all().labels(&selector.parse().unwrap());
        let this = Self::build(names, watch, std::convert::identity);
        this.cache.start().await.unwrap();
        this
    }

    fn build(names: &[&str], watch: Watch, wrap: impl FnOnce(Client) -> Client) -> Self {
        let server = ApiServer::new();
        for name in names {
            server.load(&config_map(name, "0")).unwrap();
        }
        let cache = SharedCache::builder(wrap(server.client()))
            .page_size(1)
            .kind::<ConfigMap>(watch)
            .kind::<Secret>(Watch::all())
            .build()
            .unwrap();
        let registry = Registry::new();
        let metrics = ControllerMetricFamilies::register(&registry).unwrap();
        let controller = Some(Controller::new("test", None, &cache, &metrics));
        Self { server, cache, registry, calls: Calls::default(), controller, stop: CancellationToken::new() }
    }

    pub(super) fn controller(&mut self) -> &mut Controller<ConfigMap> {
        self.controller.as_mut().unwrap()
    }

    pub(super) fn handle(&mut self, handler: impl ReconcileHandler<ConfigMap>) {
        self.controller().add_reconcile_handler(handler);
    }

    /// Adds a handler that records what it is called with, under a prefix.
    pub(super) fn record(&mut self, prefix: &'static str) {
        let calls = self.calls.clone();
        self.handle(move |observed: Observed<ConfigMap>| {
            calls.add(format!("{prefix}{}", show(&observed)));
            async { Ok(Action::await_change()) }
        });
    }

    /// Adds a handler that records its call and then waits for a permit.
    pub(super) fn record_gated(&mut self) -> Arc<Semaphore> {
        let (gate, calls) = (Arc::new(Semaphore::new(0)), self.calls.clone());
        let opened = Arc::clone(&gate);
        self.handle(move |observed: Observed<ConfigMap>| {
            calls.add(show(&observed));
            let gate = Arc::clone(&opened);
            async move {
                gate.acquire().await?.forget();
                Ok(Action::await_change())
            }
        });
        gate
    }

    pub(super) fn run(&mut self) -> JoinHandle<Result<(), ControllerError>> {
        tokio::spawn(self.controller.take().unwrap().run(self.stop.clone()))
    }

    pub(super) fn api<K: Written>(&self) -> Api<K> {
        Api::namespaced(self.server.client_without_faults(), NAMESPACE)
    }

    /// Creates the ConfigMap with a value, or changes it, and waits until the cache has it.
    pub(super) async fn apply(&self, name: &str, value: &str) -> ConfigMap {
        let params = PatchParams::apply("test").force();
        let patch = Patch::Apply(config_map(name, value));
        let written = self.api::<ConfigMap>().patch(name, &params, &patch).await.unwrap();
        self.cached(&written).await;
        written
    }

    /// Creates any object and waits until the cache has it.
    pub(super) async fn create<K: Written>(&self, object: &K) -> K {
        let written = self.api::<K>().create(&PostParams::default(), object).await.unwrap();
        self.cached(&written).await;
        written
    }

    pub(super) async fn cached<K: CacheObject>(&self, written: &K) {
        let version = written.meta().resource_version.clone().unwrap();
        self.cache.await_version::<K>(&version, SOON).await.unwrap();
    }

    /// Deletes the object, and waits until the cache no longer has it.
    pub(super) async fn delete<K: Written>(&self, name: &str) {
        self.api::<K>().delete(name, &DeleteParams::default()).await.unwrap();
        let is_gone = |object: Option<&K>| object.is_none();
        self.cache.wait_for::<K>((NAMESPACE, name), is_gone).timeout(SOON).await.unwrap();
    }

    /// Lets everything that is due happen.
    pub(super) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    pub(super) fn metrics(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }

    /// The value of a series of the controller, without its fraction.
    pub(super) fn metric(&self, name: &str) -> u64 {
        self.series(&format!("{name}{{controller=\"test\"}}"))
    }

    /// The value of a series of the controller's queue.
    pub(super) fn queue_metric(&self, name: &str) -> u64 {
        self.series(&format!("{name}{{controller=\"test\",name=\"test\"}}"))
    }

    /// The number of keys whose run is due, of every priority.
    pub(super) fn queue_depth(&self) -> u64 {
        let depth = |priority: &str| {
            self.series(&format!(
                "workqueue_depth{{controller=\"test\",name=\"test\",priority=\"{priority}\"}}"
            ))
        };
        depth("0") + depth("-100")
    }

    /// The number of reconciles with a result.
    pub(super) fn results(&self, result: &str) -> u64 {
        self.series(&format!("controller_runtime_reconcile_total{{controller=\"test\",result=\"{result}\"}}"))
    }

    fn series(&self, series: &str) -> u64 {
        let text = self.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("{series} is missing from\n{text}"));
        value.split('.').next().unwrap().parse().unwrap()
    }
}

pub(super) fn config_map(name: &str, value: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": NAMESPACE, "name": name},
        "data": {"v": value},
    })
}

/// A Secret that a ConfigMap controls.
pub(super) fn owned_secret(name: &str, owner: &ConfigMap) -> Secret {
    let reference = OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: owner.name_any(),
        uid: owner.uid().unwrap(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    let metadata = ObjectMeta {
        namespace: Some(NAMESPACE.into()),
        name: Some(name.into()),
        owner_references: Some(vec![reference]),
        ..ObjectMeta::default()
    };
    Secret { metadata, ..Secret::default() }
}
