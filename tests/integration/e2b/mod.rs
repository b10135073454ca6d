//! Tests the E2B API over HTTP on the in-memory API server with the lifecycle controllers and the fake kubelet: what the
//! SDKs cannot send, and every edge of the contract.
//!
//! `tests/e2b/run.sh` runs the official SDKs against the same server.

pub(crate) mod client;
mod creating;
mod document;
mod faults;
mod first_key;
mod frame;
mod hostile;
mod internet;
mod keys;
mod limits;
mod listing;
mod outage;
mod replicas;
mod rights;
mod running;
mod secrets;
mod stop;
mod tls;
mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use jiff::Timestamp;
use kube::Api;
use kube::api::{ListParams, PostParams};
use memory_apiserver::{ApiServer, Kubelet};
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxSet, crds};
use sandbox_manager::e2b::{self, KeyStore, NewEntry};
use sandbox_manager::manager::{Manager, ManagerError};
use sandbox_manager::options::{BindAddress, SandboxManagerOptions};
use sandbox_manager::{claims, lifecycle};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::client::{Answer, Request};
use crate::support::{SOON, eventually};

const SYSTEM: &str = "sandbox-system";
const TEAM: &str = "default";
const POOL: &str = "code-interpreter";

/// A server of the API with everything behind it.
struct Rig {
    server: ApiServer,
    /// Whose pods are ready after 50 ms.
    kubelet: Kubelet,
    address: SocketAddr,
    /// A key of the team, and another one of the same team.
    key: String,
    other: String,
    /// A key of another team.
    foreign: String,
    admin: String,
    stop: CancellationToken,
    manager: JoinHandle<Result<(), ManagerError>>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.manager.abort();
    }
}

impl Rig {
    /// With a pool that has so many members that are ready.
    async fn with_pool(replicas: i32) -> Self {
        let rig = Self::start(|_| {}).await;
        rig.pool(POOL, replicas).await;
        rig
    }

    async fn start(change: impl FnOnce(&mut SandboxManagerOptions)) -> Self {
        let kubelet = Kubelet::ready_after(Duration::from_millis(50));
        let server = ApiServer::builder().kubelet(&kubelet).objects(crds()).start().unwrap();
        for namespace in [SYSTEM, "team-b"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            server.load(&namespace).unwrap();
        }
        let store = KeyStore::new(server.client_without_faults(), SYSTEM);
        let add = async |name: &str, team: &str| {
            let added = store.add(NewEntry::new(name, team)).await.unwrap();
            added.key.expose_secret().to_owned()
        };
        let (key, other) = (add("one", TEAM).await, add("other", TEAM).await);
        let (foreign, admin) = (add("foreign", "team-b").await, add("admin", e2b::ADMIN_TEAM).await);
        let mut options = options();
        change(&mut options);
        let (address, stop, manager) = serve(&server, options).await;
        let rig = Self { server, kubelet, address, key, other, foreign, admin, stop, manager };
        rig.until_synced().await;
        rig
    }

    async fn until_synced(&self) {
        eventually("the API answers", SOON, async || {
            let answer = self.get("/v2/sandboxes").await;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await;
    }

    /// Creates a pool, and waits until all its members are ready.
    async fn pool(&self, name: &str, replicas: i32) {
        self.pool_of(name, replicas, json!({"containers": [{"name": "a", "image": "busybox"}]})).await;
    }

    async fn pool_of(&self, name: &str, replicas: i32, pod: Value) {
        let set = json!({
            "metadata": {"name": name},
            "spec": {"replicas": replicas, "template": {"metadata": {"labels": {"app": "x"}}, "spec": pod}},
        });
        let set: SandboxSet = serde_json::from_value(set).unwrap();
        self.sets().create(&PostParams::default(), &set).await.unwrap();
        self.until_ready(name, replicas).await;
    }

    async fn until_ready(&self, pool: &str, available: i32) {
        let sets = self.sets();
        eventually("the pool is full", SOON, async || {
            let status = sets.get(pool).await?.status.unwrap_or_default();
            ensure!(status.observed_generation.is_some(), "no status");
            ensure!(status.available_replicas == available, "{status:?}");
            Ok(())
        })
        .await;
    }

    fn sets(&self) -> Api<SandboxSet> {
        Api::namespaced(self.server.client_without_faults(), TEAM)
    }

    fn sandboxes(&self) -> Api<Sandbox> {
        Api::namespaced(self.server.client_without_faults(), TEAM)
    }

    /// The claimed sandboxes that exist.
    async fn claimed(&self) -> Vec<Sandbox> {
        let params = ListParams::default().labels("agents.kruise.io/sandbox-claimed=true");
        self.sandboxes().list(&params).await.unwrap().items
    }

    /// The sandbox of an id.
    async fn sandbox(&self, id: &str) -> Sandbox {
        self.sandboxes().get(id.split_once("--").unwrap().1).await.unwrap()
    }

    async fn send(&self, request: Request) -> Answer {
        request.key(&self.key).send(self.address).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::new("GET", path)).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Request::new("POST", path).json(&body)).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(Request::new("DELETE", path)).await
    }

