//! [`Condition`]: a condition of a status, and the names of condition types and reasons.
//!
//! The schema is the schema of the standard Kubernetes condition. The Rust type differs for two reasons:
//! dates keep their written form ([`Time`]), and a status other than the three standard values must not
//! prevent the object from being decoded.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Generation, Symbol, Time};

open_enum! {
    /// The status of a condition. A condition holds only if its status is exactly `True`.
    pub enum ConditionStatus {
        /// The condition holds.
        True,
        /// The condition does not hold.
        False,
        /// The controller cannot tell whether the condition holds.
        Unknown,
    }
}

/// One observed condition of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    // None only if the time could not be read.
    /// The time of the last change of the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub last_transition_time: Option<Time>,
    /// Details for human readers. May be empty.
    #[serde(default)]
    #[schemars(!default, extend("maxLength" = 32768))]
    pub message: Symbol,
    /// The generation of the object that this condition describes. The condition is out of date if the object
    /// has a higher generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0))]
    pub observed_generation: Option<Generation>,
    /// The reason of the status, in one CamelCase word.
    #[serde(default)]
    #[schemars(!default, extend(
        "minLength" = 1,
        "maxLength" = 1024,
        "pattern" = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
    ))]
    pub reason: Symbol,
    /// The status: True, False or Unknown.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: ConditionStatus,
    /// The type of the condition, in CamelCase, with an optional domain as prefix.
    #[serde(rename = "type")]
    #[schemars(extend(
        "maxLength" = 316,
        "pattern" = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
    ))]
    pub type_: Symbol,
}

impl Condition {
    /// Returns true if the status is exactly `True`.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }
}

/// Returns the condition of type `type_`, of which a status has at most one.
pub(super) fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// On a Sandbox: the pod is ready for use.
pub const CONDITION_READY: &str = "Ready";
/// On a Sandbox: pausing is complete.
pub const CONDITION_SANDBOX_PAUSED: &str = "SandboxPaused";
/// On a Sandbox: resuming is complete.
pub const CONDITION_SANDBOX_RESUMED: &str = "SandboxResumed";
/// On a Sandbox: progress of an in-place update.
pub const CONDITION_INPLACE_UPDATE: &str = "InplaceUpdate";
/// On a Sandbox: progress of an upgrade.
pub const CONDITION_UPGRADING: &str = "Upgrading";
/// On a Sandbox: the runtime has been initialised again after resuming.
pub const CONDITION_POST_RESUME_INIT: &str = "PostResumeInit";
/// On a Sandbox: the runtime has been initialised. Versions of OpenKruise Agents after v0.3.0 write this condition
/// instead of [`CONDITION_POST_RESUME_INIT`].
pub const CONDITION_RUNTIME_INITIALIZED: &str = "RuntimeInitialized";
/// On a Sandbox: progress of the cleanup for its next use.
pub const CONDITION_RECYCLING: &str = "Recycling";
/// On a SandboxSet: the pool comes closer to what its spec asks for.
pub const CONDITION_PROGRESSING: &str = "Progressing";
/// On a SandboxClaim: the claim has ended, with all its sandboxes or not.
pub const CONDITION_COMPLETED: &str = "Completed";
/// On a SandboxClaim: the time for claiming was over before all sandboxes were claimed.
pub const CONDITION_TIMED_OUT: &str = "TimedOut";

/// Reason of [`CONDITION_READY`]: the status is the readiness of the pod.
pub const REASON_POD_READY: &str = "PodReady";
/// Reason of [`CONDITION_READY`] and [`CONDITION_INPLACE_UPDATE`]: an in-place update is in progress.
pub const REASON_INPLACE_UPDATING: &str = "InplaceUpdating";
/// Reason of [`CONDITION_READY`]: an upgrade is in progress.
pub const REASON_UPGRADING: &str = "Upgrading";
/// Reason of [`CONDITION_READY`]: a container failed to start, and waiting will not make the sandbox ready.
pub const REASON_START_CONTAINER_FAILED: &str = "StartContainerFailed";
/// Reason of [`CONDITION_READY`]: the API server has refused the pod.
pub const REASON_POD_CREATE_FAILED: &str = "PodCreateFailed";
/// Reason of [`CONDITION_READY`]: a pod of this name exists and belongs to another object.
pub const REASON_POD_NAME_TAKEN: &str = "PodNameTaken";
/// Reason of [`CONDITION_READY`]: the template that the spec refers to does not exist.
pub const REASON_TEMPLATE_NOT_FOUND: &str = "TemplateNotFound";
/// Reason of [`CONDITION_INPLACE_UPDATE`] and [`CONDITION_RUNTIME_INITIALIZED`]: the step is complete.
pub const REASON_SUCCEEDED: &str = "Succeeded";
/// Reason of [`CONDITION_INPLACE_UPDATE`] and [`CONDITION_RUNTIME_INITIALIZED`]: the step has failed.
pub const REASON_FAILED: &str = "Failed";
/// Reason of [`CONDITION_INPLACE_UPDATE`]: only a new pod would fit the template, and `spec.upgradePolicy` does not
/// allow a new pod.
pub const REASON_RECREATE_NOT_ALLOWED: &str = "RecreateNotAllowed";
/// Reason of [`CONDITION_INPLACE_UPDATE`]: the API server has refused to change the pod, and will be asked again.
pub const REASON_POD_UPDATE_FAILED: &str = "PodUpdateFailed";
/// Reason of [`CONDITION_SANDBOX_PAUSED`]: pausing was requested.
pub const REASON_SET_PAUSE: &str = "SetPause";
/// Reason of [`CONDITION_SANDBOX_PAUSED`]: the pod is being deleted.
pub const REASON_DELETE_POD: &str = "DeletePod";
/// Reason of [`CONDITION_SANDBOX_PAUSED`]: the pod is deleted, and pausing is complete.
pub const REASON_STOP_PAUSE_SUCCEED: &str = "StopPauseSucceed";
/// Reason of [`CONDITION_SANDBOX_PAUSED`]: `spec.pauseStrategy` asks for hibernation, and the sandbox is stopped
/// instead.
pub const REASON_HIBERNATE_NOT_SUPPORTED: &str = "HibernateNotSupported";
/// Reason of [`CONDITION_SANDBOX_RESUMED`]: a pod is being created.
pub const REASON_CREATE_POD: &str = "CreatePod";
/// Reason of [`CONDITION_SANDBOX_RESUMED`]: the pod is being resumed, or with status True, is resumed.
pub const REASON_RESUME_POD: &str = "ResumePod";
/// Reason of [`CONDITION_PROGRESSING`]: sandboxes die before they are ever available, so the set creates fewer of them.
pub const REASON_MEMBERS_KEEP_FAILING: &str = "MembersKeepFailing";
/// Reason of [`CONDITION_COMPLETED`] and [`CONDITION_TIMED_OUT`]: the time for claiming is over.
pub const REASON_TIMEOUT_REACHED: &str = "TimeoutReached";
/// Reason of [`CONDITION_COMPLETED`]: all sandboxes are claimed.
pub const REASON_ALL_REPLICAS_CLAIMED: &str = "AllReplicasClaimed";
