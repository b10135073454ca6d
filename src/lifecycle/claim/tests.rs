//! Tests of the pure parts: decisions, members, and what a claim writes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::decide::{Decision, Discard, Failures, Member, Refusal, Standing, View, decide};
use super::observe::{belongs_to, member};
use super::request::request;
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
    Member { standing, since: now(), is_unmarked: false, refusal: None }
}

fn discard(place: usize, reason: &str) -> Discard {
    Discard { place, reason: reason.to_owned(), is_kept: false }
}

fn view<'v>(claim: &'v SandboxClaim, members: &'v [Member], at: Timestamp) -> View<'v> {
    let failures = Failures::default();
    View {
        claim,
        has_set: true,
        members,
        shortage: None,
        uninitialised: None,
        failures,
        pause: None,
        now: at,
    }
}

fn decided(claim: &SandboxClaim, members: &[Member], at: Timestamp) -> Decision {
    decide(&view(claim, members, at))
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
    assert_eq!(decision.discard, [discard(0, "ResourceFailed: no luck")]);
    assert_eq!(decision.claim, 0);
    let decision = decided(&begun(), &members, after(30));
    assert_eq!(decision.discard.len(), 2);
    assert_eq!(decision.discard[1], discard(1, "not ready within 30s"));
    assert_eq!(decision.claim, 1);
}

#[test]
fn lk1_what_failed_is_kept_if_the_claim_asks_for_that_and_always_if_it_was_ready_before() {
    let members = [of(Standing::Failed("a".to_owned())), of(Standing::Ended("b".to_owned()))];
    let kept = |claim: &SandboxClaim| -> Vec<bool> {
        decided(claim, &members, after(1)).discard.iter().map(|discard| discard.is_kept).collect()
    };
    assert_eq!(kept(&begun()), [false, true]);
    let mut reserving = begun();
    reserving.spec.reserve_failed_sandbox = Some(true);
    assert_eq!(kept(&reserving), [true, true]);
}

#[test]
fn lk1_a_member_that_was_ready_counts_however_long_ago_it_was_claimed() {
    let long = claim(
        &json!({"claimTimeout": "2h"}),
        &json!({"phase": "Claiming", "claimStartTime": "2030-01-01T12:00:00Z"}),
    );
    let decision = decided(&long, &[of(Standing::Ready)], after(3600));
    assert_eq!((decision.discard.len(), decision.claim), (0, 1));
    assert_eq!(decision.status.claimed_replicas, Some(1));
}

#[test]
fn lk1_only_members_that_need_it_are_marked_and_none_when_the_claim_completes() {
    let unmarked = || Member { is_unmarked: true, ..of(Standing::Ready) };
    assert_eq!(decided(&begun(), &[of(Standing::Waiting), unmarked()], after(1)).mark, [1]);
    assert_eq!(decided(&begun(), &[of(Standing::Waiting), of(Standing::Ready)], after(1)).mark, [0; 0]);
    assert_eq!(decided(&begun(), &[unmarked(), unmarked()], after(1)).mark, [0; 0]);
}

#[test]
fn lk1_a_claim_stops_after_too_many_failures_and_says_so() {
    let failed = |count: usize, members: &[Member]| {
        let failures = Failures { count, last: "ErrImagePull" };
        decide(&View { failures, ..view(&begun(), members, after(1)) })
    };
    let decision = failed(2, &[]);
    assert_eq!(decision.claim, 2);
    let message = "Claiming sandboxes: 0/2 claimed, 2 have failed, the last: ErrImagePull";
    assert_eq!(decision.status.message.as_deref(), Some(message));
    assert_eq!(failed(6, &[]).claim, 1, "as many as may still fail");
    let waiting = failed(7, &[of(Standing::Waiting)]);
    assert_eq!((waiting.claim, waiting.status.phase), (0, Some(SandboxClaimPhase::Claiming)));
    let status = failed(7, &[of(Standing::Ready)]).status;
    let message = "Claimed 1/2 sandboxes, 7 have failed, the last: ErrImagePull";
    assert_eq!(condition(&status, CONDITION_COMPLETED), Some(("SandboxesKeepFailing", message)));
    assert_eq!((status.claimed_replicas, status.message.as_deref()), (Some(1), Some(message)));
}

