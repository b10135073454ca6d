//! Tests of the pure parts: decisions, members, and what a claim writes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::decide::{Decision, Member, Standing, View, decide};
use super::mark::mark;
use super::observe::{belongs_to, member};
use crate::api::v1alpha1::{
    CONDITION_COMPLETED, CONDITION_TIMED_OUT, Sandbox, SandboxClaim, SandboxClaimPhase, SandboxClaimStatus,
};

fn now() -> Timestamp {
    "2030-01-01T12:00:00Z".parse().unwrap()
}

fn after(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn claim(spec: &Value, status: &Value) -> SandboxClaim {
    let mut object = json!({
        "metadata": {"name": "c", "namespace": "ns", "uid": "claim-uid", "generation": 1},
        "spec": {"templateName": "pool", "replicas": 2, "claimTimeout": "1m", "waitReadyTimeout": "30s"},
        "status": status,
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(object).unwrap()
}

fn begun() -> SandboxClaim {
    claim(&json!({}), &json!({"phase": "Claiming", "claimStartTime": "2030-01-01T12:00:00Z"}))
}

fn of(standing: Standing) -> Member {
    Member { standing, since: now() }
}

fn decided(claim: &SandboxClaim, members: &[Member], at: Timestamp) -> Decision {
    decide(&View { claim, has_set: true, members, shortage: None, now: at })
}

fn condition<'s>(status: &'s SandboxClaimStatus, type_: &str) -> Option<(&'s str, &'s str)> {
    let found = status.conditions.iter().flatten().find(|condition| condition.type_ == type_)?;
    assert!(found.is_true());
    Some((&*found.reason, &*found.message))
}

#[test]
fn lk1_a_new_claim_begins_and_asks_for_every_sandbox() {
    let new = claim(&json!({}), &Value::Null);
    let decision = decided(&new, &[], now());
    assert_eq!(decision.claim, 2);
    assert_eq!(decision.after, Some(Duration::from_mins(1)), "lc6: the end of its time");
    let status = decision.status;
    assert_eq!(status.phase, Some(SandboxClaimPhase::Claiming));
    assert_eq!(status.claim_start_time, Some(now().into()));
    assert_eq!((status.claimed_replicas, status.observed_generation), (Some(0), Some(1)));
}

#[test]
fn lk1_only_what_is_missing_is_claimed() {
    let decision = decided(&begun(), &[of(Standing::Waiting)], after(1));
    assert_eq!(decision.claim, 1);
    assert_eq!(decision.after, Some(Duration::from_secs(29)), "lc6: the sandbox's time ends first");
    assert_eq!(decision.status.claimed_replicas, Some(1));
    let decision = decided(&begun(), &[of(Standing::Waiting), of(Standing::Ready)], after(1));
    assert_eq!((decision.claim, decision.status.phase), (0, Some(SandboxClaimPhase::Claiming)));
}

#[test]
fn lk1_the_claim_completes_when_every_sandbox_is_ready_as_upstream_writes_it() {
    let decision = decided(&begun(), &[of(Standing::Ready), of(Standing::Ready)], after(0));
    let status = decision.status;
    assert_eq!(status.phase, Some(SandboxClaimPhase::Completed));
    assert_eq!(status.message.as_deref(), Some("Successfully claimed 2/2 sandboxes"));
    assert_eq!(status.completion_time, Some(now().into()));
    assert_eq!(
        condition(&status, CONDITION_COMPLETED),
        Some(("AllReplicasClaimed", "Successfully claimed all 2 sandboxes"))
    );
    assert_eq!(condition(&status, CONDITION_TIMED_OUT), None);
}

#[test]
fn lk1_a_sandbox_that_fails_or_is_late_is_removed_and_replaced() {
    let failed = of(Standing::Failed("ResourceFailed: no luck".to_owned()));
    let members = [failed, of(Standing::Waiting), of(Standing::Ready)];
    let decision = decided(&begun(), &members, after(29));
    assert_eq!(decision.discard, [(0, "ResourceFailed: no luck".to_owned())]);
    assert_eq!(decision.claim, 0);
    let decision = decided(&begun(), &members, after(30));
    assert_eq!(decision.discard.len(), 2);
    assert_eq!(decision.discard[1], (1, "not ready within 30s".to_owned()));
    assert_eq!(decision.claim, 1);
}

#[test]
fn lk1_a_claim_whose_time_is_over_ends_with_what_is_ready_and_says_what_is_missing() {
    let long = claim(
        &json!({"waitReadyTimeout": "10m", "replicas": 3}),
        &json!({"phase": "Claiming", "claimStartTime": "2030-01-01T12:00:00Z"}),
    );
    let decision = decided(&long, &[of(Standing::Waiting), of(Standing::Ready)], after(60));
    assert_eq!(decision.claim, 0);
    assert_eq!(decision.discard, [(0, "not ready within 1m".to_owned())], "nobody would wait for it");
    let status = decision.status;
    assert_eq!(status.claimed_replicas, Some(1));
    let message = "Timeout reached after 1m, claimed 1/3 sandboxes: 1 sandboxes did not become ready";
    assert_eq!(status.message.as_deref(), Some(message));
    assert_eq!(condition(&status, CONDITION_COMPLETED), Some(("TimeoutReached", message)));
    assert_eq!(
        condition(&status, CONDITION_TIMED_OUT),
        Some(("ClaimTimeoutReached", "Timeout after 1m, claimed 1/3"))
    );
    let decision = decided(&begun(), &[], after(60));
    let message = decision.status.message.unwrap();
    assert!(
        message.ends_with("claimed 0/2 sandboxes: SandboxSet pool has no available sandbox"),
        "{message}"
    );
}

#[test]
fn lk1_a_claim_of_a_set_that_does_not_exist_ends_and_names_it() {
    let view = View { claim: &begun(), has_set: false, members: &[], shortage: None, now: now() };
    let decision = decide(&view);
    assert_eq!(decision.claim, 0);
    assert_eq!(decision.status.message.as_deref(), Some("SandboxSet pool not found"));
    assert_eq!(
        condition(&decision.status, CONDITION_COMPLETED),
        Some(("SandboxSetNotFound", "SandboxSet pool not found"))
    );
}

#[test]
fn lk1_the_message_names_what_is_missing_while_claiming() {
    let view = View { claim: &begun(), has_set: true, members: &[], shortage: Some("no stock"), now: now() };
    assert_eq!(decide(&view).status.message.as_deref(), Some("Claiming sandboxes: 0/2 claimed: no stock"));
}

#[test]
fn lk1_a_completed_claim_is_deleted_after_its_ttl_and_never_with_a_negative_one() {
    let completed = |ttl: Value| {
        let status = json!({"phase": "Completed", "completionTime": "2030-01-01T12:00:00Z"});
        claim(&json!({"ttlAfterCompleted": ttl}), &status)
    };
    let decision = decided(&completed(json!("1h")), &[], after(60));
    assert_eq!((decision.delete, decision.after), (false, Some(Duration::from_mins(59))));
    assert!(decided(&completed(json!("1h")), &[], after(3600)).delete);
    for kept in [json!("-1s"), Value::Null] {
        let decision = decided(&completed(kept), &[], after(1_000_000));
        assert_eq!((decision.delete, decision.after), (false, None));
    }
}

#[test]
fn lk1_nothing_follows_after_the_completion() {
    let completed = claim(&json!({}), &json!({"phase": "Completed", "claimedReplicas": 1}));
    let decision =
        decided(&completed, &[of(Standing::Waiting), of(Standing::Failed(String::new()))], after(99));
    assert_eq!((decision.claim, decision.discard.len()), (0, 0));
    assert_eq!(Some(decision.status), completed.status);
}

/// One sandbox of the simulated claim.
#[derive(Clone, Debug)]
struct Simulated {
    member: Member,
    /// When the sandbox becomes ready or fails.
    due: i64,
    fails: bool,
}

proptest! {
    /// Any course of a claim: how many sandboxes are in stock, how long created ones take, which ones fail.
    #[test]
    fn lk1_every_course_ends_with_at_most_the_wanted_sandboxes_and_removes_no_ready_one(
        wanted in 1..6usize,
        stock in prop::collection::vec((0..50i64, any::<bool>()), 0..12),
        steps in prop::collection::vec(1..20i64, 1..12),
    ) {
        let spec = json!({"replicas": wanted, "claimTimeout": "1m", "waitReadyTimeout": "20s"});
        let mut claim = claim(&spec, &Value::Null);
        let (mut stock, mut held, mut time) = (stock, Vec::<Simulated>::new(), 0);
        for step in steps.into_iter().chain([60, 60, 60]) {
            for simulated in &mut held {
                if simulated.due <= time && simulated.member.standing == Standing::Waiting {
                    simulated.member.standing =
                        if simulated.fails { Standing::Failed("failed".into()) } else { Standing::Ready };
                }
            }
            let members: Vec<_> = held.iter().map(|simulated| simulated.member.clone()).collect();
            let was_complete = claim.phase() == Some(&SandboxClaimPhase::Completed);
            let decision = decided(&claim, &members, after(time));
            for (place, _) in &decision.discard {
                prop_assert!(members[*place].standing != Standing::Ready);
            }
            prop_assert!(!was_complete || decision.claim + decision.discard.len() == 0);
            let usable = members.len() - decision.discard.len();
            prop_assert!(usable + decision.claim <= wanted.max(usable), "{decision:?}");
            claim.status = Some(decision.status.clone());
            // Decided again, it is the same: a fixed point.
            prop_assert_eq!(&decided(&claim, &members, after(time)).status, &decision.status);
            let discarded: Vec<_> = decision.discard.iter().map(|(place, _)| *place).collect();
            let mut place = 0;
            held.retain(|_| { place += 1; !discarded.contains(&(place - 1)) });
            for _ in 0..decision.claim {
                let Some((delay, fails)) = stock.pop() else { break };
                let member = Member { standing: Standing::Waiting, since: after(time) };
                held.push(Simulated { member, due: time + delay, fails });
            }
            prop_assert!(held.len() <= wanted);
            time += step;
        }
        prop_assert_eq!(claim.phase(), Some(&SandboxClaimPhase::Completed));
        let counted = usize::try_from(claim.status.unwrap().claimed_replicas.unwrap()).unwrap();
        let ready = held.iter().filter(|simulated| simulated.member.standing == Standing::Ready).count();
        prop_assert_eq!(counted, ready, "what is counted can be used, and the rest is gone");
    }
}

fn sandbox(change: impl FnOnce(&mut Value)) -> Sandbox {
    let mut object = json!({
        "metadata": {
            "name": "pool-1", "namespace": "ns", "uid": "u", "generation": 2,
            "labels": {"agents.kruise.io/sandbox-claimed": "true", "agents.kruise.io/claim-name": "c"},
            "annotations": {
                "agents.kruise.io/owner": "claim-uid",
                "agents.kruise.io/claim-timestamp": "2030-01-01T11:59:50Z",
            },
        },
        "spec": {},
        "status": {
            "phase": "Running", "observedGeneration": 1, "podInfo": {"podIP": "10.0.0.1"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "PodReady", "message": ""}],
        },
    });
    change(&mut object);
    serde_json::from_value(object).unwrap()
}

#[test]
fn lk1_the_uid_of_the_claim_decides_which_sandboxes_belong_to_it() {
    let claim = begun();
    assert!(belongs_to(&sandbox(|_| ()), &claim));
    let not: [fn(&mut Value); 6] = [
        |object| object["metadata"]["annotations"]["agents.kruise.io/owner"] = json!("an-earlier-claim"),
        |object| object["metadata"]["labels"]["agents.kruise.io/claim-name"] = json!("other"),
        |object| object["metadata"]["labels"]["agents.kruise.io/sandbox-claimed"] = json!("false"),
        |object| object["metadata"]["namespace"] = json!("other"),
        |object| object["metadata"]["deletionTimestamp"] = json!("2030-01-01T12:00:00Z"),
        |object| object["metadata"]["labels"]["agents.kruise.io/reserved-failed-sandbox"] = json!("true"),
    ];
    for change in not {
        let sandbox = sandbox(change);
        assert!(!belongs_to(&sandbox, &claim), "{:?}", sandbox.metadata);
    }
}

#[test]
fn lk1_a_member_is_ready_when_it_can_be_used() {
    let standing = |change: fn(&mut Value)| member(&sandbox(change), &begun(), now()).standing;
    assert_eq!(standing(|_| ()), Standing::Ready);
    assert_eq!(standing(|object| object["status"]["phase"] = json!("Paused")), Standing::Ready);
    assert_eq!(standing(|object| object["status"]["podInfo"] = json!({})), Standing::Waiting);
    assert_eq!(standing(|object| object["status"]["conditions"] = json!([])), Standing::Waiting);
    assert_eq!(standing(|object| object["status"] = Value::Null), Standing::Waiting);
    let failed = standing(|object| object["status"] = json!({"phase": "Failed", "message": "no luck"}));
    assert_eq!(failed, Standing::Failed("ResourceFailed: no luck".to_owned()));
    let broken = standing(|object| {
        object["status"]["conditions"] = json!([{"type": "Ready", "status": "False",
            "reason": "StartContainerFailed", "message": "ErrImagePull"}]);
    });
    assert_eq!(broken, Standing::Failed("StartContainerFailed: ErrImagePull".to_owned()));
    assert_eq!(member(&sandbox(|_| ()), &begun(), now()).since, after(-10));
}

#[test]
fn lk1_an_update_in_place_is_waited_for() {
    let updating = claim(&json!({"inplaceUpdate": {"image": "new"}}), &json!({"phase": "Claiming"}));
    assert_eq!(member(&sandbox(|_| ()), &updating, now()).standing, Standing::Waiting, "an old status");
    let current = sandbox(|object| object["status"]["observedGeneration"] = json!(2));
    assert_eq!(member(&current, &updating, now()).standing, Standing::Ready);
}

/// What the current upstream leaves on a sandbox that a SandboxClaim took (`"what": "claimed by SandboxClaim"`).
#[test]
fn ls7_a_claim_writes_what_upstream_writes() {
    let available = json!({
        "metadata": {
            "name": "code-interpreter-225bt", "namespace": "default", "generateName": "code-interpreter-",
            "annotations": {"sandbox.agents.kruise.io/hash-immutable-part": "fxx8z9v6x"},
            "labels": {
                "agents.kruise.io/sandbox-claimed": "false", "agents.kruise.io/sandbox-pool": "code-interpreter",
                "agents.kruise.io/sandbox-template": "code-interpreter",
                "agents.kruise.io/template-hash": "5844467cf5", "app": "x",
            },
            "ownerReferences": [{
                "apiVersion": "agents.kruise.io/v1alpha1", "blockOwnerDeletion": true, "controller": true,
                "kind": "SandboxSet", "name": "code-interpreter", "uid": "2812f558",
            }],
        },
        "spec": {"template": {
            "metadata": {"labels": {"agents.kruise.io/sandbox-claimed": "false", "app": "x"}},
            "spec": {"containers": [{"name": "a", "image": "busybox", "resources": {}}]},
        }},
    });
    let mut sandbox: Sandbox = serde_json::from_value(available).unwrap();
    let object = json!({
        "metadata": {"name": "two", "namespace": "default", "uid": "5425065f"},
        "spec": {"templateName": "code-interpreter", "labels": {"l": "1"}},
    });
    mark(&mut sandbox, &serde_json::from_value(object).unwrap(), "a373ec39", now());
    let written = serde_json::to_value(&sandbox).unwrap();
    let expected = json!({
        "name": "code-interpreter-225bt", "namespace": "default", "generateName": "code-interpreter-",
        "annotations": {
            "agents.kruise.io/claim-timestamp": "2030-01-01T12:00:00Z",
            "agents.kruise.io/lock": "a373ec39",
            "agents.kruise.io/owner": "5425065f",
            "agents.kruise.io/updated-metadata-in-claim": "{\"labels\":[\"l\"]}",
            "sandbox.agents.kruise.io/hash-immutable-part": "fxx8z9v6x",
        },
        "labels": {
            "agents.kruise.io/claim-name": "two", "agents.kruise.io/sandbox-claimed": "true",
            "agents.kruise.io/sandbox-pool": "code-interpreter",
            "agents.kruise.io/sandbox-template": "code-interpreter",
            "agents.kruise.io/template-hash": "5844467cf5", "app": "x", "l": "1",
        },
    });
    assert_eq!(written["metadata"], expected);
    assert_eq!(
        written["spec"]["template"],
        json!({
            "metadata": {"labels": {
                "agents.kruise.io/owner": "5425065f", "agents.kruise.io/sandbox-claimed": "false", "app": "x", "l": "1",
            }},
            "spec": {"containers": [{"name": "a", "image": "busybox", "resources": {}}]},
        })
    );
}

#[test]
fn lk1_image_resources_annotations_and_shutdown_time_are_part_of_the_same_write() {
    let mut sandbox = sandbox(|object| {
        object["spec"] = json!({"template": {"spec": {"containers": [
            {"name": "a", "image": "old", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}, {"name": "b"},
        ]}}});
    });
    let spec = json!({
        "annotations": {"user": "b"}, "shutdownTime": "2030-01-02T00:00:00Z",
        "inplaceUpdate": {"image": "new", "resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "500m"}}},
    });
    mark(&mut sandbox, &claim(&spec, &Value::Null), "lock", now());
    let written = serde_json::to_value(&sandbox).unwrap();
    assert_eq!(written["spec"]["shutdownTime"], "2030-01-02T00:00:00Z");
    assert_eq!(written["metadata"]["annotations"]["user"], "b");
    assert_eq!(
        written["metadata"]["annotations"]["agents.kruise.io/updated-metadata-in-claim"],
        "{\"annotations\":[\"user\"]}"
    );
    let containers = &written["spec"]["template"]["spec"]["containers"];
    assert_eq!(
        containers[0],
        json!({"name": "a", "image": "new",
               "resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "500m"}}})
    );
    assert_eq!(containers[1], json!({"name": "b"}));
}
