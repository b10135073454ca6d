//! The permissions of the lifecycle controllers and of the leader election are exactly those that the process uses: it
//! does everything that the controllers do, none of its requests is forbidden, and every rule is used.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use sandbox_manager::api::v1alpha1::{Checkpoint, FINALIZER_CHECKPOINT, Sandbox, SandboxClaim, SandboxPhase};
use serde_json::json;

use super::permissions::{Access, granted, sent};
use super::release::Release;
use super::server;
use crate::lifecycle::pool_rig::{POOL, spec};
use crate::lifecycle::proof::pool::{DEADLINE, Pool, volume_claim_templates};
use crate::support::{Cluster, eventually};

const GROUP: &str = "agents.kruise.io";

/// What is granted, and appears in no request of the process.
fn unseen(sandboxes: &str, leases: &str) -> Vec<Access> {
    let access = |verb: &str, group: &str, resource: &str, namespace: &str| {
        (verb.to_owned(), group.to_owned(), resource.to_owned(), namespace.to_owned())
    };
    vec![
        // Asked for by the admission plugin OwnerReferencesPermissionEnforcement, which this API server has. Without the
        // permission, the plugin would forbid the creation of a sandbox or pod.
        access("update", GROUP, "sandboxes/finalizers", sandboxes),
        access("update", GROUP, "sandboxsets/finalizers", sandboxes),
        // For a volume claim that is there and that the cache does not show yet.
        access("get", "", "persistentvolumeclaims", sandboxes),
        // For an election that repeats within minutes in one process, which ends when it loses the lease.
        access("patch", "events.k8s.io", "events", leases),
    ]
}

/// A pool with volumes that is filled, claimed and scaled down, and a claim of a set that does not exist.
async fn pool_lives(pool: &Pool) {
    let mut spec = spec(4, "first");
    spec["volumeClaimTemplates"] = volume_claim_templates();
    pool.create_set(spec).await;
    pool.is_full(4).await;
    for (name, set) in [("claim", POOL), ("astray", "absent")] {
        let spec = json!({ "templateName": set, "ttlAfterCompleted": "1s" });
        pool.create::<SandboxClaim>(json!({ "metadata": { "name": name }, "spec": spec })).await;
    }
    pool.holds(4, 1).await;
    eventually("the claims are over", DEADLINE, async || {
        let left = pool.list::<SandboxClaim>().await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await;
    pool.scale(1).await;
    pool.holds(1, 1).await;
}

fn is_running(sandbox: &Sandbox) -> bool {
    sandbox.phase() == Some(&SandboxPhase::Running) && sandbox.is_ready()
}

/// A sandbox that is changed, paused and resumed twice, and loses its pod.
async fn sandbox_lives(pool: &Pool) {
    let resources = |cpu: &str| json!({ "requests": { "cpu": cpu } });
    let container = json!({ "name": "a", "image": "i", "resources": resources("1") });
    let spec = json!({ "template": { "spec": { "containers": [container] } } });
    pool.create::<Sandbox>(json!({ "metadata": { "name": "s" }, "spec": spec })).await;
    pool.until("s", is_running).await;

    let container = json!({ "name": "a", "image": "i", "resources": resources("2") });
    let template = json!({ "metadata": { "labels": { "l": "1" } }, "spec": { "containers": [container] } });
    pool.merge::<Sandbox>("s", json!({ "spec": { "template": template } })).await;
    pool.until("s", |pod: &Pod| pod.labels().contains_key("l")).await;
    // The API server allows a resize only if the node has reported the resources of the containers, as kwok does not.
    pool.until("s", |sandbox: &Sandbox| {
        let update = sandbox.condition("InplaceUpdate");
        update.is_some_and(|update| update.message.contains("without support for resize"))
    })
    .await;

    for _ in 0..2 {
        pool.merge::<Sandbox>("s", json!({ "spec": { "paused": true } })).await;
        pool.until("s", |sandbox: &Sandbox| sandbox.condition_is_true("SandboxPaused")).await;
        pool.merge::<Sandbox>("s", json!({ "spec": { "paused": false } })).await;
        pool.until("s", is_running).await;
    }
    pool.delete::<Pod>("s").await;
    pool.until("s", |sandbox: &Sandbox| sandbox.phase() == Some(&SandboxPhase::Failed)).await;
}

async fn create_checkpoint(pool: &Pool, name: &str, finalizers: &[&str]) {
    let spec = json!({ "sandboxName": "gone", "ttlAfterFinished": "1s" });
    pool.create::<Checkpoint>(
        json!({ "metadata": { "name": name, "finalizers": finalizers }, "spec": spec }),
    )
    .await;
}

/// Checkpoints of a sandbox that does not exist: one that never begins and is deleted, and one that fails a minute after
/// its creation and expires.
async fn checkpoints_live(pool: &Pool) {
    create_checkpoint(pool, "new", &[FINALIZER_CHECKPOINT]).await;
    pool.delete::<Checkpoint>("new").await;
    // The first minute of the failing one has passed for the greatest part.
    eventually("every checkpoint is gone", DEADLINE, async || {
        let left = pool.list::<Checkpoint>().await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs helm and the control plane: tests/chart/run.sh"]
async fn z3_the_lifecycle_controllers_and_the_election_use_every_rule_and_nothing_is_forbidden() {
    let cp = server::audited().await;
    let pool = Pool::on(Cluster::of(cp)).await;
    let config = json!({
        "sandboxNamespace": pool.namespace, "lifecycle": { "enabled": true },
        "leaderElection": { "enabled": true },
    });
    let release = Release::install(cp, &config).await;
    let mut process = release.start().await;
    process.becomes_ready().await;
    create_checkpoint(&pool, "failing", &[]).await;
    pool_lives(&pool).await;
    sandbox_lives(&pool).await;
    checkpoints_live(&pool).await;
    assert_eq!(process.terminate().await.code(), Some(0), "{}", process.log());

    let user = release.user().await;
    let granted = granted(&release.grants(&[&pool.namespace, &release.namespace]).await);
    let sent = sent(cp, &user);
    let beyond: Vec<_> = sent.difference(&granted).collect();
    assert!(beyond.is_empty(), "not granted by the roles of the release: {beyond:?}");
    let unused: Vec<_> = granted.difference(&sent).cloned().collect();
    let mut expected = unseen(&pool.namespace, &release.namespace);
    expected.sort();
    assert_eq!(unused, expected, "granted, and not used");
}
