//! Conditions of a status: the type, and the names in use for types and reasons.
//!
//! The schema is that of the standard Kubernetes condition. We define our own type because dates keep their
//! written form ([`Time`]) and because a status that is none of the three standard ones must not make an
//! object undecodable.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Symbol, Time};

open_enum! {
    /// Whether a condition holds. Only exactly `True` counts as holding.
    pub enum ConditionStatus {
        /// It holds.
        True,
        /// It does not hold.
        False,
        /// Nobody can tell.
        Unknown,
    }
}

/// One observed aspect of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// When the status changed last.
    pub last_transition_time: Time,
    /// Details for people. May be empty.
    #[schemars(extend("maxLength" = 32768))]
    pub message: Box<str>,
    /// The generation of the object that this was set for. Older than that of the object: out of date.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0))]
    pub observed_generation: Option<i64>,
    /// Why it has this status, in one CamelCase word.
    #[schemars(extend(
        "minLength" = 1,
        "maxLength" = 1024,
        "pattern" = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
    ))]
    pub reason: Symbol,
    /// Whether it holds: True, False or Unknown.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: ConditionStatus,
    /// Which aspect this is, in CamelCase, possibly with a domain before it.
    #[serde(rename = "type")]
    #[schemars(extend(
        "maxLength" = 316,
        "pattern" = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
    ))]
    pub type_: Symbol,
}

impl Condition {
    /// Whether the status is exactly `True`.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }
}

/// The condition of type `type_`, of which a status has at most one.
pub(super) fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Sandbox: its pod is ready for use.
pub const CONDITION_READY: &str = "Ready";
/// Sandbox: pausing has been completed.
pub const CONDITION_SANDBOX_PAUSED: &str = "SandboxPaused";
/// Sandbox: resuming has been completed.
pub const CONDITION_SANDBOX_RESUMED: &str = "SandboxResumed";
/// Sandbox: progress of an update in place.
pub const CONDITION_INPLACE_UPDATE: &str = "InplaceUpdate";
/// Sandbox: progress of an upgrade.
pub const CONDITION_UPGRADING: &str = "Upgrading";
/// Sandbox: the runtime has been initialised again after resuming.
pub const CONDITION_POST_RESUME_INIT: &str = "PostResumeInit";

/// Of [`CONDITION_READY`]: follows the readiness of the pod.
pub const REASON_POD_READY: &str = "PodReady";
/// Of [`CONDITION_READY`] and [`CONDITION_INPLACE_UPDATE`]: an update in place is under way.
pub const REASON_INPLACE_UPDATING: &str = "InplaceUpdating";
/// Of [`CONDITION_READY`]: an upgrade is under way.
pub const REASON_UPGRADING: &str = "Upgrading";
/// Of [`CONDITION_READY`]: a container did not start; it will not become ready by waiting.
pub const REASON_START_CONTAINER_FAILED: &str = "StartContainerFailed";
/// Of [`CONDITION_INPLACE_UPDATE`]: done.
pub const REASON_SUCCEEDED: &str = "Succeeded";
/// Of [`CONDITION_INPLACE_UPDATE`]: given up.
pub const REASON_FAILED: &str = "Failed";
/// Of [`CONDITION_SANDBOX_PAUSED`]: pausing has been asked for.
pub const REASON_SET_PAUSE: &str = "SetPause";
/// Of [`CONDITION_SANDBOX_PAUSED`]: the pod is being deleted.
pub const REASON_DELETE_POD: &str = "DeletePod";
/// Of [`CONDITION_SANDBOX_RESUMED`]: a pod is being created.
pub const REASON_CREATE_POD: &str = "CreatePod";
/// Of [`CONDITION_SANDBOX_RESUMED`]: the pod is being resumed.
pub const REASON_RESUME_POD: &str = "ResumePod";
