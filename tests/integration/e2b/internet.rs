//! What becomes of `allow_internet_access`: a label of the pod, on which the policies of docs/security.md act.

use std::path::Path;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Api, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{POOL, Rig, TEAM};
use crate::support::{SOON, eventually};

/// The policies of the documentation.
fn policies() -> Vec<NetworkPolicy> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let block = blocks.into_iter().find(|block| block.contains("kind: NetworkPolicy")).unwrap();
    let documents = serde_yaml::Deserializer::from_str(block);
    documents
        .map(|document| {
            let value = Value::deserialize(document).unwrap();
            let policy: NetworkPolicy = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(
                serde_json::to_value(&policy).unwrap(),
                value,
                "a field that Kubernetes does not know"
            );
            policy
        })
        .collect()
}

/// Returns the names of the policies that select a pod.
fn selecting(pod: &Pod) -> Vec<String> {
    let labels = pod.labels();
    let selects = |policy: &NetworkPolicy| {
        let selector = policy.spec.as_ref().unwrap().pod_selector.as_ref().unwrap();
        assert!(selector.match_expressions.is_none(), "not looked at here");
        selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
    };
    policies().iter().filter(|policy| selects(policy)).map(NetworkPolicy::name_any).collect()
}

/// Waits until the pod of a sandbox is selected by these policies.
async fn until_selected_by(rig: &Rig, id: &str, expected: &[&str]) {
    let pods: Api<Pod> = Api::namespaced(rig.server.client_without_faults(), TEAM);
    let name = id.split_once("--").unwrap().1;
    eventually("the pod has its labels", SOON, async || {
        let selected = selecting(&pods.get_opt(name).await?.context("no pod")?);
        ensure!(selected == expected, "{selected:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_policies_of_the_documentation_select_pods_by_what_the_caller_has_asked_for() {
    let rig = Rig::with_pool(2).await;
    let without = rig.create(json!({"allow_internet_access": false})).await;
    assert_eq!(rig.detail(&without).await["allowInternetAccess"], false);
    until_selected_by(&rig, &without, &["sandboxes"]).await;
    let with = rig.create(json!({})).await;
    assert_eq!(rig.detail(&with).await["allowInternetAccess"], true);
    until_selected_by(&rig, &with, &["sandboxes", "sandboxes-with-internet"]).await;
    // A created one has its label from the beginning.
    let created = rig.create(json!({"allow_internet_access": false})).await;
    until_selected_by(&rig, &created, &["sandboxes"]).await;
}

#[tokio::test]
async fn a_set_that_refers_to_a_template_cannot_promise_to_keep_the_internet_away() {
    let rig = Rig::start(|_| {}).await;
    let template = json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxTemplate",
        "metadata": {"namespace": TEAM, "name": "t"},
        "spec": {"template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}},
    });
    rig.server.load(&template).unwrap();
    let set = json!({"metadata": {"name": POOL}, "spec": {"replicas": 1, "templateRef": {"name": "t"}}});
    let set = serde_json::from_value(set).unwrap();
    rig.sets().create(&kube::api::PostParams::default(), &set).await.unwrap();
    rig.until_ready(POOL, 1).await;
    let refused =
        rig.post("/v2/sandboxes", json!({"templateID": POOL, "allow_internet_access": false})).await;
    let error = refused.error(400);
    assert!(error["message"].as_str().unwrap().starts_with("allow_internet_access: false needs"), "{error}");
    let label = json!({"e2b.agents.kruise.io/label:app": "y"});
    rig.post("/v2/sandboxes", json!({"templateID": POOL, "metadata": label})).await.error(400);
    assert_eq!(rig.claimed().await.len(), 0);
    rig.post("/v2/sandboxes", json!({"templateID": POOL, "allow_internet_access": true})).await.ok(201);
}
