//! Creates (e2b 5.1, row 1).

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use memory_apiserver::{FaultPlan, On, PodOutcome, Pods, RequestFault, Times, Verb};
use sandbox_manager::api::v1alpha1::ANNOTATION_LOCK;
use serde_json::{Value, json};

use super::client::Request;
use super::{POOL, Rig, with_template};
use crate::support::{SOON, eventually};

/// No stock is an error at once.
const NO_CREATE: &str = "e2b.agents.kruise.io/create-on-no-stock";

#[tokio::test]
async fn e2b_1_both_dialects_create_and_a_claimed_sandbox_has_the_format_of_openkruise() {
    let rig = Rig::with_pool(2).await;
    let v2 =
        rig.post("/v2/sandboxes", json!({"templateID": POOL, "metadata": {}, "envVars": {}})).await.ok(201);
    let v1 = json!({
        "templateID": POOL, "timeout": 120, "secure": true, "autoPause": false, "allow_internet_access": false,
        "autoResume": {"enabled": false}, "metadata": {"user id": "a b", "user": "b"}, "envVars": {"A": "1"},
    });
    let v1 = rig.post("/sandboxes", v1).await.ok(201);
    for answer in [&v1, &v2] {
        assert_eq!((&answer["templateID"], &answer["clientID"]), (&json!(POOL), &json!("")));
        assert_eq!(answer["domain"], "sandboxes.example.com");
        assert_eq!(answer["envdVersion"], "0.2.10");
        assert!(answer.get("envdAccessToken").is_none(), "the template has no runtime: {answer}");
        let id = answer["sandboxID"].as_str().unwrap();
        assert!(format!("49983-{id}").len() <= 63, "{id}");
    }
    let id = v1["sandboxID"].as_str().unwrap();
    let sandbox = rig.sandbox(id).await;
    let (labels, annotations) = (sandbox.labels(), sandbox.annotations());
    assert_eq!(labels["agents.kruise.io/sandbox-claimed"], "true");
    assert_eq!(labels["agents.kruise.io/allow-internet-access"], "false");
    assert_eq!(annotations["user"], "b");
    assert_eq!(annotations["agents.kruise.io/reserve-paused-sandbox-duration"], "forever");
    let named: Value =
        serde_json::from_str(&annotations["agents.kruise.io/updated-metadata-in-claim"]).unwrap();
    assert_eq!(named["annotations"], json!(["user"]));
    assert!(annotations.contains_key(ANNOTATION_LOCK) && sandbox.owner_references().is_empty());
    let detail = rig.detail(id).await;
    assert_eq!(detail["metadata"], json!({"user id": "a b", "user": "b"}));
    assert_eq!(detail["lifecycle"], json!({"autoResume": false, "onTimeout": "kill"}));
    assert_eq!(detail["allowInternetAccess"], false);
    Rig::assert_near(rig.seconds_left(id).await, 120);
    Rig::assert_near(rig.seconds_left(v2["sandboxID"].as_str().unwrap()).await, 300);
}

#[tokio::test]
async fn e2b_1_what_is_not_accepted_is_400_and_claims_nothing() {
    let rig = Rig::with_pool(1).await;
    for body in [
        json!({"templateID": ""}),
        json!({"templateID": 5}),
        json!({"timeout": 0}),
        json!({"timeout": -1}),
        json!({"timeout": 2_592_001}),
        json!({"timeout": 1.5}),
        json!({"timeout": "60"}),
        json!({"metadata": {"a": 1}}),
        json!({"metadata": []}),
        json!({"metadata": {"agents.kruise.io/owner": "x"}}),
        json!({"metadata": {"e2b.agents.kruise.io/unknown": "x"}}),
        json!({"envVars": {"A=B": "1"}}),
        json!({"network": {"denyOut": ["0.0.0.0/0"]}}),
        json!({"volumeMounts": [{"name": "a", "path": "/a"}]}),
        json!({"iam": {"tokens": {"a": {}}}}),
        json!({"autoResume": {"enabled": true}}),
        json!({"autoPauseMemory": false}),
        json!({"metadata": {"a": "x".repeat(250 * 1024)}}),
    ] {
        rig.post("/v2/sandboxes", with_template(body)).await.error(400);
    }
    rig.post("/v2/sandboxes", json!({"metadata": {}})).await.error(400);
    for template in ["no-such", "team-b/x", "code-interpreter:v2", "default/", "a/b/c"] {
        rig.post("/v2/sandboxes", json!({"templateID": template})).await.error(404);
    }
    assert_eq!(rig.claimed().await.len(), 0);
    for template in [POOL, "default/code-interpreter", "code-interpreter:default"] {
        let id = rig.create(json!({"templateID": template, "timeout": 1})).await;
        assert!(id.starts_with("default--"), "{id}");
    }
}

