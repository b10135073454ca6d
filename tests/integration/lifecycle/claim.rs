//! Claims of sandboxes (LK1): from the stock, without stock, in the face of refusals, and to the end of their lives.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use memory_apiserver::{FaultPlan, On, PodOutcome, Pods, RequestFault, Times, Verb};
use sandbox_manager::api::v1alpha1::{
    CONDITION_COMPLETED, CONDITION_TIMED_OUT, Sandbox, SandboxClaim, SandboxClaimPhase, SandboxClaimStatus,
    SandboxSet,
};
use serde_json::{Value, json};

use super::Lab;
use super::world::{World, names};
use crate::support::{SOON, eventually};

/// How many seconds a claim may take by default.
const LONG: &str = "1m";

async fn claim(world: &World, name: &str, spec: Value) -> SandboxClaim {
    let mut object =
        json!({"metadata": {"name": name}, "spec": {"templateName": "pool", "claimTimeout": LONG}});
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    world.create(object).await
}

/// Waits until a claim has ended.
async fn ended(world: &World, name: &str) -> SandboxClaimStatus {
    let claims = world.api::<SandboxClaim>();
    eventually(&format!("the end of claim {name}"), SOON, async || {
        let claim = claims.get(name).await?;
        ensure!(claim.phase() == Some(&SandboxClaimPhase::Completed), "{:?}", claim.status);
        Ok(claim.status.unwrap_or_default())
    })
    .await
}

fn reason(status: &SandboxClaimStatus, type_: &str) -> Option<String> {
    let mut conditions = status.conditions.iter().flatten().filter(|condition| condition.is_true());
    conditions.find(|condition| condition.type_ == type_).map(|condition| condition.reason.to_string())
}

async fn claimed(world: &World, name: &str) -> Vec<Sandbox> {
    world
        .sandboxes(&format!("agents.kruise.io/claim-name={name},agents.kruise.io/sandbox-claimed=true"))
        .await
}

#[tokio::test]
async fn lk1_a_claim_takes_ready_members_and_the_pool_refills() {
    let world = World::start().await;
    world.full_set("pool", 3).await;
    let members = names(&world.sandboxes("agents.kruise.io/sandbox-pool=pool").await);
    let made = claim(&world, "two", json!({"replicas": 2, "labels": {"l": "1"}})).await;
    let status = ended(&world, "two").await;
    assert_eq!(
        (status.claimed_replicas, status.message.as_deref()),
        (Some(2), Some("Successfully claimed 2/2 sandboxes"))
    );
    assert_eq!(reason(&status, CONDITION_COMPLETED).as_deref(), Some("AllReplicasClaimed"));
    assert_eq!(reason(&status, CONDITION_TIMED_OUT), None);

    let taken = claimed(&world, "two").await;
    assert_eq!(taken.len(), 2);
    for sandbox in &taken {
        assert!(members.contains(&sandbox.name_any()), "taken from the stock, not created");
        assert_eq!(sandbox.owner(), made.metadata.uid.as_deref());
        assert!(!sandbox.is_controlled_by_sandbox_set() && sandbox.is_locked() && sandbox.is_ready());
        assert_eq!(sandbox.labels()["l"], "1");
    }
    world.set_has("pool", 3).await;
    assert_eq!(claimed(&world, "two").await.len(), 2, "refilling takes nothing back");
    let note = world.event("two", "ClaimCompleted").await;
    assert_eq!(note, "Successfully claimed 2/2 sandboxes");
}

#[tokio::test]
async fn lk1_a_refused_lock_takes_the_next_candidate() {
    let world = World::start().await;
    world.full_set("pool", 2).await;
    let conflict = RequestFault::Answer { code: 409, retry_after: None };
    world.server.inject(&FaultPlan::request(
        On::request(Verb::Patch, "sandboxes"),
        Times::First(1),
        conflict,
    ));
    claim(&world, "c", json!({"createOnNoStock": false})).await;
    let status = ended(&world, "c").await;
    assert_eq!(reason(&status, CONDITION_COMPLETED).as_deref(), Some("AllReplicasClaimed"));
    assert_eq!(world.server.faults_fired()[0].1, 1);
    assert_eq!(claimed(&world, "c").await.len(), 1);
}

#[tokio::test]
async fn lc2_a_lock_whose_answer_is_lost_is_found_and_no_second_sandbox_is_taken() {
    let world = World::start().await;
    world.full_set("pool", 3).await;
    let lost =
        FaultPlan::request(On::request(Verb::Patch, "sandboxes"), Times::First(1), RequestFault::DropAnswer);
    world.server.inject(&lost);
    claim(&world, "c", json!({})).await;
    ended(&world, "c").await;
    assert_eq!(world.server.faults_fired()[0].1, 1);
    assert_eq!(claimed(&world, "c").await.len(), 1);
}

