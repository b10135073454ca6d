//! A small sample: a template, a pool of it, a sandbox of a user, a claim, a checkpoint.
//!
//! None of them has a status, except the checkpoint. The lifecycle controllers create the members of the pool, claim one
//! of them, and run a pod for each sandbox.

use serde_json::{Value, json};

use super::workload::{self, NAMESPACE};
use crate::api::v1alpha1::{
    ANNOTATION_OWNER, API_VERSION, LABEL_SANDBOX_CLAIMED, LABEL_SANDBOX_NAME, LABEL_SANDBOX_TEMPLATE,
    LABEL_TRUE,
};

/// The pool of the sample.
pub const POOL: &str = "code-interpreter";

/// Number of unclaimed sandboxes that the pool keeps.
pub const REPLICAS: i32 = 3;

/// The sandbox that belongs to no pool.
pub const SANDBOX: &str = "workbench";

/// The claim of one sandbox of the pool.
pub const CLAIM: &str = "alice";

/// Number of sandboxes once the controllers have done their work: the members of the pool, the claimed one, and the one
/// without a pool.
pub const SANDBOXES: i32 = REPLICAS + 2;

/// The user who owns [`SANDBOX`].
const USER: &str = "alice";

/// Returns all objects, each after those that it refers to.
#[must_use]
pub fn objects() -> Vec<Value> {
    vec![template(), set(), sandbox(), claim(), checkpoint()]
}

/// Returns a namespace.
#[must_use]
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// Returns the template of the sandboxes.
fn template() -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "SandboxTemplate",
        "metadata": {"name": POOL, "namespace": NAMESPACE},
        "spec": {"template": workload::template(POOL)},
    })
}

/// Returns the set that keeps the pool.
fn set() -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "SandboxSet",
        "metadata": {"name": POOL, "namespace": NAMESPACE},
        "spec": {"replicas": REPLICAS, "templateRef": template_ref()},
    })
}

/// Returns the sandbox that a user has created without a pool.
fn sandbox() -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "Sandbox",
        "metadata": {
            "name": SANDBOX, "namespace": NAMESPACE,
            "labels": {LABEL_SANDBOX_TEMPLATE: POOL, LABEL_SANDBOX_CLAIMED: LABEL_TRUE},
            "annotations": {ANNOTATION_OWNER: USER},
        },
        "spec": {"templateRef": template_ref()},
    })
}

/// Returns the claim of one sandbox.
fn claim() -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "SandboxClaim",
        "metadata": {"name": CLAIM, "namespace": NAMESPACE},
        "spec": {"templateName": POOL, "labels": {"app.example.com/user": USER}},
    })
}

fn template_ref() -> Value {
    json!({"apiVersion": API_VERSION, "kind": "SandboxTemplate", "name": POOL})
}

/// Returns a checkpoint as the agent of a node leaves it.
fn checkpoint() -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "Checkpoint",
        "metadata": {
            "name": format!("{SANDBOX}-1"), "namespace": NAMESPACE,
            "labels": {LABEL_SANDBOX_NAME: SANDBOX}, "annotations": {ANNOTATION_OWNER: USER},
        },
        "spec": {"sandboxName": SANDBOX, "keepRunning": true, "persistentContents": ["memory", "filesystem"]},
        "status": {"phase": "Succeeded", "checkpointId": "cp-0001", "completionTime": "2026-01-01T00:00:00Z"},
    })
}
