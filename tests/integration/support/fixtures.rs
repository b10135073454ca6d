//! Objects for tests, put together link by link: `sandbox("a").claimed_by("u").ready()`.
//!
//! What comes out is the object itself, so a test may change any field of it. [`create`] writes it as two parties
//! would: its author the spec, a controller the status.

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use sandbox_manager::api::v1alpha1::{
    ANNOTATION_OWNER, API_VERSION, Checkpoint, CheckpointPhase, CheckpointSpec, CheckpointStatus, Condition,
    ConditionStatus, LABEL_SANDBOX_CLAIMED, LABEL_SANDBOX_POOL, LABEL_TRUE, Sandbox, SandboxPhase,
    SandboxSet, SandboxSetSpec, SandboxSetStatus, SandboxSpec, Time,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// A sandbox that nothing is known of yet.
pub(crate) fn sandbox(name: &str) -> Sandbox {
    Sandbox::new(name, SandboxSpec::default())
}

/// A set that is to keep this many sandboxes.
pub(crate) fn sandbox_set(name: &str, replicas: i32) -> SandboxSet {
    let spec = SandboxSetSpec { replicas, ..SandboxSetSpec::default() };
    SandboxSet::new(name, spec)
}

/// A checkpoint that has not begun.
pub(crate) fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::new(name, CheckpointSpec::default())
}

/// What any object can be given.
pub(crate) trait MetadataFixture: Resource + Sized {
    fn label(mut self, key: &str, value: &str) -> Self {
        let labels = self.meta_mut().labels.get_or_insert_default();
        labels.insert(key.into(), value.into());
        self
    }

    fn annotation(mut self, key: &str, value: &str) -> Self {
        let annotations = self.meta_mut().annotations.get_or_insert_default();
        annotations.insert(key.into(), value.into());
        self
    }

    fn owned_by(self, user: &str) -> Self {
        self.annotation(ANNOTATION_OWNER, user)
    }
}

impl<K: Resource> MetadataFixture for K {}

/// What a sandbox can be given.
pub(crate) trait SandboxFixture: Sized {
    /// Made by a set, and not claimed yet.
    fn of_set(self, set: &str) -> Self;
    /// Claimed by a user: labelled, and no set's any more.
    fn claimed_by(self, user: &str) -> Self;
    fn in_phase(self, phase: SandboxPhase) -> Self;
    /// Running, and its condition Ready says so.
    fn ready(self) -> Self;
    /// Dead from this instant on.
    fn shut_down_at(self, at: Timestamp) -> Self;
}

impl SandboxFixture for Sandbox {
    fn of_set(mut self, set: &str) -> Self {
        self.metadata.owner_references = Some(vec![OwnerReference {
            api_version: API_VERSION.into(),
            kind: "SandboxSet".into(),
            name: set.into(),
            uid: "00000000-0000-0000-0000-000000000000".into(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        self.label(LABEL_SANDBOX_POOL, set)
    }

    fn claimed_by(mut self, user: &str) -> Self {
        self.metadata.owner_references = None;
        self.label(LABEL_SANDBOX_CLAIMED, LABEL_TRUE).owned_by(user)
    }

    fn in_phase(mut self, phase: SandboxPhase) -> Self {
        self.status.get_or_insert_default().phase = Some(phase);
        self
    }

    fn ready(self) -> Self {
        let mut sandbox = self.in_phase(SandboxPhase::Running);
        let conditions = sandbox.status.get_or_insert_default().conditions.get_or_insert_default();
        conditions.push(Condition {
            type_: "Ready".into(),
            status: ConditionStatus::True,
            reason: "PodReady".into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time::from(Timestamp::UNIX_EPOCH),
        });
        sandbox
    }

    fn shut_down_at(mut self, at: Timestamp) -> Self {
        self.spec.shutdown_time = Some(Time::from(at));
        self
    }
}

/// What a set can be given.
pub(crate) trait SandboxSetFixture: Sized {
    /// How many sandboxes it has, and how many of them are available.
    fn having(self, replicas: i32, available: i32) -> Self;
}

impl SandboxSetFixture for SandboxSet {
    fn having(mut self, replicas: i32, available: i32) -> Self {
        let status =
            SandboxSetStatus { replicas, available_replicas: available, ..SandboxSetStatus::default() };
        self.status = Some(status);
        self
    }
}

/// What a checkpoint can be given.
pub(crate) trait CheckpointFixture: Sized {
    /// Saved under this id.
    fn saved_as(self, id: &str) -> Self;
}

impl CheckpointFixture for Checkpoint {
    fn saved_as(mut self, id: &str) -> Self {
        self.status = Some(CheckpointStatus {
            checkpoint_id: Some(id.into()),
            phase: Some(CheckpointPhase::Succeeded),
            ..CheckpointStatus::default()
        });
        self
    }
}

/// Creates an object and then, by the subresource, its status; returns it as it is then.
///
/// # Panics
///
/// When the API server refuses.
pub(crate) async fn create<K>(client: &Client, namespace: &str, object: &K) -> K
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let name = object.meta().name.clone().expect("a fixture has a name");
    let created = api.create(&PostParams::default(), object).await;
    let created = created.unwrap_or_else(|error| panic!("creating {namespace}/{name}: {error}"));
    match serde_json::to_value(object).expect("a fixture as JSON").get("status") {
        None => created,
        Some(status) => set_status(&api, &name, &json!(status)).await,
    }
}

/// Merges into the status of an object, by the subresource.
///
/// # Panics
///
/// When the API server refuses.
pub(crate) async fn set_status<K>(api: &Api<K>, name: &str, status: &serde_json::Value) -> K
where
    K: Clone + Debug + DeserializeOwned,
{
    let patch = Patch::Merge(json!({ "status": status }));
    let patched = api.patch_status(name, &PatchParams::default(), &patch).await;
    patched.unwrap_or_else(|error| panic!("writing the status of {name}: {error}"))
}

/// Merges into an object.
///
/// # Panics
///
/// When the API server refuses.
pub(crate) async fn merge<K>(api: &Api<K>, name: &str, change: serde_json::Value) -> K
where
    K: Clone + Debug + DeserializeOwned,
{
    let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
    patched.unwrap_or_else(|error| panic!("changing {name}: {error}"))
}