#[tokio::test]
async fn lk1_many_claims_at_once_share_no_sandbox() {
    let world = World::start().await;
    world.full_set("pool", 12).await;
    let all = (0..6).map(|number| format!("c-{number}")).collect::<Vec<_>>();
    for name in &all {
        claim(&world, name, json!({"replicas": 2, "createOnNoStock": false})).await;
    }
    let mut taken = BTreeSet::new();
    for name in &all {
        let status = ended(&world, name).await;
        assert_eq!(status.claimed_replicas, Some(2), "{status:?}");
        let own = claimed(&world, name).await;
        assert_eq!(own.len(), 2, "{name}");
        taken.extend(names(&own));
    }
    assert_eq!(taken.len(), 12);
}

#[tokio::test]
async fn lk1_without_stock_a_sandbox_is_created_already_claimed() {
    let world = World::start().await;
    world.full_set("pool", 0).await;
    claim(&world, "c", json!({})).await;
    let status = ended(&world, "c").await;
    assert_eq!(reason(&status, CONDITION_COMPLETED).as_deref(), Some("AllReplicasClaimed"), "{status:?}");
    let [created] = <[Sandbox; 1]>::try_from(claimed(&world, "c").await).unwrap();
    assert!(created.is_ready(), "the claim has waited for it");
    assert!(created.metadata.owner_references.is_none());
    assert_eq!(created.labels()["agents.kruise.io/sandbox-pool"], "pool");
    assert_eq!(created.annotations()["agents.kruise.io/sandbox-priority"], "100");
}

#[tokio::test]
async fn lk1_without_stock_and_creation_the_claim_times_out_and_says_why() {
    let world = World::start().await;
    world.full_set("pool", 0).await;
    claim(&world, "c", json!({"createOnNoStock": false, "claimTimeout": "1s"})).await;
    let status = ended(&world, "c").await;
    assert_eq!(reason(&status, CONDITION_TIMED_OUT).as_deref(), Some("ClaimTimeoutReached"));
    assert_eq!(status.claimed_replicas, Some(0));
    let message = "Timeout reached after 1s, claimed 0/1 sandboxes: SandboxSet pool has no available sandbox";
    assert_eq!(status.message.as_deref(), Some(message));
    world.event("c", "NoAvailableSandboxes").await;
}

#[tokio::test]
async fn lk1_a_member_that_becomes_available_wakes_a_claim_that_waits() {
    let world = World::start().await;
    world.full_set("pool", 0).await;
    claim(&world, "c", json!({"createOnNoStock": false})).await;
    world.event("c", "NoAvailableSandboxes").await;
    let scaled = Instant::now();
    world
        .api::<SandboxSet>()
        .patch("pool", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 1}})))
        .await
        .unwrap();
    let status = ended(&world, "c").await;
    assert_eq!(status.claimed_replicas, Some(1));
    // Without a change the claim looks again after 5 s.
    assert!(scaled.elapsed() < Duration::from_secs(3), "{:?}", scaled.elapsed());
}

#[tokio::test]
async fn lk1_a_created_sandbox_that_does_not_become_ready_is_removed_or_kept_for_inspection() {
    let world = World::start().await;
    world.full_set("pool", 0).await;
    world.kubelet.rule(Pods::all(), PodOutcome::Unready);
    let spec = |reserve: bool| json!({"waitReadyTimeout": "1s", "claimTimeout": "2s", "reserveFailedSandbox": reserve});
    claim(&world, "removed", spec(false)).await;
    claim(&world, "kept", spec(true)).await;
    for name in ["removed", "kept"] {
        let status = ended(&world, name).await;
        assert_eq!(status.claimed_replicas, Some(0));
        let message = status.message.unwrap();
        assert!(message.contains("did not become ready"), "{message}");
    }
    eventually("nothing is left of it", SOON, async || {
        let left = claimed(&world, "removed").await;
        ensure!(left.is_empty(), "{:?}", names(&left));
        Ok(())
    })
    .await;
    let kept = claimed(&world, "kept").await;
    assert!(!kept.is_empty() && kept.iter().all(Sandbox::is_reserved_failed), "{kept:?}");
    world.event("kept", "ClaimedSandboxFailed").await;
}

#[tokio::test]
async fn lk1_a_claim_of_no_set_ends_at_once_and_names_it() {
    let world = World::start().await;
    claim(&world, "c", json!({"templateName": "nowhere"})).await;
    let status = ended(&world, "c").await;
    assert_eq!(reason(&status, CONDITION_COMPLETED).as_deref(), Some("SandboxSetNotFound"));
    assert_eq!(status.message.as_deref(), Some("SandboxSet nowhere not found"));
}

