//! What a sandbox is made from: the parts that the specs of Sandbox, SandboxSet and SandboxTemplate have in
//! common.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Symbol;
use crate::api::interned::{Internable, Interned, Table};

/// The template of the pod, shared by all objects of the process with the same JSON. Dereferences to
/// `PodTemplateSpec`.
pub type PodTemplate = Interned<PodTemplateSpec>;

/// Templates of the claims made for a sandbox, shared likewise. Dereferences to `Vec<PersistentVolumeClaim>`.
pub type VolumeClaimTemplates = Interned<Vec<PersistentVolumeClaim>>;

static POD_TEMPLATES: Table<PodTemplateSpec> = Table::new();
static VOLUME_CLAIM_TEMPLATES: Table<Vec<PersistentVolumeClaim>> = Table::new();

impl Internable for PodTemplateSpec {
    const NAME: &'static str = "PodTemplate";
    const FIELD: &'static str = "template";

    fn table() -> &'static Table<Self> {
        &POD_TEMPLATES
    }
}

impl Internable for Vec<PersistentVolumeClaim> {
    const NAME: &'static str = "VolumeClaimTemplates";
    const FIELD: &'static str = "volumeClaimTemplates";

    fn table() -> &'static Table<Self> {
        &VOLUME_CLAIM_TEMPLATES
    }
}

/// A runtime to be put into the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeConfig {
    /// Name of the runtime.
    pub name: Symbol,
}

/// Names the template to be used instead of one written in place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateRef {
    /// API version of the template. Absent: that of the object itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Kind of the template. Absent: SandboxTemplate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name of the template, in the namespace of the object.
    pub name: String,
}
