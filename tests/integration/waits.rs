//! Tests waits on a real API server. The tests write the statuses that a sandbox controller would write.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use kube::{Api, Client, Config, config::KubeConfigOptions};
use sandbox_manager::Provider as _;
use sandbox_manager::api::v1alpha1::{Checkpoint, Sandbox};
use sandbox_manager::shared_cache::WaitError;
use serde_json::{Value, json};

use crate::cache::{scope, started};
use crate::support::fixtures::{SandboxFixture, checkpoint, create, merge, sandbox, set_status};
use crate::support::{ADMIN, Cluster, Proxy, SOON, eventually, prepared};

fn status(generation: i64, phase: &str, ready: bool, paused: bool) -> Value {
    let condition = |type_: &str, is: bool, reason: &str| {
        json!({"type": type_, "status": if is { "True" } else { "False" }, "reason": reason, "message": "",
               "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    json!({
        "observedGeneration": generation,
        "phase": phase,
        "podInfo": {"podIP": "10.0.0.1"},
        "conditions": [condition("Ready", ready, "PodReady"), condition("SandboxPaused", paused, "SetPause")],
    })
}

#[tokio::test]
async fn f5_f11_g1_g2_g3_a_claim_holder_waits_pauses_and_resumes() {
    let (_cp, client, ns) = prepared("waits").await;
    let cache = started(client.clone(), scope(&ns, "", "")).await;
    let api: Api<Sandbox> = Api::namespaced(client.clone(), &ns);
    let created = Arc::new(create(&client, &ns, &sandbox("a").claimed_by("u")).await);

    let task = cache.sandbox_wait_ready_task(&created);
    let waiting = tokio::spawn(async move { task.wait(SOON).await });
    set_status(&api, "a", &status(1, "Running", true, false)).await;
    let running = waiting.await.unwrap().unwrap();
    assert!(running.is_ready());

    let pause = cache.sandbox_pause_task(&running).unwrap();
    assert!(cache.sandbox_resume_task(&running).is_err());
    let written = merge(&api, "a", json!({"spec": {"paused": true}})).await;
    let waiting = tokio::spawn({
        let pause = pause.after_write(&written);
        async move { pause.wait(SOON).await }
    });
    set_status(&api, "a", &status(2, "Paused", false, true)).await;
    let paused = waiting.await.unwrap().unwrap();

    let resume = cache.sandbox_resume_task(&paused).unwrap();
    let written = merge(&api, "a", json!({"spec": {"paused": false}})).await;
    let waiting = tokio::spawn({
        let resume = resume.after_write(&written);
        async move { resume.wait(SOON).await }
    });
    // The sandbox is ready, but in a status older than the write. It must not end the wait.
    set_status(&api, "a", &status(2, "Resuming", true, false)).await;
    let done = set_status(&api, "a", &status(3, "Running", true, false)).await;
    let resumed = waiting.await.unwrap().unwrap();
    assert_eq!(resumed.metadata.resource_version, done.metadata.resource_version);
    assert!(cache.sandbox_pause_task(&resumed).is_ok(), "released");
    cache.stop().await;
}

#[tokio::test]
async fn f8_f10_g3_g4_waits_end_with_what_a_person_needs_to_know() {
    let (_cp, client, ns) = prepared("wait-errors").await;
    let cache = started(client.clone(), scope(&ns, "", "")).await;
    let sandboxes: Api<Sandbox> = Api::namespaced(client.clone(), &ns);
    let checkpoints: Api<Checkpoint> = Api::namespaced(client.clone(), &ns);
    let created = Arc::new(create(&client, &ns, &sandbox("a").claimed_by("u")).await);
    let task = cache.sandbox_wait_ready_task(&created);

    let error = task.wait(Duration::from_millis(500)).await.unwrap_err();
    let text = error.to_string();
    let rest = text.strip_prefix(&format!("WaitReady of Sandbox {ns}/a not done after "));
    let waited: f64 = rest.and_then(|rest| rest.split_once(" s: ")).expect("the time").0.parse().unwrap();
    assert!(waited >= 0.5, "{text}");
    assert!(text.contains("the status is of generation 0, the spec of 1"), "{text}");

    let waiting = tokio::spawn(async move { task.wait(SOON).await });
    let mut failed = status(1, "Running", false, false);
    failed["conditions"][0]["reason"] = json!("StartContainerFailed");
    failed["conditions"][0]["message"] = json!("no such image");
    set_status(&sandboxes, "a", &failed).await;
    let text = waiting.await.unwrap().unwrap_err().to_string();
    assert!(text.ends_with("StartContainerFailed: no such image"), "{text}");

    let again = Arc::new(set_status(&sandboxes, "a", &status(1, "Running", true, false)).await);
    let pause = cache.sandbox_pause_task(&again).unwrap();
    let waiting = tokio::spawn(async move { pause.wait(SOON).await });
    sandboxes.delete("a", &kube::api::DeleteParams::default()).await.unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(WaitError::Gone(_))));

    // The wait begins before the cache can contain the checkpoint.
    let created = Arc::new(create(&client, &ns, &checkpoint("c")).await);
    let task = cache.checkpoint_task(&created);
    let waiting = tokio::spawn(async move { task.wait(SOON).await });
    set_status(&checkpoints, "c", &json!({"phase": "Creating"})).await;
    set_status(&checkpoints, "c", &json!({"phase": "Succeeded", "checkpointId": "x"})).await;
    assert_eq!(waiting.await.unwrap().unwrap().checkpoint_id(), Some("x"));
    cache.stop().await;
}

/// What happens while the watch is cut reaches a wait by the resumed watch. Without a watch, see `faults`.
#[tokio::test]
async fn f2_a_wait_outlives_a_cut_of_the_watch() {
    let cluster = Cluster::start().await;
    cluster.install_crds(sandbox_manager::api::v1alpha1::crds()).await;
    let ns = cluster.namespace("wait-cut").await;
    let proxy = Proxy::to(&cluster).await;
    let kubeconfig = proxy.lead(cluster.kubeconfig(ADMIN).await);
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let cache = started(Client::try_from(config).unwrap(), scope(&ns, "", "")).await;

    let direct = cluster.client().await;
    let api: Api<Sandbox> = Api::namespaced(direct.clone(), &ns);
    let created = Arc::new(create(&direct, &ns, &sandbox("a").claimed_by("u")).await);
    cache.await_version::<Sandbox>(created.metadata.resource_version.as_ref().unwrap(), SOON).await.unwrap();
    let task = cache.sandbox_wait_ready_task(&created);
    let waiting = tokio::spawn(async move { task.wait(Duration::from_mins(2)).await });
    proxy.cut();
    let done = set_status(&api, "a", &status(1, "Running", true, false)).await;
    eventually("the cut is noticed", SOON, async || {
        let kinds = cache.kinds();
        let report = kinds.iter().find(|kind| kind.plural() == "sandboxes").unwrap().report();
        ensure!(report.stale_for.is_some(), "the watch is up");
        Ok(())
    })
    .await;
    assert!(!waiting.is_finished(), "nothing has told of the status yet");
    proxy.restore();
    let ready = waiting.await.unwrap().unwrap();
    assert_eq!(ready.metadata.resource_version, done.metadata.resource_version);
    cache.stop().await;
}
