//! Tests that our definitions accept and keep the objects of OpenKruise Agents, and that our types read all of them.
//!
//! `tests/data/upstream-objects.jsonl` has what its current version leaves on a cluster. `tests/data/public-samples.yaml`
//! has objects in the shapes of its samples.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{ListParams, Patch, PatchParams, PostParams, ValidationDirective};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource, ResourceExt as _};
use sandbox_manager::api::v1alpha1::{
    CONDITION_RUNTIME_INITIALIZED, CONDITION_SANDBOX_PAUSED, Checkpoint, REASON_STOP_PAUSE_SUCCEED, Sandbox,
    SandboxClaim, SandboxClaimPhase, SandboxPhase, SandboxSet, SandboxTemplate,
};
use sandbox_manager::shared_cache::{CachedResource, SharedCache, Watch};
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use serde_json::Value;

use crate::support::{SOON, prepared};

/// Metadata that an API server writes, so that a new object cannot have it.
const SYSTEM_FIELDS: [&str; 4] = ["creationTimestamp", "generation", "resourceVersion", "uid"];

/// The objects of a file of each kind.
struct Objects(Vec<Value>);

impl Objects {
    fn upstream() -> Self {
        let lines = include_str!("../data/upstream-objects.jsonl").lines();
        let objects = lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["object"].take());
        let ours = objects.filter(|object| object["apiVersion"] == "agents.kruise.io/v1alpha1");
        Self(ours.collect())
    }

    fn samples() -> Self {
        let documents = serde_yaml::Deserializer::from_str(include_str!("../data/public-samples.yaml"));
        Self(documents.map(|document| Value::deserialize(document).unwrap()).collect())
    }

    fn of<K: Resource<DynamicType = ()>>(&self) -> Vec<Value> {
        let of_kind = self.0.iter().filter(|object| object["kind"] == K::kind(&()).as_ref());
        let objects: Vec<_> = of_kind.cloned().collect();
        assert!(!objects.is_empty(), "no {}", K::kind(&()));
        objects
    }
}

/// Asserts that everything in `sent` is in `kept`. The API server may have added defaults, and drops a null.
#[track_caller]
fn assert_kept(path: &str, sent: &Value, kept: &Value) {
    match (sent, kept) {
        (Value::Object(sent), Value::Object(_)) => {
            for (name, value) in sent.iter().filter(|(_, value)| !value.is_null()) {
                assert_kept(&format!("{path}.{name}"), value, &kept[name]);
            }
        }
        (Value::Array(sent), Value::Array(kept)) if sent.len() == kept.len() => {
            for (at, (sent, kept)) in sent.iter().zip(kept).enumerate() {
                assert_kept(&format!("{path}[{at}]"), sent, kept);
            }
        }
        _ => assert_eq!(kept, sent, "{path}"),
    }
}

/// Creates the objects, reads them with the cache, and writes back what was read. Nothing may get lost on the way.
async fn assert_all_kept<K>(client: &Client, namespace: &str, objects: Vec<Value>) -> Vec<K>
where
    K: CachedResource + Resource<Scope = NamespaceResourceScope>,
    K: Serialize + DeserializeOwned + Clone + Debug,
{
    let untyped: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()));
    let strictly = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply("integration-tests")
    };
    for mut object in objects.clone() {
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.retain(|field, _| !SYSTEM_FIELDS.contains(&field.as_str()) && field != "namespace");
        let name = metadata["name"].as_str().unwrap().to_owned();
        let status = object.as_object_mut().unwrap().remove("status");
        untyped.patch(&name, &strictly, &Patch::Apply(&object)).await.unwrap();
        if let Some(status) = status {
            let patch = Patch::Merge(serde_json::json!({ "status": status }));
            untyped.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
            object["status"] = status;
        }
        let kept = serde_json::to_value(untyped.get(&name).await.unwrap()).unwrap();
        assert_kept(&name, &object, &kept);
    }

    let watch = || Watch::namespaced(namespace);
    let cache = SharedCache::builder(client.clone()).cached_kind::<K>(watch()).sync_timeout(2 * SOON);
    let cache = cache.build().unwrap();
    cache.start().await.unwrap();
    let read = cache.reader::<K>().list(None).unwrap();
    cache.stop().await;
    assert_eq!(read.len(), objects.len());
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    for object in &read {
        let name = object.name_any();
        assert!(object.unread_fields().is_empty(), "{name}: {:?}", object.unread_fields());
        let before = serde_json::to_value(untyped.get(&name).await.unwrap()).unwrap();
        api.replace(&name, &PostParams::default(), object).await.unwrap();
        let after = serde_json::to_value(untyped.get(&name).await.unwrap()).unwrap();
        for part in ["spec", "status"] {
            assert_eq!(after.get(part), before.get(part), "{name}: {part} was changed by writing it back");
        }
    }
    read.into_iter().map(|object| (*object).clone()).collect()
}

