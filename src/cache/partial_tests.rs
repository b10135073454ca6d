//! Tests behaviour V9: no field that the cache only stores can hide its object.

use std::fmt::Debug;

use proptest::prelude::*;
use proptest::sample::Index;
use serde::Serialize;
use serde_json::{Value, json};
use shared_cache::CachedResource;

use crate::api::v1alpha1::{Checkpoint, Sandbox, SandboxSet, SandboxTemplate};

/// The fields without which the cache cannot store an object.
const IDENTITY: [&str; 4] =
    ["/metadata/name", "/metadata/namespace", "/metadata/uid", "/metadata/resourceVersion"];

fn metadata() -> Value {
    json!({
        "name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "7", "generation": 2,
        "creationTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3, "generateName": "a-",
        "labels": {"agents.kruise.io/sandbox-pool": "p", "app": "x"}, "annotations": {"agents.kruise.io/owner": "u"},
        "finalizers": ["f"],
        "ownerReferences": [{
            "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxSet", "name": "p", "uid": "s",
            "controller": true, "blockOwnerDeletion": true
        }]
    })
}

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 1}]}], "nodeSelector": {"n": "1"}}
    })
}

fn condition(type_: &str) -> Value {
    json!({
        "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "", "observedGeneration": 2, "reason": "PodReady",
        "status": "True", "type": type_
    })
}

fn sandbox() -> Value {
    json!({
        "metadata": metadata(),
        "spec": {
            "lifecycle": {"preUpgrade": {"exec": {"command": ["true"]}, "timeoutSeconds": 60}},
            "pauseTime": "2030-01-01T08:00:00+08:00", "paused": false, "persistentContents": ["memory"],
            "runtimes": [{"name": "r"}], "shutdownTime": "2030-01-01T00:00:00Z", "template": template(),
            "templateRef": {"kind": "SandboxTemplate", "name": "t"}, "upgradePolicy": {"type": "Recreate"},
            "volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": {"volumeName": "w"}}]
        },
        "status": {
            "conditions": [condition("Ready"), condition("InplaceUpdate")], "message": "m", "nodeName": "n",
            "observedGeneration": 2, "phase": "Running",
            "podInfo": {"annotations": {"x": "y"}, "labels": {"l": "m"}, "nodeName": "n", "podIP": "10.0.0.1",
                        "podUID": "p"},
            "sandboxIp": "10.0.0.1", "updateRevision": "r1"
        }
    })
}

fn sandbox_set() -> Value {
    json!({
        "metadata": metadata(),
        "spec": {
            "persistentContents": ["memory"], "replicas": 3, "runtimes": [{"name": "r"}],
            "scaleStrategy": {"maxUnavailable": "20%"}, "template": template(),
            "templateRef": {"name": "t"}, "updateStrategy": {"maxUnavailable": 3}
        },
        "status": {
            "availableReplicas": 1, "conditions": [condition("Ready")], "observedGeneration": 1, "replicas": 2,
            "selector": "a=b", "updateRevision": "r", "updatedAvailableReplicas": 1, "updatedReplicas": 1
        }
    })
}

fn sandbox_template() -> Value {
    json!({
        "metadata": metadata(),
        "spec": {"persistentContents": ["memory"], "runtimes": [{"name": "r"}], "template": template()}
    })
}

fn checkpoint() -> Value {
    json!({
        "metadata": metadata(),
        "spec": {
            "keepRunning": true, "persistentContents": ["memory"], "podName": "p", "sandboxName": "a",
            "ttlAfterFinished": "1h"
        },
        "status": {
            "checkpointId": "id", "completionTime": "2030-01-01T00:00:00Z", "message": "m", "observedGeneration": 1,
            "phase": "Creating"
        }
    })
}

/// Adds the pointers of all values in `value`, itself included.
fn pointers(prefix: &str, value: &Value, all: &mut Vec<String>) {
    all.push(prefix.to_owned());
    let mut child = |name: &str, value: &Value| {
        pointers(&format!("{prefix}/{}", name.replace('~', "~0").replace('/', "~1")), value, all);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| child(name, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| child(&index.to_string(), value));
        }
        _ => {}
    }
}

