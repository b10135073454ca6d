//! Sandbox -> Pod (docs/lifecycle.md, LS).

use std::time::Duration;

use anyhow::ensure;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use memory_apiserver::{FaultPlan, Kubelet, On, PodOutcome, Pods, RequestFault, Times, Verb, WatchFault};
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxPhase, SandboxTemplate};
use sandbox_manager::lifecycle::SANDBOX_CONTROLLER;
use serde_json::{Value, json};

use super::{Lab, START};
use crate::support::{SOON, eventually};

/// A sandbox with more fields in its spec.
pub(super) fn sandbox(name: &str, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "Sandbox", "metadata": {"name": name},
        "spec": {"template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{"name": "a", "image": "i:1"}], "terminationGracePeriodSeconds": 1},
        }},
    });
    let Value::Object(more) = more else { panic!("no fields: {more}") };
    for (field, value) in more {
        object["spec"][field] = value;
    }
    object
}

pub(super) fn phase(sandbox: &Sandbox) -> &str {
    sandbox.phase().map_or("", SandboxPhase::as_str)
}

/// Returns the reason of a condition with this status.
pub(super) fn reason<'a>(sandbox: &'a Sandbox, type_: &str, status: &str) -> &'a str {
    let condition = sandbox.condition(type_).filter(|condition| condition.status.as_str() == status);
    condition.map_or("", |condition| &condition.reason)
}

pub(super) fn message<'a>(sandbox: &'a Sandbox, type_: &str) -> &'a str {
    sandbox.condition(type_).map_or("", |condition| &condition.message)
}

impl Lab {
    pub(super) async fn merge_sandbox(&self, name: &str, change: Value) -> Sandbox {
        let patch = Patch::Merge(change);
        self.api::<Sandbox>().patch(name, &PatchParams::default(), &patch).await.unwrap()
    }

    pub(super) async fn until_running(&self, name: &str) -> Sandbox {
        self.until(name, |sandbox: &Sandbox| phase(sandbox) == "Running" && sandbox.is_ready()).await
    }

    async fn until_paused(&self, name: &str) -> Sandbox {
        self.until(name, |sandbox: &Sandbox| sandbox.condition_is_true("SandboxPaused")).await
    }

    /// Waits until the manager has sent an event with this reason, and returns its note.
    pub(super) async fn until_event(&self, reason: &str) -> String {
        eventually(reason, SOON, async || {
            let events = self.api::<Event>().list(&ListParams::default()).await?.items;
            let found = events.iter().find(|event| event.reason.as_deref() == Some(reason));
            let Some(found) = found else { anyhow::bail!("{events:?}") };
            Ok(found.note.clone().unwrap_or_default())
        })
        .await
    }
}

#[tokio::test(start_paused = true)]
async fn ls1_ls2_lp7_a_sandbox_gets_its_pod_with_three_writes() {
    let lab = Lab::start();
    lab.create::<Sandbox>(sandbox("s", json!({}))).await;
    let running = lab.until_running("s").await;
    let pod: Pod = lab.api().get("s").await.unwrap();
    let status = running.status.as_ref().unwrap();
    let info = status.pod_info.as_ref().unwrap();
    assert_eq!(info.pod_uid.as_ref().map(ToString::to_string), pod.metadata.uid);
    assert_eq!(status.node_name.as_deref(), Some("node-1"));
    assert_eq!(status.sandbox_ip.as_ref().map(ToString::to_string), pod.status.as_ref().unwrap().pod_ip);
    assert_eq!(status.observed_generation.unwrap().get(), 1);
    assert_eq!(pod.labels()["pod-template-hash"], *status.update_revision.clone().unwrap());
    assert_eq!(pod.labels()["app"], "x");
    assert_eq!(pod.owner_references()[0].uid, running.metadata.uid.clone().unwrap());
    assert_eq!(lab.until_event("SandboxRunning").await, "Sandbox started");
    lab.until_event("SandboxPending").await;
    assert_eq!(lab.writes(), ["create pods", "patch sandboxes/status s", "patch sandboxes/status s"]);
    assert!(lab.reads().is_empty(), "{:?}", lab.reads());
}

#[tokio::test(start_paused = true)]
async fn lp7_many_sandboxes_at_once_need_three_writes_each_and_no_read() {
    const COUNT: usize = 300;
    let lab = Lab::start();
    for i in 0..COUNT {
        lab.create::<Sandbox>(sandbox(&format!("s-{i}"), json!({}))).await;
    }
    for i in 0..COUNT {
        lab.until_running(&format!("s-{i}")).await;
    }
    let writes = lab.writes();
    let created = writes.iter().filter(|write| *write == "create pods").count();
    assert_eq!((created, writes.len()), (COUNT, 3 * COUNT));
    assert!(lab.reads().is_empty(), "{:?}", lab.reads());
}

