//! The parts that the specs of `Sandbox`, `SandboxSet` and `SandboxTemplate` have in common.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Symbol;
use crate::api::json_text::JsonText;

/// The templates of the volume claims of a sandbox. All objects with an equal text share one copy.
pub type VolumeClaimTemplates = JsonText<Vec<PersistentVolumeClaim>>;

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
