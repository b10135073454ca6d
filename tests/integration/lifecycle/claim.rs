//! Claims of sandboxes (LK1): from the stock, without stock, in the face of refusals, and to the end of their lives.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::core::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::client::Body;
use kube::{Client, ResourceExt as _};
use memory_apiserver::{FaultPlan, Kubelet, On, PodOutcome, Pods, RequestFault, Times, Verb};
use sandbox_manager::api::v1alpha1::{
    CONDITION_COMPLETED, CONDITION_TIMED_OUT, Sandbox, SandboxClaim, SandboxClaimPhase, SandboxClaimStatus,
    SandboxSet,
};
use serde_json::{Value, json};
use tower::service_fn;

use super::Lab;
use super::world::{World, names};
use crate::runtime::Runtime;
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

/// Gives all pods but one an outcome: those of the members that refill the pool.
fn others_get(world: &World, member: &str, outcome: PodOutcome) {
    let member = member.to_owned();
    world.kubelet.rule(Pods::matching(move |pod| pod["metadata"]["name"] != *member), outcome);
}

/// Starts a pool of one member, whose successors never become ready. Returns the name of the member.
async fn pool_of_one(world: &World) -> String {
    world.full_set("pool", 1).await;
    let [member] =
        <[Sandbox; 1]>::try_from(world.sandboxes("agents.kruise.io/sandbox-pool=pool").await).unwrap();
    others_get(world, &member.name_any(), PodOutcome::Unready);
    member.name_any()
}

