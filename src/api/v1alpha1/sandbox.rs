//! [`Sandbox`]: one isolated environment, backed by a pod.
//!
//! A cluster has far more sandboxes than objects of other kinds, so a test limits the size of this struct.
//! This file has the fields of the status, the printer columns (`SHAPE`), and the methods with which indexes and
//! lookups read single facts. `sandbox_spec.rs` has the fields of the spec. `state.rs` derives the state of a sandbox from all of its fields.
//!
//! Rule numbers refer to docs/behaviours.md.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sandbox_spec::{SandboxSpec, SpecFields};
use super::{Condition, Generation, Ip, JsonText, Symbol, Uid, UnreadFields, annotation, conditions, label};
use crate::api::schema::{Column, Shape};
use crate::api::{lists, metadata, schema};

/// One isolated environment for an agent, backed by a pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Sandbox {
    /// Standard metadata, without `managedFields`.
    #[serde(default, deserialize_with = "metadata::deserialize")]
    pub metadata: ObjectMeta,
    /// The desired state.
    #[serde(default)]
    pub spec: SandboxSpec,
    /// The last observed state.
    pub status: Option<SandboxStatus>,
    /// The fields that could not be read. Not a part of the object on the API server.
    #[serde(skip)]
    pub unread: UnreadFields,
}

kind!(Sandbox, SandboxSpec, "sandboxes", status);

open_enum! {
    /// The phase of a sandbox. Later versions may add values.
    pub enum SandboxPhase {
        /// The sandbox is accepted, and its pod does not run yet.
        Pending,
        /// The pod of the sandbox runs.
        Running,
        /// The sandbox is being paused or is paused. The condition `SandboxPaused` says which.
        Paused,
        /// The sandbox is being resumed.
        Resuming,
        /// The sandbox is being upgraded.
        Upgrading,
        /// The sandbox is being cleaned up for its next use.
        Recycling,
        /// The sandbox has ended without an error.
        Succeeded,
        /// The sandbox has ended with an error.
        Failed,
        /// The sandbox is being removed.
        Terminating,
    }
}

/// The observed state of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxStatus {
    /// Conditions, at most one per type.
    #[serde(default, deserialize_with = "lists::exact", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Option<Vec<Condition>>,
    /// Details for human readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Symbol>,
    /// The node that the sandbox runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<Symbol>,
    /// The generation of the object that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<Generation>,
    /// The phase of the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<SandboxPhase>,
    /// The pod of the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_info: Option<PodInfo>,
    /// How many times the sandbox was cleaned up for its next use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recycled_count: Option<i32>,
    /// The IP address of the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox_ip: Option<Ip>,
    /// The revision of the template of the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_revision: Option<Symbol>,
}

/// Facts about the pod of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodInfo {
    /// Annotations of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "granular"))]
    pub annotations: Option<JsonText<BTreeMap<String, String>>>,
    /// Labels of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "granular"))]
    pub labels: Option<JsonText<BTreeMap<String, String>>>,
    /// The node that the pod runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<Symbol>,
    /// The IP address of the pod.
    #[serde(rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<Ip>,
    /// The UID of the pod.
    #[serde(rename = "podUID", skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<Uid>,
}

impl Sandbox {
    /// Returns the phase, or none if the phase is absent or empty.
    #[must_use]
    pub fn phase(&self) -> Option<&SandboxPhase> {
        self.status.as_ref()?.phase.as_ref().filter(|phase| !phase.as_str().is_empty())
    }

    /// Returns all conditions, or an empty slice if the object has no status.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        self.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
    }

    /// Returns the condition of type `type_` (`CONDITION_…`), if the object has one.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        conditions::find(self.conditions(), type_)
    }

    /// Returns true if the status of the condition of type `type_` is exactly `True`.
    #[must_use]
    pub fn condition_is_true(&self, type_: &str) -> bool {
        self.condition(type_).is_some_and(Condition::is_true)
    }

    /// Returns true if the sandbox is ready for use (J6).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.condition_is_true(super::CONDITION_READY)
    }

    /// Returns the IP address of the pod, unless it is absent or empty.
    #[must_use]
    pub fn pod_ip(&self) -> Option<&Ip> {
        self.status.as_ref()?.pod_info.as_ref()?.pod_ip.as_ref().filter(|ip| !ip.is_empty())
    }

    /// Returns true if a user has claimed the sandbox (B3).
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        label(&self.metadata, super::LABEL_SANDBOX_CLAIMED) == Some(super::LABEL_TRUE)
    }

    /// Returns true if the sandbox is only kept for inspection after a failed claim (A8).
    #[must_use]
    pub fn is_reserved_failed(&self) -> bool {
        label(&self.metadata, super::LABEL_RESERVED_FAILED_SANDBOX) == Some(super::LABEL_TRUE)
    }

    /// Keeps the sandbox for inspection only, after a failed claim (A8).
    pub(crate) fn reserve_failed(&mut self) {
        let labels = self.metadata.labels.get_or_insert_default();
        labels.insert(super::LABEL_RESERVED_FAILED_SANDBOX.to_owned(), super::LABEL_TRUE.to_owned());
    }

    /// Returns the id by which users name the sandbox: its label, else `<namespace>--<name>` (B3).
    ///
    /// Unclaimed sandboxes have an id too. Two sandboxes may have the same id.
    #[must_use]
    pub fn sandbox_id(&self) -> Cow<'_, str> {
        match label(&self.metadata, super::LABEL_SANDBOX_ID) {
            Some(id) => id.into(),
            None => format!("{}--{}", self.namespace_or_empty(), self.name_or_empty()).into(),
        }
    }

    /// Returns the pool of the sandbox: the name of its template, else the name of its set (B1).
    ///
    /// The [`state`](Self::state) decides whether the sandbox is a free member of that pool.
    #[must_use]
    pub fn pool(&self) -> Option<&str> {
        label(&self.metadata, super::LABEL_SANDBOX_TEMPLATE)
            .or_else(|| label(&self.metadata, super::LABEL_SANDBOX_POOL))
    }

    /// Returns the reference to the SandboxSet that controls the sandbox (J3). A claimed sandbox has none.
    #[must_use]
    pub fn controller_sandbox_set(&self) -> Option<&OwnerReference> {
        let owners = self.metadata.owner_references.as_deref()?;
        owners.iter().find(|owner| {
            owner.controller == Some(true)
                && owner.kind == "SandboxSet"
                && owner.api_version == super::API_VERSION
        })
    }

    /// Returns the name of the SandboxSet that controls the sandbox (J3). A claimed sandbox has none.
    #[must_use]
    pub fn controller_sandbox_set_name(&self) -> Option<&str> {
        Some(&self.controller_sandbox_set()?.name)
    }

    /// Returns true if a SandboxSet controls the sandbox (J3).
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
    description: "One isolated environment for an agent, backed by a pod.",
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
        Column { name: "RecycledCount", kind: "integer", path: ".status.recycledCount" },
        Column { name: "Message", kind: "string", path: ".status.message" },
    ],
    scale: false,
    spec: schema::of::<SpecFields>,
    status: Some(schema::of::<SandboxStatus>),
};