    /// Creates a sandbox, and returns its id.
    async fn create(&self, body: Value) -> String {
        let answer = self.post("/v2/sandboxes", with_template(body)).await.ok(201);
        answer["sandboxID"].as_str().unwrap().to_owned()
    }

    async fn detail(&self, id: &str) -> Value {
        self.get(&format!("/sandboxes/{id}")).await.ok(200)
    }

    /// Seconds until the end of a sandbox.
    async fn seconds_left(&self, id: &str) -> i64 {
        let end: Timestamp = self.detail(id).await["endAt"].as_str().unwrap().parse().unwrap();
        end.as_second() - Timestamp::now().as_second()
    }

    #[track_caller]
    fn assert_near(seconds: i64, expected: i64) {
        assert!(
            (expected - 15..=expected + 15).contains(&seconds),
            "{seconds} s, expected about {expected} s"
        );
    }
}

fn options() -> SandboxManagerOptions {
    let mut options =
        SandboxManagerOptions { system_namespace: SYSTEM.to_owned(), ..SandboxManagerOptions::default() };
    options.metrics.bind_address = BindAddress::Off;
    options.health.bind_address = BindAddress::Off;
    options.lifecycle.enabled = true;
    options.e2b.enabled = true;
    options.e2b.bind_address = BindAddress::listen("127.0.0.1", 0);
    options.e2b.domain = "sandboxes.example.com".to_owned();
    options
}

/// Starts a manager that serves the API. A second one on the same server is a second replica.
async fn serve(
    server: &ApiServer,
    options: SandboxManagerOptions,
) -> (SocketAddr, CancellationToken, JoinHandle<Result<(), ManagerError>>) {
    let (api, controllers) = (options.e2b.clone(), options.controllers.clone());
    let (lifecycle, system) = (options.lifecycle.clone(), options.system_namespace.clone());
    let mut manager = Manager::builder(options).client(server.client()).build().unwrap();
    let claims = claims::add(&mut manager).unwrap();
    if lifecycle.enabled {
        lifecycle::add(&mut manager, &controllers, &lifecycle, &claims).unwrap();
    }
    e2b::add(&mut manager, &api, &system, &claims).unwrap();
    let manager = manager.bind().await.unwrap();
    let address = manager.address(e2b::LISTENER).unwrap();
    let stop = CancellationToken::new();
    (address, stop.clone(), tokio::spawn(manager.run(stop)))
}

fn with_template(mut body: Value) -> Value {
    let members = body.as_object_mut().unwrap();
    members.entry("templateID").or_insert_with(|| json!(POOL));
    body
}

/// The requests for one sandbox.
fn of_sandbox(id: &str) -> Vec<Request> {
    [
        ("GET", format!("/sandboxes/{id}"), ""),
        ("DELETE", format!("/sandboxes/{id}"), ""),
        ("POST", format!("/sandboxes/{id}/timeout"), r#"{"timeout":60}"#),
        ("POST", format!("/sandboxes/{id}/refreshes"), "{}"),
        ("POST", format!("/sandboxes/{id}/pause"), ""),
        ("POST", format!("/sandboxes/{id}/connect"), "{}"),
        ("POST", format!("/v2/sandboxes/{id}/connect"), "{}"),
        ("POST", format!("/sandboxes/{id}/resume"), "{}"),
        ("GET", format!("/sandboxes/{id}/metrics"), ""),
        ("GET", format!("/sandboxes/{id}/logs"), ""),
        ("GET", format!("/v2/sandboxes/{id}/logs"), ""),
        ("GET", format!("/kruise/api/sandboxes/{id}"), ""),
    ]
    .into_iter()
    .map(|(method, path, body)| Request::new(method, &path).body(body))
    .collect()
}