/// Waits until a sandbox of the claim passes a check.
async fn until_taken(world: &World, member: &str, check: impl Fn(&Sandbox) -> bool) {
    eventually("the member is claimed", SOON, async || {
        let sandbox = world.api::<Sandbox>().get(member).await?;
        ensure!(sandbox.is_claimed() && check(&sandbox), "{sandbox:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn lk1_a_member_that_is_in_use_is_not_removed_because_it_is_not_ready_now() {
    let world = World::start().await;
    let member = pool_of_one(&world).await;
    let spec = json!({
        "replicas": 2, "createOnNoStock": false, "waitReadyTimeout": "1s", "claimTimeout": "4s",
    });
    claim(&world, "c", spec).await;
    until_taken(&world, &member, |_| true).await;
    world.kubelet.rule(Pods::named("default", &member), PodOutcome::Unready);
    until_taken(&world, &member, |sandbox| !sandbox.is_ready()).await;
    let status = ended(&world, "c").await;
    assert_eq!(status.claimed_replicas, Some(1), "{status:?}");
    assert_eq!(names(&claimed(&world, "c").await), [member]);
}

#[tokio::test]
async fn lk1_a_member_that_was_ready_and_failed_is_replaced_and_kept_for_inspection() {
    let world = World::start().await;
    let member = pool_of_one(&world).await;
    claim(&world, "c", json!({"replicas": 2, "createOnNoStock": false})).await;
    until_taken(&world, &member, |_| true).await;
    world.kubelet.rule(Pods::named("default", &member), PodOutcome::failed("evicted"));
    let note = world.event("c", "ClaimedSandboxFailed").await;
    assert_eq!(note, format!("Sandbox {member} is kept for inspection: ResourceFailed: evicted"));
    others_get(&world, &member, PodOutcome::ReadyAfter(Duration::ZERO));
    let status = ended(&world, "c").await;
    assert_eq!(status.claimed_replicas, Some(2), "{status:?}");
    let all = claimed(&world, "c").await;
    let (kept, used): (Vec<_>, Vec<_>) = all.into_iter().partition(Sandbox::is_reserved_failed);
    assert_eq!((names(&kept), used.len()), (vec![member], 2));
}

/// Lets every pod fail whose first container has this image.
fn image_is_missing(world: &World, image: &'static str) {
    let has_image = move |pod: &Value| pod["spec"]["containers"][0]["image"] == image;
    world.kubelet.rule(Pods::matching(has_image), PodOutcome::waiting("ErrImagePull", "no such image"));
}

#[tokio::test]
async fn lc7_a_claim_that_no_sandbox_satisfies_does_not_eat_the_pool() {
    let world = World::start().await;
    world.full_set("pool", 8).await;
    let members = names(&world.sandboxes("agents.kruise.io/sandbox-pool=pool").await);
    image_is_missing(&world, "missing");
    claim(&world, "c", json!({"inplaceUpdate": {"image": "missing"}, "claimTimeout": "3s"})).await;
    let status = ended(&world, "c").await;
    assert_eq!(status.claimed_replicas, Some(0));
    let message = status.message.unwrap();
    assert!(message.contains("sandboxes did not become ready, the last: "), "{message}");
    let note = world.event("c", "ClaimedSandboxFailed").await;
    assert!(note.ends_with("is removed: StartContainerFailed: no such image"), "{note}");
    assert_eq!(names(&claimed(&world, "c").await), [""; 0], "nothing is left of it");
    // Tries after 0 s, 1 s and 3 s.
    let left = names(&world.sandboxes("agents.kruise.io/sandbox-pool=pool").await);
    let lost = members.iter().filter(|name| !left.contains(name)).count();
    assert!((1..=3).contains(&lost), "{lost} of {members:?} are gone");
}

#[tokio::test]
async fn lk1_a_claim_whose_shutdown_time_has_passed_takes_nothing() {
    let world = World::start().await;
    world.full_set("pool", 2).await;
    let members = names(&world.sandboxes("agents.kruise.io/sandbox-pool=pool").await);
    claim(&world, "c", json!({"shutdownTime": "2020-01-01T00:00:00Z"})).await;
    let status = ended(&world, "c").await;
    assert_eq!(reason(&status, CONDITION_COMPLETED).as_deref(), Some("ShutdownTimeReached"));
    let message = "shutdownTime 2020-01-01T00:00:00Z has passed, claimed 0/1 sandboxes";
    assert_eq!(world.event("c", "ClaimCompleted").await, message);
    assert_eq!(names(&world.sandboxes("agents.kruise.io/sandbox-pool=pool").await), members);
}

#[tokio::test]
async fn lk1_a_refused_update_in_place_is_a_failure_with_its_message() {
    let world = World::start().await;
    world.full_set("pool", 1).await;
    // The in-memory server cannot resize pods.
    let update = json!({"resources": {"limits": {"cpu": "2"}}});
    let spec = json!({"inplaceUpdate": update, "createOnNoStock": false, "claimTimeout": "4s"});
    claim(&world, "c", spec).await;
    let note = world.event("c", "ClaimedSandboxFailed").await;
    assert!(note.contains("is removed: RecreateNotAllowed: containers[a].resources cannot"), "{note}");
    let status = ended(&world, "c").await;
    assert_eq!(status.claimed_replicas, Some(0), "{status:?}");
    assert_eq!(names(&claimed(&world, "c").await), [""; 0]);
}

#[tokio::test]
async fn lk1_an_updated_member_is_marked_while_the_claim_waits_for_others() {
    let world = World::start().await;
    let member = pool_of_one(&world).await;
    let spec = json!({
        "inplaceUpdate": {"image": "new"}, "replicas": 2, "createOnNoStock": false, "claimTimeout": "9s",
        "waitReadyTimeout": "6s",
    });
    let made = claim(&world, "c", spec).await;
    let mark = |sandbox: &Sandbox| sandbox.annotations().get("agents.kruise.io/ready-for-claim").cloned();
    until_taken(&world, &member, |sandbox| mark(sandbox) == made.metadata.uid).await;
    world.kubelet.rule(Pods::named("default", &member), PodOutcome::Unready);
    // Its owner changes what needs a new pod.
    let template = json!({"spec": {"containers": [{"name": "a", "image": "new", "command": ["run"]}]}});
    let change = Patch::Merge(json!({"spec": {"template": template}}));
    world.api::<Sandbox>().patch(&member, &PatchParams::default(), &change).await.unwrap();
    let status = ended(&world, "c").await;
    assert_eq!(status.claimed_replicas, Some(1), "{status:?}");
    assert_eq!(names(&claimed(&world, "c").await), [member]);
}

#[tokio::test]
async fn lk1_the_completion_is_written_when_everything_that_is_given_up_is_gone() {
    for reserve in [false, true] {
        let world = World::start().await;
        world.full_set("pool", 0).await;
        world.kubelet.rule(Pods::all(), PodOutcome::Unready);
        let spec = json!({"replicas": 3, "claimTimeout": "4s", "reserveFailedSandbox": reserve});
        claim(&world, "c", spec).await;
        eventually("all are created", SOON, async || {
            let created = claimed(&world, "c").await;
            // The sandbox controller writes nothing more.
            let is_started = |sandbox: &Sandbox| sandbox.condition("Ready").is_some();
            ensure!(created.len() == 3 && created.iter().all(is_started), "{created:?}");
            Ok(())
        })
        .await;
        let conflict = RequestFault::Answer { code: 409, retry_after: None };
        let verb = if reserve { Verb::Patch } else { Verb::Delete };
        world.server.inject(&FaultPlan::request(On::request(verb, "sandboxes"), Times::First(4), conflict));
        let status = ended(&world, "c").await;
        assert_eq!(status.claimed_replicas, Some(0));
        assert_eq!(world.server.faults_fired()[0].1, 4);
        let left = claimed(&world, "c").await;
        assert!(left.iter().all(Sandbox::is_reserved_failed), "{:?}", names(&left));
        assert_eq!(left.len(), if reserve { 3 } else { 0 });
    }
}

#[tokio::test]
async fn lk1_a_sandbox_that_is_kept_for_inspection_is_written_once_and_not_counted() {
    let world = World::start().await;
    world.full_set("pool", 0).await;
    world.kubelet.rule(Pods::all(), PodOutcome::failed("no luck"));
    claim(&world, "c", json!({"reserveFailedSandbox": true, "claimTimeout": "3s"})).await;
    let status = ended(&world, "c").await;
    assert_eq!(status.claimed_replicas, Some(0));
    let kept = claimed(&world, "c").await;
    assert!((1..=3).contains(&kept.len()) && kept.iter().all(Sandbox::is_reserved_failed), "{kept:?}");
    let message = format!("{} sandboxes did not become ready, the last: ResourceFailed: no luck", kept.len());
    assert!(status.message.as_ref().unwrap().ends_with(&message), "{status:?}");
    let is_write = |request: &&memory_apiserver::SeenRequest| {
        request.resource == "sandboxes"
            && request.subresource.is_none()
            && matches!(request.verb, Verb::Patch | Verb::Delete)
    };
    let writes = world.server.requests().iter().filter(is_write).count();
    assert_eq!(writes, kept.len(), "one write each");
}

#[tokio::test]
async fn lk1_no_sandbox_is_claimed_that_would_leave_the_label_selector() {
    let world = World::selecting("team=a").await;
    let template = |labels: Value| {
        json!({
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "busybox"}]},
        })
    };
    for (name, replicas, labels) in [("pool", 0, json!({"app": "x"})), ("full", 1, json!({"team": "a"}))] {
        let set = json!({
            "metadata": {"name": name, "labels": {"team": "a"}},
            "spec": {"replicas": replicas, "template": template(labels)},
        });
        world.create::<SandboxSet>(set).await;
    }
    world.set_has("full", 1).await;
    for (name, spec) in [
        ("creates", json!({"templateName": "pool"})),
        ("takes", json!({"templateName": "full", "labels": {"team": "b"}})),
        ("takes-only", json!({"templateName": "full", "labels": {"team": "b"}, "createOnNoStock": false})),
    ] {
        let mut object =
            json!({"metadata": {"name": name, "labels": {"team": "a"}}, "spec": {"claimTimeout": "4s"}});
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        world.create::<SandboxClaim>(object).await;
        let note = world.event(name, "ClaimSandboxFailed").await;
        assert_eq!(note, "the labels of a claimed sandbox do not match sandboxLabelSelector");
        let message = ended(&world, name).await.message.unwrap();
        assert!(message.ends_with(&note), "{message}");
        assert_eq!(claimed(&world, name).await.len(), 0, "{name}");
    }
    assert_eq!(world.sandboxes("").await.len(), 1, "the member of the full set");
}

