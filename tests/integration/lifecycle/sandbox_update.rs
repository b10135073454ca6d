//! Sandbox -> Pod: a template that changes while its pod runs (docs/lifecycle.md, LS8, LS9).

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use memory_apiserver::{FaultPlan, On, RequestFault, Times, Verb};
use sandbox_manager::api::v1alpha1::{Generation, Sandbox};
use sandbox_manager::lifecycle::SANDBOX_CONTROLLER;
use serde_json::{Value, json};

use super::Lab;
use super::sandbox::{message, phase, reason, sandbox};
use crate::support::{SOON, eventually};

/// Returns the change of the template's container to these fields.
fn container(fields: Value) -> Value {
    let mut container = json!({"name": "a", "image": "i:1"});
    let Value::Object(fields) = fields else { panic!("no fields: {fields}") };
    for (field, value) in fields {
        container[field] = value;
    }
    json!({"spec": {"template": {"spec": {"containers": [container]}}}})
}

#[tokio::test(start_paused = true)]
async fn ls9_labels_and_images_are_changed_without_a_new_pod() {
    let lab = Lab::start();
    lab.create::<Sandbox>(sandbox("s", json!({}))).await;
    let before = lab.until_running("s").await.status.unwrap();
    let labels = json!({"spec": {"template": {"metadata": {"labels": {"app": "y", "new": "1"}}}}});
    lab.merge_sandbox("s", labels).await;
    let pod = lab.until("s", |pod: &Pod| pod.labels().get("new").is_some()).await;
    assert_eq!(pod.labels()["app"], "y");
    let is_current = |sandbox: &Sandbox| {
        sandbox.status.as_ref().unwrap().observed_generation.map(Generation::get)
            == sandbox.metadata.generation
    };
    let sandbox = lab.until("s", is_current).await;
    assert!(sandbox.is_ready());
    assert_ne!(sandbox.status.as_ref().unwrap().update_revision, before.update_revision);

    lab.merge_sandbox("s", container(json!({"image": "i:2"}))).await;
    let updated = lab.until("s", |sandbox: &Sandbox| sandbox.condition_is_true("InplaceUpdate")).await;
    assert!(updated.is_ready() && is_current(&updated));
    let pod: Pod = lab.api().get("s").await.unwrap();
    assert_eq!(pod.spec.unwrap().containers[0].image.as_deref(), Some("i:2"));
    let uid = updated.status.unwrap().pod_info.unwrap().pod_uid;
    assert_eq!(uid, before.pod_info.unwrap().pod_uid);
}