#[test]
fn lk1_a_claim_whose_shutdown_time_has_passed_ends_at_once_and_claims_nothing() {
    let ending = |at: &str, status: Value| claim(&json!({"shutdownTime": at, "replicas": 1}), &status);
    let decision = decided(&ending("2030-01-01T12:00:00Z", Value::Null), &[], now());
    assert_eq!(decision.claim, 0);
    let message = "shutdownTime 2030-01-01T12:00:00Z has passed, claimed 0/1 sandboxes";
    assert_eq!(condition(&decision.status, CONDITION_COMPLETED), Some(("ShutdownTimeReached", message)));
    assert_eq!(condition(&decision.status, CONDITION_TIMED_OUT), None);
    let later = ending("2030-01-01T12:00:09Z", Value::Null);
    let decision = decided(&later, &[], now());
    assert_eq!((decision.claim, decision.after), (1, Some(Duration::from_secs(9))), "lc6");
    let decision = decided(&later, &[of(Standing::Waiting)], after(9));
    assert_eq!(decision.discard, [discard(0, "not ready when the claim ended")]);
}

#[test]
fn lk1_a_claim_whose_time_is_over_ends_with_what_is_ready_and_says_what_is_missing() {
    let long = claim(
        &json!({"waitReadyTimeout": "10m", "replicas": 3}),
        &json!({"phase": "Claiming", "claimStartTime": "2030-01-01T12:00:00Z"}),
    );
    let decision = decided(&long, &[of(Standing::Waiting), of(Standing::Ready)], after(60));
    assert_eq!(decision.claim, 0);
    assert_eq!(decision.discard, [discard(0, "not ready within 1m")], "nobody would wait for it");
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
    let ended = |shortage, failures| {
        let view = View { shortage, failures, ..view(&long, &[], after(60)) };
        decide(&view).status.message.unwrap()
    };
    let quota = Some("creating a sandbox: quota");
    assert!(ended(quota, Failures::default()).ends_with("claimed 0/3 sandboxes: creating a sandbox: quota"));
    let failures = Failures { count: 2, last: "no luck" };
    assert!(ended(quota, failures).ends_with("2 sandboxes did not become ready, the last: no luck"));
}

#[test]
fn lk1_a_claim_of_a_set_that_does_not_exist_ends_and_names_it() {
    let decision = decide(&View { has_set: false, ..view(&begun(), &[], now()) });
    assert_eq!(decision.claim, 0);
    assert_eq!(decision.status.message.as_deref(), Some("SandboxSet pool not found, claimed 0/2 sandboxes"));
    assert_eq!(
        condition(&decision.status, CONDITION_COMPLETED),
        Some(("SandboxSetNotFound", "SandboxSet pool not found, claimed 0/2 sandboxes"))
    );
}

#[test]
fn lk1_the_message_names_what_is_missing_while_claiming() {
    let decision = decide(&View { shortage: Some("no stock"), ..view(&begun(), &[], now()) });
    assert_eq!(decision.status.message.as_deref(), Some("Claiming sandboxes: 0/2 claimed: no stock"));
}

#[test]
fn lc2_a_surplus_of_lost_answers_is_given_up_when_the_claim_completes_and_not_before() {
    let surplus = [of(Standing::Waiting), of(Standing::Waiting), of(Standing::Ready)];
    let decision = decided(&begun(), &surplus, after(1));
    assert_eq!((decision.claim, decision.discard.len()), (0, 0), "any of them may become ready");
    let surplus = [of(Standing::Ready), of(Standing::Waiting), of(Standing::Ready)];
    let decision = decided(&begun(), &surplus, after(1));
    assert_eq!(decision.discard, [discard(1, "the claim has enough sandboxes without it")]);
    assert_eq!(decision.status.phase, Some(SandboxClaimPhase::Completed));
    let ready = || of(Standing::Ready);
    assert_eq!(decided(&begun(), &[ready(), ready(), ready()], after(1)).discard.len(), 0, "maybe in use");
}