#[tokio::test]
async fn lk1_one_free_sandbox_wakes_one_claim_and_a_round_ends_with_the_first_look_in_vain() {
    const CLAIMS: u32 = 8;
    let lab = Lab::start();
    let template =
        json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    let set = json!({"metadata": {"name": "pool"}, "spec": {"replicas": 0, "template": template}});
    lab.create::<SandboxSet>(set).await;
    lab.until::<SandboxSet>("pool", |set| set.status.is_some()).await;
    let looks = |result: &str| lab.metric("sandbox_claim_total", &[("result", result)]);
    for number in 0..CLAIMS {
        let spec = json!({"templateName": "pool", "replicas": 40, "createOnNoStock": false});
        lab.create::<SandboxClaim>(json!({"metadata": {"name": format!("c-{number}")}, "spec": spec})).await;
    }
    // Each claim looks once, and once more when it is noted as waiting; then every 5 s.
    let started = Instant::now();
    let in_vain = f64::from(2 * CLAIMS);
    let expected = || in_vain * (1.0 + (started.elapsed().as_secs_f64() / 5.0).floor());
    eventually("all claims wait", SOON, async || {
        ensure!(looks("no_stock") >= in_vain, "{}", looks("no_stock"));
        Ok(())
    })
    .await;
    assert!(looks("no_stock") <= expected(), "{}", looks("no_stock"));
    let more = Patch::Merge(json!({"spec": {"replicas": 1}}));
    lab.api::<SandboxSet>().patch("pool", &PatchParams::default(), &more).await.unwrap();
    eventually("the first two members are claimed", SOON, async || {
        ensure!(looks("success") >= 2.0, "{}", looks("success"));
        Ok(())
    })
    .await;
    // Each member wakes one claim, which then looks for the others that it wants: twice in vain.
    let most = expected() + 2.0 * looks("success") + 2.0;
    assert!(looks("no_stock") <= most, "{} of at most {most}", looks("no_stock"));
    assert!(lab.metric("sandbox_claim_duration_seconds_count", &[("lock_type", "update")]) >= 2.0);
}

