//! The labels, annotations and finalizers that sandboxes and their relatives carry.
//!
//! They are part of the contract with other components of an installation: values never change. Indexes,
//! states and claims read them through [`label`](super::label) and [`annotation`](super::annotation), for
//! which an empty value is none.

/// Value of the labels that are switches.
pub const LABEL_TRUE: &str = "true";

/// On a Sandbox: name of the SandboxSet that made it.
pub const LABEL_SANDBOX_POOL: &str = "agents.kruise.io/sandbox-pool";
/// On a Sandbox: name of the template it was made from (that of `templateRef`, else of the set).
pub const LABEL_SANDBOX_TEMPLATE: &str = "agents.kruise.io/sandbox-template";
/// On a Sandbox: [`LABEL_TRUE`] once somebody has claimed it.
pub const LABEL_SANDBOX_CLAIMED: &str = "agents.kruise.io/sandbox-claimed";
/// On a Sandbox: name of the `SandboxClaim` that it was claimed for.
pub const LABEL_CLAIM_NAME: &str = "agents.kruise.io/claim-name";
/// On a Sandbox: revision of the template of its set.
pub const LABEL_TEMPLATE_HASH: &str = "agents.kruise.io/template-hash";
/// On a Sandbox: a short id, written by later versions.
pub const LABEL_SANDBOX_ID: &str = "agents.kruise.io/sandbox-id";
/// On a Sandbox: [`LABEL_TRUE`] when it is kept for inspection after a failed claim.
pub const LABEL_RESERVED_FAILED_SANDBOX: &str = "agents.kruise.io/reserved-failed-sandbox";
/// On a Sandbox: name of the `SandboxUpdateOps` at work on it.
pub const LABEL_UPDATE_OPS: &str = "agents.kruise.io/update-ops";
/// On a Checkpoint: name of its sandbox.
pub const LABEL_SANDBOX_NAME: &str = "agents.kruise.io/sandbox-name";
/// On a Pod, as label and as annotation: what it was made for, see [`CREATED_BY_SANDBOX`].
pub const LABEL_CREATED_BY: &str = "agents.kruise.io/created-by";
/// The value of [`LABEL_CREATED_BY`] and [`ANNOTATION_CREATED_BY`] on the pod of a sandbox.
pub const CREATED_BY_SANDBOX: &str = "sandbox";
/// On a Pod: revision of its template. The one key without our prefix.
pub const LABEL_POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// On a Pod: the same as [`LABEL_CREATED_BY`].
pub const ANNOTATION_CREATED_BY: &str = "agents.kruise.io/created-by";
/// On a Sandbox: id of the lock that a claim holds.
pub const ANNOTATION_LOCK: &str = "agents.kruise.io/lock";
/// On a Sandbox, Checkpoint or PersistentVolumeClaim: the user it belongs to.
pub const ANNOTATION_OWNER: &str = "agents.kruise.io/owner";
/// On a Sandbox: when it was claimed, RFC 3339.
pub const ANNOTATION_CLAIM_TIMESTAMP: &str = "agents.kruise.io/claim-timestamp";
/// On a Sandbox: the checkpoint that its content comes from.
pub const ANNOTATION_RESTORE_FROM: &str = "agents.kruise.io/restore-from";
/// On a Sandbox: the request that initialises the runtime in it.
pub const ANNOTATION_INIT_RUNTIME_REQUEST: &str = "agents.kruise.io/init-runtime-request";
/// On a Sandbox: where its member list is served.
pub const ANNOTATION_MEMBERLIST_URL: &str = "agents.kruise.io/memberlist-url";
/// On a Sandbox: where the runtime in it is served.
pub const ANNOTATION_RUNTIME_URL: &str = "agents.kruise.io/runtime-url";
/// On a Sandbox: the token that the runtime asks for. Never to be logged.
pub const ANNOTATION_RUNTIME_ACCESS_TOKEN: &str = "agents.kruise.io/runtime-access-token";
/// On a Sandbox: its priority among those of its set.
pub const ANNOTATION_SANDBOX_PRIORITY: &str = "agents.kruise.io/sandbox-priority";
/// On a Sandbox: hash of the part of its spec that cannot be updated in place.
pub const ANNOTATION_HASH_IMMUTABLE_PART: &str = "sandbox.agents.kruise.io/hash-immutable-part";

/// Keeps a Sandbox until what it holds has been released.
pub const FINALIZER_SANDBOX: &str = "agents.kruise.io/sandbox";
/// Keeps a Checkpoint until its data has been removed.
pub const FINALIZER_CHECKPOINT: &str = "agents.kruise.io/checkpoint";
