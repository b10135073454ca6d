//! [`Checkpoint`]: the saved content of a sandbox, from which others can be made.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Time, annotation};
use crate::api::schema::{Column, Shape};
use crate::api::{lists, metadata, schema};

/// The saved content of a sandbox, from which others can be made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Checkpoint {
    /// Standard metadata, without managedFields.
    #[serde(default, deserialize_with = "metadata::deserialize")]
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: CheckpointSpec,
    /// What was observed last.
    pub status: Option<CheckpointStatus>,
}

kind!(Checkpoint, CheckpointSpec, "checkpoints", status);

/// What is to be saved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSpec {
    /// Whether the sandbox keeps running once it is saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_running: Option<bool>,
    /// What is saved, such as memory or filesystem.
    #[serde(default, deserialize_with = "lists::exact", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub persistent_contents: Option<Vec<String>>,
    /// Name of the pod to be saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// Name of the sandbox to be saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox_name: Option<String>,
    /// How long the checkpoint is kept once it has ended, as a duration such as 30m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_after_finished: Option<String>,
}

open_enum! {
    /// Where a checkpoint is in its life. Later versions may add values.
    pub enum CheckpointPhase {
        /// Accepted, not begun.
        Pending,
        /// Being saved.
        Creating,
        /// Saved.
        Succeeded,
        /// Could not be saved.
        Failed,
        /// Being removed.
        Terminating,
    }
}

/// What was observed of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// The id under which the content can be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_id: Option<String>,
    /// When the checkpoint ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Details for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The generation that this status was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the checkpoint is in its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<CheckpointPhase>,
}

impl Checkpoint {
    /// The id under which the content can be restored, if there is one and it is not empty (B4).
    #[must_use]
    pub fn checkpoint_id(&self) -> Option<&str> {
        self.status.as_ref()?.checkpoint_id.as_deref().filter(|id| !id.is_empty())
    }

    /// The phase; none before the first status, for which an empty phase stands too.
    #[must_use]
    pub fn phase(&self) -> Option<&CheckpointPhase> {
        self.status.as_ref()?.phase.as_ref().filter(|phase| !phase.as_str().is_empty())
    }
}

pub(super) const SHAPE: Shape = Shape {
    kind: "Checkpoint",
    plural: "checkpoints",
    singular: "checkpoint",
    short_name: "cp",
    description: "The saved content of a sandbox, from which others can be made.",
    columns: &[
        Column { name: "Status", kind: "string", path: ".status.phase" },
        Column { name: "Age", kind: "date", path: ".metadata.creationTimestamp" },
    ],
    scale: false,
    spec: schema::of::<CheckpointSpec>,
    status: Some(schema::of::<CheckpointStatus>),
};