#[tokio::test]
async fn e2b_1_large_metadata_is_kept_verbatim() {
    let rig = Rig::with_pool(1).await;
    let metadata = json!({"big": "ü".repeat(50 * 1024), "user id": "\u{1F600}\n\"", "": "empty"});
    let id = rig.create(json!({"metadata": metadata})).await;
    assert_eq!(rig.detail(&id).await["metadata"], metadata);
}

#[tokio::test]
async fn e2b_1_a_template_of_another_team_is_unknown() {
    let rig = Rig::with_pool(1).await;
    let body = json!({"templateID": POOL});
    let of_another = Request::new("POST", "/v2/sandboxes").json(&body).key(&rig.foreign);
    of_another.send(rig.address).await.error(404);
    let of_admin = Request::new("POST", "/v2/sandboxes").json(&body).key(&rig.admin);
    of_admin.send(rig.address).await.ok(201);
}

#[tokio::test]
async fn e2b_1_without_stock_and_without_creation_it_says_so_at_once() {
    let rig = Rig::with_pool(0).await;
    let body = json!({"templateID": POOL, "metadata": {NO_CREATE: "false"}});
    let answer = rig.post("/v2/sandboxes", body).await;
    assert_eq!(answer.error(503)["error_code"], "sandbox_capacity_unavailable");
    assert_eq!(answer.header("should-retry"), Some("true"));
    let after: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&after));
}

#[tokio::test]
async fn e2b_1_without_stock_one_is_created_and_waited_for() {
    let rig = Rig::with_pool(0).await;
    let id = rig.create(json!({})).await;
    let sandbox = rig.sandbox(&id).await;
    assert!(sandbox.is_ready() && sandbox.is_claimed());
    assert_eq!(sandbox.annotations()["agents.kruise.io/sandbox-priority"], "100");
}

#[tokio::test]
async fn e2b_1_one_that_does_not_become_ready_in_time_is_deleted() {
    let rig = Rig::with_pool(0).await;
    rig.kubelet.rule(Pods::all(), PodOutcome::Unready);
    let wait = json!({"e2b.agents.kruise.io/wait-ready-timeout-seconds": "1"});
    let answer = rig.post("/v2/sandboxes", json!({"templateID": POOL, "metadata": wait})).await;
    answer.error(504);
    assert_eq!(answer.header("should-retry"), Some("false"));
    until_none_is_claimed(&rig).await;
}

/// Lets each patch of a sandbox, as the lock is one, take this long.
fn slow_down_locks(rig: &Rig, milliseconds: u64) {
    let slow = RequestFault::Delay(Duration::from_millis(milliseconds));
    rig.server.inject(&FaultPlan::request(On::request(Verb::Patch, "sandboxes"), Times::Always, slow));
}

