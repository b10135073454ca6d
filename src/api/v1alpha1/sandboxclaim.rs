//! [`SandboxClaim`]: the wish of a user for sandboxes of a pool, as an object of the API.
//!
//! The API server fills in the defaults and checks the rules of the schema. A claim that it stored before the
//! definition had them may lack a default, so every field can be absent here.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::template::RuntimeConfig;
use super::{Condition, GoDuration, JsonText, Time, UnreadFields, annotation, conditions};
use crate::api::schema::{Column, Shape};
use crate::api::{lists, metadata, schema};

/// The wish of a user for sandboxes of a pool.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct SandboxClaim {
    /// Standard metadata, without `managedFields`.
    #[serde(default, deserialize_with = "metadata::deserialize")]
    pub metadata: ObjectMeta,
    /// The desired state.
    #[serde(default)]
    pub spec: SandboxClaimSpec,
    /// The last observed state.
    pub status: Option<SandboxClaimStatus>,
    /// The fields that could not be read. Not a part of the object on the API server.
    #[serde(skip)]
    pub unread: UnreadFields,
}

kind!(SandboxClaim, SandboxClaimSpec, "sandboxclaims", status);

/// The desired state of a claim: how many sandboxes of which pool, and what is changed in them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxClaimSpec {
    /// Annotations that are added to the claimed sandboxes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "granular"))]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Time for claiming, such as 1m. The claim ends after this time, with all its sandboxes or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "1m", "x-kubernetes-validations" = [
        { "rule": "duration(self) >= duration('1s')", "message": "claimTimeout must be at least 1 second" }
    ]))]
    pub claim_timeout: Option<GoDuration>,
    /// True creates sandboxes if the pool has too few that are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = true))]
    pub create_on_no_stock: Option<bool>,
    /// Volumes that are mounted into the claimed sandboxes while they run.
    #[serde(default, deserialize_with = "lists::exact", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["mountPath"]))]
    pub dynamic_volumes_mount: Option<Vec<DynamicVolumeMount>>,
    /// Environment variables that are passed to the runtime in the claimed sandboxes. Everybody who may read the claim
    /// can read them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "granular"))]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Changes of the pods of the claimed sandboxes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inplace_update: Option<ClaimInplaceUpdate>,
    /// Labels that are added to the claimed sandboxes and to their pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "granular"))]
    pub labels: Option<BTreeMap<String, String>>,
    /// Number of sandboxes. It cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 1, "minimum" = 1, "x-kubernetes-validations" = [
        { "rule": "self == oldSelf", "message": "replicas is immutable" }
    ]))]
    pub replicas: Option<i32>,
    /// True keeps a sandbox whose claim has failed, for inspection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve_failed_sandbox: Option<bool>,
    /// Runtimes that are added to the claimed sandboxes.
    #[serde(default, deserialize_with = "lists::exact", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub runtimes: Option<Vec<RuntimeConfig>>,
    /// The time at which the claimed sandboxes are shut down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_time: Option<Time>,
    /// True leaves out the initialisation of the runtime in the claimed sandboxes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub skip_init_runtime: Option<bool>,
    // None only if the name could not be read.
    /// Name of the SandboxSet that the sandboxes are taken from, in the namespace of the claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub template_name: Option<String>,
    /// Time after the end until the claim is removed, such as 60m. Negative: the claim is kept. The claimed sandboxes
    /// are not removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "60m"))]
    pub ttl_after_completed: Option<GoDuration>,
    /// Time for a claimed sandbox to become ready, such as 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "30s", "x-kubernetes-validations" = [
        { "rule": "duration(self) >= duration('1s')", "message": "waitReadyTimeout must be at least 1 second" }
    ]))]
    pub wait_ready_timeout: Option<GoDuration>,
}

/// A volume that is mounted into a claimed sandbox while it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DynamicVolumeMount {
    /// Id of the mount, for the driver of the volume.
    #[serde(rename = "mountID", skip_serializing_if = "Option::is_none")]
    pub mount_id: Option<String>,
    /// Path in the sandbox.
    pub mount_path: String,
    /// Name of the PersistentVolume.
    pub pv_name: String,
    /// True mounts the volume without permission to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Path in the volume. Default: its root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
}

/// Changes of the pod of a claimed sandbox that need no new pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimInplaceUpdate {
    /// Image of the first container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Resources of the containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ClaimResources>,
}

/// Resources of the containers of a claimed sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimResources {
    /// Maximum of each resource, such as cpu or memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantities")]
    pub limits: Option<JsonText<BTreeMap<String, Quantity>>>,
    /// Minimum of each resource, such as cpu or memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantities")]
    pub requests: Option<JsonText<BTreeMap<String, Quantity>>>,
}

open_enum! {
    /// The phase of a claim. Later versions may add values.
    pub enum SandboxClaimPhase {
        /// Sandboxes are being claimed.
        Claiming,
        /// Claiming has ended, with all sandboxes or by a timeout.
        Completed,
    }
}

/// The observed state of a claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxClaimStatus {
    /// The time at which claiming began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim_start_time: Option<Time>,
    /// Number of claimed sandboxes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed_replicas: Option<i32>,
    /// The time at which claiming ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Conditions, at most one per type.
    #[serde(default, deserialize_with = "lists::exact", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Option<Vec<Condition>>,
    /// Details for human readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The generation of the object that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The phase of the claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<SandboxClaimPhase>,
}

impl SandboxClaim {
    /// Returns the phase, or none if the phase is absent or empty.
    #[must_use]
    pub fn phase(&self) -> Option<&SandboxClaimPhase> {
        self.status.as_ref()?.phase.as_ref().filter(|phase| !phase.as_str().is_empty())
    }

    /// Returns the condition of type `type_`, if the object has one.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        conditions::find(self.status.as_ref()?.conditions.as_deref()?, type_)
    }
}

pub(super) const SHAPE: Shape = Shape {
    kind: "SandboxClaim",
    plural: "sandboxclaims",
    singular: "sandboxclaim",
    short_name: "sbc",
    description: "The wish of a user for sandboxes of a pool.",
    columns: &[
        Column { name: "Phase", kind: "string", path: ".status.phase" },
        Column { name: "Template", kind: "string", path: ".spec.templateName" },
        Column { name: "Desired", kind: "integer", path: ".spec.replicas" },
        Column { name: "Claimed", kind: "integer", path: ".status.claimedReplicas" },
        Column { name: "Age", kind: "date", path: ".metadata.creationTimestamp" },
    ],
    scale: false,
    spec: schema::of::<SandboxClaimSpec>,
    status: Some(schema::of::<SandboxClaimStatus>),
};