fn with_claim() -> Value {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": spec}]})
}

#[tokio::test(start_paused = true)]
async fn ls1_ls3_ls6_a_pause_keeps_the_volume_claim_and_a_resume_uses_it_again() {
    let lab = Lab::start();
    lab.create::<Sandbox>(sandbox("s", with_claim())).await;
    lab.until_running("s").await;
    let claim: PersistentVolumeClaim = lab.api().get("data-s").await.unwrap();
    let first: Pod = lab.api().get("s").await.unwrap();
    let volumes = first.spec.as_ref().unwrap().volumes.clone().unwrap();
    let volume = volumes.iter().find(|volume| volume.name == "data").unwrap();
    assert_eq!(volume.persistent_volume_claim.as_ref().unwrap().claim_name, "data-s");

    lab.merge_sandbox("s", json!({"spec": {"paused": true}})).await;
    let paused = lab.until_paused("s").await;
    assert_eq!((phase(&paused), reason(&paused, "Ready", "False")), ("Paused", "PodReady"));
    assert_eq!(reason(&paused, "SandboxPaused", "True"), "StopPauseSucceed");
    assert_eq!(paused.finalizers(), ["agents.kruise.io/sandbox"]);
    assert!(paused.status.as_ref().unwrap().pod_info.is_none());
    assert!(lab.api::<Pod>().get_opt("s").await.unwrap().is_none());

    lab.merge_sandbox("s", json!({"spec": {"paused": false}})).await;
    let resumed = lab.until_running("s").await;
    assert_eq!(reason(&resumed, "SandboxResumed", "True"), "ResumePod");
    assert!(resumed.condition("SandboxPaused").is_none() && resumed.finalizers().is_empty());
    let second: Pod = lab.api().get("s").await.unwrap();
    assert_ne!(first.metadata.uid, second.metadata.uid);
    let kept: PersistentVolumeClaim = lab.api().get("data-s").await.unwrap();
    assert_eq!(
        (kept.metadata.uid, kept.metadata.resource_version),
        (claim.metadata.uid, claim.metadata.resource_version)
    );
    for reason in ["SandboxPaused", "SandboxResuming"] {
        lab.until_event(reason).await;
    }
}

#[tokio::test(start_paused = true)]
async fn ls1_a_sandbox_that_does_not_run_yet_is_paused_without_waiting_for_it() {
    let lab = Lab::start();
    lab.kubelet.rule(Pods::all(), PodOutcome::Starting);
    lab.create::<Sandbox>(sandbox("starting", json!({}))).await;
    lab.until("starting", |sandbox: &Sandbox| phase(sandbox) == "Pending").await;
    lab.merge_sandbox("starting", json!({"spec": {"paused": true}})).await;
    lab.until_paused("starting").await;
    lab.until_gone::<Pod>("starting").await;

    lab.create::<Sandbox>(sandbox("paused", json!({"paused": true}))).await;
    let paused = lab.until_paused("paused").await;
    assert_eq!((phase(&paused), reason(&paused, "SandboxPaused", "True")), ("Paused", "StopPauseSucceed"));
    assert_eq!(lab.writes().iter().filter(|write| *write == "create pods").count(), 1, "{:?}", lab.writes());
    lab.kubelet.clear_rules();
    lab.merge_sandbox("paused", json!({"spec": {"paused": false}})).await;
    lab.until_running("paused").await;
}

fn volume_claim(owner: &Value) -> Value {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let metadata = json!({"name": "data-s", "namespace": "default", "ownerReferences": owner});
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
}

/// A lab whose cache shows new volume claims, or does not.
async fn lab_for_claims(cache_shows_them: bool) -> Lab {
    let lab = Lab::start();
    if !cache_shows_them {
        // The first list would show them.
        lab.create::<Sandbox>(sandbox("first", json!({}))).await;
        lab.until_running("first").await;
        let events = On::kind("persistentvolumeclaims");
        lab.server.inject(&FaultPlan::event(events, Times::Always, WatchFault::Silence));
    }
    lab
}

