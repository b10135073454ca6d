//! A sandbox with a volume is paused, resumed, and deleted while it is paused.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxPhase};
use serde_json::json;

use super::pool::{Pool, volume_claim_templates};

const FINALIZER: &str = "agents.kruise.io/sandbox";

async fn is_running(pool: &Pool) -> (Sandbox, Pod) {
    let check = |sandbox: &Sandbox| sandbox.phase() == Some(&SandboxPhase::Running) && sandbox.is_ready();
    let running = pool.until::<Sandbox>("s", check).await;
    let pod = pool.api::<Pod>().get("s").await.unwrap();
    let status = running.status.as_ref().unwrap();
    let of_pod = pod.status.as_ref().unwrap();
    assert_eq!(status.sandbox_ip.as_ref().map(ToString::to_string), of_pod.pod_ip);
    assert_eq!(
        status.node_name.as_ref().map(ToString::to_string),
        pod.spec.as_ref().unwrap().node_name,
        "ls1: the node"
    );
    let info = status.pod_info.as_ref().unwrap();
    assert_eq!(info.pod_uid.as_ref().map(ToString::to_string), pod.metadata.uid, "ls1: the pod");
    (running, pod)
}

async fn pause(pool: &Pool) -> Sandbox {
    pool.merge::<Sandbox>("s", json!({ "spec": { "paused": true } })).await;
    pool.until("s", |sandbox: &Sandbox| sandbox.condition_is_true("SandboxPaused")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ls1_ls3_ls6_a_pause_keeps_the_volume_a_resume_brings_a_new_pod_and_a_deletion_leaves_nothing() {
    let pool = Pool::shared().await;
    let manager = pool.start_manager("").await;
    pool.create::<Sandbox>(json!({
        "metadata": { "name": "s" },
        "spec": {
            "template": { "spec": { "containers": [{ "name": "a", "image": "i" }] } },
            "volumeClaimTemplates": volume_claim_templates(),
        },
    }))
    .await;
    let (running, first) = is_running(&pool).await;
    assert!(running.finalizers().is_empty(), "{:?}", running.finalizers());
    let claim = pool.api::<PersistentVolumeClaim>().get("data-s").await.unwrap();

    let paused = pause(&pool).await;
    assert_eq!(paused.phase(), Some(&SandboxPhase::Paused));
    assert!(paused.condition("Ready").is_some_and(|ready| !ready.is_true()), "{paused:?}");
    assert_eq!(&*paused.condition("SandboxPaused").unwrap().reason, "StopPauseSucceed");
    assert_eq!(paused.finalizers(), [FINALIZER]);
    let status = paused.status.as_ref().unwrap();
    assert!(status.pod_info.is_none() && status.sandbox_ip.is_none(), "{status:?}");
    assert!(pool.list::<Pod>().await.unwrap().is_empty());

    pool.merge::<Sandbox>("s", json!({ "spec": { "paused": false } })).await;
    let (resumed, second) = is_running(&pool).await;
    assert_eq!(&*resumed.condition("SandboxResumed").unwrap().reason, "ResumePod");
    assert!(resumed.condition("SandboxPaused").is_none(), "{resumed:?}");
    pool.until::<Sandbox>("s", |sandbox| sandbox.finalizers().is_empty()).await;
    assert_ne!(first.metadata.uid, second.metadata.uid);
    let kept = pool.api::<PersistentVolumeClaim>().get("data-s").await.unwrap();
    assert_eq!((kept.uid(), kept.spec.unwrap().volume_name), (claim.uid(), claim.spec.unwrap().volume_name));

    pause(&pool).await;
    pool.delete::<Sandbox>("s").await;
    pool.is_empty().await;
    drop(manager);
}
