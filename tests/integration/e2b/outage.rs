//! The binary while its API server is away, in memory or a real one (`TEST_API_SERVER=real`): reads go on, and writes say
//! that they may be repeated, since none of them was sent.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use kube::api::{ListParams, PostParams};
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxSet, crds};
use sandbox_manager::e2b::{KeyStore, NewEntry};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::POOL;
use super::client::{Answer, Request};
use crate::support::{ADMIN, Cluster, Process, SOON, eventually};

/// The binary with the API on a cluster of its own, and a pool of ready sandboxes.
struct Outage {
    cluster: Cluster,
    namespace: String,
    key: String,
    address: SocketAddr,
    _process: Process,
}

impl Outage {
    async fn with_pool(replicas: i32) -> Self {
        let cluster = Cluster::start_with_nodes().await;
        cluster.install_crds(crds()).await;
        let (client, namespace) = (cluster.client().await, cluster.namespace("outage").await);
        let added =
            KeyStore::new(client.clone(), &namespace).add(NewEntry::new("key", &namespace)).await.unwrap();
        let config = format!(
            "sandboxNamespace: {namespace}\nsystemNamespace: {namespace}\nlifecycle: {{ enabled: true }}\n\
             e2b: {{ enabled: true, bindAddress: \"127.0.0.1:0\" }}\n"
        );
        let process = Process::start(&cluster.kubeconfig(ADMIN).await, &config).await;
        process.becomes_ready().await;
        let address = process.listener("e2b").unwrap().parse().unwrap();
        let key = added.key.expose_secret().to_owned();
        let outage = Self { cluster, namespace, key, address, _process: process };
        outage.pool(replicas).await;
        outage
    }

    async fn pool(&self, replicas: i32) {
        let set = json!({
            "metadata": {"name": POOL},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "a", "image": "busybox"}]}}},
        });
        let set: SandboxSet = serde_json::from_value(set).unwrap();
        let sets: Api<SandboxSet> = Api::namespaced(self.cluster.client().await, &self.namespace);
        sets.create(&PostParams::default(), &set).await.unwrap();
        eventually("the pool is full", 2 * SOON, async || {
            // A status says that the process has seen the set, also an empty one.
            let status = sets.get(POOL).await?.status.context("no status")?;
            ensure!(status.available_replicas == replicas, "{status:?}");
            Ok(())
        })
        .await;
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let request = Request::new(method, path).key(&self.key);
        let request = if body.is_null() { request } else { request.json(body) };
        request.send(self.address).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &Value::Null).await
    }

    async fn create(&self) -> Answer {
        self.send("POST", "/v2/sandboxes", &json!({ "templateID": POOL })).await
    }

    /// Ids of all sandboxes that somebody has claimed.
    async fn claimed(&self) -> Result<Vec<String>> {
        let sandboxes: Api<Sandbox> = Api::namespaced(self.cluster.client().await, &self.namespace);
        let claimed = ListParams::default().labels("agents.kruise.io/sandbox-claimed=true");
        Ok(sandboxes.list(&claimed).await?.iter().map(|sandbox| sandbox.sandbox_id().into_owned()).collect())
    }
}

/// A write to an API server that is away. A connection that breaks under a request leaves it open whether the request was
/// processed, so only the first answers may say so.
async fn says_that_it_may_be_repeated(outage: &Outage, method: &str, path: &str, body: Value) {
    eventually(&format!("{method} {path} may be repeated"), SOON, async || {
        let answer = outage.send(method, path, &body).await;
        answer.error(503);
        ensure!(answer.header("should-retry") == Some("true"), "{answer:?}");
        ensure!(answer.header("retry-after").is_some(), "{answer:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn while_the_api_server_is_away_reads_go_on_and_writes_may_be_repeated() {
    let outage = Outage::with_pool(3).await;
    let created = outage.create().await.ok(201);
    let id = created["sandboxID"].as_str().unwrap();
    let path = format!("/sandboxes/{id}");
    let fresh = outage.get(&path).await;
    fresh.ok(200);
    assert_eq!(fresh.header("x-cache-stale"), None, "{fresh:?}");

    outage.cluster.kill_api_server().await;
    eventually("answers say how old they are", SOON, async || {
        let answer = outage.get(&path).await;
        assert_eq!(answer.ok(200)["state"], "running");
        let stale: u64 = answer.header("x-cache-stale").unwrap_or_default().parse()?;
        ensure!(stale >= 1, "{stale}");
        Ok(())
    })
    .await;
    for read in ["/v2/sandboxes", "/sandboxes", "/templates", "/teams", "/api-keys"] {
        let answer = outage.get(read).await;
        answer.ok(200);
        assert!(answer.header("x-cache-stale").is_some(), "{read}: {answer:?}");
    }
    says_that_it_may_be_repeated(&outage, "POST", "/v2/sandboxes", json!({ "templateID": POOL })).await;
    for (action, body) in [
        ("/timeout", json!({ "timeout": 60 })),
        ("/refreshes", json!({ "duration": 3600 })),
        ("/connect", json!({ "timeout": 900 })),
        ("/pause", json!({})),
    ] {
        says_that_it_may_be_repeated(&outage, "POST", &format!("{path}{action}"), body).await;
    }
    says_that_it_may_be_repeated(&outage, "DELETE", &path, Value::Null).await;
    says_that_it_may_be_repeated(&outage, "POST", "/api-keys", json!({ "name": "new" })).await;

    outage.cluster.start_api_server().await;
    let second = eventually("creates succeed again", 2 * SOON, async || {
        let answer = outage.create().await;
        ensure!(answer.status == 201, "{answer:?}");
        Ok(answer.json()["sandboxID"].as_str().unwrap().to_owned())
    })
    .await;
    eventually("answers are fresh again", SOON, async || {
        let answer = outage.get(&path).await;
        answer.ok(200);
        ensure!(answer.header("x-cache-stale").is_none(), "{answer:?}");
        Ok(())
    })
    .await;
    eventually("nobody has claimed anything else", SOON, async || {
        let mut claimed = outage.claimed().await?;
        claimed.sort_unstable();
        let mut expected = [id.to_owned(), second.clone()];
        expected.sort_unstable();
        ensure!(claimed == expected, "{claimed:?}, expected {expected:?}");
        Ok(())
    })
    .await;
    outage.send("DELETE", &path, &Value::Null).await.ok(204);
}

#[tokio::test]
async fn while_the_api_server_is_away_a_create_without_stock_may_be_repeated() {
    let outage = Outage::with_pool(0).await;
    outage.cluster.kill_api_server().await;
    says_that_it_may_be_repeated(&outage, "POST", "/v2/sandboxes", json!({ "templateID": POOL })).await;
    outage.cluster.start_api_server().await;
    eventually("creates succeed again", 2 * SOON, async || {
        let answer = outage.create().await;
        ensure!(answer.status == 201, "{answer:?}");
        Ok(())
    })
    .await;
}
