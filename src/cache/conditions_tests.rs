//! Tests behaviours G: the result of each condition for an object.

use serde_json::{Value, json};
use shared_cache::Check;

use super::conditions::{bound, checkpointed, paused, ready, resumed};
use crate::api::v1alpha1::{Checkpoint, Sandbox};

#[expect(clippy::needless_pass_by_value, reason = "made for the call")]
fn sandbox(metadata: Value, spec: Value, status: Value) -> Sandbox {
    let mut object = json!({"metadata": {"namespace": "ns", "name": "a"}, "spec": spec, "status": status});
    object["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    serde_json::from_value(object).unwrap()
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message,
           "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn status(phase: &str, conditions: &[Value]) -> Value {
    json!({"phase": phase, "conditions": conditions, "podInfo": {"podIP": "10.0.0.1"}})
}

fn show(check: Check) -> String {
    match check {
        Check::Satisfied => "satisfied".into(),
        Check::NotYet(reason) => format!("not yet: {reason}"),
        Check::Failed(cause) => format!("failed: {cause}"),
    }
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_800_000_000).unwrap()
}

fn pooled() -> Value {
    json!({"ownerReferences": [{"apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxSet", "name": "s",
                                "uid": "s", "controller": true}]})
}

#[test]
fn g1_a_pause_is_done_when_the_condition_is_true_and_fails_where_it_is_not_allowed() {
    let check = |metadata, status| show(paused(&sandbox(metadata, json!({"paused": true}), status)));
    let paused_is = |status| condition("SandboxPaused", status, "SetPause", "m");
    assert_eq!(check(json!({}), status("Paused", &[paused_is("True")])), "satisfied");
    let waiting = check(json!({}), status("Running", &[paused_is("False")]));
    assert_eq!(waiting, "not yet: condition SandboxPaused is False: SetPause: m");
    let waiting = check(json!({}), status("Running", &[]));
    assert_eq!(waiting, "not yet: there is no condition SandboxPaused");
    // U1: not ready is what a sandbox becomes while it is being paused.
    let pausing = [condition("Ready", "False", "PodReady", ""), paused_is("False")];
    let waiting = check(json!({}), status("Running", &pausing));
    assert_eq!(waiting, "not yet: condition SandboxPaused is False: SetPause: m");
    let refused = check(json!({}), status("Pending", &[paused_is("True")]));
    assert_eq!(refused, "failed: the sandbox cannot be paused: SandboxPhaseNotAllowed");
    let refused = check(pooled(), status("Running", &[paused_is("True")]));
    assert_eq!(refused, "failed: the sandbox cannot be paused: SandboxStateNotAllowed");
}

#[test]
fn g2_a_resume_is_done_when_ready_in_a_status_of_the_floors_generation() {
    let check = |metadata, status, floor| show(resumed(&sandbox(metadata, json!({}), status), floor, now()));
    let ready = |observed: i64| {
        let mut status = status("Running", &[condition("Ready", "True", "PodReady", "")]);
        status["observedGeneration"] = json!(observed);
        status
    };
    assert_eq!(check(json!({}), ready(4), 4), "satisfied");
    assert_eq!(check(json!({}), ready(5), 4), "satisfied");
    assert_eq!(check(json!({}), ready(3), 4), "not yet: the status is of generation 3, not yet of 4");
    let resuming = status("Resuming", &[condition("Ready", "False", "PodReady", "starting")]);
    assert_eq!(check(json!({}), resuming, 0), "not yet: condition Ready is False: PodReady: starting");
    let pausing = status("Paused", &[]);
    assert_eq!(check(json!({}), pausing, 0), "failed: the sandbox cannot be resumed: SandboxIsPausing");
    let deleting = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    assert_eq!(check(deleting, ready(4), 4), "failed: the sandbox cannot be resumed: SandboxIsDeleting");
    // U1: ready still, but on the way to a pause.
    let pausing = show(resumed(&sandbox(json!({}), json!({"paused": true}), ready(4)), 4, now()));
    assert_eq!(pausing, "not yet: the sandbox is being paused: spec.paused is true");
}

