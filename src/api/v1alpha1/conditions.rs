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

/// Reason of [`CONDITION_READY`]: the status is the readiness of the pod.
pub const REASON_POD_READY: &str = "PodReady";
/// Reason of [`CONDITION_READY`] and [`CONDITION_INPLACE_UPDATE`]: an in-place update is in progress.
pub const REASON_INPLACE_UPDATING: &str = "InplaceUpdating";
/// Reason of [`CONDITION_READY`]: an upgrade is in progress.
pub const REASON_UPGRADING: &str = "Upgrading";
/// Reason of [`CONDITION_READY`]: a container failed to start, and waiting will not make the sandbox ready.
pub const REASON_START_CONTAINER_FAILED: &str = "StartContainerFailed";
/// Reason of [`CONDITION_INPLACE_UPDATE`]: the update is complete.
pub const REASON_SUCCEEDED: &str = "Succeeded";
/// Reason of [`CONDITION_INPLACE_UPDATE`]: the update has failed.
pub const REASON_FAILED: &str = "Failed";
/// Reason of [`CONDITION_SANDBOX_PAUSED`]: pausing was requested.
pub const REASON_SET_PAUSE: &str = "SetPause";
/// Reason of [`CONDITION_SANDBOX_PAUSED`]: the pod is being deleted.
pub const REASON_DELETE_POD: &str = "DeletePod";
/// Reason of [`CONDITION_SANDBOX_RESUMED`]: a pod is being created.
pub const REASON_CREATE_POD: &str = "CreatePod";
/// Reason of [`CONDITION_SANDBOX_RESUMED`]: the pod is being resumed.
pub const REASON_RESUME_POD: &str = "ResumePod";
