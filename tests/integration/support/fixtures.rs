//! Objects for tests, from the library's own fixtures, and ways to write them to a cluster.
//!
//! [`create`] writes an object as two parties would: its author the spec, a controller the status.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use sandbox_manager::api::v1alpha1::{Checkpoint, Sandbox, SandboxSet};
pub(crate) use sandbox_manager::testing::fixtures::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// A sandbox that nothing is known of yet.
pub(crate) fn sandbox(name: &str) -> Sandbox {
    Sandbox::test(name)
}

/// A set that is to keep this many sandboxes.
pub(crate) fn sandbox_set(name: &str, replicas: i32) -> SandboxSet {
    SandboxSet::test(name).replicas(replicas)
}

/// A checkpoint that has not begun.
pub(crate) fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::test(name)
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
