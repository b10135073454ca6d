//! The first key of an installation (`e2b.firstKeyTeam`).

use std::collections::BTreeMap;

use anyhow::ensure;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use memory_apiserver::{ApiServer, FaultPlan, On, RequestFault, SeenRequest, Times, Verb};
use sandbox_manager::api::v1alpha1::crds;
use sandbox_manager::cache::KEY_STORE;
use sandbox_manager::e2b::{ADMIN_TEAM, FIRST_KEY, KeyInfo, KeyStore, NewEntry};
use sandbox_manager::manager::ManagerError;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::Request;
use super::{SYSTEM, options, serve};
use crate::support::{SOON, eventually};

const TEXT: &str = "e2b_00112233445566778899aabbccddeeff";

/// A server without a key.
fn server() -> ApiServer {
    let server = ApiServer::builder().objects(crds()).start().unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}});
    server.load(&namespace).unwrap();
    server
}

fn secrets(server: &ApiServer) -> Api<Secret> {
    Api::namespaced(server.client_without_faults(), SYSTEM)
}

async fn create(server: &ApiServer, name: &str, entry: Option<(&str, &str)>) {
    let data = entry.map(|(key, text)| BTreeMap::from([(key.to_owned(), ByteString(text.into()))]));
    let mut secret = Secret { data, ..Secret::default() };
    secret.metadata.name = Some(name.to_owned());
    secrets(server).create(&PostParams::default(), &secret).await.unwrap();
}

/// The text in the Secret of the first key.
async fn text(server: &ApiServer) -> Option<String> {
    let secret = secrets(server).get_opt(FIRST_KEY).await.unwrap()?;
    Some(String::from_utf8(secret.data?.remove("key")?.0).unwrap())
}

async fn keys(server: &ApiServer) -> Vec<KeyInfo> {
    KeyStore::new(server.client_without_faults(), SYSTEM).list().await.unwrap_or_default()
}

/// One process that serves the API.
struct Replica {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    manager: JoinHandle<Result<(), ManagerError>>,
}

impl Replica {
    async fn start(server: &ApiServer, team: &str) -> Self {
        let mut options = options();
        options.lifecycle.enabled = false;
        options.e2b.first_key_team = team.to_owned();
        let (address, stop, manager) = serve(server, options).await;
        Self { address, stop, manager }
    }

    /// Waits until a key is accepted as one of this team.
    async fn accepts(&self, key: &str, team: &str) {
        eventually("the key is accepted", SOON, async || {
            let answer = Request::new("GET", "/teams").key(key).send(self.address).await;
            ensure!(answer.status == 200, "{answer:?}");
            ensure!(answer.json()[0]["name"] == team, "{answer:?}");
            Ok(())
        })
        .await;
    }

    async fn stop(self) {
        self.stop.cancel();
        self.manager.await.unwrap().unwrap();
    }
}

async fn until_made(server: &ApiServer) -> String {
    eventually("there is a key", SOON, async || {
        ensure!(!keys(server).await.is_empty(), "no key");
        Ok(())
    })
    .await;
    text(server).await.expect("its text is in the Secret")
}

#[tokio::test]
async fn replicas_that_start_at_once_make_one_key_which_all_of_them_accept() {
    let server = server();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::start(&server, ADMIN_TEAM).await);
    }
    let text = until_made(&server).await;
    for replica in replicas {
        replica.accepts(&text, ADMIN_TEAM).await;
        replica.stop().await;
    }
    let keys = keys(&server).await;
    assert_eq!(keys.len(), 1, "{keys:?}");
}

#[tokio::test]
async fn a_secret_that_the_user_has_made_is_the_key() {
    let server = server();
    create(&server, FIRST_KEY, Some(("key", TEXT))).await;
    create(&server, KEY_STORE, None).await;
    let replica = Replica::start(&server, "default").await;
    replica.accepts(TEXT, "default").await;
    replica.stop().await;
}

/// The requests for single Secrets so far, by verb and name.
fn requests(server: &ApiServer) -> Vec<(Verb, Option<String>)> {
    let of_secrets = |request: &SeenRequest| request.resource == "secrets";
    let is_single = |verb: Verb| !matches!(verb, Verb::List | Verb::Watch);
    let all = server.requests().into_iter().filter(of_secrets);
    all.filter(|request| is_single(request.verb)).map(|request| (request.verb, request.name)).collect()
}

async fn until_requested(server: &ApiServer, count: usize) {
    eventually("the Secrets are read", SOON, async || {
        let seen = requests(server);
        ensure!(seen.len() >= count, "{seen:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_guessable_text_is_no_key_and_is_replaced_without_a_restart() {
    let server = server();
    create(&server, FIRST_KEY, Some(("key", "e2b_00"))).await;
    let before = requests(&server).len();
    let replica = Replica::start(&server, ADMIN_TEAM).await;
    // The second try begins with a third request.
    until_requested(&server, before + 3).await;
    assert!(keys(&server).await.is_empty());
    secrets(&server).delete(FIRST_KEY, &DeleteParams::default()).await.unwrap();
    let text = until_made(&server).await;
    replica.accepts(&text, ADMIN_TEAM).await;
    replica.stop().await;
}

#[tokio::test]
async fn with_a_key_no_other_is_made_and_a_deleted_secret_stays_away() {
    let server = server();
    let store = KeyStore::new(server.client_without_faults(), SYSTEM);
    let mine = store.add(NewEntry::new("mine", "default")).await.unwrap();
    let before = requests(&server).len();
    let replica = Replica::start(&server, ADMIN_TEAM).await;
    until_requested(&server, before + 1).await;
    replica.accepts(mine.key.expose_secret(), "default").await;
    replica.stop().await;
    assert_eq!(requests(&server)[before..], [(Verb::Get, Some(KEY_STORE.to_owned()))]);
    assert_eq!(text(&server).await, None);
}

#[tokio::test]
async fn a_key_that_cannot_be_written_is_written_later_with_the_same_text() {
    let server = server();
    create(&server, KEY_STORE, None).await;
    let writes = On::request(Verb::Patch, "secrets").named(KEY_STORE);
    let refused = RequestFault::Answer { code: 500, retry_after: None };
    server.inject(&FaultPlan::request(writes, Times::First(1), refused));
    let replica = Replica::start(&server, ADMIN_TEAM).await;
    let text = until_made(&server).await;
    replica.accepts(&text, ADMIN_TEAM).await;
    replica.stop().await;
    let made = requests(&server).into_iter().filter(|(verb, _)| *verb == Verb::Create);
    // The Secret of the text; the store was there.
    assert_eq!(made.count(), 1);
    assert_eq!(keys(&server).await.len(), 1);
}