/// A member that could not be given up since this second.
fn refused(standing: Standing, name: &str, since: i64) -> Member {
    let refusal = Refusal { name: name.to_owned(), answer: "forbidden".to_owned(), since: after(since) };
    Member { refusal: Some(refusal), ..of(standing) }
}

#[test]
fn lc7_what_cannot_be_given_up_is_left_alone_for_the_pause_and_named() {
    let failed = |name| refused(Standing::Failed("no luck".to_owned()), name, 1);
    let members = [failed("a"), of(Standing::Failed("new".to_owned())), of(Standing::Waiting)];
    let pause = Some(Duration::from_secs(2));
    let decision = decide(&View { pause, ..view(&begun(), &members, after(3)) });
    assert_eq!(decision.discard, [discard(1, "new")], "each by itself");
    assert_eq!((decision.claim, decision.after), (1, pause), "lc6");
    let message = "Claiming sandboxes: 1/2 claimed; cannot give up a: forbidden";
    assert_eq!(decision.status.message.as_deref(), Some(message));
    assert_eq!(decided(&begun(), &members, after(5)).discard.len(), 2, "tried again after the pause");
    let many = ["a", "b", "c", "d", "e", "f", "g"].map(failed);
    let decision = decide(&View { pause, ..view(&begun(), &many, after(3)) });
    let message = decision.status.message.unwrap();
    assert!(message.ends_with("; cannot give up a, b, c, d, e and 2 more: forbidden"), "{message}");
}

#[test]
fn lc7_what_cannot_be_given_up_holds_the_completion_until_the_claim_timeout_and_not_longer() {
    let ready = || Member { is_unmarked: true, ..of(Standing::Ready) };
    let members = [ready(), ready(), refused(Standing::Failed("no luck".to_owned()), "a", 1)];
    let paused = |members: &[Member], at| {
        let pause = Some(Duration::from_secs(16));
        decide(&View { pause, ..view(&begun(), members, after(at)) })
    };
    let held = paused(&members, 50);
    assert_eq!((held.discard.len(), held.after), (0, Some(Duration::from_secs(10))), "lc6: its end");
    assert_eq!(held.mark, [0, 1]);
    assert_eq!(held.status.phase, Some(SandboxClaimPhase::Claiming));
    assert_eq!((&held.status.completion_time, condition(&held.status, CONDITION_COMPLETED)), (&None, None));
    let message = "Successfully claimed 2/2 sandboxes; cannot give up a: forbidden";
    assert_eq!(held.status.message.as_deref(), Some(message));

    let ended = paused(&members, 60);
    assert_eq!(ended.discard.len(), 0);
    assert_eq!(condition(&ended.status, CONDITION_COMPLETED).unwrap().0, "AllReplicasClaimed");
    assert_eq!((ended.status.claimed_replicas, ended.status.message.as_deref()), (Some(2), Some(message)));

    let late = [of(Standing::Ready), refused(Standing::Waiting, "b", 60)];
    assert_eq!(paused(&late, 64).status.phase, Some(SandboxClaimPhase::Claiming), "maybe a short outage");
    let ended = paused(&late, 65).status;
    assert_eq!(condition(&ended, CONDITION_COMPLETED).unwrap().0, "TimeoutReached");
    assert!(ended.message.unwrap().ends_with("; cannot give up b: forbidden"));
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
    has_runtime: bool,
}