#[tokio::test(start_paused = true)]
async fn ls3_the_volume_claim_of_a_predecessor_is_waited_for_and_not_used() {
    for cache_shows_it in [true, false] {
        let lab = lab_for_claims(cache_shows_it).await;
        let owner = json!([{
            "apiVersion": "agents.kruise.io/v1alpha1", "kind": "Sandbox", "name": "s", "uid": "of-before",
            "controller": true,
        }]);
        lab.server.force("persistentvolumeclaims", volume_claim(&owner));
        lab.create::<Sandbox>(sandbox("s", with_claim())).await;
        let is_waiting = |sandbox: &Sandbox| reason(sandbox, "Ready", "False") == "VolumeClaimNameTaken";
        let waiting = lab.until("s", is_waiting).await;
        assert_eq!(phase(&waiting), "Pending");
        let expected = "volume claim data-s belongs to Sandbox s (UID of-before); waiting until it is gone";
        assert_eq!(message(&waiting, "Ready"), expected);
        assert_eq!(lab.until_event("VolumeClaimNameTaken").await, expected);
        assert!(lab.api::<Pod>().get_opt("s").await.unwrap().is_none());
        assert_eq!(lab.reads().contains(&"get persistentvolumeclaims data-s".to_owned()), !cache_shows_it);
        lab.delete::<PersistentVolumeClaim>("data-s").await;
        let running = lab.until_running("s").await;
        let claim: PersistentVolumeClaim = lab.api().get("data-s").await.unwrap();
        assert_eq!(claim.owner_references()[0].uid, running.metadata.uid.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn ls3_a_volume_claim_that_a_user_has_made_is_used() {
    for cache_shows_it in [true, false] {
        let lab = lab_for_claims(cache_shows_it).await;
        let made: PersistentVolumeClaim = lab.create(volume_claim(&json!([]))).await;
        lab.create::<Sandbox>(sandbox("s", with_claim())).await;
        lab.until_running("s").await;
        let used: PersistentVolumeClaim = lab.api().get("data-s").await.unwrap();
        assert_eq!(used.metadata.resource_version, made.metadata.resource_version);
    }
}

#[tokio::test(start_paused = true)]
async fn ls1_ls6_a_deletion_leaves_nothing_running_or_paused() {
    let lab = Lab::start();
    for name in ["running", "paused"] {
        lab.create::<Sandbox>(sandbox(name, with_claim())).await;
        lab.until_running(name).await;
    }
    lab.merge_sandbox("paused", json!({"spec": {"paused": true}})).await;
    lab.until_paused("paused").await;
    for name in ["running", "paused"] {
        lab.delete::<Sandbox>(name).await;
        lab.until_gone::<Sandbox>(name).await;
        lab.until_gone::<Pod>(name).await;
        lab.until_gone::<PersistentVolumeClaim>(&format!("data-{name}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn ls6_a_finalizer_of_an_older_controller_is_removed_after_the_pod() {
    let lab = Lab::start();
    let mut object = sandbox("s", json!({}));
    object["metadata"]["finalizers"] = json!(["agents.kruise.io/sandbox"]);
    lab.create::<Sandbox>(object).await;
    let running = lab.until_running("s").await;
    assert_eq!(running.finalizers().len(), 1);
    lab.delete::<Sandbox>("s").await;
    lab.until_gone::<Sandbox>("s").await;
    assert!(lab.api::<Pod>().get_opt("s").await.unwrap().is_none(), "the pod went first");
}

/// Timers follow the wall clock, so the time of this test is not paused.
#[tokio::test]
async fn ls5_a_sandbox_is_deleted_at_its_shutdown_time_and_paused_at_its_pause_time() {
    let lab = Lab::start();
    let soon = (Timestamp::now() + Duration::from_secs(2)).to_string();
    lab.create::<Sandbox>(sandbox("shut", json!({"shutdownTime": soon}))).await;
    lab.create::<Sandbox>(sandbox("pause", json!({"pauseTime": soon}))).await;
    lab.until_running("shut").await;
    lab.until_running("pause").await;
    let paused = lab.until_paused("pause").await;
    assert_eq!(paused.spec.paused, Some(true));
    lab.until_gone::<Sandbox>("shut").await;
    lab.until_gone::<Pod>("shut").await;
    lab.until_event("ShutdownTimeReached").await;
    lab.until_event("PauseTimeReached").await;
}

/// The time of this test is not paused.
#[tokio::test]
async fn ls5_an_extension_that_the_cache_has_not_seen_wins() {
    let lab = Lab::start();
    let soon = (Timestamp::now() + Duration::from_secs(2)).to_string();
    for (name, field) in [("shut", "shutdownTime"), ("pause", "pauseTime")] {
        lab.create::<Sandbox>(sandbox(name, json!({field: soon}))).await;
        lab.until_running(name).await;
    }
    let silence = FaultPlan::event(On::kind("sandboxes"), Times::Always, WatchFault::Silence);
    lab.server.inject(&silence);
    let later = (Timestamp::now() + Duration::from_hours(1)).to_string();
    lab.merge_sandbox("shut", json!({"spec": {"shutdownTime": later}})).await;
    lab.merge_sandbox("pause", json!({"spec": {"pauseTime": later}})).await;
    let writes = lab.writes();
    eventually("the timers have fired on the old view", SOON, async || {
        for name in ["shut", "pause"] {
            let read = format!("get sandboxes {name}");
            ensure!(lab.reads().iter().filter(|seen| **seen == read).count() >= 2, "{:?}", lab.reads());
        }
        Ok(())
    })
    .await;
    assert_eq!(lab.writes(), writes);
    let kept: Sandbox = lab.api().get("pause").await.unwrap();
    assert_eq!(kept.spec.paused, None);
    assert!(lab.api::<Sandbox>().get_opt("shut").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn ls1_the_message_of_a_container_that_cannot_start_is_shown_until_it_starts() {
    let lab = Lab::start();
    lab.kubelet.rule(Pods::all(), PodOutcome::waiting("ImagePullBackOff", "no such image"));
    lab.create::<Sandbox>(sandbox("s", json!({}))).await;
    let is_failing = |sandbox: &Sandbox| reason(sandbox, "Ready", "False") == "StartContainerFailed";
    let failing = lab.until("s", is_failing).await;
    assert_eq!((phase(&failing), message(&failing, "Ready")), ("Pending", "no such image"));
    lab.kubelet.clear_rules();
    lab.until_running("s").await;
    lab.kubelet.rule(Pods::all(), PodOutcome::CrashLoop);
    let crashing = lab.until("s", is_failing).await;
    assert_eq!(phase(&crashing), "Running");
    assert!(message(&crashing, "Ready").contains("back-off"), "{crashing:?}");
    lab.kubelet.clear_rules();
    lab.until_running("s").await;
}

#[tokio::test(start_paused = true)]
async fn ls1_a_lost_pod_and_an_ended_pod_end_the_sandbox() {
    let lab = Lab::start();
    for name in ["lost", "failed", "done"] {
        lab.create::<Sandbox>(sandbox(name, json!({}))).await;
        lab.until_running(name).await;
    }
    lab.delete::<Pod>("lost").await;
    lab.kubelet.rule(Pods::named("default", "failed"), PodOutcome::failed("out of luck"));
    lab.kubelet.rule(Pods::named("default", "done"), PodOutcome::Succeeded);
    let lost = lab.until("lost", |sandbox: &Sandbox| phase(sandbox) == "Failed").await;
    assert_eq!(lost.status.unwrap().message.as_deref(), Some("Pod Not Found"));
    let failed = lab.until("failed", |sandbox: &Sandbox| phase(sandbox) == "Failed").await;
    assert_eq!(failed.status.unwrap().message.as_deref(), Some("out of luck"));
    lab.until("done", |sandbox: &Sandbox| phase(sandbox) == "Succeeded").await;
    lab.until_event("SandboxFailed").await;
}

fn foreign_pod(labels: &Value) -> Value {
    let owner = json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "Sandbox", "name": "s", "uid": "of-before",
        "controller": true,
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "s", "labels": labels, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "a", "image": "i:1"}]},
    })
}

#[tokio::test(start_paused = true)]
async fn lc3_a_leftover_pod_of_the_same_name_is_waited_for_whether_the_cache_shows_it_or_not() {
    for labels in [json!({"agents.kruise.io/created-by": "sandbox"}), json!({})] {
        let lab = Lab::start();
        let leftover: Pod = lab.create(foreign_pod(&labels)).await;
        lab.create::<Sandbox>(sandbox("s", json!({}))).await;
        let is_waiting = |sandbox: &Sandbox| reason(sandbox, "Ready", "False") == "PodNameTaken";
        let waiting = lab.until("s", is_waiting).await;
        assert_eq!(phase(&waiting), "Pending");
        assert!(message(&waiting, "Ready").contains("UID of-before"), "{waiting:?}");
        lab.until_event("PodNameTaken").await;
        let kept: Pod = lab.api().get("s").await.unwrap();
        assert_eq!(kept.metadata.uid, leftover.metadata.uid);
        assert_eq!(kept.metadata.deletion_timestamp, None);
        lab.delete::<Pod>("s").await;
        let running = lab.until_running("s").await;
        let pod: Pod = lab.api().get("s").await.unwrap();
        assert_eq!(pod.owner_references()[0].uid, running.metadata.uid.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn lc2_a_pod_whose_label_was_removed_is_found_and_marked_again() {
    let lab = Lab::start();
    lab.create::<Sandbox>(sandbox("s", json!({}))).await;
    lab.until_running("s").await;
    let patch = Patch::Merge(json!({"metadata": {"labels": {"agents.kruise.io/created-by": null}}}));
    lab.api::<Pod>().patch("s", &PatchParams::default(), &patch).await.unwrap();
    lab.until("s", |pod: &Pod| pod.labels().contains_key("agents.kruise.io/created-by")).await;
    let kept = lab.until_running("s").await;
    assert_eq!(kept.status.unwrap().message, None);
}

#[tokio::test(start_paused = true)]
async fn ls2_a_template_that_appears_later_starts_the_sandbox() {
    let lab = Lab::start();
    let mut object = sandbox("s", json!({"templateRef": {"name": "t"}}));
    let template = object["spec"]["template"].take();
    lab.create::<Sandbox>(object).await;
    let is_waiting = |sandbox: &Sandbox| reason(sandbox, "Ready", "False") == "TemplateNotFound";
    let waiting = lab.until("s", is_waiting).await;
    assert_eq!(message(&waiting, "Ready"), "SandboxTemplate t not found");
    lab.create::<SandboxTemplate>(json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxTemplate", "metadata": {"name": "t"},
        "spec": {"template": template},
    }))
    .await;
    let begun = tokio::time::Instant::now();
    lab.until_running("s").await;
    assert!(begun.elapsed() < Duration::from_secs(5), "the event of the template was missed");
}

#[tokio::test(start_paused = true)]
async fn lc7_a_refused_pod_is_shown_backed_off_and_tried_again() {
    let lab = Lab::start();
    let creations = On::request(Verb::Create, "pods");
    lab.server.inject(&FaultPlan::request(creations, Times::First(4), RequestFault::Forbid));
    let begun = tokio::time::Instant::now();
    lab.create::<Sandbox>(sandbox("s", json!({}))).await;
    let is_refused = |sandbox: &Sandbox| reason(sandbox, "Ready", "False") == "PodCreateFailed";
    let refused = lab.until("s", is_refused).await;
    assert_eq!(phase(&refused), "Pending");
    assert!(message(&refused, "Ready").starts_with("creating Pod s: HTTP 403"), "{refused:?}");
    assert_eq!(refused.status.as_ref().unwrap().message.as_deref(), Some(message(&refused, "Ready")));
    lab.until_event("PodCreateFailed").await;
    let running = lab.until_running("s").await;
    assert_eq!(running.status.unwrap().message, None);
    let tries = lab.writes().iter().filter(|write| *write == "create pods").count();
    assert_eq!(tries, 5);
    let elapsed = begun.elapsed();
    assert!(
        (Duration::from_secs(15)..Duration::from_secs(20)).contains(&elapsed),
        "1 + 2 + 4 + 8 s: {elapsed:?}"
    );
    let failures = [("reason", "Forbidden")];
    assert!(lab.metric("sandbox_manager_pod_create_failures_total", &failures) > 3.5);
}

#[tokio::test(start_paused = true)]
async fn lc2_a_creation_whose_answer_is_lost_is_looked_up_and_not_repeated() {
    let lab = Lab::start();
    let creations = On::request(Verb::Create, "pods");
    lab.server.inject(&FaultPlan::request(creations, Times::First(1), RequestFault::DropAnswer));
    lab.create::<Sandbox>(sandbox("s", json!({}))).await;
    lab.until_running("s").await;
    assert_eq!(lab.writes().iter().filter(|write| *write == "create pods").count(), 1, "{:?}", lab.writes());
    assert!(lab.reads().contains(&"get pods s".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn lc2_while_the_watch_of_pods_is_silent_the_own_pod_is_known() {
    let lab = Lab::start();
    lab.create::<Sandbox>(sandbox("first", json!({}))).await;
    lab.until_running("first").await;
    lab.server.inject(&FaultPlan::event(On::kind("pods"), Times::Always, WatchFault::Silence));
    lab.create::<Sandbox>(sandbox("s", json!({}))).await;
    lab.until("s", |sandbox: &Sandbox| phase(sandbox) == "Pending").await;
    // Each change leads to a decision on a view without the pod.
    for i in 0..5 {
        lab.merge_sandbox("s", json!({"metadata": {"annotations": {"touched": i.to_string()}}})).await;
        eventually("a reconcile", SOON, async || {
            let key = [("controller", SANDBOX_CONTROLLER)];
            ensure!(lab.metric("workqueue_depth", &key) == 0.0, "work is left");
            Ok(())
        })
        .await;
    }
    let creations = lab.writes().iter().filter(|write| *write == "create pods").count();
    assert_eq!(creations, 2, "{:?}", lab.writes());
}

#[tokio::test(start_paused = true)]
async fn lc2_a_pod_that_the_cache_does_not_show_for_a_minute_is_read() {
    let lab = Lab::start();
    lab.create::<Sandbox>(sandbox("first", json!({}))).await;
    lab.until_running("first").await;
    lab.server.inject(&FaultPlan::event(On::kind("pods"), Times::Always, WatchFault::Silence));
    let begun = tokio::time::Instant::now();
    lab.create::<Sandbox>(sandbox("s", json!({}))).await;
    let running = lab.until_running("s").await;
    assert!(begun.elapsed() < Duration::from_secs(65), "{:?}", begun.elapsed());
    let pod: Pod = lab.api().get("s").await.unwrap();
    let shown = running.status.unwrap().pod_info.unwrap().pod_uid;
    assert_eq!(shown.map(|uid| uid.to_string()), pod.metadata.uid);
    assert!(lab.reads().contains(&"get pods s".to_owned()), "{:?}", lab.reads());
    // It is read again and again, so its end is seen, too.
    lab.delete::<Pod>("s").await;
    let failed = lab.until("s", |sandbox: &Sandbox| phase(sandbox) == "Failed").await;
    assert_eq!(failed.status.unwrap().message.as_deref(), Some("Pod Not Found"));
    assert!(begun.elapsed() < Duration::from_secs(90), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn lc2_a_sandbox_that_is_gone_gets_no_further_pod_while_the_cache_still_shows_it() {
    let mut lab = Lab::without_kubelet();
    lab.start_manager();
    lab.create::<Sandbox>(sandbox("s", json!({}))).await;
    lab.until("s", |sandbox: &Sandbox| phase(sandbox) == "Pending").await;
    lab.server.inject(&FaultPlan::event(On::kind("sandboxes"), Times::Always, WatchFault::Silence));
    lab.delete::<Sandbox>("s").await;
    // The pod is collected with its owner, which leads to decisions about the sandbox that the cache shows.
    lab.until_gone::<Pod>("s").await;
    for _ in 0..30 {
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    lab.until_gone::<Pod>("s").await;
    let creations = lab.writes().iter().filter(|write| *write == "create pods").count();
    assert_eq!(creations, 1, "{:?}", lab.writes());
}

/// A sandbox with a status that an earlier leader has written, and a pod if it has one.
fn left_by_a_leader(lab: &Lab, status: Value, more: Value, has_pod: bool) {
    let mut object = sandbox("s", more);
    let metadata = json!({"name": "s", "namespace": "default", "uid": "u-1", "generation": 1});
    (object["metadata"], object["status"]) = (metadata, status);
    lab.server.force("sandboxes.agents.kruise.io", object);
    if has_pod {
        add_pod(lab);
    }
}

/// A pod of the sandbox `s`, as an earlier leader has made it.
fn add_pod(lab: &Lab) {
    let mut pod = foreign_pod(&json!({"agents.kruise.io/created-by": "sandbox"}));
    (pod["metadata"]["namespace"], pod["metadata"]["ownerReferences"][0]["uid"]) =
        (json!("default"), json!("u-1"));
    lab.server.force("pods", pod);
}

/// The last write of an earlier leader, which the cache does not show.
async fn last_write(lab: &Lab, change: Value) {
    lab.server.inject(&FaultPlan::event(On::kind("sandboxes"), Times::Always, WatchFault::Silence));
    let patch = Patch::Merge(change);
    lab.api::<Sandbox>().patch_status("s", &PatchParams::default(), &patch).await.unwrap();
}

async fn until_read(lab: &Lab) {
    eventually("a live read", SOON, async || {
        ensure!(lab.reads().contains(&"get sandboxes s".to_owned()), "{:?}", lab.writes());
        Ok(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn lc2_a_new_leader_does_not_delete_the_pod_of_a_sandbox_that_the_old_one_has_resumed() {
    let mut lab = Lab::without_kubelet();
    let paused = json!([{
        "type": "SandboxPaused", "status": "True", "reason": "StopPauseSucceed", "message": "",
        "lastTransitionTime": "2029-01-01T00:00:00Z",
    }]);
    let status = json!({"phase": "Paused", "observedGeneration": 1, "conditions": paused});
    left_by_a_leader(&lab, status, json!({"paused": true}), false);
    lab.start_manager();
    eventually("a reconcile", SOON, async || {
        let reconciles =
            lab.metric("controller_runtime_reconcile_total", &[("controller", SANDBOX_CONTROLLER)]);
        ensure!(reconciles > 0.5, "{reconciles}");
        Ok(())
    })
    .await;
    assert!(lab.writes().is_empty() && lab.reads().is_empty());
    last_write(&lab, json!({"status": {"phase": "Running", "conditions": []}})).await;
    add_pod(&lab);
    until_read(&lab).await;
    assert!(lab.writes().is_empty(), "{:?}", lab.writes());
}

#[tokio::test(start_paused = true)]
async fn lc2_a_new_leader_creates_no_pod_for_a_sandbox_that_the_old_one_has_ended() {
    let mut lab = Lab::without_kubelet();
    let status = json!({"phase": "Resuming", "observedGeneration": 1, "updateRevision": "r"});
    left_by_a_leader(&lab, status, json!({}), true);
    lab.start_manager();
    lab.until("s", |sandbox: &Sandbox| reason(sandbox, "Ready", "False") == "PodReady").await;
    // The write of the status was a proof that the view was right. Another leader has not got it.
    lab.kill_manager().await;
    lab.start_manager();
    eventually("a reconcile", SOON, async || {
        let reconciles =
            lab.metric("controller_runtime_reconcile_total", &[("controller", SANDBOX_CONTROLLER)]);
        ensure!(reconciles > 0.5, "{reconciles}");
        Ok(())
    })
    .await;
    let writes = lab.writes();
    last_write(&lab, json!({"status": {"phase": "Failed"}})).await;
    lab.delete::<Pod>("s").await;
    until_read(&lab).await;
    assert_eq!(lab.writes(), writes);
}

#[tokio::test(start_paused = true)]
async fn lc2_one_proof_is_enough_for_a_leader() {
    let mut lab = Lab::without_manager(Kubelet::ready_after(START));
    let paused = json!([{
        "type": "SandboxPaused", "status": "False", "reason": "DeletePod", "message": "",
        "lastTransitionTime": "2029-01-01T00:00:00Z",
    }]);
    let status = json!({"phase": "Paused", "observedGeneration": 1, "conditions": paused});
    left_by_a_leader(&lab, status, json!({"paused": true}), true);
    lab.start_manager();
    lab.until_paused("s").await;
    let is_read = |read: &&String| *read == "get sandboxes s";
    assert!(lab.reads().iter().filter(is_read).count() <= 1, "{:?}", lab.reads());
    for _ in 0..3 {
        lab.merge_sandbox("s", json!({"spec": {"paused": false}})).await;
        lab.until_running("s").await;
        lab.merge_sandbox("s", json!({"spec": {"paused": true}})).await;
        lab.until_paused("s").await;
    }
    // A sandbox that has had a pod from this process is read before it gets another one.
    assert!(lab.reads().iter().filter(is_read).count() <= 3, "{:?}", lab.reads());
}

#[tokio::test(start_paused = true)]
async fn ls7_ls8_objects_of_upstream_are_adopted_without_a_write() {
    let mut lab = Lab::without_kubelet();
    let fixture = include_str!("../../data/upstream-objects.jsonl");
    let objects: Vec<Value> = fixture.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut sandboxes = Vec::new();
    for mut object in objects.into_iter().map(|mut line| line["object"].take()) {
        let plural = match object["kind"].as_str().unwrap() {
            "Sandbox" => "sandboxes.agents.kruise.io",
            "SandboxSet" => "sandboxsets.agents.kruise.io",
            "Pod" => "pods",
            _ => continue,
        };
        if plural.starts_with("sandboxes") {
            if object["spec"]["shutdownTime"].is_string() {
                object["spec"]["shutdownTime"] = json!("2126-01-01T00:00:00Z");
            }
            sandboxes.push(object["metadata"]["name"].as_str().unwrap().to_owned());
        }
        lab.server.force(plural, object);
    }
    assert!(sandboxes.len() >= 7, "{sandboxes:?}");
    lab.start_manager();
    let reconciled = async || {
        let controller = [("controller", SANDBOX_CONTROLLER)];
        lab.metric("controller_runtime_reconcile_total", &controller)
    };
    let count = f64::from(u32::try_from(sandboxes.len()).unwrap());
    eventually("every sandbox is reconciled", SOON, async || {
        ensure!(reconciled().await >= count, "{}", reconciled().await);
        Ok(())
    })
    .await;
    assert!(lab.writes().is_empty(), "{:?}", lab.writes());
    assert!(lab.reads().is_empty(), "{:?}", lab.reads());
    let errors = [("controller", SANDBOX_CONTROLLER), ("result", "error")];
    assert!(lab.metric("controller_runtime_reconcile_total", &errors) < 0.5);
}

#[tokio::test(start_paused = true)]
async fn ls7_a_paused_sandbox_of_upstream_is_resumed() {
    let mut lab = Lab::without_manager(Kubelet::ready_after(START));
    let fixture = include_str!("../../data/upstream-objects.jsonl");
    let lines = fixture.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut paused = lines.into_iter().find(|line| line["what"] == "paused").unwrap()["object"].take();
    paused["spec"]["paused"] = json!(false);
    paused["metadata"]["generation"] = json!(4);
    let name = paused["metadata"]["name"].as_str().unwrap().to_owned();
    lab.server.force("sandboxes.agents.kruise.io", paused);
    lab.start_manager();
    let resumed = lab.until_running(&name).await;
    assert_eq!(reason(&resumed, "SandboxResumed", "True"), "ResumePod");
    assert!(resumed.condition("SandboxPaused").is_none() && resumed.finalizers().is_empty());
    assert!(resumed.annotations().contains_key("sandbox.agents.kruise.io/hash-immutable-part"));
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_is_killed_midway_is_continued_by_the_next_one() {
    let mut lab = Lab::without_manager(Kubelet::ready_after(Duration::from_secs(1)));
    for i in 0..20 {
        lab.create::<Sandbox>(sandbox(&format!("s-{i}"), with_claim())).await;
    }
    // The answers of some creations are lost with the manager.
    let slow = RequestFault::Delay(Duration::from_millis(200));
    lab.server.inject(&FaultPlan::request(On::request(Verb::Create, "pods"), Times::Every(2), slow));
    lab.start_manager();
    eventually("some pods", SOON, async || {
        let pods = lab.api::<Pod>().list(&ListParams::default()).await?.items.len();
        ensure!((5..20).contains(&pods), "{pods} pods");
        Ok(())
    })
    .await;
    lab.kill_manager().await;
    lab.start_manager();
    for i in 0..20 {
        lab.until_running(&format!("s-{i}")).await;
    }
    lab.merge_sandbox("s-0", json!({"spec": {"paused": true}})).await;
    lab.until("s-0", |sandbox: &Sandbox| phase(sandbox) == "Paused").await;
    lab.kill_manager().await;
    lab.start_manager();
    lab.until_paused("s-0").await;
    let pods = lab.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(pods.len(), 19);
}

#[tokio::test(start_paused = true)]
async fn faults_of_the_api_server_delay_but_change_nothing() {
    let lab = Lab::start();
    let mut plan = FaultPlan::default();
    for (verb, kind) in [
        (Verb::Create, "pods"),
        (Verb::Create, "persistentvolumeclaims"),
        (Verb::Patch, "sandboxes"),
        (Verb::Delete, "pods"),
        (Verb::Get, "pods"),
    ] {
        for (every, fault) in [
            (3, RequestFault::DropAnswer),
            (5, RequestFault::Answer { code: 500, retry_after: None }),
            (7, RequestFault::Answer { code: 429, retry_after: Some(1) }),
            (11, RequestFault::Drop),
        ] {
            plan = plan.and(FaultPlan::request(On::request(verb, kind), Times::Every(every), fault));
        }
    }
    for kind in ["pods", "sandboxes"] {
        plan = plan.and(FaultPlan::event(On::kind(kind), Times::Every(11), WatchFault::Reset));
        plan = plan.and(FaultPlan::event(On::kind(kind), Times::Every(17), WatchFault::Expire));
    }
    lab.server.inject(&plan);
    for i in 0..10 {
        lab.create::<Sandbox>(sandbox(&format!("s-{i}"), with_claim())).await;
    }
    let mut uids = Vec::new();
    for i in 0..10 {
        let running = lab.until_running(&format!("s-{i}")).await;
        uids.push(running.status.unwrap().pod_info.unwrap().pod_uid.unwrap().to_string());
        lab.merge_sandbox(&format!("s-{i}"), json!({"spec": {"paused": true}})).await;
    }
    for i in 0..10 {
        lab.until_paused(&format!("s-{i}")).await;
        lab.merge_sandbox(&format!("s-{i}"), json!({"spec": {"paused": false}})).await;
    }
    for i in 0..10 {
        let name = format!("s-{i}");
        let resumed = lab.until_running(&name).await;
        let pod: Pod = lab.api().get(&name).await.unwrap();
        let shown = resumed.status.unwrap().pod_info.unwrap().pod_uid.unwrap().to_string();
        assert_eq!(Some(&shown), pod.metadata.uid.as_ref());
        assert!(!uids.contains(&shown), "the old pod is taken for the new one");
    }
    assert!(lab.server.faults_fired().iter().map(|(_, times)| times).sum::<u64>() > 20);
}