#[tokio::test]
async fn lk1_a_claim_of_no_set_ends_at_once_and_names_it() {
    let world = World::start().await;
    claim(&world, "c", json!({"templateName": "nowhere"})).await;
    let status = ended(&world, "c").await;
    assert_eq!(reason(&status, CONDITION_COMPLETED).as_deref(), Some("SandboxSetNotFound"));
    assert_eq!(status.message.as_deref(), Some("SandboxSet nowhere not found, claimed 0/1 sandboxes"));
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
    let volumes = json!([{"pvName": "v", "mountPath": "/v"}]);
    claim(&world, "c", json!({"envVars": {"A": "1"}, "dynamicVolumesMount": volumes})).await;
    let note = world.event("c", "FieldNotSupported").await;
    assert_eq!(
        note,
        "envVars has no effect: the template of the SandboxSet has no port 49983; dynamicVolumesMount has no effect: \
         no volume is mounted into a running sandbox"
    );
    ended(&world, "c").await;
}

#[tokio::test]
async fn lc7_a_refusal_backs_off_is_shown_and_ends_with_the_refusal() {
    let world = World::start().await;
    world.full_set("pool", 0).await;
    let forbidden =
        FaultPlan::request(On::request(Verb::Create, "sandboxes"), Times::Always, RequestFault::Forbid);
    world.server.inject(&forbidden);
    let started = Instant::now();
    claim(&world, "c", json!({})).await;
    let note = world.event("c", "ClaimSandboxFailed").await;
    assert!(note.starts_with("creating a sandbox"), "{note}");
    let fired = || world.server.faults_fired()[0].1;
    eventually("the second try", SOON, async || {
        ensure!(fired() >= 2);
        Ok(())
    })
    .await;
    assert!(started.elapsed() >= Duration::from_secs(1), "no hot loop: {:?}", started.elapsed());
    world.server.clear_faults();
    let status = ended(&world, "c").await;
    assert_eq!(status.claimed_replicas, Some(1));
}

#[tokio::test]
async fn lc7_what_cannot_be_removed_is_shown_and_does_not_keep_the_claim_from_its_end() {
    let world = World::start().await;
    world.full_set("pool", 0).await;
    world.kubelet.rule(Pods::all(), PodOutcome::Unready);
    let forbidden =
        FaultPlan::request(On::request(Verb::Delete, "sandboxes"), Times::Always, RequestFault::Forbid);
    world.server.inject(&forbidden);
    claim(&world, "c", json!({"waitReadyTimeout": "1s", "claimTimeout": "2s"})).await;
    let note = world.event("c", "ClaimedSandboxFailed").await;
    assert!(note.contains(" (not ready within ") && note.contains(" cannot be given up: "), "{note}");
    let claims = world.api::<SandboxClaim>();
    eventually("the message of the claim that goes on", SOON, async || {
        let status = claims.get("c").await?.status.unwrap_or_default();
        ensure!(status.phase == Some(SandboxClaimPhase::Claiming));
        ensure!(
            status.message.as_ref().is_some_and(|text| text.contains("; cannot give up pool-")),
            "{status:?}"
        );
        Ok(())
    })
    .await;
    let status = eventually("the end of the claim", 2 * SOON, async || {
        let claim = claims.get("c").await?;
        ensure!(claim.phase() == Some(&SandboxClaimPhase::Completed), "{:?}", claim.status);
        Ok(claim.status.unwrap_or_default())
    })
    .await;
    assert_eq!(reason(&status, CONDITION_TIMED_OUT).as_deref(), Some("ClaimTimeoutReached"));
    let (message, left) = (status.message.unwrap_or_default(), names(&claimed(&world, "c").await));
    assert!(!left.is_empty() && left.iter().all(|name| message.contains(name)), "{left:?}: {message}");
    let fired = world.server.faults_fired()[0].1;
    assert!(fired <= 12, "no hot loop: {fired} requests");
}

