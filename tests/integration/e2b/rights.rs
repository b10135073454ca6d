//! Who may do what: keys with limits, other keys of the team, other teams (docs/security.md).

use anyhow::ensure;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use sandbox_manager::cache::KEY_STORE;
use sandbox_manager::e2b::{ADMIN_TEAM, AddedKey, KeyStore, NewEntry};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::client::{Answer, Request};
use super::{POOL, Rig, SYSTEM, TEAM, of_sandbox};
use crate::support::{SOON, eventually};

impl Rig {
    fn store(&self) -> KeyStore {
        KeyStore::new(self.server.client_without_faults(), SYSTEM)
    }

    /// Adds a key as the command line does, and waits until it works.
    async fn add_key(&self, new: NewEntry) -> AddedKey {
        let added = self.store().add(new).await.unwrap();
        self.until_status(added.key.expose_secret(), 200).await;
        added
    }

    /// Waits until a key is answered with this status.
    async fn until_status(&self, key: &str, status: u16) {
        eventually("the key is seen", SOON, async || {
            let answer = self.as_key(key, "GET", "/teams", Value::Null).await;
            ensure!(answer.status == status, "{answer:?}");
            Ok(())
        })
        .await;
    }

    async fn as_key(&self, key: &str, method: &str, path: &str, body: Value) -> Answer {
        let request = Request::new(method, path).key(key);
        let request = if body.is_null() { request } else { request.json(&body) };
        request.send(self.address).await
    }

    /// The ids of all keys that there are.
    async fn key_ids(&self) -> Vec<String> {
        let secrets: Api<Secret> = Api::namespaced(self.server.client_without_faults(), SYSTEM);
        secrets.get(KEY_STORE).await.unwrap().data.unwrap().into_keys().collect()
    }
}

#[tokio::test]
async fn a_key_with_a_quota_or_an_end_neither_makes_nor_removes_keys() {
    let rig = Rig::start(|_| {}).await;
    let body = json!({"name": "q", "teamName": TEAM, "quota": {"running": {"sandbox.count": 5}}});
    let with_quota = rig.as_key(&rig.admin, "POST", "/api-keys", body).await.ok(201);
    let mut ends = NewEntry::new("e", TEAM);
    ends.expires_at = Some("2999-01-01T00:00:00Z".parse().unwrap());
    let ends = rig.add_key(ends).await;
    let mut ends_as_admin = NewEntry::new("a", ADMIN_TEAM);
    ends_as_admin.expires_at = Some("2999-01-01T00:00:00Z".parse().unwrap());
    let ends_as_admin = rig.add_key(ends_as_admin).await;
    let before = rig.key_ids().await;
    for (id, key) in [
        (with_quota["id"].as_str().unwrap(), with_quota["key"].as_str().unwrap()),
        (&ends.id, ends.key.expose_secret()),
        (&ends_as_admin.id, ends_as_admin.key.expose_secret()),
    ] {
        rig.as_key(key, "POST", "/api-keys", json!({"name": "more"})).await.error(403);
        for removed in [id, before.iter().find(|other| *other != id).unwrap(), "none"] {
            rig.as_key(key, "DELETE", &format!("/api-keys/{removed}"), Value::Null).await.error(403);
        }
        rig.as_key(key, "GET", "/api-keys", Value::Null).await.ok(200);
    }
    assert_eq!(rig.key_ids().await, before);
    // What a key without limits makes has none either, as before.
    let made = rig.post("/api-keys", json!({"name": "more"})).await.ok(201);
    rig.delete(&format!("/api-keys/{}", made["id"].as_str().unwrap())).await.ok(204);
}

#[tokio::test]
async fn a_key_of_another_team_is_neither_seen_nor_removed() {
    let rig = Rig::start(|_| {}).await;
    let theirs = rig.add_key(NewEntry::new("theirs", "team-b")).await;
    rig.delete(&format!("/api-keys/{}", theirs.id)).await.error(403);
    let listed = rig.get("/api-keys").await;
    listed.ok(200);
    assert!(!listed.text.contains(&theirs.id), "{}", listed.text);
    rig.as_key(theirs.key.expose_secret(), "GET", "/teams", Value::Null).await.ok(200);
    rig.as_key(&rig.admin, "DELETE", &format!("/api-keys/{}", theirs.id), Value::Null).await.ok(204);
    rig.as_key(theirs.key.expose_secret(), "GET", "/teams", Value::Null).await.error(401);
}

#[tokio::test]
async fn a_key_that_another_process_removes_or_ends_stops_working() {
    let rig = Rig::start(|_| {}).await;
    let removed = rig.add_key(NewEntry::new("removed", TEAM)).await;
    rig.store().remove(&removed.id).await.unwrap();
    rig.until_status(removed.key.expose_secret(), 401).await;
    let ended = rig.add_key(NewEntry::new("ended", TEAM)).await;
    let secrets: Api<Secret> = Api::namespaced(rig.server.client_without_faults(), SYSTEM);
    let mut secret = secrets.get(KEY_STORE).await.unwrap();
    let entry = secret.data.as_mut().unwrap().get_mut(&ended.id).unwrap();
    let mut json: Value = serde_json::from_slice(&entry.0).unwrap();
    json["expiresAt"] = json!("2020-01-01T00:00:00Z");
    entry.0 = json.to_string().into_bytes();
    secrets.replace(KEY_STORE, &kube::api::PostParams::default(), &secret).await.unwrap();
    rig.until_status(ended.key.expose_secret(), 401).await;
    // The answer does not say why.
    let answers = [removed.key.expose_secret(), ended.key.expose_secret(), "e2b_00"]
        .map(|key| rig.as_key(key, "GET", "/teams", Value::Null));
    let answers = futures::future::join_all(answers).await;
    assert!(answers.iter().all(|answer| answer.comparable() == answers[0].comparable()), "{answers:?}");
}

