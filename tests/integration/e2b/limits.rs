//! Limits of the operator, which no metadata and no key can pass (docs/security.md).

use std::time::Duration;

use anyhow::ensure;
use memory_apiserver::{FaultPlan, On, PodOutcome, Pods, RequestFault, Times, Verb};
use serde_json::{Value, json};

use super::client::{Answer, Request};
use super::{POOL, Rig, with_template};
use crate::support::{SOON, eventually};

/// A create with one entry of metadata for the server.
async fn with_metadata(rig: &Rig, key: &str, value: &str) -> Answer {
    let metadata = json!({format!("e2b.agents.kruise.io/{key}"): value});
    rig.post("/v2/sandboxes", with_template(json!({"metadata": metadata}))).await
}

fn message(answer: &Answer) -> String {
    let error: Value = answer.error(400);
    error["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn never_timeout_does_not_pass_the_maximum_of_the_operator() {
    let rig = Rig::start(|options| options.e2b.max_timeout = Duration::from_hours(1)).await;
    rig.pool(POOL, 1).await;
    let refused = message(&with_metadata(&rig, "never-timeout", "true").await);
    assert_eq!(
        refused,
        "metadata key e2b.agents.kruise.io/never-timeout: this server gives a sandbox at most 3600 seconds"
    );
    assert_eq!(rig.claimed().await.len(), 0);
    with_metadata(&rig, "never-timeout", "false").await.ok(201);
}

#[tokio::test]
async fn create_on_no_stock_cannot_be_turned_on_by_metadata() {
    let rig = Rig::start(|options| options.e2b.create_on_no_stock = false).await;
    rig.pool(POOL, 1).await;
    let refused = message(&with_metadata(&rig, "create-on-no-stock", "true").await);
    assert!(refused.ends_with("this server creates no sandboxes for an empty pool"), "{refused}");
    with_metadata(&rig, "create-on-no-stock", "false").await.ok(201);
}

#[tokio::test]
async fn a_label_of_a_caller_changes_none_of_the_template_and_none_by_which_sandboxes_are_watched() {
    let rig = Rig::start(|options| options.sandbox_label_selector = "visible!=no".to_owned()).await;
    rig.pool(POOL, 2).await;
    for (label, value) in [
        ("app", "y"),
        ("visible", "no"),
        ("visible", "yes"),
        ("agents.kruise.io/owner", "x"),
        ("agents.kruise.io/sandbox-pool", "x"),
        ("agents.kruise.io/sandbox-claimed", "false"),
        ("agents.kruise.io/sandbox-id", "x"),
        ("agents.kruise.io/reserved-failed-sandbox", "true"),
        ("e2b.agents.kruise.io/x", "x"),
        ("apps.kruise.io/x", "x"),
        ("app.kubernetes.io/name", "x"),
        ("pod.x-k8s.io/y", "x"),
        ("topology.k8s.io/y", "x"),
        ("sidecar.istio.io/inject", "false"),
        ("azure.workload.identity/use", "true"),
        ("example.com/x", "x"),
        ("a b", "x"),
        ("a/b/c", "x"),
        ("a", "\u{202e}"),
        ("a", "x\n"),
        ("\u{0}", "x"),
    ] {
        let answer = with_metadata(&rig, &format!("label:{label}"), value).await;
        assert_eq!(answer.status, 400, "{label}={value}");
        message(&answer);
    }
    assert_eq!(rig.claimed().await.len(), 0);
    for (label, value) in [("app", "x"), ("tier", "gold")] {
        let answer = with_metadata(&rig, &format!("label:{label}"), value).await.ok(201);
        let sandbox = rig.sandbox(answer["sandboxID"].as_str().unwrap()).await;
        assert_eq!(sandbox.metadata.labels.unwrap()[label], value);
    }
}

#[tokio::test]
async fn metadata_sets_no_annotation_that_another_program_acts_on() {
    let rig = Rig::with_pool(1).await;
    let metadata = json!({
        "kubernetes.io/x": "1", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "x.k8s.io/y": "1",
        "x.agents.kruise.io/y": "1", "apps.kruise.io/y": "1", "own": "1",
    });
    let id = rig.create(json!({"metadata": metadata})).await;
    let annotations = rig.sandbox(&id).await.metadata.annotations.unwrap();
    let written: Vec<_> =
        metadata.as_object().unwrap().keys().filter(|key| annotations.contains_key(*key)).collect();
    assert_eq!(written, ["own"]);
    assert_eq!(rig.detail(&id).await["metadata"], metadata, "the client gets back what it has sent");
}

#[tokio::test]
async fn what_is_kept_after_a_failure_counts_for_the_quota() {
    let rig = Rig::with_pool(0).await;
    rig.kubelet.rule(Pods::all(), PodOutcome::Unready);
    let body = json!({"name": "small", "teamName": "default", "quota": {"all": {"sandbox.count": 1}}});
    let made = Request::new("POST", "/api-keys").json(&body).key(&rig.admin).send(rig.address).await.ok(201);
    let metadata = json!({
        "e2b.agents.kruise.io/reserve-failed-sandbox": "true",
        "e2b.agents.kruise.io/wait-ready-timeout-seconds": "1",
    });
    let create = Request::new("POST", "/v2/sandboxes").json(&with_template(json!({"metadata": metadata})));
    let create = create.key(made["key"].as_str().unwrap());
    create.send(rig.address).await.error(504);
    eventually("it is kept and seen", SOON, async || {
        let answer = create.send(rig.address).await;
        ensure!(answer.status == 429, "{answer:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn one_key_cannot_take_the_creates_of_all_others() {
    let rig = Rig::start(|options| options.e2b.max_concurrent_claims_per_key = 1).await;
    rig.pool(POOL, 3).await;
    let slow = RequestFault::Delay(Duration::from_millis(500));
    rig.server.inject(&FaultPlan::request(On::request(Verb::Patch, "sandboxes"), Times::Always, slow));
    let body = json!({"templateID": POOL});
    let create = |key: &str| {
        let request = Request::new("POST", "/v2/sandboxes").json(&body).key(key);
        async move { request.send(rig.address).await }
    };
    let (one, two, other) = tokio::join!(create(&rig.key), create(&rig.key), create(&rig.other));
    other.ok(201);
    let (refused, made) = if one.status == 429 { (one, two) } else { (two, one) };
    made.ok(201);
    refused.error(429);
    assert_eq!((refused.header("should-retry"), refused.header("retry-after")), (Some("true"), Some("1")));
    assert_eq!(rig.claimed().await.len(), 2);
}
