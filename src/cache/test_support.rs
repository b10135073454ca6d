//! A cache on a scripted API server, for the unit tests of the cache and of its users.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::scripted_server::{Server as ScriptedServer, WatchStream, server as scripted_server};
use super::{SandboxCache, SandboxCacheBuilder};
use crate::api::v1alpha1::{
    ANNOTATION_OWNER, API_VERSION, LABEL_RESERVED_FAILED_SANDBOX, LABEL_SANDBOX_CLAIMED, LABEL_SANDBOX_ID,
    LABEL_SANDBOX_POOL, Sandbox,
};

/// A running cache whose watch events the test sends.
pub(crate) struct Feed {
    pub(crate) cache: SandboxCache,
    pub(crate) server: ScriptedServer,
    watches: HashMap<String, WatchStream>,
    version: u64,
}

impl Feed {
    /// Starts a cache of the default scope and syncs it with these objects. Each object is under the plural
    /// of its kind.
    pub(crate) async fn start(objects: &[(&str, Value)]) -> Self {
        let mut feed = Self::unsynced(|builder| builder);
        feed.sync(objects).await;
        feed
    }

    /// Spawns a cache whose lists the server has not answered yet.
    pub(crate) fn unsynced(configure: impl FnOnce(SandboxCacheBuilder) -> SandboxCacheBuilder) -> Self {
        let (client, server) = scripted_server();
        let cache = configure(SandboxCache::builder(client)).build();
        cache.spawn().unwrap();
        Self::adopt(cache, server)
    }

    /// Wraps a cache that already runs on a scripted server.
    pub(crate) fn adopt(cache: SandboxCache, server: ScriptedServer) -> Self {
        Self { cache, server, watches: HashMap::new(), version: 1000 }
    }

    /// Answers the initial list of every kind.
    pub(crate) async fn sync(&mut self, objects: &[(&str, Value)]) {
        for _ in self.cache.kinds() {
            let exchange = self.server.next().await;
            let plural = exchange.path.rsplit('/').next().unwrap().to_owned();
            let mut watch = exchange.stream();
            for (_, object) in objects.iter().filter(|(of, _)| *of == plural) {
                watch.event("ADDED", object).await;
            }
            watch.end_of_list("1000").await;
            self.watches.insert(plural, watch);
        }
        self.cache.wait_for_cache_sync().await;
    }

    /// Sends an event of a kind with a new version of the object. Waits until the cache has received it.
    pub(crate) async fn send(&mut self, plural: &str, kind: &str, object: &Value) -> u64 {
        self.version += 1;
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.watches.get_mut(plural).unwrap().event(kind, &object).await;
        let watched = self.cache.kinds().iter().find(|kind| kind.plural() == plural).unwrap();
        while watched.version() < self.version {
            tokio::task::yield_now().await;
        }
        self.version
    }

    /// Ends the watch of a kind.
    pub(crate) fn cut(&mut self, plural: &str) {
        self.watches.remove(plural);
    }

    /// Sends the event that the sandbox was created or changed.
    pub(crate) async fn apply(&mut self, sandbox: &Fixture) -> u64 {
        self.send("sandboxes", "MODIFIED", &sandbox.0).await
    }

    /// Sends the event that the sandbox was deleted.
    pub(crate) async fn delete(&mut self, sandbox: &Fixture) -> u64 {
        self.send("sandboxes", "DELETED", &sandbox.0).await
    }
}

/// A sandbox in namespace `ns`, to be extended by the methods.
#[derive(Clone)]
pub(crate) struct Fixture(pub(crate) Value);

/// Returns a sandbox of this name. Its UID is the name with a dash.
pub(crate) fn sandbox(name: &str) -> Fixture {
    Fixture(json!({
        "metadata": {
            "namespace": "ns", "name": name, "uid": format!("{name}-"), "resourceVersion": "1",
            "labels": {}, "annotations": {},
        },
        "spec": {},
        "status": {"phase": "Running"},
    }))
}

impl Fixture {
    fn with(mut self, pointer: &str, key: &str, value: impl Into<Value>) -> Self {
        self.0.pointer_mut(pointer).unwrap()[key] = value.into();
        self
    }

    pub(crate) fn namespace(self, namespace: &str) -> Self {
        self.with("/metadata", "namespace", namespace)
    }

    pub(crate) fn uid(self, uid: &str) -> Self {
        self.with("/metadata", "uid", uid)
    }

    pub(crate) fn label(self, key: &str, value: &str) -> Self {
        self.with("/metadata/labels", key, value)
    }

    pub(crate) fn owner(self, user: &str) -> Self {
        self.with("/metadata/annotations", ANNOTATION_OWNER, user)
    }

    pub(crate) fn claimed(self) -> Self {
        self.label(LABEL_SANDBOX_CLAIMED, "true")
    }

    pub(crate) fn id(self, id: &str) -> Self {
        self.label(LABEL_SANDBOX_ID, id)
    }

    pub(crate) fn reserved_failed(self) -> Self {
        self.label(LABEL_RESERVED_FAILED_SANDBOX, "true")
    }

    /// Makes the sandbox a member of a pool: labelled, and controlled by the set of that name.
    pub(crate) fn pooled(self, pool: &str) -> Self {
        let owner = json!([{"apiVersion": API_VERSION, "kind": "SandboxSet", "name": pool, "uid": "s", "controller": true}]);
        self.label(LABEL_SANDBOX_POOL, pool).with("/metadata", "ownerReferences", owner)
    }

    pub(crate) fn phase(self, phase: &str) -> Self {
        self.with("/status", "phase", phase)
    }

    pub(crate) fn ready(self) -> Self {
        self.condition("Ready", "True", "PodReady")
    }

    pub(crate) fn annotation(self, key: &str, value: &str) -> Self {
        self.with("/metadata/annotations", key, value)
    }

    pub(crate) fn paused(self, paused: bool) -> Self {
        self.with("/spec", "paused", paused)
    }

    /// Sets the only condition.
    pub(crate) fn condition(self, type_: &str, status: &str, reason: &str) -> Self {
        let condition = json!([{"type": type_, "status": status, "reason": reason, "message": "",
                                "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        self.with("/status", "conditions", condition)
    }

    pub(crate) fn status(self, field: &str, value: &str) -> Self {
        self.with("/status", field, value)
    }

    pub(crate) fn pod_ip(self, address: &str) -> Self {
        self.with("/status", "podInfo", json!({"podIP": address}))
    }

    pub(crate) fn generation(self, generation: i64) -> Self {
        self.with("/metadata", "generation", generation)
    }

    pub(crate) fn observed(self, generation: i64) -> Self {
        self.with("/status", "observedGeneration", generation)
    }

    pub(crate) fn deleting(self) -> Self {
        self.with("/metadata", "deletionTimestamp", "2026-01-01T00:00:00Z")
    }

    pub(crate) fn shutdown_at(self, at: Timestamp) -> Self {
        self.with("/spec", "shutdownTime", at.to_string())
    }

    /// Returns the sandbox as an entry of [`Feed::start`].
    pub(crate) fn listed(&self) -> (&'static str, Value) {
        ("sandboxes", self.0.clone())
    }

    /// Returns the sandbox as the API server would return it in this version.
    pub(crate) fn typed(&self, version: u64) -> Sandbox {
        serde_json::from_value(self.clone().with("/metadata", "resourceVersion", version.to_string()).0)
            .unwrap()
    }
}
