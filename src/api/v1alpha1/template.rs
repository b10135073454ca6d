//! The parts that the specs of `Sandbox`, `SandboxSet` and `SandboxTemplate` have in common.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Symbol;
use crate::api::interned::{Internable, Interned, Table};

/// The template of a pod. All objects of the process with equal JSON share one copy.
///
/// Dereferences to `PodTemplateSpec`.
pub type PodTemplate = Interned<PodTemplateSpec>;

/// The templates of the volume claims of a sandbox. All objects with equal JSON share one copy.
///
/// Dereferences to `Vec<PersistentVolumeClaim>`.
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

/// A runtime that is added to a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeConfig {
    /// Name of the runtime.
    pub name: Symbol,
}

/// A reference to a template, used instead of a template in the object itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateRef {
    /// API version of the template. Default: the API version of the object itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Kind of the template. Default: SandboxTemplate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name of the template, in the namespace of the object.
    pub name: String,
}
