//! The kinds of `tests/data/crds.yaml`: `Machine` and `MachineSet`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// The group and version of the kinds.
pub(crate) const API_VERSION: &str = "fleet.test/v1alpha1";

/// The definitions of the kinds.
pub(crate) fn definitions() -> Vec<CustomResourceDefinition> {
    let documents = serde_yaml::Deserializer::from_str(include_str!("../data/crds.yaml"));
    documents.map(|document| CustomResourceDefinition::deserialize(document).expect("a definition")).collect()
}

/// The desired state of a machine, with the fields that the tests read.
#[derive(CustomResource, Clone, Debug, Default, Serialize, Deserialize)]
#[kube(group = "fleet.test", version = "v1alpha1", kind = "Machine", namespaced, schema = "disabled")]
pub(crate) struct MachineSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) paused: Option<bool>,
}
