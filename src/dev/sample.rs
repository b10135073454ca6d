//! A small sample fleet: a template, a pool, sandboxes in every state, a checkpoint.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::workload::{self, NAMESPACE};
use crate::api::v1alpha1::{
    ANNOTATION_OWNER, API_VERSION, LABEL_SANDBOX_CLAIMED, LABEL_SANDBOX_NAME, LABEL_SANDBOX_POOL,
    LABEL_SANDBOX_TEMPLATE,
};

/// The pool of the sample.
pub const POOL: &str = "code-interpreter";

/// The user who claimed the claimed sandboxes.
pub const USER: &str = "alice";

/// The holder of a sandbox.
#[derive(Clone, Copy, PartialEq)]
enum Holder {
    Pool,
    User,
}

/// Each sandbox: its name, holder, phase, and true if it is ready.
const SANDBOXES: [(&str, Holder, &str, bool); 9] = [
    ("available-1", Holder::Pool, "Running", true),
    ("available-2", Holder::Pool, "Running", true),
    ("creating", Holder::Pool, "Pending", false),
    ("running", Holder::User, "Running", true),
    ("paused", Holder::User, "Paused", false),
    ("resuming", Holder::User, "Resuming", false),
    ("upgrading", Holder::User, "Upgrading", false),
    ("failed", Holder::User, "Failed", false),
    ("expired", Holder::User, "Running", true),
];

/// Returns all objects except the template and the set. `set_uid` is the UID of the set, which is the owner
/// of the pool's members.
#[must_use]
pub fn members(set_uid: &str) -> Vec<Value> {
    let mut objects = vec![checkpoint()];
    objects.extend(SANDBOXES.iter().map(|(name, holder, phase, ready)| {
        let mut sandbox = sandbox(name, *holder, phase, *ready, set_uid);
        if *name == "expired" {
            sandbox["spec"]["shutdownTime"] = json!("2026-01-01T00:00:00Z");
        }
        sandbox
    }));
    objects
}

/// Returns the template of the sandboxes.
#[must_use]
pub fn template() -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "SandboxTemplate",
        "metadata": {"name": POOL, "namespace": NAMESPACE},
        "spec": {"template": workload::template(POOL)},
    })
}

/// Returns the set that owns the pool.
#[must_use]
pub fn set() -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "SandboxSet",
        "metadata": {"name": POOL, "namespace": NAMESPACE},
        "spec": {"replicas": 3, "templateRef": {"apiVersion": API_VERSION, "kind": "SandboxTemplate", "name": POOL}},
        "status": {
            "observedGeneration": 1, "replicas": 3, "availableReplicas": 2,
            "selector": format!("{LABEL_SANDBOX_POOL}={POOL}"),
        },
    })
}

fn sandbox(name: &str, holder: Holder, phase: &str, ready: bool, set_uid: &str) -> Value {
    let claimed = holder == Holder::User;
    let mut metadata = json!({
        "name": format!("{POOL}-{name}"), "namespace": NAMESPACE,
        "labels": {
            LABEL_SANDBOX_POOL: POOL, LABEL_SANDBOX_TEMPLATE: POOL, LABEL_SANDBOX_CLAIMED: claimed.to_string(),
        },
    });
    if claimed {
        metadata["annotations"] = json!({ANNOTATION_OWNER: USER});
    } else {
        metadata["ownerReferences"] = json!([{
            "apiVersion": API_VERSION, "kind": "SandboxSet", "name": POOL, "uid": set_uid,
            "controller": true, "blockOwnerDeletion": true,
        }]);
    }
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str, holds: bool, reason: &str| {
        json!({
            "type": kind, "status": if holds { "True" } else { "False" }, "reason": reason, "message": "",
            "lastTransitionTime": now,
        })
    };
    let mut conditions = vec![condition("Ready", ready, "PodReady")];
    if phase == "Paused" {
        conditions.push(condition("SandboxPaused", true, "DeletePod"));
    }
    json!({
        "apiVersion": API_VERSION, "kind": "Sandbox", "metadata": metadata,
        "spec": {
            "paused": phase == "Paused",
            "templateRef": {"apiVersion": API_VERSION, "kind": "SandboxTemplate", "name": POOL},
        },
        "status": {"phase": phase, "observedGeneration": 1, "conditions": conditions, "podInfo": {"podIP": "10.0.0.1"}},
    })
}

fn checkpoint() -> Value {
    let sandbox = format!("{POOL}-running");
    json!({
        "apiVersion": API_VERSION, "kind": "Checkpoint",
        "metadata": {
            "name": format!("{sandbox}-1"), "namespace": NAMESPACE,
            "labels": {LABEL_SANDBOX_NAME: sandbox}, "annotations": {ANNOTATION_OWNER: USER},
        },
        "spec": {"sandboxName": sandbox, "keepRunning": true, "persistentContents": ["memory", "filesystem"]},
        "status": {"phase": "Succeeded", "checkpointId": "cp-0001", "completionTime": "2026-01-01T00:00:00Z"},
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::v1alpha1::Sandbox;

    #[test]
    fn the_sample_has_a_sandbox_in_every_state() {
        let now = Timestamp::now();
        let sandboxes = members("u").into_iter().filter(|object| object["kind"] == "Sandbox");
        let states: BTreeSet<String> = sandboxes
            .map(|object| serde_json::from_value::<Sandbox>(object).unwrap().state(now).kind.to_string())
            .collect();
        let all = ["available", "creating", "dead", "paused", "resuming", "running", "upgrading"];
        assert_eq!(states, all.map(str::to_owned).into());
    }
}
