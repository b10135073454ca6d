//! Checkpoints (LK2): what is decided without an agent on the node.

use anyhow::ensure;
use kube::api::{DeleteParams, Patch, PatchParams};
use sandbox_manager::api::v1alpha1::{Checkpoint, CheckpointPhase, FINALIZER_CHECKPOINT};
use serde_json::{Value, json};

use super::world::World;
use crate::support::{SOON, eventually};

#[expect(clippy::needless_pass_by_value, reason = "callers write the values in place")]
fn checkpoint(world: &World, name: &str, spec: Value, status: Value) {
    let object = json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "Checkpoint",
        "metadata": {"name": name, "namespace": "default", "finalizers": [FINALIZER_CHECKPOINT]},
        "spec": spec, "status": status,
    });
    world.server.load(&object).unwrap();
}

async fn eventually_is(world: &World, name: &str, check: impl Fn(Option<&Checkpoint>) -> bool) {
    let checkpoints = world.api::<Checkpoint>();
    eventually(name, SOON, async || {
        let found = checkpoints.get_opt(name).await?;
        ensure!(check(found.as_ref()), "{found:?}");
        Ok(())
    })
    .await;
}

fn is_released(checkpoint: &Checkpoint) -> bool {
    checkpoint.metadata.finalizers.is_none()
}

#[tokio::test]
async fn lk2_a_checkpoint_without_its_sandbox_fails_a_minute_after_its_creation_and_can_be_deleted() {
    // The clock of the server is an hour behind, so the checkpoint is older than its grace.
    let world = World::an_hour_ago().await;
    checkpoint(&world, "lost", json!({"sandboxName": "gone"}), Value::Null);
    eventually_is(&world, "lost", |checkpoint| {
        checkpoint.is_some_and(|checkpoint| {
            checkpoint.phase() == Some(&CheckpointPhase::Failed) && is_released(checkpoint)
        })
    })
    .await;
    let failed = world.api::<Checkpoint>().get("lost").await.unwrap();
    assert_eq!(failed.checkpoint_id(), None);
    let note = world.event("lost", "CheckpointFailed").await;
    assert_eq!(note, "Sandbox gone is gone, and nothing was saved");
    world.api::<Checkpoint>().delete("lost", &DeleteParams::default()).await.unwrap();
    eventually_is(&world, "lost", |checkpoint| checkpoint.is_none()).await;
}

#[tokio::test]
async fn lk2_the_deletion_of_a_sandbox_fails_the_checkpoints_that_wait_for_it() {
    let world = World::an_hour_ago().await;
    let sandbox = json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "Sandbox", "metadata": {"name": "s"},
        "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "busybox"}]}}},
    });
    world.server.load(&sandbox).unwrap();
    checkpoint(&world, "waiting", json!({"sandboxName": "s"}), json!({"phase": "Pending"}));
    checkpoint(&world, "at-work", json!({"sandboxName": "s"}), json!({"phase": "Creating"}));
    world
        .api::<sandbox_manager::api::v1alpha1::Sandbox>()
        .delete("s", &DeleteParams::default())
        .await
        .unwrap();
    eventually_is(&world, "waiting", |checkpoint| {
        checkpoint.is_some_and(|checkpoint| checkpoint.phase() == Some(&CheckpointPhase::Failed))
    })
    .await;
    let other = world.api::<Checkpoint>().get("at-work").await.unwrap();
    assert_eq!(other.phase(), Some(&CheckpointPhase::Creating), "that is for the agent");
    assert!(!is_released(&other));
}

#[tokio::test]
async fn lk2_a_finished_checkpoint_expires_and_its_content_is_left_to_the_agent() {
    let world = World::start().await;
    let spec = json!({"sandboxName": "s", "ttlAfterFinished": "30m"});
    let status =
        json!({"phase": "Succeeded", "checkpointId": "cp-1", "completionTime": "2026-01-01T00:00:00Z"});
    checkpoint(&world, "old", spec.clone(), status.clone());
    let kept =
        json!({"phase": "Succeeded", "checkpointId": "cp-2", "completionTime": "2999-01-01T00:00:00Z"});
    checkpoint(&world, "new", spec, kept);
    let invalid = json!({"sandboxName": "s", "ttlAfterFinished": "soon"});
    checkpoint(&world, "odd", invalid, status);
    eventually_is(&world, "old", |checkpoint| {
        checkpoint.is_some_and(|checkpoint| checkpoint.metadata.deletion_timestamp.is_some())
    })
    .await;
    world.event("old", "CheckpointExpired").await;
    let note = world.event("odd", "InvalidTTL").await;
    assert!(note.contains("\"soon\""), "{note}");
    let old = world.api::<Checkpoint>().get("old").await.unwrap();
    assert!(!is_released(&old), "the agent removes the content first");
    for name in ["new", "odd"] {
        let kept = world.api::<Checkpoint>().get(name).await.unwrap();
        assert!(kept.metadata.deletion_timestamp.is_none(), "{name}");
    }
}

#[tokio::test]
async fn lk2_a_checkpoint_that_never_began_can_be_deleted_without_an_agent() {
    let world = World::start().await;
    checkpoint(&world, "new", json!({"sandboxName": "gone"}), Value::Null);
    world.api::<Checkpoint>().delete("new", &DeleteParams::default()).await.unwrap();
    eventually_is(&world, "new", |checkpoint| checkpoint.is_none()).await;
}

#[tokio::test]
async fn lk2_a_refused_write_is_tried_again() {
    use memory_apiserver::{FaultPlan, On, RequestFault, Times, Verb};
    let world = World::an_hour_ago().await;
    let broken = RequestFault::Answer { code: 500, retry_after: None };
    world.server.inject(&FaultPlan::request(
        On::request(Verb::Patch, "checkpoints"),
        Times::First(3),
        broken,
    ));
    checkpoint(&world, "lost", json!({"sandboxName": "gone"}), Value::Null);
    eventually_is(&world, "lost", |checkpoint| {
        checkpoint.is_some_and(|checkpoint| {
            checkpoint.phase() == Some(&CheckpointPhase::Failed) && is_released(checkpoint)
        })
    })
    .await;
    // A change of somebody else leads to no second failure.
    let change = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    let changed = world.api::<Checkpoint>().patch("lost", &PatchParams::default(), &change).await.unwrap();
    assert_eq!(changed.phase(), Some(&CheckpointPhase::Failed));
}
