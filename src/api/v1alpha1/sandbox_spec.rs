//! [`SandboxSpec`]: the desired state of a sandbox.
//!
//! Few sandboxes set the fields of [`RareFields`]. One box holds all of them, so they take 8 bytes in all other
//! sandboxes. JSON knows no such group: [`SpecFields`] has the fields as JSON has them, and decoding goes through it.
//! The attribute `flatten` of serde could do the same, but it buffers the fields, and the error of a field that
//! cannot be read would no longer name the field (V9, docs/behaviours.md).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::template::{PauseStrategy, RuntimeConfig, TemplateRef, VolumeClaimTemplates};
use super::{JsonText, PodTemplate, Time};
use crate::api::schema;

/// The desired state of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", from = "SpecFields")]
pub struct SandboxSpec {
    /// The time at which the sandbox is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_time: Option<Time>,
    /// True pauses the sandbox, false resumes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Contents that are kept while the sandbox is paused, such as memory, filesystem or ip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_contents: Option<JsonText<Vec<String>>>,
    /// The fields that few sandboxes set. `None` is the same as [`RareFields::default`]. To set one of the fields:
    /// `spec.rare.get_or_insert_default().pause_strategy = Some(...)`.
    #[serde(flatten)]
    pub rare: Option<Box<RareFields>>,
    /// Runtimes that are added to the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtimes: Option<JsonText<Vec<RuntimeConfig>>>,
    /// The time at which the sandbox is shut down. After this time the sandbox counts as dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_time: Option<Time>,
    /// Template of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplate>,
    /// Reference to a template, used if the field template is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<Box<TemplateRef>>,
    /// Templates of the volume claims of the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_claim_templates: Option<VolumeClaimTemplates>,
}

/// The fields of a spec that few sandboxes set.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RareFields {
    /// Actions before and after an upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<SandboxLifecycle>,
    /// How the sandbox is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_strategy: Option<PauseStrategy>,
    /// How a change of the template is applied to the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade_policy: Option<UpgradePolicy>,
}

impl SandboxSpec {
    /// Returns the actions before and after an upgrade.
    #[must_use]
    pub fn lifecycle(&self) -> Option<&SandboxLifecycle> {
        self.rare.as_ref()?.lifecycle.as_ref()
    }

    /// Returns how the sandbox is paused.
    #[must_use]
    pub fn pause_strategy(&self) -> Option<&PauseStrategy> {
        self.rare.as_ref()?.pause_strategy.as_ref()
    }

    /// Returns how a change of the template is applied to the sandbox.
    #[must_use]
    pub fn upgrade_policy(&self) -> Option<&UpgradePolicy> {
        self.rare.as_ref()?.upgrade_policy.as_ref()
    }
}

/// The desired state of a sandbox.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpecFields {
    /// Actions before and after an upgrade.
    lifecycle: Option<SandboxLifecycle>,
    /// How the sandbox is paused when paused becomes true. Default: its pod is deleted.
    pause_strategy: Option<PauseStrategy>,
    /// The time at which the sandbox is paused.
    pause_time: Option<Time>,
    /// True pauses the sandbox, false resumes it.
    paused: Option<bool>,
    /// Contents that are kept while the sandbox is paused, such as memory, filesystem or ip.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    persistent_contents: Option<JsonText<Vec<String>>>,
    /// Runtimes that are added to the sandbox.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    runtimes: Option<JsonText<Vec<RuntimeConfig>>>,
    /// The time at which the sandbox is shut down. After this time the sandbox counts as dead.
    shutdown_time: Option<Time>,
    /// Template of the pod.
    template: Option<PodTemplate>,
    /// Reference to a template, used if the field template is absent.
    template_ref: Option<Box<TemplateRef>>,
    /// How a change of the template is applied to the sandbox.
    upgrade_policy: Option<UpgradePolicy>,
    /// Templates of the volume claims of the sandbox.
    #[serde(default)]
    #[schemars(schema_with = "schema::any_json")]
    volume_claim_templates: Option<VolumeClaimTemplates>,
}

impl From<SpecFields> for SandboxSpec {
    fn from(fields: SpecFields) -> Self {
        let SpecFields { lifecycle, pause_strategy, upgrade_policy, .. } = fields;
        let is_rare = lifecycle.is_some() || pause_strategy.is_some() || upgrade_policy.is_some();
        let rare = is_rare.then(|| Box::new(RareFields { lifecycle, pause_strategy, upgrade_policy }));
        Self {
            pause_time: fields.pause_time,
            paused: fields.paused,
            persistent_contents: fields.persistent_contents,
            rare,
            runtimes: fields.runtimes,
            shutdown_time: fields.shutdown_time,
            template: fields.template,
            template_ref: fields.template_ref,
            volume_claim_templates: fields.volume_claim_templates,
        }
    }
}

/// Actions before and after an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxLifecycle {
    /// Action in the new pod, after the upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_upgrade: Option<UpgradeAction>,
    /// Action in the old pod, before the upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_upgrade: Option<UpgradeAction>,
}

/// One action before or after an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeAction {
    /// The command that the action runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// Timeout of the action, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 60))]
    pub timeout_seconds: Option<i32>,
}

/// A command that runs in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecAction {
    /// The program and its arguments. No shell interprets them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub command: Option<Vec<String>>,
}

/// How a change of the template is applied to a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradePolicy {
    /// Recreate replaces the pod. CheckpointRestore also keeps its content. Absent or empty: no change of the template
    /// that needs a new pod is applied.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
}