async fn until_none_is_claimed(rig: &Rig) {
    eventually("nothing is left claimed", SOON, async || {
        let left: Vec<_> = rig.claimed().await.iter().map(ResourceExt::name_any).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn e2b_1_a_client_that_hangs_up_leaves_no_claimed_sandbox() {
    let rig = Rig::with_pool(3).await;
    slow_down_locks(&rig, 300);
    let request = Request::new("POST", "/v2/sandboxes").json(&json!({"templateID": POOL})).key(&rig.key);
    let stream = request.begin(rig.address).await;
    eventually("the lock is on its way", SOON, async || {
        ensure!(rig.server.faults_fired()[0].1 > 0, "no lock yet");
        Ok(())
    })
    .await;
    drop(stream);
    rig.server.clear_faults();
    until_none_is_claimed(&rig).await;
    rig.until_ready(POOL, 3).await;
}

#[tokio::test]
async fn e2b_1_the_same_idempotency_key_is_the_same_sandbox() {
    let rig = Rig::with_pool(3).await;
    let with_key = |key: &str, body: Value| {
        let request = Request::new("POST", "/v2/sandboxes").json(&with_template(body));
        rig.send(request.header("Idempotency-Key", key))
    };
    let first = with_key("k-1", json!({"timeout": 60})).await.ok(201);
    let second = with_key("k-1", json!({"timeout": 60})).await.ok(201);
    assert_eq!(first["sandboxID"], second["sandboxID"]);
    let error = with_key("k-1", json!({"timeout": 61})).await.error(422);
    assert_eq!(error["error_code"], "idempotency_request_mismatch");
    let third = with_key("k-2", json!({"timeout": 60})).await.ok(201);
    assert_ne!(first["sandboxID"], third["sandboxID"]);
    with_key("K", json!({})).await.error(400);
    assert_eq!(rig.claimed().await.len(), 2);
}

#[tokio::test]
async fn e2b_1_a_create_with_a_key_that_is_under_way_is_409() {
    let rig = Rig::with_pool(1).await;
    slow_down_locks(&rig, 500);
    let body = json!({"templateID": POOL});
    let request = Request::new("POST", "/v2/sandboxes").json(&body).header("Idempotency-Key", "k");
    let (one, two) = tokio::join!(rig.send(request.clone()), rig.send(request));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    let refused = if one.status == 409 { one } else { two };
    assert_eq!(refused.json()["error_code"], "idempotency_in_progress");
}

#[tokio::test]
async fn e2b_1_fifty_at_once_get_fifty_sandboxes_or_a_clean_503() {
    let rig = Rig::with_pool(20).await;
    let body = json!({"templateID": POOL, "metadata": {NO_CREATE: "false"}});
    let creates = (0..50).map(|_| rig.post("/v2/sandboxes", body.clone()));
    let answers = futures::future::join_all(creates).await;
    let mut ids = BTreeSet::new();
    for answer in answers {
        match answer.status {
            201 => {
                let id = answer.json()["sandboxID"].as_str().unwrap().to_owned();
                assert!(ids.insert(id.clone()), "{id} was given twice");
            }
            _ => drop(answer.error(503)),
        }
    }
    assert!(ids.len() >= 20, "{}", ids.len());
    let claimed: BTreeSet<_> =
        rig.claimed().await.iter().map(|sandbox| sandbox.sandbox_id().into_owned()).collect();
    assert_eq!(claimed, ids, "what is claimed is what was answered");
}

#[tokio::test]
async fn e2b_1_a_quota_is_429_and_not_repeated() {
    let rig = Rig::with_pool(3).await;
    let body = json!({"name": "small", "teamName": "default", "quota": {"all": {"sandbox.count": 1}}});
    let made = Request::new("POST", "/api-keys").json(&body).key(&rig.admin).send(rig.address).await.ok(201);
    let key = made["key"].as_str().unwrap();
    let create = Request::new("POST", "/v2/sandboxes").json(&json!({"templateID": POOL})).key(key);
    let first = create.send(rig.address).await.ok(201);
    let refused = create.send(rig.address).await;
    refused.error(429);
    assert_eq!(refused.header("should-retry"), Some("false"));
    let path = format!("/sandboxes/{}", first["sandboxID"].as_str().unwrap());
    Request::new("DELETE", &path).key(key).send(rig.address).await.ok(204);
    eventually("there is room again", SOON, async || {
        let answer = create.send(rig.address).await;
        ensure!(answer.status == 201, "{answer:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn e2b_5_0_beyond_the_limit_of_claims_at_once_it_says_so() {
    let rig = Rig::start(|options| options.e2b.max_concurrent_claims = 1).await;
    rig.pool(POOL, 3).await;
    slow_down_locks(&rig, 500);
    let body = json!({"templateID": POOL});
    let (one, two) = tokio::join!(rig.post("/v2/sandboxes", body.clone()), rig.post("/v2/sandboxes", body));
    let refused = if one.status == 429 { one } else { two };
    refused.error(429);
    assert_eq!(refused.header("should-retry"), Some("true"));
}

#[tokio::test]
async fn e2b_1_a_set_that_is_gone_is_an_unknown_template() {
    let rig = Rig::with_pool(0).await;
    let hold = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    rig.sets().patch(POOL, &PatchParams::default(), &hold).await.unwrap();
    rig.sets().delete(POOL, &kube::api::DeleteParams::default()).await.unwrap();
    eventually("the template is unknown", SOON, async || {
        let answer = rig.get(&format!("/templates/aliases/{POOL}")).await;
        ensure!(answer.status == 404, "{answer:?}");
        Ok(())
    })
    .await;
    rig.post("/v2/sandboxes", json!({"templateID": POOL})).await.error(404);
}
