//! The labels, annotations and finalizers of sandboxes and of the objects that belong to them.
//!
//! Other components of an installation use the same names, so these constants never change. Indexes, states
//! and claims read labels and annotations through [`label`](super::label) and
//! [`annotation`](super::annotation), which treat an empty value as absent.

/// The value that turns on a label that is either on or off.
pub const LABEL_TRUE: &str = "true";
/// The value that turns off a label that is either on or off.
pub const LABEL_FALSE: &str = "false";

/// On a Sandbox: name of the SandboxSet that created the sandbox.
pub const LABEL_SANDBOX_POOL: &str = "agents.kruise.io/sandbox-pool";
/// On a Sandbox: name of its template, from `templateRef`, else the name of its SandboxSet.
pub const LABEL_SANDBOX_TEMPLATE: &str = "agents.kruise.io/sandbox-template";
/// On a Sandbox: [`LABEL_TRUE`] after a user has claimed the sandbox.
pub const LABEL_SANDBOX_CLAIMED: &str = "agents.kruise.io/sandbox-claimed";
/// On a Sandbox: name of the `SandboxClaim` for which the sandbox was claimed.
pub const LABEL_CLAIM_NAME: &str = "agents.kruise.io/claim-name";
/// On a Sandbox: revision of the template of its SandboxSet.
pub const LABEL_TEMPLATE_HASH: &str = "agents.kruise.io/template-hash";
/// On a Sandbox: a short id. Versions of OpenKruise Agents after v0.3.0 write this label.
pub const LABEL_SANDBOX_ID: &str = "agents.kruise.io/sandbox-id";
/// On a Sandbox: [`LABEL_TRUE`] if the sandbox is kept for inspection after a failed claim.
pub const LABEL_RESERVED_FAILED_SANDBOX: &str = "agents.kruise.io/reserved-failed-sandbox";
/// On a Sandbox: name of the `SandboxUpdateOps` that is updating the sandbox.
pub const LABEL_UPDATE_OPS: &str = "agents.kruise.io/update-ops";
/// On a Sandbox: the last upgrade of the sandbox has failed.
pub const LABEL_UPGRADE_FAILED: &str = "agents.kruise.io/upgrade-failed";
/// On a Sandbox and its Pod: [`LABEL_FALSE`] if the user forbids access to the internet. Policies of the network select
/// pods by this label.
pub const LABEL_ALLOW_INTERNET_ACCESS: &str = "agents.kruise.io/allow-internet-access";
/// On a Pod, by the template of a claimed Sandbox: the same as [`ANNOTATION_OWNER`] on the Sandbox.
pub const LABEL_OWNER: &str = "agents.kruise.io/owner";
/// On a Checkpoint, and on a Pod by the template of a claimed Sandbox: name of its sandbox.
pub const LABEL_SANDBOX_NAME: &str = "agents.kruise.io/sandbox-name";
/// On a Checkpoint: its id.
pub const LABEL_CHECKPOINT_ID: &str = "agents.kruise.io/checkpoint-id";
/// On a Checkpoint: its type.
pub const LABEL_CHECKPOINT_TYPE: &str = "agents.kruise.io/checkpoint-type";
/// On a Pod, as label and as annotation: the purpose of the pod, see [`CREATED_BY_SANDBOX`].
pub const LABEL_CREATED_BY: &str = "agents.kruise.io/created-by";
/// The value of [`LABEL_CREATED_BY`] and [`ANNOTATION_CREATED_BY`] on the pod of a sandbox.
pub const CREATED_BY_SANDBOX: &str = "sandbox";
/// On a Pod: revision of its template. This key is the only one without the prefix of the group.
pub const LABEL_POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// On a Pod: the same as [`LABEL_CREATED_BY`].
pub const ANNOTATION_CREATED_BY: &str = "agents.kruise.io/created-by";
/// On a Pod: hashes of the spec that the pod was made from, as this project computes them. OpenKruise Agents has no such
/// annotation, and nobody else needs to read it.
pub const ANNOTATION_TEMPLATE_SPEC: &str = "sandbox-manager.agents.kruise.io/template-spec";
/// On a Sandbox: id of the lock that a claim holds.
pub const ANNOTATION_LOCK: &str = "agents.kruise.io/lock";
/// On a Sandbox: the sandbox is being cleaned up for its next use. Versions of OpenKruise Agents after v0.3.0 write
/// this annotation.
pub const ANNOTATION_CLEANUP: &str = "agents.kruise.io/cleanup";
/// On a Sandbox: the sandbox is cleaned up for its next use when its user releases it. Versions of OpenKruise Agents
/// after v0.3.0 write this annotation.
pub const ANNOTATION_CLEANUP_ENABLED: &str = "agents.kruise.io/cleanup-enabled";
/// On a Sandbox: how long the sandbox is kept after a cleanup that failed, such as `5m`. Absent: not at all.
pub const ANNOTATION_CLEANUP_RETAIN_ON_FAILURE: &str = "agents.kruise.io/cleanup-retain-on-failure";
/// On a SandboxTemplate that was made for one sandbox: the template may be removed when no object refers to it.
pub const ANNOTATION_CLEANUP_CANDIDATE: &str = "agents.kruise.io/cleanup-candidate";
/// On a Sandbox: the keys of the labels and annotations that its claim has written, as JSON. A cleanup removes them.
pub const ANNOTATION_UPDATED_METADATA_IN_CLAIM: &str = "agents.kruise.io/updated-metadata-in-claim";
/// On a Sandbox: how long the sandbox is kept while it is paused, such as `forever`.
pub const ANNOTATION_RESERVE_PAUSED_SANDBOX_DURATION: &str =
    "agents.kruise.io/reserve-paused-sandbox-duration";
