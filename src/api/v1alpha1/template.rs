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

open_enum! {
    /// How a sandbox is paused. Later versions may add values.
    pub enum PauseStrategyType {
        /// The pod is deleted. Only volumes keep their content.
        Stop,
        /// The content of the sandbox is saved before the pod is deleted.
        Hibernate,
    }
}

/// How a sandbox is paused when spec.paused becomes true.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PauseStrategy {
    /// Where the content is saved, if the type is Hibernate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hibernate_strategy: Option<HibernateStrategy>,
    /// Stop deletes the pod. Hibernate saves the content of the sandbox first, which needs an agent on the node.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Stop", "Hibernate"]))]
    pub type_: Option<PauseStrategyType>,
}

/// Where the content of a hibernating sandbox is saved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HibernateStrategy {
    /// Name of the place, such as Snapshot.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
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