proptest! {
    /// Any course of a claim: how many sandboxes are in stock, how long created ones take, which ones fail.
    #[test]
    fn lk1_every_course_ends_with_at_most_the_wanted_sandboxes_and_removes_no_ready_one(
        wanted in 1..6usize,
        stock in prop::collection::vec((0..50i64, any::<bool>(), any::<bool>()), 0..12),
        steps in prop::collection::vec(1..20i64, 1..12),
    ) {
        let spec = json!({"replicas": wanted, "claimTimeout": "1m", "waitReadyTimeout": "20s"});
        let mut claim = claim(&spec, &Value::Null);
        let (mut stock, mut held, mut time, mut failed) = (stock, Vec::<Simulated>::new(), 0, 0);
        for step in steps.into_iter().chain([60, 60, 60]) {
            for simulated in &mut held {
                if simulated.due <= time && simulated.member.standing == Standing::Waiting {
                    simulated.member.standing = match (simulated.fails, simulated.has_runtime) {
                        (true, _) => Standing::Failed("failed".into()),
                        (false, true) => Standing::Uninitialised(Duration::ZERO),
                        (false, false) => Standing::Ready,
                    };
                }
            }
            let members: Vec<_> = held.iter().map(|simulated| simulated.member.clone()).collect();
            let was_complete = claim.phase() == Some(&SandboxClaimPhase::Completed);
            let decide = |members: &[Member], failed| {
                let failures = Failures { count: failed, last: "failed" };
                decide(&View { failures, ..view(&claim, members, after(time)) })
            };
            let first = decide(&members, failed);
            for discard in &first.discard {
                prop_assert!(members[discard.place].standing != Standing::Ready);
            }
            // What is given up is settled before the next decision.
            let discarded: Vec<_> = first.discard.iter().map(|discard| discard.place).collect();
            let mut place = 0;
            held.retain(|_| { place += 1; !discarded.contains(&(place - 1)) });
            failed += discarded.len();
            let members: Vec<_> = held.iter().map(|simulated| simulated.member.clone()).collect();
            let decision = decide(&members, failed);
            prop_assert_eq!(decision.discard.len(), 0, "the next decision gives up nothing");
            prop_assert_eq!(&first.status.phase, &decision.status.phase);
            prop_assert!(!was_complete || decision.claim + decision.discard.len() == 0);
            prop_assert!(members.len() + decision.claim <= wanted.max(members.len()), "{decision:?}");
            let may_fail = members.iter().filter(|member| member.standing != Standing::Ready).count();
            prop_assert!(failed + may_fail + decision.claim <= wanted + 5, "{failed} have failed");
            claim.status = Some(decision.status.clone());
            // Decided again, it is the same: a fixed point.
            let failures = Failures { count: failed, last: "failed" };
            let again = super::decide::decide(&View { failures, ..view(&claim, &members, after(time)) });
            prop_assert_eq!(&again.status, &decision.status);
            for place in decision.initialise {
                prop_assert_eq!(&members[place].standing, &Standing::Uninitialised(Duration::ZERO));
                held[place].member.standing = Standing::Ready;
            }
            for _ in 0..decision.claim {
                let Some((delay, fails, has_runtime)) = stock.pop() else { break };
                let member = Member { since: after(time), ..of(Standing::Waiting) };
                held.push(Simulated { member, due: time + delay, fails, has_runtime });
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
    let standing = |change: fn(&mut Value)| member(&sandbox(change), &begun(), true, now()).standing;
    assert_eq!(standing(|_| ()), Standing::Ready);
    assert_eq!(standing(|object| object["status"]["phase"] = json!("Paused")), Standing::Ready);
    assert_eq!(standing(|object| object["status"]["podInfo"] = json!({})), Standing::Waiting);
    assert_eq!(standing(|object| object["status"] = Value::Null), Standing::Waiting);
    let failed = standing(|object| object["status"] = json!({"phase": "Failed", "message": "no luck"}));
    assert_eq!(failed, Standing::Failed("ResourceFailed: no luck".to_owned()));
    let broken = standing(|object| {
        object["status"] = json!({"phase": "Pending", "conditions": [{"type": "Ready", "status": "False",
            "reason": "StartContainerFailed", "message": "ErrImagePull"}]});
    });
    assert_eq!(broken, Standing::Failed("StartContainerFailed: ErrImagePull".to_owned()));
    assert_eq!(member(&sandbox(|_| ()), &begun(), true, now()).since, after(-10));
}

/// The change of a sandbox that is running and not ready.
fn unready(object: &mut Value, reason: &str) {
    let ready = json!([{"type": "Ready", "status": "False", "reason": reason, "message": "m"}]);
    object["status"]["conditions"] = ready;
}

#[test]
fn lk1_a_member_that_was_ready_once_is_claimed_whether_it_is_ready_now_or_not() {
    let standing = |change: fn(&mut Value)| member(&sandbox(change), &begun(), true, now()).standing;
    // A sandbox gets the phase Running when its pod is ready for the first time.
    for change in [
        |object: &mut Value| unready(object, "PodReady"),
        |object: &mut Value| unready(object, "StartContainerFailed"),
        |object: &mut Value| object["status"]["conditions"] = json!([]),
        |object: &mut Value| object["status"]["phase"] = json!("Resuming"),
    ] {
        assert_eq!(standing(change), Standing::Ready);
    }
    let pending = |object: &mut Value| {
        unready(object, "PodReady");
        object["status"]["phase"] = json!("Pending");
    };
    assert_eq!(standing(pending), Standing::Waiting);
    let failed = |object: &mut Value| {
        object["status"]["phase"] = json!("Failed");
        object["status"]["message"] = json!("evicted");
    };
    assert_eq!(standing(failed), Standing::Ended("ResourceFailed: evicted".to_owned()));
    let after_a_pause = |object: &mut Value| {
        object["status"] = json!({"phase": "Failed", "conditions": [{
            "type": "SandboxResumed", "status": "False", "reason": "CreatePod", "message": "",
        }]});
    };
    assert_eq!(standing(after_a_pause), Standing::Ended("ResourceFailed".to_owned()));
    let shut_down = |object: &mut Value| object["spec"]["shutdownTime"] = json!("2030-01-01T11:59:59Z");
    assert_eq!(standing(shut_down), Standing::Failed("ShutdownTimeReached".to_owned()));
}

/// What a sandbox with this condition `InplaceUpdate` is for a claim that asks for an update.
fn updating(update: &Value, change: impl FnOnce(&mut Value)) -> Member {
    let claim = claim(&json!({"inplaceUpdate": {"image": "new"}}), &json!({"phase": "Claiming"}));
    let sandbox = sandbox(|object| {
        object["spec"]["template"] = json!({"spec": {"containers": [{"name": "a", "image": "new"}]}});
        object["status"]["observedGeneration"] = json!(2);
        if update.is_object() {
            let conditions = object["status"]["conditions"].as_array_mut().unwrap();
            let mut condition = json!({"type": "InplaceUpdate", "message": "m"});
            condition.as_object_mut().unwrap().extend(update.as_object().unwrap().clone());
            conditions.push(condition);
        }
        change(object);
    });
    member(&sandbox, &claim, true, now())
}

#[test]
fn lk1_a_member_is_ready_when_its_update_in_place_is_done_and_failed_when_it_is_refused() {
    let old = |object: &mut Value| object["status"]["observedGeneration"] = json!(1);
    assert_eq!(updating(&Value::Null, old).standing, Standing::Waiting, "an old status");
    assert_eq!(updating(&Value::Null, |_| ()).standing, Standing::Ready, "the pod fits");
    let done = json!({"status": "True", "reason": "Succeeded"});
    assert_eq!(updating(&done, |_| ()).standing, Standing::Ready);
    assert_eq!(
        updating(&done, |object| object["status"]["observedGeneration"] = json!(1)).standing,
        Standing::Waiting
    );
    let open = json!({"status": "False", "reason": "InplaceUpdating"});
    assert_eq!(updating(&open, |_| ()).standing, Standing::Waiting);
    for reason in ["RecreateNotAllowed", "Failed"] {
        let refused = json!({"status": "False", "reason": reason});
        assert_eq!(updating(&refused, |_| ()).standing, Standing::Failed(format!("{reason}: m")));
    }
    let broken = |object: &mut Value| {
        object["status"]["conditions"][0] = json!({"type": "Ready", "status": "False", "reason": "StartContainerFailed", "message": "ErrImagePull"});
    };
    assert_eq!(
        updating(&open, broken).standing,
        Standing::Failed("StartContainerFailed: ErrImagePull".to_owned())
    );
    let upgrading = |object: &mut Value| object["status"]["phase"] = json!("Upgrading");
    assert_eq!(updating(&open, upgrading).standing, Standing::Waiting);
    let failed = |object: &mut Value| object["status"]["phase"] = json!("Failed");
    assert_eq!(
        updating(&open, failed).standing,
        Standing::Failed("ResourceFailed".to_owned()),
        "never ready"
    );
    assert_eq!(updating(&done, failed).standing, Standing::Ended("ResourceFailed".to_owned()));
}

#[test]
fn lk1_a_mark_remembers_that_an_updated_member_was_ready() {
    let open = json!({"status": "False", "reason": "InplaceUpdating"});
    let marked = |object: &mut Value| {
        object["metadata"]["annotations"]["agents.kruise.io/ready-for-claim"] = json!("claim-uid");
    };
    let of_another = |object: &mut Value| {
        object["metadata"]["annotations"]["agents.kruise.io/ready-for-claim"] = json!("another");
    };
    assert_eq!(updating(&open, marked).standing, Standing::Ready);
    assert_eq!(updating(&open, of_another).standing, Standing::Waiting);
    assert!(updating(&Value::Null, |_| ()).is_unmarked);
    assert!(!updating(&Value::Null, marked).is_unmarked);
    assert!(!member(&sandbox(|_| ()), &begun(), true, now()).is_unmarked, "its status is enough");
}

#[test]
fn q6_a_runtime_is_initialised_at_once_or_after_a_pause_and_not_after_the_end_of_the_claim() {
    let wait = |seconds| of(Standing::Uninitialised(Duration::from_secs(seconds)));
    let decision = decided(&begun(), &[wait(0), wait(2)], after(1));
    assert_eq!((decision.initialise, decision.claim, decision.mark.len()), (vec![0], 0, 0));
    assert_eq!(decision.after, Some(Duration::ZERO), "lc6: the first one, if this round leaves it");
    let decision = decided(&begun(), &[wait(2), of(Standing::Ready)], after(1));
    assert_eq!((decision.initialise.len(), decision.after), (0, Some(Duration::from_secs(2))));
    assert_eq!(decision.status.phase, Some(SandboxClaimPhase::Claiming));
    let decision = decided(&begun(), &[wait(0), of(Standing::Ready)], after(30));
    assert_eq!((decision.initialise, decision.discard.len()), (vec![0], 0), "nobody may have led until now");
    let decision = decided(&begun(), &[wait(0), of(Standing::Ready)], after(60));
    assert_eq!((decision.initialise.len(), decision.discard), (0, vec![discard(0, "not ready within 1m")]));
}

#[test]
fn q6_a_member_is_initialised_when_its_pod_is_ready_and_what_others_have_claimed_is_left_alone() {
    let member = |init_runtime, change: fn(&mut Value)| {
        let sandbox = sandbox(|object| {
            object["metadata"]["annotations"]["agents.kruise.io/runtime-init-pending"] = json!("lock");
            change(object);
        });
        member(&sandbox, &begun(), init_runtime, now()).standing
    };
    let of_others = |object: &mut Value| {
        object["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .remove("agents.kruise.io/runtime-init-pending");
        object["metadata"]["annotations"]["agents.kruise.io/init-runtime-request"] = json!("{}");
    };
    let unready = |object: &mut Value| object["status"]["conditions"][0]["status"] = json!("False");
    let ended = |object: &mut Value| object["status"]["phase"] = json!("Failed");
    assert_eq!(member(true, |_| ()), Standing::Uninitialised(Duration::ZERO));
    assert_eq!(member(true, of_others), Standing::Ready);
    assert_eq!(member(true, unready), Standing::Uninitialised(Duration::from_secs(1)), "a moment later");
    assert_eq!(member(false, |_| ()), Standing::Ready, "it is not wanted");
    assert_eq!(member(true, |object| object["status"]["podInfo"] = json!({})), Standing::Waiting);
    assert_eq!(
        member(true, |object| object["status"]["phase"] = json!("Paused")),
        Standing::Uninitialised(Duration::from_secs(1))
    );
    let resumed = |object: &mut Value| {
        object["metadata"]["annotations"]["agents.kruise.io/ready-for-claim"] = json!("claim-uid");
    };
    assert_eq!(member(true, resumed), Standing::Ready, "once is enough");
    assert_eq!(member(true, ended), Standing::Failed("ResourceFailed".to_owned()), "never used");
    assert_eq!(member(false, ended), Standing::Ended("ResourceFailed".to_owned()));
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
    request(&serde_json::from_value(object).unwrap(), true).write(&mut sandbox, "a373ec39", now());
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
    request(&claim(&spec, &Value::Null), true).write(&mut sandbox, "lock", now());
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
