//! Tests the claim engine on the in-memory API server: with members that are ready from the beginning, and with the
//! lifecycle controllers and the fake kubelet.

mod actions;
mod creation;
mod faults;
mod history;
mod keyed;
mod schedules;
mod stock;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use memory_apiserver::{ApiServer, Kubelet, SeenRequest, Verb};
use sandbox_manager::SandboxManagerOptions;
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxSet, crds};
use sandbox_manager::claims::{ClaimError, ClaimRequest, Claimed, Claims, ClaimsBuilder, Target};
use sandbox_manager::testing::TestCache;
use serde_json::{Value, json};

use crate::runtime::Runtime;
use crate::support::{SOON, eventually};

pub(super) const NAMESPACE: &str = "default";
pub(super) const POOL: &str = "pool";

/// How long a pod takes until it is ready.
const START: Duration = Duration::from_millis(50);

/// The set whose members a test creates itself.
fn set(replicas: i32) -> Value {
    json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxSet",
        "metadata": {"namespace": NAMESPACE, "name": POOL, "uid": "set-uid", "generation": 1},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "a", "image": "busybox"}]}}},
        "status": {"updateRevision": "new", "availableReplicas": replicas, "replicas": replicas},
    })
}

/// A ready member of the set.
fn member(number: usize, revision: &str) -> Value {
    let labels = json!({
        "agents.kruise.io/sandbox-pool": POOL, "agents.kruise.io/sandbox-template": POOL,
        "agents.kruise.io/sandbox-claimed": "false", "agents.kruise.io/template-hash": revision,
    });
    json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "Sandbox",
        "metadata": {
            "namespace": NAMESPACE, "name": format!("pool-{number}"), "uid": format!("uid-{number}"), "generation": 1,
            "labels": labels,
            "ownerReferences": [{
                "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxSet", "name": POOL, "uid": "set-uid",
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {"template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "busybox"}]}}},
        "status": {
            "phase": "Running", "observedGeneration": 1, "sandboxIp": "10.0.0.1", "podInfo": {"podIP": "10.0.0.1"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "PodReady", "message": "",
                            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        },
    })
}

/// A server with a set of so many ready members, which no controller touches.
fn stocked(members: usize) -> ApiServer {
    let server = ApiServer::builder().objects(crds()).start().unwrap();
    server.force("sandboxsets.agents.kruise.io", set(0));
    for number in 0..members {
        server.force("sandboxes.agents.kruise.io", member(number, "new"));
    }
    server
}

/// A process that claims: a cache, and an engine on it.
struct Replica {
    cache: TestCache,
    claims: Claims,
}

impl Replica {
    async fn start(server: &ApiServer) -> Self {
        Self::with(server, false, |claims| claims).await
    }

    /// With the lifecycle controllers, if wanted.
    async fn with(
        server: &ApiServer,
        lifecycle: bool,
        change: impl FnOnce(ClaimsBuilder) -> ClaimsBuilder,
    ) -> Self {
        let mut options = SandboxManagerOptions::default();
        options.lifecycle.enabled = lifecycle;
        options.client.qps = 0;
        let cache = TestCache::builder().server(server.clone()).options(options).build().await.unwrap();
        let claims = change(Claims::builder(cache.cache())).build().unwrap();
        Self { cache, claims }
    }

    async fn claim(&self, owner: &str) -> Result<Claimed, ClaimError> {
        self.claims.claim(request(owner)).await
    }
}

/// A claim of a member of the pool that creates nothing.
fn request(owner: &str) -> ClaimRequest {
    ClaimRequest::from_pool(NAMESPACE, POOL)
        .owner(owner)
        .timeout(Duration::from_mins(5))
        .create_on_no_stock(false)
}

fn target(sandbox: &Sandbox) -> Target {
    Target::new(sandbox.sandbox_id()).in_namespace(NAMESPACE)
}

/// A server with pods and a full pool, and a process with the lifecycle controllers that claims.
struct Lab {
    server: ApiServer,
    kubelet: Kubelet,
    replica: Replica,
}

impl Lab {
    async fn start(replicas: i32) -> Self {
        Self::of(Kubelet::ready_after(START), replicas).await
    }

    /// With this program in the pods.
    async fn with_runtime(runtime: &Runtime, replicas: i32) -> Self {
        Self::of(Kubelet::ready_after(START).pod_address(runtime.address), replicas).await
    }

    async fn of(kubelet: Kubelet, replicas: i32) -> Self {
        let server = ApiServer::builder().objects(crds()).kubelet(&kubelet).start().unwrap();
        let replica = Replica::with(&server, true, |claims| claims).await;
        let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
        let object =
            json!({"metadata": {"name": POOL}, "spec": {"replicas": replicas, "template": template}});
        let sets: Api<SandboxSet> = Api::namespaced(server.client_without_faults(), NAMESPACE);
        sets.create(&kube::api::PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap();
        let wanted = usize::try_from(replicas).unwrap();
        eventually("a full pool", SOON, async || {
            let ready = replica.claims.ready_in_pool(NAMESPACE, POOL);
            ensure!(ready == wanted && sets.get(POOL).await?.status.is_some(), "{ready}");
            Ok(())
        })
        .await;
        replica.cache.wait_until_synced().await;
        Self { server, kubelet, replica }
    }
}

/// All sandboxes on the server.
async fn sandboxes(server: &ApiServer) -> Vec<Sandbox> {
    let api: Api<Sandbox> = Api::namespaced(server.client_without_faults(), NAMESPACE);
    api.list(&ListParams::default()).await.unwrap().items
}

/// The names of all sandboxes on the server that are locked or claimed, and not being deleted.
async fn locked(server: &ApiServer) -> BTreeSet<String> {
    let all = sandboxes(server).await.into_iter();
    all.filter(|sandbox| (sandbox.is_locked() || sandbox.is_claimed()) && !sandbox.is_deleting())
        .map(|sandbox| sandbox.name_any())
        .collect()
}

/// Waits until exactly these sandboxes are locked.
async fn until_locked(server: &ApiServer, expected: &BTreeSet<String>) {
    eventually("only these are locked", Duration::from_mins(1), async || {
        let locked = locked(server).await;
        ensure!(locked == *expected, "locked: {locked:?}\nexpected: {expected:?}");
        Ok(())
    })
    .await;
}

fn names<'c>(claimed: impl IntoIterator<Item = &'c Claimed>) -> BTreeSet<String> {
    claimed.into_iter().map(|claimed| claimed.name_or_empty().to_owned()).collect()
}

/// The writes of sandboxes that the server has seen.
fn writes(server: &ApiServer) -> Vec<SeenRequest> {
    let is_write = |request: &SeenRequest| {
        request.resource == "sandboxes" && !matches!(request.verb, Verb::Get | Verb::List | Verb::Watch)
    };
    server.requests().into_iter().filter(is_write).collect()
}
