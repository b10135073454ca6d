//! [`Sandbox`]: one isolated environment, backed by a pod. By far the most numerous kind, so its size is
//! watched.
//!
//! Callers: every part of the crate. What a sandbox's fields add up to is in `state.rs`; here are the fields
//! and the single facts that indexes and lookups read off them.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::template::{PodTemplate, RuntimeConfig, TemplateRef, VolumeClaimTemplates};
use super::{Condition, StringMap, Symbol, Time, annotation, conditions, label};
use crate::api::schema::{Column, Shape};
use crate::api::{lists, metadata, schema};

/// One isolated environment for an agent, backed by a pod that may be paused, resumed and upgraded.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Sandbox {
    /// Standard metadata, without managedFields.
    #[serde(default, deserialize_with = "metadata::deserialize")]
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: SandboxSpec,
    /// What was observed last.
    pub status: Option<SandboxStatus>,
}

kind!(Sandbox, SandboxSpec, "sandboxes", status);

/// What a sandbox is wanted to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxSpec {
    /// Actions around an upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Box<SandboxLifecycle>>,
    /// When the sandbox is to be paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_time: Option<Time>,
    /// Whether the sandbox is to be paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// What is kept while the sandbox is paused, such as memory, filesystem or ip.
    #[serde(default, deserialize_with = "lists::exact", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub persistent_contents: Option<Vec<Symbol>>,
    /// Runtimes to be put into the sandbox.
    #[serde(default, deserialize_with = "lists::exact", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub runtimes: Option<Vec<RuntimeConfig>>,
    /// When the sandbox is to be shut down. From then on it counts as dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_time: Option<Time>,
    /// Template of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplate>,
    /// The template to be used when none is written in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<Box<TemplateRef>>,
    /// How changes of the template reach the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade_policy: Option<Box<UpgradePolicy>>,
    /// Templates of the volume claims that belong to the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_claim_templates: Option<VolumeClaimTemplates>,
}

/// Actions around an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxLifecycle {
    /// Done in the new pod after the upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_upgrade: Option<UpgradeAction>,
    /// Done in the old pod before the upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_upgrade: Option<UpgradeAction>,
}

/// One action before or after an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeAction {
    /// A command to be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// How long the action may take, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 60))]
    pub timeout_seconds: Option<i32>,
}

/// A command run in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecAction {
    /// Program and arguments; no shell is involved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub command: Option<Vec<String>>,
}

/// How changes of the template reach a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradePolicy {
    /// Name of the way.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
}

open_enum! {
    /// Where a sandbox is in its life. Later versions may add values.
    pub enum SandboxPhase {
        /// Accepted, its pod is not running yet.
        Pending,
        /// Its pod runs.
        Running,
        /// Pausing, or paused: the condition `SandboxPaused` tells which.
        Paused,
        /// On its way from paused to running.
        Resuming,
        /// Being upgraded.
        Upgrading,
        /// Ended as intended.
        Succeeded,
        /// Ended with an error.
        Failed,
        /// Being taken down.
        Terminating,
    }
}

/// What was observed of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxStatus {
    /// Observed aspects, at most one of a type.
    #[serde(default, deserialize_with = "lists::exact", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Option<Vec<Condition>>,
    /// Details for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Box<str>>,
    /// The node that the sandbox runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<Symbol>,
    /// The generation that this status was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the sandbox is in its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<SandboxPhase>,
    /// The pod of the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_info: Option<PodInfo>,
    /// The address of the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox_ip: Option<Box<str>>,
    /// The revision of the template that the sandbox is made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_revision: Option<Symbol>,
}

/// What is known of the pod of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodInfo {
    /// Annotations of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "granular"))]
    pub annotations: Option<StringMap>,
    /// Labels of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "granular"))]
    pub labels: Option<StringMap>,
    /// The node that the pod runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<Symbol>,
    /// The address of the pod.
    #[serde(rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<Box<str>>,
    /// The UID of the pod.
    #[serde(rename = "podUID", skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<Box<str>>,
}

