//! [`Checkpoint`]: the saved content of a sandbox, from which new sandboxes can be created.
//!
//! Rule numbers refer to docs/behaviours.md.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{JsonText, Time, UnreadFields, annotation};
use crate::api::schema::{Column, Shape};
use crate::api::{lists, metadata, schema};

/// The saved content of a sandbox, from which new sandboxes can be created.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Checkpoint {
    /// Standard metadata, without `managedFields`.
    #[serde(default, deserialize_with = "metadata::deserialize")]
    pub metadata: ObjectMeta,
    /// The desired state.
    #[serde(default)]
    pub spec: CheckpointSpec,
    /// The last observed state.
    pub status: Option<CheckpointStatus>,
    /// The fields that could not be read. Not a part of the object on the API server.
    #[serde(skip)]
    pub unread: UnreadFields,
}

kind!(Checkpoint, CheckpointSpec, "checkpoints", status);

/// The desired state of a checkpoint: the sandbox and the contents to save.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSpec {
    /// True keeps the sandbox running after it was saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_running: Option<bool>,
    /// Contents that are saved, such as memory or filesystem.
    #[serde(default, deserialize_with = "lists::exact", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub persistent_contents: Option<Vec<String>>,
    /// Name of the pod that is saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// Name of the sandbox that is saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox_name: Option<String>,
    /// Time after the end until the checkpoint is removed, such as 30m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_after_finished: Option<String>,
}

open_enum! {
    /// The phase of a checkpoint. Later versions may add values.
    pub enum CheckpointPhase {
        /// The checkpoint is accepted, and saving has not begun.
        Pending,
        /// The content is being saved.
        Creating,
        /// The content is saved.
        Succeeded,
        /// Saving the content has failed.
        Failed,
        /// The checkpoint is being removed.
        Terminating,
    }
}

/// The observed state of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// The id with which the content can be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_id: Option<String>,
    /// The time at which the checkpoint ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Details for human readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The generation of the object that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The phase of the checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<CheckpointPhase>,
    /// The changes with which the template of the pod becomes the template of the saved pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_json")]
    pub pod_template_delta: Option<JsonText<Value>>,
}

impl Checkpoint {
    /// Returns the id with which the content can be restored, if not empty (B4).
    #[must_use]
    pub fn checkpoint_id(&self) -> Option<&str> {
        self.status.as_ref()?.checkpoint_id.as_deref().filter(|id| !id.is_empty())
    }

    /// Returns the phase, or none if the phase is absent or empty.
    #[must_use]
    pub fn phase(&self) -> Option<&CheckpointPhase> {
        self.status.as_ref()?.phase.as_ref().filter(|phase| !phase.as_str().is_empty())
    }

    /// Returns true if the agent of a node has begun to save the content. No content exists before.
    #[must_use]
    pub fn has_started(&self) -> bool {
        !matches!(self.phase(), None | Some(CheckpointPhase::Pending)) || self.checkpoint_id().is_some()
    }
}

pub(super) const SHAPE: Shape = Shape {
    kind: "Checkpoint",
    plural: "checkpoints",
    singular: "checkpoint",
    short_name: "cp",
    description: "The saved content of a sandbox, from which new sandboxes can be created.",
    columns: &[
        Column { name: "Status", kind: "string", path: ".status.phase" },
        Column { name: "Age", kind: "date", path: ".metadata.creationTimestamp" },
    ],
    scale: false,
    spec: schema::of::<CheckpointSpec>,
    status: Some(schema::of::<CheckpointStatus>),
};