/// Starts a manager and a pool of so many ready members.
async fn lab_with_pool(members: i32) -> Lab {
    let lab = Lab::start();
    fill_pool(&lab, members).await;
    lab
}

async fn fill_pool(lab: &Lab, members: i32) {
    let template =
        json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    let set = json!({"metadata": {"name": "pool"}, "spec": {"replicas": members, "template": template}});
    lab.create::<SandboxSet>(set).await;
    lab.until::<SandboxSet>("pool", |set| {
        set.status.as_ref().is_some_and(|status| status.available_replicas == members)
    })
    .await;
}

/// Waits for the end of claim `c`, which has got one sandbox and no other. Returns its name.
async fn has_exactly_one(lab: &Lab) -> String {
    let is_completed = |claim: &SandboxClaim| claim.phase() == Some(&SandboxClaimPhase::Completed);
    let claim = lab.until::<SandboxClaim>("c", is_completed).await;
    assert_eq!(claim.status.as_ref().unwrap().claimed_replicas, Some(1), "{claim:?}");
    let selected = ListParams::default().labels("agents.kruise.io/claim-name=c");
    let claimed = lab.api::<Sandbox>().list(&selected).await.unwrap().items;
    assert_eq!(claimed.len(), 1, "{:?}", names(&claimed));
    claimed[0].name_any()
}

#[tokio::test(start_paused = true)]
async fn lc2_a_creation_that_may_still_come_is_repeated_under_its_name() {
    let lab = lab_with_pool(0).await;
    let late = RequestFault::Answer { code: 504, retry_after: None };
    // The engine sends a creation four times.
    lab.server.inject(&FaultPlan::request(On::request(Verb::Create, "sandboxes"), Times::First(5), late));
    lab.create::<SandboxClaim>(json!({"metadata": {"name": "c"}, "spec": {"templateName": "pool"}})).await;
    let message = |claim: &SandboxClaim| claim.status.as_ref()?.message.clone();
    let may_come = |text: &String| text.contains(" may be claimed: ");
    let claim = lab.until("c", |claim| message(claim).as_ref().is_some_and(may_come)).await;
    let name = has_exactly_one(&lab).await;
    assert!(message(&claim).unwrap().contains(&name), "{name}: {claim:?}");
    let creations = lab.writes().into_iter().filter(|write| write == "create sandboxes").count();
    assert_eq!(creations, 6);
}

#[tokio::test(start_paused = true)]
async fn lc2_a_lock_that_may_still_come_is_repeated_and_no_other_member_is_taken() {
    let lab = lab_with_pool(3).await;
    let late = RequestFault::Answer { code: 504, retry_after: None };
    lab.server.inject(&FaultPlan::request(On::request(Verb::Patch, "sandboxes"), Times::First(1), late));
    lab.create::<SandboxClaim>(json!({"metadata": {"name": "c"}, "spec": {"templateName": "pool"}})).await;
    has_exactly_one(&lab).await;
    let writes = lab.writes();
    let locks: Vec<_> = writes.iter().filter(|write| write.starts_with("patch sandboxes pool-")).collect();
    assert!(locks.len() == 2 && locks[0] == locks[1], "{writes:#?}");
}