/// On a paused Sandbox: resume the sandbox with its old template, as the first step of an upgrade.
pub const ANNOTATION_UPGRADE_RESUME_TRIGGER: &str = "agents.kruise.io/upgrade-resume-trigger";
/// On a Sandbox, Checkpoint or PersistentVolumeClaim: the user that owns the object.
pub const ANNOTATION_OWNER: &str = "agents.kruise.io/owner";
/// The value of [`ANNOTATION_OWNER`] while a SandboxSet removes a surplus sandbox. It never is a user.
pub const OWNER_SCALE_DOWN: &str = "__manager_scale_down";
/// On a Sandbox: its claim is not complete before the annotation is gone. The value is the time in RFC 3339 after which
/// no process answers for the claim any more. Only claims that take more steps than the lock have it. OpenKruise Agents
/// does not know this annotation.
pub const ANNOTATION_CLAIM_UNFINISHED_UNTIL: &str = "agents.kruise.io/claim-unfinished-until";
/// On a Sandbox: the runtime in the sandbox is to be initialised before the sandbox can be used. The value is the id of the
/// claim or of the resume that wants it. Other versions of OpenKruise Agents do not know this annotation.
pub const ANNOTATION_RUNTIME_INIT_PENDING: &str = "agents.kruise.io/runtime-init-pending";
/// On a Sandbox: the time of the claim, in RFC 3339.
pub const ANNOTATION_CLAIM_TIMESTAMP: &str = "agents.kruise.io/claim-timestamp";
/// On a Sandbox: UID of the `SandboxClaim` for which the sandbox was ready, with an initialised runtime, and with the update in
/// place that the claim asked for. Other versions of OpenKruise Agents do not know this annotation.
pub const ANNOTATION_READY_FOR_CLAIM: &str = "agents.kruise.io/ready-for-claim";
/// On a Sandbox: the checkpoint from which its content was restored.
pub const ANNOTATION_RESTORE_FROM: &str = "agents.kruise.io/restore-from";
/// On a Sandbox: the request that initialises the runtime in the sandbox.
pub const ANNOTATION_INIT_RUNTIME_REQUEST: &str = "agents.kruise.io/init-runtime-request";
/// On a Sandbox: URL of its member list.
pub const ANNOTATION_MEMBERLIST_URL: &str = "agents.kruise.io/memberlist-url";
/// On a Sandbox: URL of the runtime in the sandbox.
pub const ANNOTATION_RUNTIME_URL: &str = "agents.kruise.io/runtime-url";
/// On a Sandbox: the access token of the runtime in the sandbox. Never log this token.
pub const ANNOTATION_RUNTIME_ACCESS_TOKEN: &str = "agents.kruise.io/runtime-access-token";
/// On a Sandbox: the port at which the runtime in the sandbox serves TLS. Absent: the runtime serves no TLS.
pub const ANNOTATION_RUNTIME_TLS_PORT: &str = "agents.kruise.io/runtime-tls-port";
/// On a Sandbox: the volumes that its claim mounts, as JSON.
pub const ANNOTATION_CSI_VOLUME_CONFIG: &str = "e2b.agents.kruise.io/csi-volume-config";
/// On a Sandbox: the access token of envd in the sandbox. Never log this token.
pub const ANNOTATION_ENVD_ACCESS_TOKEN: &str = "e2b.agents.kruise.io/envd-access-token";
/// On a Sandbox: URL of envd in the sandbox.
pub const ANNOTATION_ENVD_URL: &str = "e2b.agents.kruise.io/envd-url";
/// On a Sandbox: its priority among the sandboxes of its SandboxSet.
pub const ANNOTATION_SANDBOX_PRIORITY: &str = "agents.kruise.io/sandbox-priority";
/// On a Sandbox: hash of the part of its spec that cannot be updated in place. Versions of OpenKruise Agents compute it
/// from the JSON that Go writes, so this project never writes, changes or compares it.
pub const ANNOTATION_HASH_IMMUTABLE_PART: &str = "sandbox.agents.kruise.io/hash-immutable-part";
/// On a Sandbox: the older form of [`ANNOTATION_HASH_IMMUTABLE_PART`].
pub const ANNOTATION_HASH_WITHOUT_IMAGE_RESOURCES: &str =
    "sandbox.agents.kruise.io/hash-without-image-resources";

/// Finalizer that keeps a Sandbox until its resources have been released.
pub const FINALIZER_SANDBOX: &str = "agents.kruise.io/sandbox";
/// Finalizer that keeps a Checkpoint until its data has been removed.
pub const FINALIZER_CHECKPOINT: &str = "agents.kruise.io/checkpoint";