#[tokio::test(start_paused = true)]
async fn ls9_a_change_that_needs_a_new_pod_is_refused_until_the_policy_allows_it() {
    let lab = Lab::start();
    lab.create::<Sandbox>(sandbox("s", json!({}))).await;
    let before = lab.until_running("s").await.status.unwrap().pod_info.unwrap().pod_uid;
    lab.merge_sandbox("s", container(json!({"command": ["run"]}))).await;
    let is_refused = |sandbox: &Sandbox| reason(sandbox, "InplaceUpdate", "False") == "RecreateNotAllowed";
    let refused = lab.until("s", is_refused).await;
    assert!(refused.is_ready());
    let expected = "containers[a].command cannot be changed in the running pod";
    assert_eq!(message(&refused, "InplaceUpdate"), expected);
    assert_eq!(lab.until_event("RecreateNotAllowed").await, expected);

    lab.merge_sandbox("s", json!({"spec": {"upgradePolicy": {"type": "Recreate"}}})).await;
    let is_upgraded = |sandbox: &Sandbox| {
        phase(sandbox) == "Running" && reason(sandbox, "Upgrading", "False") == "Succeeded"
    };
    let upgraded = lab.until("s", is_upgraded).await;
    assert!(upgraded.is_ready());
    assert_ne!(upgraded.status.unwrap().pod_info.unwrap().pod_uid, before);
    let pod: Pod = lab.api().get("s").await.unwrap();
    assert_eq!(pod.spec.unwrap().containers[0].command, Some(vec!["run".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn ls9_resources_are_changed_in_place_by_the_subresource_resize() {
    let lab = Lab::start();
    let resources = |cpu: &str| json!({"requests": {"cpu": cpu}});
    lab.create::<Sandbox>(sandbox("s", json!({}))).await;
    let before = lab.until_running("s").await.status.unwrap().pod_info.unwrap().pod_uid;
    // The quality of service of a pod without resources cannot change.
    lab.merge_sandbox("s", container(json!({"resources": resources("1")}))).await;
    let is_refused = |sandbox: &Sandbox| reason(sandbox, "InplaceUpdate", "False") == "RecreateNotAllowed";
    let refused = lab.until("s", is_refused).await;
    assert!(refused.is_ready() && message(&refused, "InplaceUpdate").contains("QOS Class"), "{refused:?}");
    lab.merge_sandbox("s", json!({"spec": {"upgradePolicy": {"type": "Recreate"}}})).await;
    lab.until("s", |sandbox: &Sandbox| phase(sandbox) == "Upgrading").await;
    let first = lab.until_running("s").await.status.unwrap().pod_info.unwrap().pod_uid;
    assert_ne!(first, before);

    lab.merge_sandbox("s", container(json!({"resources": resources("2")}))).await;
    let is_updated = |sandbox: &Sandbox| {
        sandbox.condition_is_true("InplaceUpdate")
            && sandbox.status.as_ref().unwrap().observed_generation.map(Generation::get)
                == sandbox.metadata.generation
    };
    let updated = lab.until("s", is_updated).await;
    assert_eq!(updated.status.unwrap().pod_info.unwrap().pod_uid, first);
    assert!(lab.writes().contains(&"patch pods/resize s".to_owned()), "{:?}", lab.writes());
    let pod: Pod = lab.api().get("s").await.unwrap();
    let status = &pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0];
    let reported = status.resources.as_ref().unwrap().requests.as_ref().unwrap();
    assert_eq!((reported["cpu"].0.as_str(), status.restart_count), ("2", 0));
}

#[tokio::test(start_paused = true)]
async fn lc7_a_forbidden_change_of_the_pod_is_shown_and_tried_again_and_replaces_no_pod() {
    let lab = Lab::start();
    lab.create::<Sandbox>(sandbox("s", json!({"upgradePolicy": {"type": "Recreate"}}))).await;
    let before = lab.until_running("s").await.status.unwrap().pod_info.unwrap().pod_uid;
    let patches = On::request(Verb::Patch, "pods").named("s");
    lab.server.inject(&FaultPlan::request(patches, Times::First(4), RequestFault::Forbid));
    let changed = lab.merge_sandbox("s", container(json!({"image": "i:2"}))).await;
    let is_refused = |sandbox: &Sandbox| reason(sandbox, "InplaceUpdate", "False") == "PodUpdateFailed";
    let refused = lab.until("s", is_refused).await;
    let expected = "containers[a].image cannot be changed in the running pod: patching Pod s: HTTP 403";
    assert!(message(&refused, "InplaceUpdate").starts_with(expected), "{refused:?}");
    assert!(refused.is_ready(), "the pod goes on to run as it was");
    let observed = refused.status.as_ref().unwrap().observed_generation.map(Generation::get);
    assert_eq!(observed, changed.metadata.generation);
    lab.until_event("PodUpdateFailed").await;
    let updated = lab.until("s", |sandbox: &Sandbox| sandbox.condition_is_true("InplaceUpdate")).await;
    assert_eq!(lab.server.faults_fired()[0].1, 4);
    assert_eq!(updated.status.unwrap().pod_info.unwrap().pod_uid, before);
    // The creation has written two, then come the update and its refusal. Further tries write none.
    let writes = lab.writes();
    let accepted = writes.iter().rposition(|write| write == "patch pods s").unwrap();
    let statuses = writes[..accepted].iter().filter(|write| *write == "patch sandboxes/status s");
    assert_eq!(statuses.count(), 4, "{writes:?}");
}

const MIRROR: &str = "mirror.test/i:1";

/// Returns the change of the template's labels that a claim makes.
fn owner(name: &str) -> Value {
    json!({"spec": {"template": {"metadata": {"labels": {"owner": name}}}}})
}

async fn until_owned(lab: &Lab, name: &str, owner: &str) -> Pod {
    let pod =
        lab.until(name, |pod: &Pod| pod.labels().get("owner").is_some_and(|known| known == owner)).await;
    let is_current = |sandbox: &Sandbox| {
        let observed = sandbox.status.as_ref().and_then(|status| status.observed_generation);
        observed.map(Generation::get) == sandbox.metadata.generation
    };
    let sandbox = lab.until(name, is_current).await;
    assert!(sandbox.is_ready() && phase(&sandbox) == "Running", "{sandbox:?}");
    pod
}

#[tokio::test(start_paused = true)]
async fn ls8_a_pod_whose_image_admission_has_rewritten_keeps_it_when_only_labels_change() {
    let mut lab = Lab::start();
    lab.create::<Sandbox>(sandbox("s", json!({"upgradePolicy": {"type": "Recreate"}}))).await;
    lab.until("s", |_: &Pod| true).await;
    let mirrored = Patch::Strategic(json!({"spec": {"containers": [{"name": "a", "image": MIRROR}]}}));
    lab.api::<Pod>().patch("s", &PatchParams::default(), &mirrored).await.unwrap();
    lab.until_running("s").await;
    let before: Pod = lab.api().get("s").await.unwrap();
    for name in ["u-1", "u-2"] {
        lab.merge_sandbox("s", owner(name)).await;
        let pod = until_owned(&lab, "s", name).await;
        assert_eq!((&pod.metadata.uid, &pod.spec), (&before.metadata.uid, &before.spec));
        // The pod tells the next manager, too.
        lab.kill_manager().await;
        lab.start_manager();
    }
    let patches = lab.writes().into_iter().filter(|write| write == "patch pods s").count();
    assert_eq!(patches, 2, "{:?}", lab.writes());
}

#[tokio::test(start_paused = true)]
async fn ls8_a_pod_of_upstream_that_admission_has_changed_is_left_alone_when_its_sandbox_is_claimed() {
    let mut lab = Lab::without_kubelet();
    let fixture = include_str!("../../data/upstream-objects.jsonl");
    let objects = fixture.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["object"].take());
    let name = "code-interpreter-cgfcw";
    for mut object in objects.filter(|object| object["metadata"]["name"] == name) {
        let is_pod = object["kind"] == "Pod";
        if is_pod {
            let container = &mut object["spec"]["containers"][0];
            container["image"] = json!(MIRROR);
            container["imagePullPolicy"] = json!("Always");
            container["readinessProbe"] = json!({
                "exec": {"command": ["probe"]}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1,
                "failureThreshold": 3,
            });
            container["securityContext"] = json!({"privileged": false});
        } else {
            // Its set would make the pool full.
            object["metadata"]["ownerReferences"] = json!([]);
        }
        lab.server.force(if is_pod { "pods" } else { "sandboxes.agents.kruise.io" }, object);
    }
    lab.start_manager();
    eventually("the sandbox is adopted", SOON, async || {
        let reconciles =
            lab.metric("controller_runtime_reconcile_total", &[("controller", SANDBOX_CONTROLLER)]);
        ensure!(reconciles > 0.5, "{reconciles}");
        Ok(())
    })
    .await;
    assert!(lab.writes().is_empty(), "{:?}", lab.writes());
    let before: Pod = lab.api().get(name).await.unwrap();
    for owned_by in ["u-1", "u-2"] {
        lab.merge_sandbox(name, owner(owned_by)).await;
        let pod = until_owned(&lab, name, owned_by).await;
        assert_eq!((&pod.metadata.uid, &pod.spec), (&before.metadata.uid, &before.spec));
        // What was remembered is on the pod now.
        lab.kill_manager().await;
        lab.start_manager();
    }
}
