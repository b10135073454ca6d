//! The proof of claims over HTTP: three replicas of the binary, many clients, and faults. The judge is the history of
//! the API server ([`history`], [`ledger`]).
//!
//! `cargo test` makes 400 claims on the server in memory, and `tests/e2e.sh` on a real one. By hand it makes more:
//!
//! ```text
//! TEST_CLAIMS=100000 cargo test --release --test integration claim_proof::storm -- --nocapture
//! TEST_CLAIMS=20000 tests/e2e.sh claim_proof::storm --nocapture
//! ```

mod crowd;
mod deaths;
mod fleet;
mod history;
mod ledger;
mod storm;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::api::PostParams;
use kube::{Api, Client};
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxSet, crds};
use sandbox_manager::e2b::{KeyStore, NewEntry};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::support::{Cluster, SOON, eventually};

const POOL: &str = "code-interpreter";

/// An API key.
#[derive(Clone)]
struct Key {
    id: String,
    text: String,
}

/// A namespace with keys, and later a pool.
struct Ground {
    client: Client,
    namespace: String,
    keys: Vec<Key>,
}

impl Ground {
    async fn on(cluster: &Cluster, keys: usize) -> Self {
        cluster.install_crds(crds()).await;
        let (client, namespace) = (cluster.client().await, cluster.namespace("claims").await);
        let store = KeyStore::new(client.clone(), &namespace);
        let mut added = Vec::new();
        for number in 0..keys {
            let key = store.add(NewEntry::new(format!("key-{number}"), &namespace)).await.expect("a new key");
            added.push(Key { id: key.id, text: key.key.expose_secret().to_owned() });
        }
        Self { client, namespace, keys: added }
    }

    fn sandboxes(&self) -> Api<Sandbox> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn sets(&self) -> Api<SandboxSet> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The configuration of a replica.
    fn config(&self, more: &str) -> String {
        let namespace = &self.namespace;
        format!(
            "sandboxNamespace: {namespace}\nsystemNamespace: {namespace}\nlifecycle: {{ enabled: true }}\n\
             e2b: {{ enabled: true, bindAddress: \"127.0.0.1:0\", domain: sandboxes.example.com }}\n\
             client: {{ qps: 0 }}\n{more}\n"
        )
    }

    /// Creates the pool, and waits until it is full.
    async fn pool(&self, replicas: i32) {
        let set = json!({
            "metadata": {"name": POOL},
            "spec": {
                "replicas": replicas,
                "template": {
                    "metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "i"}]},
                },
            },
        });
        let set = serde_json::from_value(set).expect("a set");
        self.sets().create(&PostParams::default(), &set).await.expect("creating the pool");
        self.is_full(replicas).await;
    }

    async fn is_full(&self, replicas: i32) {
        let sets = self.sets();
        eventually("the pool is full", 8 * SOON, async || {
            let status = sets.get(POOL).await?.status.context("no status")?;
            ensure!(status.available_replicas == replicas, "{status:?}");
            Ok(())
        })
        .await;
    }
}

/// How long a lock may be left after the last fault: the sweep comes every 15 s, and a minute is promised. A machine that
/// is busy is given time on top.
const LEFT: Duration = Duration::from_secs(60 + 30);
