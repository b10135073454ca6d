//! The permissions of the E2B API are those that it uses: keys are made, sandboxes are claimed, paused, resumed and killed,
//! and none of the requests for that is forbidden.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use sandbox_manager::e2b::FIRST_KEY;
use serde_json::{Value, json};

use super::permissions::{Access, granted, sent};
use super::release::Release;
use super::server;
use crate::e2b::client::{Answer, Request};
use crate::lifecycle::pool_rig::{POOL, spec};
use crate::lifecycle::proof::pool::Pool;
use crate::support::{Cluster, ControlPlane, Process, SOON, eventually};

/// The E2B API of a process, with a key.
struct Client {
    address: std::net::SocketAddr,
    key: String,
}

impl Client {
    fn new(process: &Process, key: &str) -> Self {
        let address = process.listener("e2b").expect("the API listens");
        Self { address: address.parse().unwrap(), key: key.trim().to_owned() }
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        Request::new(method, path).key(&self.key).json(body).send(self.address).await
    }

    /// Waits until the process has seen the Secret of keys.
    async fn is_let_in(&self) {
        eventually("the key is accepted", SOON, async || {
            let answer = self.send("GET", "/v2/sandboxes", &json!({})).await;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await;
    }
}

/// The first key, as an administrator reads it.
async fn first_key(cp: &ControlPlane, system: &str) -> String {
    let secrets: Api<Secret> = Api::namespaced(cp.client().await, system);
    eventually("there is a first key", SOON, async || {
        let data = secrets.get(FIRST_KEY).await?.data.unwrap_or_default();
        Ok(String::from_utf8(data.get("key").context("no key")?.0.clone())?)
    })
    .await
}

/// The life of one sandbox.
async fn sandbox_lives(client: &Client) {
    let created =
        client.send("POST", "/sandboxes", &json!({ "templateID": POOL, "timeout": 300 })).await.ok(201);
    let path = format!("/sandboxes/{}", created["sandboxID"].as_str().unwrap());
    client.send("POST", &format!("{path}/pause"), &json!({})).await.ok(204);
    client.send("POST", &format!("{path}/connect"), &json!({})).await.ok(201);
    client.send("DELETE", &path, &json!({})).await.ok(204);
    client.send("DELETE", &path, &json!({})).await.error(404);
}

#[tokio::test]
#[ignore = "needs helm and the control plane: tests/chart/run.sh"]
async fn z3_the_e2b_api_uses_its_rules_and_nothing_is_forbidden() {
    let cp = server::audited().await;
    let pool = Pool::on(Cluster::of(cp)).await;
    let system = cp.namespace("system").await;
    let config = json!({
        "sandboxNamespace": pool.namespace, "systemNamespace": system, "lifecycle": { "enabled": true },
        "leaderElection": { "enabled": true }, "e2b": { "enabled": true, "firstKeyTeam": "admin" },
    });
    let release = Release::install(cp, &config).await;
    let mut process = release.start().await;
    process.becomes_ready().await;
    pool.create_set(spec(2, "first")).await;
    pool.is_full(2).await;

    let e2b = async |command: &[&str]| {
        release.exec(&[&["e2b"][..], command, &["--system-namespace", system.as_str()]].concat()).await
    };
    let text = first_key(cp, &system).await;
    assert!(!process.log().contains(&text), "the log has the first key");
    let first = Client::new(&process, &text);
    first.is_let_in().await;
    let admin = Client::new(&process, &e2b(&["create-key", "--team", "admin"]).await);
    admin.is_let_in().await;
    let new = json!({ "name": "test", "teamName": pool.namespace });
    let made = admin.send("POST", "/api-keys", &new).await.ok(201);
    let team = Client::new(&process, made["key"].as_str().unwrap());
    sandbox_lives(&team).await;
    let id = made["id"].as_str().unwrap();
    assert!(e2b(&["list-keys"]).await.contains(id));
    e2b(&["revoke-key", id]).await;
    assert_eq!(process.terminate().await.code(), Some(0), "{}", process.log());

    let user = release.user().await;
    let granted = granted(&release.grants(&[&pool.namespace, &system, &release.namespace]).await);
    let sent = sent(cp, &user);
    let beyond: Vec<_> = sent.difference(&granted).collect();
    assert!(beyond.is_empty(), "not granted by the roles of the release: {beyond:?}");
    let access = |verb: &str, group: &str, resource: &str, namespace: &str| -> Access {
        (verb.to_owned(), group.to_owned(), resource.to_owned(), namespace.to_owned())
    };
    let of_keys = ["create", "get", "patch"].map(|verb| access(verb, "", "secrets", &system));
    let of_sandboxes =
        ["delete", "patch"].map(|verb| access(verb, "agents.kruise.io", "sandboxes", &pool.namespace));
    let of_teams = [access("get", "", "namespaces", &pool.namespace)];
    for used in of_keys.iter().chain(&of_sandboxes).chain(&of_teams) {
        assert!(sent.contains(used), "granted, and not used: {used:?}");
    }
}