#[tokio::test(start_paused = true)]
async fn lc2_exactly_the_wanted_number_comes_out_whatever_answers_are_lost() {
    let lab = lab_with_pool(6).await;
    let on = |verb, times, then| FaultPlan::request(On::request(verb, "sandboxes"), times, then);
    let gateway_timeout = || RequestFault::Answer { code: 504, retry_after: None };
    let mut plan = FaultPlan::default();
    for verb in [Verb::Patch, Verb::Create] {
        plan = plan
            .and(on(verb, Times::Every(3), RequestFault::DropAnswer))
            .and(on(verb, Times::Every(4), gateway_timeout()))
            .and(on(verb, Times::Every(7), RequestFault::Silence));
    }
    // Some looks for a lost lock fail, too.
    lab.server.inject(&plan.and(on(Verb::Get, Times::Every(2), gateway_timeout())));
    let spec = json!({
        "templateName": "pool", "replicas": 20, "waitReadyTimeout": "1h", "claimTimeout": "1h",
    });
    lab.create::<SandboxClaim>(json!({"metadata": {"name": "c"}, "spec": spec})).await;
    gets_exactly(&lab, 20).await;
    assert!(lab.server.faults_fired().iter().all(|(_, fired)| *fired > 0), "{:?}", lab.server.faults_fired());
}

/// Waits for the end of claim `c`, and until nothing is on its way any more. It has got so many sandboxes then.
async fn gets_exactly(lab: &Lab, wanted: usize) {
    let claims = lab.api::<SandboxClaim>();
    let status = eventually("the end of the claim", Duration::from_mins(5), async || {
        let claim = claims.get("c").await?;
        ensure!(claim.phase() == Some(&SandboxClaimPhase::Completed), "{:?}", claim.status);
        Ok(claim.status.unwrap_or_default())
    })
    .await;
    assert_eq!(status.claimed_replicas, i32::try_from(wanted).ok(), "{status:?}");
    tokio::time::sleep(Duration::from_mins(2)).await;
    let mut all = lab.api::<Sandbox>().list(&ListParams::default()).await.unwrap().items;
    all.retain(Sandbox::is_claimed);
    assert_eq!(all.len(), wanted, "{:?}", names(&all));
}

/// A client whose writes of sandboxes, while it is late, are answered with a timeout every third time, and reach the server
/// after that.
fn late_client(inner: Client, is_late: &Arc<AtomicBool>) -> Client {
    let (is_late, count) = (Arc::clone(is_late), Arc::new(AtomicUsize::new(0)));
    let service = service_fn(move |request: Request<Body>| {
        let path = request.uri().path();
        let is_write = match *request.method() {
            Method::PATCH => path.contains("/sandboxes/") && !path.ends_with("/status"),
            Method::POST => path.ends_with("/sandboxes"),
            _ => false,
        };
        let is_late = is_write
            && is_late.load(Ordering::Relaxed)
            && count.fetch_add(1, Ordering::Relaxed).is_multiple_of(3);
        let inner = inner.clone();
        async move {
            if !is_late {
                return inner.send(request).await;
            }
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(20)).await;
                inner.send(request).await
            });
            Ok(Response::builder().status(StatusCode::GATEWAY_TIMEOUT).body(Body::empty()).unwrap())
        }
    });
    Client::new(service, "default")
}

#[tokio::test(start_paused = true)]
async fn lc2_a_lock_that_the_api_server_writes_late_makes_no_sandbox_too_many() {
    let (mut lab, is_late) = (Lab::without_manager(Kubelet::ready_after(super::START)), Arc::default());
    lab.start_manager_with(late_client(lab.server.client(), &is_late));
    fill_pool(&lab, 6).await;
    is_late.store(true, Ordering::Relaxed);
    let spec = json!({
        "templateName": "pool", "replicas": 10, "waitReadyTimeout": "1h", "claimTimeout": "1h",
    });
    lab.create::<SandboxClaim>(json!({"metadata": {"name": "c"}, "spec": spec})).await;
    gets_exactly(&lab, 10).await;
}