/// Any JSON value.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!(u64::MAX)),
        Just(json!(1e300)),
        "[a-z]{0,5}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,5}", inner, 0..3)
                .prop_map(|fields| fields.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

/// Replaces values of `original`, and asserts that the object is decoded, that every field of metadata, spec and
/// status without a replaced value is read as before, and that what is omitted is reported.
fn check<K>(original: &Value, mutations: &[(Index, Value)]) -> Result<(), TestCaseError>
where
    K: CachedResource + Serialize + Debug,
{
    let mut all = Vec::new();
    pointers("", original, &mut all);
    // The objects as a whole are no fields, and identity is another rule.
    let containers = ["", "/metadata"];
    all.retain(|pointer| !containers.contains(&pointer.as_str()) && !IDENTITY.contains(&pointer.as_str()));
    let mut object = original.clone();
    let mut touched = Vec::new();
    for (at, value) in mutations {
        let pointer = at.get(&all);
        // An earlier mutation may have removed the place.
        if let Some(place) = object.pointer_mut(pointer) {
            place.clone_from(value);
            touched.push(pointer.clone());
        }
    }
    let read = |object: &Value| {
        K::decode(&object.to_string()).map_err(|error| TestCaseError::fail(error.to_string()))
    };
    let (before, after) = (read(original)?, read(&object)?);
    prop_assert_eq!(before.unread_fields(), &[]);
    let (written, as_before) =
        (serde_json::to_value(&after).unwrap(), serde_json::to_value(&before).unwrap());
    for pointer in all.iter().filter(|pointer| pointer.matches('/').count() == 2) {
        let is_touched = |touched: &String| {
            let within = |one: &str, other: &str| one == other || one.starts_with(&format!("{other}/"));
            within(touched, pointer) || within(pointer, touched)
        };
        if !touched.iter().any(is_touched) {
            prop_assert_eq!(written.pointer(pointer), as_before.pointer(pointer), "{}", pointer);
        }
    }
    // A field that is neither written back nor reported has been lost silently.
    for pointer in &touched {
        // Absent, null and empty metadata is the same.
        let replaced = object.pointer(pointer).filter(|value| !value.is_null() && **value != json!({}));
        if replaced.is_some() && written.pointer(pointer).is_none() && after.unread_fields().is_empty() {
            return Err(TestCaseError::fail(format!("{pointer} is lost: {object}")));
        }
    }
    Ok(())
}

fn mutations() -> impl Strategy<Value = Vec<(Index, Value)>> {
    prop::collection::vec((any::<Index>(), json_value()), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn v9_no_field_hides_a_sandbox(mutations in mutations()) {
        check::<Sandbox>(&sandbox(), &mutations)?;
    }

    #[test]
    fn v9_no_field_hides_a_sandbox_set(mutations in mutations()) {
        check::<SandboxSet>(&sandbox_set(), &mutations)?;
    }

    #[test]
    fn v9_no_field_hides_a_sandbox_template(mutations in mutations()) {
        check::<SandboxTemplate>(&sandbox_template(), &mutations)?;
    }

    #[test]
    fn v9_no_field_hides_a_checkpoint(mutations in mutations()) {
        check::<Checkpoint>(&checkpoint(), &mutations)?;
    }
}

#[test]
fn v9_a_partially_decoded_sandbox_names_its_fields() {
    let mut object = sandbox();
    object["spec"]["shutdownTime"] = json!("tomorrow");
    object["metadata"]["labels"]["app"] = json!(5);
    object["status"]["conditions"][0]["lastTransitionTime"] = json!([]);
    let sandbox = Sandbox::decode(&object.to_string()).unwrap();
    let mut fields: Vec<_> = sandbox.partially_decoded().iter().map(|fault| fault.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        ["metadata.labels.app", "spec.shutdownTime", "status.conditions[0].lastTransitionTime"]
    );
    // All else of these parts is read.
    assert_eq!((sandbox.pool(), sandbox.is_ready(), sandbox.shutdown_at()), (Some("p"), true, None));
    assert!(Sandbox::decode(&object.to_string().replace("\"a\"", "5")).is_err());
}

#[test]
fn v9_a_template_that_cannot_be_interpreted_is_kept_and_says_so_when_it_is_decoded() {
    let mut object = sandbox();
    object["spec"]["template"]["spec"]["containers"] = json!("none");
    let sandbox = Sandbox::decode(&object.to_string()).unwrap();
    assert!(sandbox.partially_decoded().is_empty());
    let template = sandbox.spec.template.as_ref().unwrap();
    assert_eq!(template.decode().unwrap_err().field, "spec.containers");
    assert_eq!(serde_json::to_value(template).unwrap(), object["spec"]["template"]);
}
