//! [`SandboxSet`]: a pool of ready sandboxes that users can claim.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::template::{PauseStrategy, RuntimeConfig, TemplateRef, VolumeClaimTemplates};
use super::{Condition, PodTemplate, UnreadFields, annotation, conditions};
use crate::api::schema::{Column, Shape};
use crate::api::{lists, metadata, schema};

/// A pool of ready sandboxes that are created from one template.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct SandboxSet {
    /// Standard metadata, without `managedFields`.
    #[serde(default, deserialize_with = "metadata::deserialize")]
    pub metadata: ObjectMeta,
    /// The desired state.
    #[serde(default)]
    pub spec: SandboxSetSpec,
    /// The last observed state.
    pub status: Option<SandboxSetStatus>,
    /// The fields that could not be read. Not a part of the object on the API server.
    #[serde(skip)]
    pub unread: UnreadFields,
}

kind!(SandboxSet, SandboxSetSpec, "sandboxsets", status);

/// The desired state of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxSetSpec {
    /// How each sandbox is paused. Default: its pod is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_strategy: Option<PauseStrategy>,
    /// Contents that are kept while a sandbox is paused, such as memory, filesystem or ip.
    #[serde(default, deserialize_with = "lists::exact", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub persistent_contents: Option<Vec<String>>,
    // None only if the number could not be read.
    /// The desired number of unclaimed sandboxes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub replicas: Option<i32>,
    /// Runtimes that are added to each sandbox.
    #[serde(default, deserialize_with = "lists::exact", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub runtimes: Option<Vec<RuntimeConfig>>,
    /// How the pool grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_strategy: Option<ScaleStrategy>,
    /// Template of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplate>,
    /// Reference to a template, used if the field template is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<TemplateRef>,
    /// How unclaimed sandboxes are replaced after a change of the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<UpdateStrategy>,
    /// Templates of the volume claims of each sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_json")]
    pub volume_claim_templates: Option<VolumeClaimTemplates>,
}

/// How a pool grows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleStrategy {
    /// Maximum of unavailable sandboxes while the pool grows: a number, or a percentage of the replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int_or_string")]
    pub max_unavailable: Option<IntOrString>,
}

/// How unclaimed sandboxes are replaced after a change of the template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// Maximum of unavailable sandboxes during an update: a number, or a percentage of the replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int_or_string")]
    pub max_unavailable: Option<IntOrString>,
}

/// The observed state of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxSetStatus {
    /// Number of unclaimed sandboxes that are ready for use.
    #[serde(default)]
    #[schemars(!default)]
    pub available_replicas: i32,
    /// Conditions, at most one per type.
    #[serde(default, deserialize_with = "lists::exact", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Option<Vec<Condition>>,
    /// The name of the current revision of the template. Versions of OpenKruise Agents after v0.3.0 write this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<String>,
    /// The generation of the object that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Number of unclaimed sandboxes, ready or not.
    #[serde(default)]
    #[schemars(!default)]
    pub replicas: i32,
    /// Label selector of the sandboxes of the pool, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The revision of the current template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_revision: Option<String>,
    /// Number of unclaimed sandboxes of the current revision that are ready for use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_available_replicas: Option<i32>,
    /// Number of unclaimed sandboxes of the current revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_replicas: Option<i32>,
}

impl SandboxSet {
    /// Returns the condition of type `type_`, if the object has one.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        conditions::find(self.status.as_ref()?.conditions.as_deref()?, type_)
    }
}

pub(super) const SHAPE: Shape = Shape {
    kind: "SandboxSet",
    plural: "sandboxsets",
    singular: "sandboxset",
    short_name: "sbs",
    description: "A pool of ready sandboxes that are created from one template.",
    columns: &[
        Column { name: "Replicas", kind: "integer", path: ".status.replicas" },
        Column { name: "Available", kind: "integer", path: ".status.availableReplicas" },
        Column { name: "UpdatedReplicas", kind: "integer", path: ".status.updatedReplicas" },
        Column {
            name: "UpdatedAvailableReplicas",
            kind: "integer",
            path: ".status.updatedAvailableReplicas",
        },
        Column { name: "UpdateRevision", kind: "string", path: ".status.updateRevision" },
        Column { name: "Age", kind: "date", path: ".metadata.creationTimestamp" },
    ],
    scale: true,
    spec: schema::of::<SandboxSetSpec>,
    status: Some(schema::of::<SandboxSetStatus>),
};