#[tokio::test]
async fn ls7_the_objects_of_the_current_upstream_are_kept_and_read() {
    let (_, client, namespace) = prepared("upstream").await;
    let objects = Objects::upstream();
    let sandboxes = assert_all_kept::<Sandbox>(&client, &namespace, objects.of::<Sandbox>()).await;
    let paused = sandboxes.iter().find(|sandbox| sandbox.phase() == Some(&SandboxPhase::Paused)).unwrap();
    let condition = paused.condition(CONDITION_SANDBOX_PAUSED).unwrap();
    assert!(condition.is_true() && condition.reason == REASON_STOP_PAUSE_SUCCEED);
    assert!(sandboxes.iter().any(|sandbox| sandbox.condition_is_true(CONDITION_RUNTIME_INITIALIZED)));
    for sandbox in &sandboxes {
        sandbox.spec.template.as_ref().unwrap().decode().unwrap();
    }
    let sets = assert_all_kept::<SandboxSet>(&client, &namespace, objects.of::<SandboxSet>()).await;
    assert_eq!(
        sets[0].status.as_ref().unwrap().current_revision.as_deref(),
        Some("code-interpreter-5844467cf5")
    );
    let claims = assert_all_kept::<SandboxClaim>(&client, &namespace, objects.of::<SandboxClaim>()).await;
    assert_eq!(claims[0].phase(), Some(&SandboxClaimPhase::Completed));
}

#[tokio::test]
async fn z1_the_public_samples_are_kept_and_read() {
    let (_, client, namespace) = prepared("samples").await;
    let objects = Objects::samples();
    for sandbox in assert_all_kept::<Sandbox>(&client, &namespace, objects.of::<Sandbox>()).await {
        sandbox.spec.template.unwrap().decode().unwrap();
    }
    for set in assert_all_kept::<SandboxSet>(&client, &namespace, objects.of::<SandboxSet>()).await {
        if let Some(template) = set.spec.template {
            let spec = template.decode().unwrap().spec.unwrap();
            let limits = spec.containers[0].resources.as_ref().unwrap().limits.as_ref().unwrap();
            assert_eq!(limits["cpu"].0, "1", "a quantity may be a number");
        }
    }
    assert_all_kept::<SandboxTemplate>(&client, &namespace, objects.of::<SandboxTemplate>()).await;
    assert_all_kept::<Checkpoint>(&client, &namespace, objects.of::<Checkpoint>()).await;
    let claims = assert_all_kept::<SandboxClaim>(&client, &namespace, objects.of::<SandboxClaim>()).await;
    let changed = claims.iter().find(|claim| claim.name_any() == "with-changes").unwrap();
    let resources = changed.spec.inplace_update.as_ref().unwrap().resources.as_ref().unwrap();
    assert_eq!(resources.requests.as_ref().unwrap().decode()["memory"].0, "4294967296");
}

#[tokio::test]
async fn our_own_samples_are_accepted_strictly() {
    let (_, client, namespace) = prepared("own-samples").await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples");
    let mut kinds = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let sample: Value = serde_yaml::from_str(&text).unwrap();
        kinds.insert(sample["kind"].as_str().unwrap().to_owned());
        let objects = Objects(vec![sample]);
        match objects.0[0]["kind"].as_str().unwrap() {
            "Sandbox" => drop(assert_all_kept::<Sandbox>(&client, &namespace, objects.0).await),
            "SandboxSet" => drop(assert_all_kept::<SandboxSet>(&client, &namespace, objects.0).await),
            "SandboxTemplate" => {
                drop(assert_all_kept::<SandboxTemplate>(&client, &namespace, objects.0).await);
            }
            "SandboxClaim" => drop(assert_all_kept::<SandboxClaim>(&client, &namespace, objects.0).await),
            "Checkpoint" => drop(assert_all_kept::<Checkpoint>(&client, &namespace, objects.0).await),
            other => panic!("a sample of the kind {other}"),
        }
    }
    let api: Api<Sandbox> = Api::namespaced(client, &namespace);
    assert_eq!((api.list(&ListParams::default()).await.unwrap().items.len(), kinds.len()), (1, 5));
}