impl Sandbox {
    /// The phase; none before the first status, for which an empty phase stands too.
    #[must_use]
    pub fn phase(&self) -> Option<&SandboxPhase> {
        self.status.as_ref()?.phase.as_ref().filter(|phase| !phase.as_str().is_empty())
    }

    /// All conditions; empty before the first status.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        self.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
    }

    /// The condition of type `type_` (`CONDITION_…`), if it is set.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        conditions::find(self.conditions(), type_)
    }

    /// Whether the condition of type `type_` is set and its status exactly `True`.
    #[must_use]
    pub fn condition_is_true(&self, type_: &str) -> bool {
        self.condition(type_).is_some_and(Condition::is_true)
    }

    /// Whether the sandbox is ready for use (J6).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.condition_is_true(super::CONDITION_READY)
    }

    /// Whether somebody has claimed the sandbox (B3).
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        label(&self.metadata, super::LABEL_SANDBOX_CLAIMED) == Some(super::LABEL_TRUE)
    }

    /// Whether the sandbox is only kept for inspection after a failed claim (A8).
    #[must_use]
    pub fn is_reserved_failed(&self) -> bool {
        label(&self.metadata, super::LABEL_RESERVED_FAILED_SANDBOX) == Some(super::LABEL_TRUE)
    }

    /// The id that users know the sandbox by: its label, else `<namespace>--<name>` (B3). Claimed or not, and
    /// not necessarily unique.
    #[must_use]
    pub fn sandbox_id(&self) -> Cow<'_, str> {
        match label(&self.metadata, super::LABEL_SANDBOX_ID) {
            Some(id) => id.into(),
            None => format!("{}--{}", self.namespace_or_empty(), self.name_or_empty()).into(),
        }
    }

    /// The pool that the sandbox would be a free member of: the name of its template, else of its set (B1).
    /// Whether it is one depends on its [`state`](Self::state).
    #[must_use]
    pub fn pool(&self) -> Option<&str> {
        label(&self.metadata, super::LABEL_SANDBOX_TEMPLATE)
            .or_else(|| label(&self.metadata, super::LABEL_SANDBOX_POOL))
    }

    /// The name of the SandboxSet that controls the sandbox, which is no longer set once it is claimed (J3).
    #[must_use]
    pub fn controller_sandbox_set_name(&self) -> Option<&str> {
        let owners = self.metadata.owner_references.as_deref()?;
        let set = owners.iter().find(|owner| {
            owner.controller == Some(true)
                && owner.kind == "SandboxSet"
                && owner.api_version == super::API_VERSION
        })?;
        Some(&set.name)
    }

    /// Whether a SandboxSet controls the sandbox (J3).
    #[must_use]
    pub fn is_controlled_by_sandbox_set(&self) -> bool {
        self.controller_sandbox_set_name().is_some()
    }
}

pub(super) const SHAPE: Shape = Shape {
    kind: "Sandbox",
    plural: "sandboxes",
    singular: "sandbox",
    short_name: "sbx",
    description: "One isolated environment for an agent, backed by a pod that may be paused, resumed and upgraded.",
    columns: &[
        Column { name: "Status", kind: "string", path: ".status.phase" },
        Column { name: "Age", kind: "date", path: ".metadata.creationTimestamp" },
        Column {
            name: "Claimed",
            kind: "string",
            path: r".metadata.labels.agents\.kruise\.io/sandbox-claimed",
        },
        Column { name: "shutdown_time", kind: "string", path: ".spec.shutdownTime" },
        Column { name: "pause_time", kind: "string", path: ".spec.pauseTime" },
        Column { name: "Message", kind: "string", path: ".status.message" },
    ],
    scale: false,
    spec: schema::of::<SandboxSpec>,
    status: Some(schema::of::<SandboxStatus>),
};