#[tokio::test(start_paused = true)]
async fn q3_a_claim_waits_for_its_turn_to_create_sandboxes() {
    const REPLICAS: i32 = 180;
    const PER_SECOND: f64 = 49.0;
    let lab = lab_with_pool(0).await;
    let spec =
        json!({"templateName": "pool", "replicas": REPLICAS, "waitReadyTimeout": "1h", "claimTimeout": "1h"});
    let started = tokio::time::Instant::now();
    lab.create::<SandboxClaim>(json!({"metadata": {"name": "c"}, "spec": spec})).await;
    let claims = lab.api::<SandboxClaim>();
    let mut has_said_so = false;
    let status = loop {
        let created = lab.writes().into_iter().filter(|write| write == "create sandboxes").count();
        let allowed = PER_SECOND * (1.0 + started.elapsed().as_secs_f64());
        assert!(f64::from(u32::try_from(created).unwrap()) <= allowed + 1.0, "{created} of {allowed}");
        let status = claims.get("c").await.unwrap().status.unwrap_or_default();
        has_said_so |=
            status.message.as_ref().is_some_and(|message| message.ends_with(": waiting for its turn"));
        if status.phase == Some(SandboxClaimPhase::Completed) {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(has_said_so, "the status is written between the rounds: {status:?}");
    assert_eq!(
        status.message.as_deref(),
        Some("Successfully claimed 180/180 sandboxes"),
        "nothing has failed"
    );
    let events = lab.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    let reasons: BTreeSet<_> = events.into_iter().filter_map(|event| event.reason).collect();
    assert!(
        !reasons.contains("ClaimSandboxFailed") && !reasons.contains("NoAvailableSandboxes"),
        "{reasons:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn lc7_a_refused_mark_is_shown_and_tried_again() {
    let lab = lab_with_pool(1).await;
    let [member] =
        <[Sandbox; 1]>::try_from(lab.api::<Sandbox>().list(&ListParams::default()).await.unwrap().items)
            .unwrap();
    // The lock and three writes of the status come first.
    let mark = On::request(Verb::Patch, "sandboxes").named(&member.name_any());
    lab.server.inject(&FaultPlan::request(mark, Times::Nth(5), RequestFault::Forbid));
    let update = json!({"image": "new"});
    let spec =
        json!({"templateName": "pool", "inplaceUpdate": update, "replicas": 3, "createOnNoStock": false});
    lab.create::<SandboxClaim>(json!({"metadata": {"name": "c"}, "spec": spec})).await;
    let events = lab.api::<Event>();
    eventually("the event of the refusal", SOON, async || {
        let notes =
            events.list(&ListParams::default()).await?.items.into_iter().filter_map(|event| event.message);
        let notes: Vec<_> = notes.collect();
        let expected = format!("sandbox {} cannot be marked as ready: ", member.name_any());
        ensure!(notes.iter().any(|note| note.starts_with(&expected)), "{notes:?}");
        Ok(())
    })
    .await;
    lab.until::<Sandbox>(&member.name_any(), |sandbox| {
        sandbox.annotations().contains_key("agents.kruise.io/ready-for-claim")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn lc2_a_creation_that_gets_no_answer_is_repeated() {
    let lab = lab_with_pool(0).await;
    let creation = On::request(Verb::Create, "sandboxes");
    lab.server.inject(&FaultPlan::request(creation, Times::First(1), RequestFault::Silence));
    lab.create::<SandboxClaim>(json!({"metadata": {"name": "c"}, "spec": {"templateName": "pool"}})).await;
    has_exactly_one(&lab).await;
    assert_eq!(lab.server.faults_fired()[0].1, 1);
}

#[tokio::test]
async fn lc2_a_claim_goes_on_in_another_process_with_the_exact_number() {
    let mut lab = lab_with_pool(10).await;
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

/// A world whose pods have a runtime, with a full set.
async fn with_runtime(runtime: &Runtime, replicas: i32) -> World {
    let world = World::with_runtime(runtime).await;
    let container = json!({"name": "a", "image": "busybox", "ports": [{"containerPort": 49983}]});
    world.full_set_of("pool", replicas, container).await;
    world
}

#[tokio::test]
async fn q6_a_claim_is_complete_when_the_runtimes_of_its_sandboxes_are_initialised() {
    let runtime = Runtime::start().await;
    let world = with_runtime(&runtime, 1).await;
    // The second one is created.
    let made = claim(&world, "c", json!({"replicas": 2, "envVars": {"A": "1"}})).await;
    let status = ended(&world, "c").await;
    assert_eq!(reason(&status, CONDITION_COMPLETED).as_deref(), Some("AllReplicasClaimed"));
    let requests = runtime.requests();
    let taken = claimed(&world, "c").await;
    assert_eq!(taken.len(), 2);
    for sandbox in &taken {
        let annotations = sandbox.annotations();
        let request: Value =
            serde_json::from_str(&annotations["agents.kruise.io/init-runtime-request"]).unwrap();
        assert!(requests.contains(&request), "{requests:?}");
        assert_eq!(request["envVars"], json!({"A": "1"}));
        assert_eq!(request["accessToken"], annotations["agents.kruise.io/runtime-access-token"]);
        let mark = annotations.get("agents.kruise.io/ready-for-claim");
        assert_eq!(mark, made.metadata.uid.as_ref());
        assert_eq!(
            annotations.get("agents.kruise.io/claim-unfinished-until"),
            None,
            "no other one answers for it"
        );
    }
    assert_eq!(runtime.sandboxes(), 2, "a token for each");
}

#[tokio::test]
async fn q6_a_runtime_that_refuses_at_first_is_tried_again_and_its_sandbox_kept() {
    let runtime = Runtime::start().await;
    let world = with_runtime(&runtime, 1).await;
    runtime.refuse(1..=4);
    claim(&world, "c", json!({"createOnNoStock": false})).await;
    let status = ended(&world, "c").await;
    assert_eq!(reason(&status, CONDITION_COMPLETED).as_deref(), Some("AllReplicasClaimed"));
    assert_eq!((runtime.requests().len(), runtime.sandboxes()), (5, 1), "one sandbox");
}

#[tokio::test]
async fn q6_a_sandbox_whose_runtime_cannot_be_initialised_is_given_up() {
    let runtime = Runtime::start().await;
    let world = with_runtime(&runtime, 1).await;
    runtime.refuse(1..=5);
    claim(&world, "c", json!({"reserveFailedSandbox": true})).await;
    let note = world.event("c", "ClaimedSandboxFailed").await;
    let why = "the runtime was not initialised in 5 tries: HTTP 503 Service Unavailable";
    assert!(note.ends_with(&format!("is kept for inspection: {why}")), "{note}");
    let status = ended(&world, "c").await;
    assert_eq!(reason(&status, CONDITION_COMPLETED).as_deref(), Some("AllReplicasClaimed"), "by another one");
    let kept = claimed(&world, "c").await.iter().filter(|sandbox| sandbox.is_reserved_failed()).count();
    assert_eq!((kept, runtime.requests().len()), (1, 6));
}

#[tokio::test]
async fn q6_a_mark_that_meets_another_change_is_written_again_and_the_sandbox_kept() {
    let runtime = Runtime::start().await;
    let world = with_runtime(&runtime, 3).await;
    // Those of the sandbox controller, the lock, or the mark.
    let conflict = RequestFault::Answer { code: 409, retry_after: None };
    let half = FaultPlan::request(On::request(Verb::Patch, "sandboxes"), Times::Every(2), conflict);
    world.server.inject(&half);
    claim(&world, "c", json!({"createOnNoStock": false})).await;
    let status = ended(&world, "c").await;
    assert_eq!(reason(&status, CONDITION_COMPLETED).as_deref(), Some("AllReplicasClaimed"));
    assert_eq!(runtime.sandboxes(), 1);
}

#[tokio::test]
async fn q6_a_new_leader_initialises_what_the_old_one_has_only_locked() {
    let runtime = Runtime::start().await;
    let world = with_runtime(&runtime, 1).await;
    runtime.be_silent(true);
    claim(&world, "c", json!({"createOnNoStock": false})).await;
    runtime.until_asked(1).await;
    let world = world.restarted().await;
    runtime.be_silent(false);
    let status = ended(&world, "c").await;
    assert_eq!(reason(&status, CONDITION_COMPLETED).as_deref(), Some("AllReplicasClaimed"));
    assert_eq!(runtime.sandboxes(), 1, "the runtime has got the token before, and its sandbox is kept");
}

#[tokio::test]
async fn q6_a_claim_that_skips_the_runtime_sends_nothing_and_says_that_variables_have_no_effect() {
    let runtime = Runtime::start().await;
    let world = with_runtime(&runtime, 1).await;
    claim(&world, "c", json!({"skipInitRuntime": true, "envVars": {"A": "1"}})).await;
    let status = ended(&world, "c").await;
    assert_eq!(reason(&status, CONDITION_COMPLETED).as_deref(), Some("AllReplicasClaimed"));
    assert_eq!(runtime.requests(), [Value::Null; 0]);
    assert_eq!(
        claimed(&world, "c").await[0].annotations().get("agents.kruise.io/init-runtime-request"),
        None
    );
    let note = world.event("c", "FieldNotSupported").await;
    assert_eq!(note, "envVars has no effect: skipInitRuntime is true");
}