#[tokio::test]
async fn only_one_key_in_its_header_is_a_key() {
    let rig = Rig::start(|_| {}).await;
    let get = || Request::new("GET", "/teams");
    let (key, admin) = (&rig.key, &rig.admin);
    for request in [
        get().key(key).key(admin),
        get().key(key).key(key),
        get().key(key).key(""),
        get().key(&format!("{key}, {admin}")),
        get().key(&format!("{key}\u{e9}")),
        get().key(&"x".repeat(9000)),
        get().header("Authorization", &format!("Bearer {key}")),
        get().header("X-Api-Key-2", key),
        get().header("X_API_KEY", key),
        Request::new("GET", &format!("/teams?X-API-Key={key}")),
        Request::new("GET", &format!("/teams?apiKey={key}")),
    ] {
        request.send(rig.address).await.error(401);
    }
    get().header("x-api-KEY", key).send(rig.address).await.ok(200);
    // Another header changes nothing.
    let both = get().key(key).header("Authorization", &format!("Bearer {admin}"));
    assert_eq!(both.send(rig.address).await.ok(200)[0]["name"], TEAM);
}

#[tokio::test]
async fn one_team_cannot_take_the_room_of_the_keys_of_all_others() {
    let rig = Rig::start(|_| {}).await;
    let secrets: Api<Secret> = Api::namespaced(rig.server.client_without_faults(), SYSTEM);
    let mut secret = secrets.get(KEY_STORE).await.unwrap();
    let data = secret.data.as_mut().unwrap();
    // Two are there.
    for number in 2..100 {
        let id = format!("k-{number}");
        let entry = json!({"id": id, "key": format!("text-{number}"), "team": {"name": TEAM}});
        data.insert(id, k8s_openapi::ByteString(entry.to_string().into_bytes()));
    }
    secrets.replace(KEY_STORE, &kube::api::PostParams::default(), &secret).await.unwrap();
    rig.post("/api-keys", json!({"name": "x"})).await.error(409);
    rig.as_key(&rig.foreign, "POST", "/api-keys", json!({"name": "x"})).await.ok(201);
    let body = json!({"name": "x", "teamName": TEAM});
    rig.as_key(&rig.admin, "POST", "/api-keys", body).await.ok(201);
}

/// The requests for one template.
fn of_template(id: &str) -> Vec<Request> {
    let escaped = id.replace('/', "%2F");
    let body = json!({"templateID": id});
    vec![
        Request::new("GET", &format!("/templates/{escaped}")),
        Request::new("GET", &format!("/templates/aliases/{escaped}")),
        Request::new("POST", "/v2/sandboxes").json(&body),
        Request::new("POST", "/sandboxes").json(&body),
    ]
}

#[tokio::test]
async fn what_is_of_another_key_is_answered_exactly_as_what_does_not_exist() {
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({"metadata": {"a": "secret"}})).await;
    // Of the same length, so that the answers have the same length too.
    let none = format!("{}0", &id[..id.len() - 1]);
    assert_ne!(none, id, "names of pods do not end with 0 here");
    let missing = format!("{TEAM}/{}", POOL.replace('-', "x"));
    let existing = format!("{TEAM}/{POOL}");
    let mut pairs = Vec::new();
    for key in [&rig.foreign, &rig.other, &rig.admin] {
        pairs.extend(of_sandbox(&id).into_iter().zip(of_sandbox(&none)).map(|pair| (key, pair)));
    }
    pairs.extend(
        of_template(&existing).into_iter().zip(of_template(&missing)).map(|pair| (&rig.foreign, pair)),
    );
    for (key, (theirs, nothing)) in pairs {
        let mut theirs = theirs.key(key).send(rig.address).await;
        let nothing = nothing.key(key).send(rig.address).await;
        nothing.error(404);
        theirs.text = theirs.text.replace(&id, &none).replace(&existing, &missing);
        assert_eq!(theirs.comparable(), nothing.comparable());
    }
    for key in [&rig.foreign, &rig.other, &rig.admin] {
        for path in ["/v2/sandboxes", "/sandboxes", "/v2/sandboxes?metadata=a%253Dsecret"] {
            let answer = rig.as_key(key, "GET", path, Value::Null).await;
            assert_eq!(answer.ok(200), json!([]), "{path}");
            assert!(answer.header("x-total-running").is_none_or(|running| running == "0"), "{answer:?}");
        }
    }
    assert_eq!(rig.as_key(&rig.foreign, "GET", "/templates", Value::Null).await.ok(200), json!([]));
    assert_eq!(rig.detail(&id).await["state"], "running");
    assert_eq!(rig.claimed().await.len(), 1, "nobody else has claimed anything");
}
