//! [`World`]: an API server with a kubelet, and a manager that runs all lifecycle controllers on it.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::ensure;
use jiff::SignedDuration;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Event;
use kube::api::{ListParams, PostParams};
use kube::{Api, Resource};
use memory_apiserver::{ApiServer, ApiServerBuilder, Kubelet, Timestamp};
use sandbox_manager::SandboxManagerOptions;
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxSet};
use sandbox_manager::testing::TestCache;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::runtime::Runtime;
use crate::support::{SOON, eventually};

/// Namespace of everything.
pub(super) const NAMESPACE: &str = "default";

/// How long a pod takes until it is ready.
const START: Duration = Duration::from_millis(50);

pub(super) struct World {
    pub(super) server: ApiServer,
    pub(super) kubelet: Kubelet,
    manager: TestCache,
}

impl World {
    /// With pods that are ready soon.
    pub(super) async fn start() -> Self {
        Self::with(|server| server, "").await
    }

    /// As [`Self::start`], with this program in the pods.
    pub(super) async fn with_runtime(runtime: &Runtime) -> Self {
        let kubelet = Kubelet::ready_after(START).pod_address(runtime.address);
        Self::of(kubelet, |server| server, "").await
    }

    /// As [`Self::start`], but the manager only sees the objects that a label selector selects.
    pub(super) async fn selecting(selector: &str) -> Self {
        Self::with(|server| server, selector).await
    }

    /// As [`Self::start`], but the API server believes that it is an hour earlier, so its objects are old.
    pub(super) async fn an_hour_ago() -> Self {
        let clock = || Timestamp::now() - SignedDuration::from_hours(1);
        Self::with(|server| server.clock(clock), "").await
    }

    async fn with(change: impl FnOnce(ApiServerBuilder) -> ApiServerBuilder, selector: &str) -> Self {
        Self::of(Kubelet::ready_after(START), change, selector).await
    }

    async fn of(
        kubelet: Kubelet,
        change: impl FnOnce(ApiServerBuilder) -> ApiServerBuilder,
        selector: &str,
    ) -> Self {
        let server = change(ApiServer::builder().kubelet(&kubelet)).start().unwrap();
        let manager = manager(&server, selector).await;
        Self { server, kubelet, manager }
    }

    /// Stops the manager, and starts another one.
    pub(super) async fn restarted(self) -> Self {
        self.manager.stop().await.unwrap();
        let manager = manager(&self.server, "").await;
        Self { manager, ..self }
    }

    /// A client that no fault strikes.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.server.client_without_faults(), NAMESPACE)
    }

    /// Creates an object of this metadata and spec.
    pub(super) async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + serde::Serialize
            + DeserializeOwned,
    {
        let object = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Creates a set, and waits until all its members are available.
    pub(super) async fn full_set(&self, name: &str, replicas: i32) -> SandboxSet {
        self.full_set_of(name, replicas, json!({"name": "a", "image": "busybox"})).await
    }

    /// As [`Self::full_set`], with pods of this container.
    pub(super) async fn full_set_of(&self, name: &str, replicas: i32, container: Value) -> SandboxSet {
        let set: SandboxSet = self
            .create(json!({
                "metadata": {"name": name},
                "spec": {
                    "replicas": replicas,
                    "template": {
                        "metadata": {"labels": {"app": name}}, "spec": {"containers": [container]},
                    },
                },
            }))
            .await;
        self.set_has(name, replicas).await;
        set
    }

    /// Waits until a set has so many available members.
    pub(super) async fn set_has(&self, name: &str, available: i32) {
        let sets = self.api::<SandboxSet>();
        eventually(&format!("{available} members of {name}"), SOON, async || {
            let status = sets.get(name).await?.status.unwrap_or_default();
            ensure!(status.observed_generation.is_some(), "no status");
            ensure!(status.available_replicas == available, "{status:?}");
            Ok(())
        })
        .await;
    }

    /// The sandboxes that a label selects.
    pub(super) async fn sandboxes(&self, selector: &str) -> Vec<Sandbox> {
        self.api::<Sandbox>().list(&ListParams::default().labels(selector)).await.unwrap().items
    }

    /// Waits for an event about an object, and returns its note.
    pub(super) async fn event(&self, of: &str, reason: &str) -> String {
        let events = self.api::<Event>();
        eventually(&format!("event {reason} on {of}"), SOON, async || {
            let all = events.list(&ListParams::default()).await?.items;
            let seen: Vec<_> = all
                .iter()
                .map(|event| format!("{:?} {:?}", event.involved_object.name, event.reason))
                .collect();
            let is_it = |event: &&Event| {
                event.involved_object.name.as_deref() == Some(of) && event.reason.as_deref() == Some(reason)
            };
            let found = all.iter().find(is_it);
            ensure!(found.is_some(), "{seen:?}");
            Ok(found.and_then(|event| event.message.clone()).unwrap_or_default())
        })
        .await
    }
}

async fn manager(server: &ApiServer, selector: &str) -> TestCache {
    let mut options = SandboxManagerOptions::default();
    options.lifecycle.enabled = true;
    options.client.qps = 0;
    selector.clone_into(&mut options.sandbox_label_selector);
    TestCache::builder().server(server.clone()).options(options).build().await.unwrap()
}

/// The names of objects, sorted.
pub(super) fn names<K: Resource>(objects: &[K]) -> Vec<String> {
    let mut names: Vec<_> = objects.iter().map(kube::ResourceExt::name_any).collect();
    names.sort_unstable();
    names
}
