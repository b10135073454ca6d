//! Keys (e2b 4.2 and 5.1, row 11).

use anyhow::ensure;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use sandbox_manager::cache::KEY_STORE;
use sandbox_manager::e2b::{KeyStore, NewEntry};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::client::{Answer, Request};
use super::{Rig, SYSTEM, serve};
use crate::support::{SOON, eventually};

async fn with_key(rig: &Rig, method: &str, path: &str, body: Value, key: &str) -> Answer {
    Request::new(method, path).json(&body).key(key).send(rig.address).await
}

#[tokio::test]
async fn e2b_11_a_new_key_works_at_once_and_a_removed_one_does_not() {
    let rig = Rig::start(|_| {}).await;
    let made = rig.post("/api-keys", json!({"name": "ci"})).await.ok(201);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(key.starts_with("e2b_"), "{made}");
    with_key(&rig, "GET", "/teams", Value::Null, key).await.ok(200);
    let listed = rig.get("/api-keys").await;
    let ids: Vec<_> = listed.ok(200).as_array().unwrap().iter().map(|key| key["id"].clone()).collect();
    assert!(ids.contains(&json!(id)) && ids.len() == 3, "the team has three: {ids:?}");
    assert!(!listed.text.contains(key) && !listed.text.contains("\"key\""), "{}", listed.text);
    rig.delete(&format!("/api-keys/{id}")).await.ok(204);
    with_key(&rig, "GET", "/teams", Value::Null, key).await.error(401);
    rig.delete(&format!("/api-keys/{id}")).await.error(404);
}

#[tokio::test]
async fn e2b_11_only_an_administrator_acts_on_other_teams() {
    let rig = Rig::start(|_| {}).await;
    for body in [
        json!({"name": "x", "teamName": "team-b"}),
        json!({"name": "x", "teamName": "admin"}),
        json!({"name": "x", "quota": {"all": {"sandbox.count": 1}}}),
    ] {
        rig.post("/api-keys", body).await.error(403);
    }
    for body in [json!({}), json!({"name": ""}), json!({"name": "x", "unknown": 1}), json!({"name": 1})] {
        rig.post("/api-keys", body).await.error(400);
    }
    let admin = rig.admin.clone();
    for team in ["none", "a--b", "../x"] {
        let body = json!({"name": "x", "teamName": team});
        with_key(&rig, "POST", "/api-keys", body, &admin).await.error(400);
    }
    let body = json!({"name": "x", "quota": {"all": {"limits.cpu": 1}}});
    with_key(&rig, "POST", "/api-keys", body, &admin).await.error(400);
    let body = json!({"name": "x", "teamName": "team-b"});
    let made = with_key(&rig, "POST", "/api-keys", body, &admin).await.ok(201);
    let id = made["id"].as_str().unwrap();
    rig.delete(&format!("/api-keys/{id}")).await.error(403);
    let path = "/api-keys/550e8400-e29b-41d4-a716-446655440000";
    with_key(&rig, "DELETE", path, Value::Null, &admin).await.error(403);
    assert_eq!(rig.get("/teams").await.ok(200)[0]["name"], "default");
}

#[tokio::test]
async fn e2b_4_2_a_key_that_another_process_makes_works_within_a_second_and_both_forms_are_accepted() {
    let rig = Rig::start(|_| {}).await;
    let store = KeyStore::new(rig.server.client_without_faults(), SYSTEM);
    let added = store.add(NewEntry::new("x", "default")).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(rig.server.client_without_faults(), SYSTEM);
    let data = secrets.get(KEY_STORE).await.unwrap().data.unwrap();
    let stored: Value = serde_json::from_slice(&data[&added.id].0).unwrap();
    for key in [added.key.expose_secret(), stored["key"].as_str().unwrap()] {
        eventually("the key works", SOON, async || {
            let answer = with_key(&rig, "GET", "/teams", Value::Null, key).await;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await;
    }
    let mut expired = NewEntry::new("x", "default");
    expired.expires_at = Some("2020-01-01T00:00:00Z".parse().unwrap());
    let expired = store.add(expired).await.unwrap();
    eventually("the cache has it", SOON, async || {
        let keys = rig.get("/api-keys").await;
        ensure!(keys.text.contains(&expired.id), "{keys:?}");
        Ok(())
    })
    .await;
    with_key(&rig, "GET", "/teams", Value::Null, expired.key.expose_secret()).await.error(401);
}

#[tokio::test]
async fn e2b_5_0_before_the_cache_is_synced_it_is_503_and_may_be_repeated() {
    let rig = Rig::start(|_| {}).await;
    rig.server.inject(&memory_apiserver::FaultPlan::request(
        memory_apiserver::On::default(),
        memory_apiserver::Times::Always,
        memory_apiserver::RequestFault::Answer { code: 500, retry_after: None },
    ));
    let mut options = super::options();
    options.lifecycle.enabled = false;
    let (address, _stop, manager) = serve(&rig.server, options).await;
    let answer = Request::new("GET", "/v2/sandboxes").key(&rig.key).send(address).await;
    answer.error(503);
    assert_eq!((answer.header("should-retry"), answer.header("retry-after")), (Some("true"), Some("1")));
    manager.abort();
}

#[tokio::test]
async fn without_keys_everybody_is_the_administrator() {
    let rig = Rig::start(|options| {
        options.e2b.auth = sandbox_manager::options::E2bAuth::None;
    })
    .await;
    rig.pool("p", 1).await;
    let body = json!({"templateID": "p"});
    let made = Request::new("POST", "/v2/sandboxes").json(&body).send(rig.address).await.ok(201);
    let owner = rig.sandbox(made["sandboxID"].as_str().unwrap()).await.owner().map(str::to_owned);
    assert_eq!(owner.as_deref(), Some("550e8400-e29b-41d4-a716-446655440000"));
    rig.get("/api-keys").await.error(501);
}
