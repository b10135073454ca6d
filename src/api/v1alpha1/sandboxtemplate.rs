//! [`SandboxTemplate`]: a template of sandboxes that sandboxes and sets refer to by name.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::template::{PauseStrategy, RuntimeConfig, VolumeClaimTemplates};
use super::{PodTemplate, UnreadFields, annotation};
use crate::api::schema::Shape;
use crate::api::{lists, metadata, schema};

/// A template of sandboxes that sandboxes and sets refer to by name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct SandboxTemplate {
    /// Standard metadata, without `managedFields`.
    #[serde(default, deserialize_with = "metadata::deserialize")]
    pub metadata: ObjectMeta,
    /// The content of the template.
    #[serde(default)]
    pub spec: SandboxTemplateSpec,
    /// The fields that could not be read. Not a part of the object on the API server.
    #[serde(skip)]
    pub unread: UnreadFields,
}

kind!(SandboxTemplate, SandboxTemplateSpec, "sandboxtemplates");

/// The content of a template of sandboxes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxTemplateSpec {
    /// How each sandbox is paused. Default: its pod is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_strategy: Option<PauseStrategy>,
    /// Contents that are kept while a sandbox is paused, such as memory, filesystem or ip.
    #[serde(default, deserialize_with = "lists::exact", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub persistent_contents: Option<Vec<String>>,
    /// Runtimes that are added to each sandbox.
    #[serde(default, deserialize_with = "lists::exact", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub runtimes: Option<Vec<RuntimeConfig>>,
    /// Template of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplate>,
    /// Templates of the volume claims of each sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_json")]
    pub volume_claim_templates: Option<VolumeClaimTemplates>,
}

pub(super) const SHAPE: Shape = Shape {
    kind: "SandboxTemplate",
    plural: "sandboxtemplates",
    singular: "sandboxtemplate",
    short_name: "sbt",
    description: "A template of sandboxes that sandboxes and sets refer to by name.",
    columns: &[],
    scale: false,
    spec: schema::of::<SandboxTemplateSpec>,
    status: None,
};