#[tokio::test]
async fn lk1_a_recreated_claim_of_the_same_name_starts_from_zero() {
    let world = World::start().await;
    world.full_set("pool", 3).await;
    claim(&world, "c", json!({})).await;
    ended(&world, "c").await;
    let first = claimed(&world, "c").await;
    world.api::<SandboxClaim>().delete("c", &DeleteParams::default()).await.unwrap();
    let again = claim(&world, "c", json!({})).await;
    let status = ended(&world, "c").await;
    assert_eq!(status.claimed_replicas, Some(1));
    let both = claimed(&world, "c").await;
    assert_eq!(both.len(), 2, "the sandboxes of the first claim stay");
    let of_second: Vec<_> =
        both.iter().filter(|sandbox| sandbox.owner() == again.metadata.uid.as_deref()).collect();
    assert_eq!(of_second.len(), 1);
    assert_ne!(of_second[0].name_any(), first[0].name_any());
}

#[tokio::test]
async fn lk1_a_completed_claim_is_deleted_by_its_ttl_and_its_sandbox_stays() {
    let world = World::start().await;
    world.full_set("pool", 1).await;
    claim(&world, "c", json!({"ttlAfterCompleted": "1s"})).await;
    world.event("c", "SandboxClaimTTLDelete").await;
    eventually("the claim is gone", SOON, async || {
        ensure!(world.api::<SandboxClaim>().get_opt("c").await?.is_none());
        Ok(())
    })
    .await;
    let left = claimed(&world, "c").await;
    assert_eq!(left.len(), 1);
    assert!(left[0].metadata.deletion_timestamp.is_none());
}

#[tokio::test]
async fn lk1_fields_without_effect_are_named_in_an_event() {
    let world = World::start().await;
    world.full_set("pool", 1).await;
    claim(&world, "c", json!({"envVars": {"A": "1"}})).await;
    let note = world.event("c", "FieldNotSupported").await;
    assert!(note.starts_with("envVars has no effect"), "{note}");
    ended(&world, "c").await;
}

#[tokio::test]
async fn lc7_a_refusal_backs_off_is_shown_and_ends_with_the_refusal() {
    let world = World::start().await;
    world.full_set("pool", 0).await;
    let forbidden =
        FaultPlan::request(On::request(Verb::Create, "sandboxes"), Times::Always, RequestFault::Forbid);
    world.server.inject(&forbidden);
    claim(&world, "c", json!({})).await;
    let note = world.event("c", "ClaimSandboxFailed").await;
    assert!(note.starts_with("creating a sandbox"), "{note}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let fired = world.server.faults_fired()[0].1;
    assert!(fired <= 2, "no hot loop: {fired} requests in half a second");
    world.server.clear_faults();
    let status = ended(&world, "c").await;
    assert_eq!(status.claimed_replicas, Some(1));
}

#[tokio::test]
async fn lc2_a_claim_goes_on_in_another_process_with_the_exact_number() {
    let mut lab = Lab::start();
    let template =
        json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    lab.create::<SandboxSet>(
        json!({"metadata": {"name": "pool"}, "spec": {"replicas": 10, "template": template}}),
    )
    .await;
    lab.until::<SandboxSet>("pool", |set| {
        set.status.as_ref().is_some_and(|status| status.available_replicas == 10)
    })
    .await;
    // Half of the locks take so long that the process ends before their answers.
    let slow = RequestFault::Delay(Duration::from_secs(3));
    lab.server.inject(&FaultPlan::request(On::request(Verb::Patch, "sandboxes"), Times::Every(2), slow));
    let object = json!({"metadata": {"name": "c"}, "spec": {"templateName": "pool", "replicas": 8}});
    let made: SandboxClaim = lab.create(object).await;
    let sandboxes = lab.api::<Sandbox>();
    let owned = async || {
        let all = sandboxes.list(&ListParams::default()).await.unwrap().items;
        all.into_iter().filter(|sandbox| sandbox.owner() == made.metadata.uid.as_deref()).count()
    };
    eventually("some sandboxes are claimed", SOON, async || {
        ensure!(owned().await >= 3);
        Ok(())
    })
    .await;
    let before = owned().await;
    lab.kill_manager().await;
    lab.server.clear_faults();
    assert!(before < 8, "it was ended in the middle");
    lab.start_manager();
    let claim =
        lab.until::<SandboxClaim>("c", |claim| claim.phase() == Some(&SandboxClaimPhase::Completed)).await;
    assert_eq!(claim.status.unwrap().claimed_replicas, Some(8));
    assert_eq!(owned().await, 8);
}