#[test]
fn g3_readiness_is_decided_in_order() {
    let check = |metadata, status| show(ready(&sandbox(metadata, json!({}), status), now()));
    let of = |phase: &str, conditions: &[Value]| {
        let mut status = status(phase, conditions);
        status["observedGeneration"] = json!(2);
        status
    };
    let is_ready = condition("Ready", "True", "PodReady", "");
    let current = || json!({"generation": 2});
    assert_eq!(check(current(), of("Running", std::slice::from_ref(&is_ready))), "satisfied");

    let deleting = json!({"generation": 2, "deletionTimestamp": "2026-01-01T00:00:00Z"});
    assert_eq!(
        check(deleting, of("Running", std::slice::from_ref(&is_ready))),
        "failed: the sandbox is being deleted"
    );
    for phase in ["Failed", "Succeeded", "Terminating"] {
        // Checked before the generation.
        let mut status = of(phase, std::slice::from_ref(&is_ready));
        status["message"] = json!("why");
        assert_eq!(check(json!({"generation": 9}), status), format!("failed: the sandbox is {phase}: why"));
    }
    let failed = condition("Ready", "True", "StartContainerFailed", "no image");
    let behind = check(json!({"generation": 3}), of("Running", std::slice::from_ref(&failed)));
    assert_eq!(behind, "not yet: the status is of generation 2, the spec of 3");
    let updating = condition("InplaceUpdate", "False", "InplaceUpdating", "");
    let failed = check(current(), of("Running", &[updating.clone(), failed]));
    assert_eq!(failed, "failed: StartContainerFailed: no image", "whatever its status says");
    let updated = check(current(), of("Running", &[is_ready.clone(), updating]));
    assert_eq!(updated, "not yet: an update in place is under way");
    let not_ready = condition("Ready", "False", "PodReady", "probing");
    assert_eq!(
        check(current(), of("Running", &[not_ready])),
        "not yet: the sandbox is dead (RunningResourceClaimedButNotReady); condition Ready is False: PodReady: probing"
    );
    let mut no_address = of("Running", &[is_ready]);
    no_address["podInfo"] = json!({"podIP": ""});
    assert_eq!(check(current(), no_address), "not yet: the pod has no IP address");
}

#[test]
fn g4_a_checkpoint_is_done_when_it_has_succeeded_with_an_id() {
    let check = |status: Value| {
        let object = json!({"metadata": {"namespace": "ns", "name": "c"}, "spec": {}, "status": status});
        show(checkpointed(&serde_json::from_value::<Checkpoint>(object).unwrap()))
    };
    assert_eq!(check(json!({"phase": "Succeeded", "checkpointId": "x"})), "satisfied");
    assert_eq!(check(json!({"phase": "Succeeded"})), "failed: checkpoint ns/c has succeeded without an id");
    assert_eq!(
        check(json!({"phase": "Failed", "message": "disk full"})),
        "failed: checkpoint ns/c is Failed: disk full"
    );
    assert_eq!(check(json!({"phase": "Terminating"})), "failed: checkpoint ns/c is Terminating: ");
    assert_eq!(check(json!({"phase": "Creating"})), "not yet: the checkpoint is Creating");
    assert_eq!(check(json!({"phase": "NewPhase"})), "not yet: the checkpoint is NewPhase");
    assert_eq!(check(json!({})), "not yet: the checkpoint has no phase yet");
}

#[test]
fn g5_a_claim_is_done_when_it_is_bound_to_a_volume() {
    let check = |phase: &str, volume: &str| {
        let object =
            json!({"metadata": {"name": "c"}, "spec": {"volumeName": volume}, "status": {"phase": phase}});
        show(bound(&serde_json::from_value(object).unwrap()))
    };
    assert_eq!(check("Bound", "pv"), "satisfied");
    assert_eq!(check("Bound", ""), "not yet: the claim is Bound and names no volume yet");
    assert_eq!(check("Lost", "pv"), "failed: the claim has lost its volume \"pv\"");
    assert_eq!(check("Pending", ""), "not yet: the claim is Pending");
    assert_eq!(check("", ""), "not yet: the claim has no phase yet");
}
