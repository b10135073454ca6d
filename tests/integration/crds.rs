//! Tests the CRDs on a real API server: columns, short names, subresources, schema, and lossless round trips.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource, ResourceExt};
use sandbox_manager::api::v1alpha1::{
    API_VERSION, Checkpoint, Sandbox, SandboxClaim, SandboxSet, SandboxTemplate,
};
use sandbox_manager::shared_cache::{CachedResource, SharedCache, Watch};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::fixtures::{SandboxFixture, SandboxSetFixture, create, sandbox, sandbox_set};
use crate::support::{Cluster, Kubectl, SOON, prepared};

/// Returns the objects of a kind as raw JSON.
fn raw<K: Resource<DynamicType = ()>>(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()))
}

/// Returns the pod template of a spec, with the other fields that are in every spec.
fn template() -> Value {
    json!({
        "metadata": { "labels": { "a": "b" } },
        "spec": { "containers": [{ "name": "c", "novel": [1.5, 9_007_199_254_740_993_i64, null, {}] }] }
    })
}

fn volume_claim_templates() -> Value {
    json!([{ "metadata": { "name": "v" }, "spec": { "novel": true } }])
}

/// Returns a Sandbox with every field, in forms that an inexact type would not write back unchanged.
fn full_sandbox() -> Value {
    json!({
        "metadata": {
            "name": "full",
            "labels": { "agents.kruise.io/sandbox-claimed": "true" },
            "annotations": { "agents.kruise.io/owner": "alice", "empty": "" },
            "finalizers": ["agents.kruise.io/sandbox"]
        },
        "spec": {
            "lifecycle": {
                "postUpgrade": { "exec": { "command": ["true"] }, "timeoutSeconds": 5 },
                "preUpgrade": { "exec": { "command": ["a", "b"] }, "timeoutSeconds": 0 }
            },
            "pauseStrategy": { "type": "Hibernate", "hibernateStrategy": { "type": "Novel" } },
            "pauseTime": "2030-01-01T08:00:00+08:00",
            "paused": false,
            "persistentContents": ["memory"],
            "runtimes": [{ "name": "r" }],
            "shutdownTime": "2030-01-01T00:00:00.250Z",
            "template": template(),
            "templateRef": { "apiVersion": API_VERSION, "kind": "SandboxTemplate", "name": "t" },
            "upgradePolicy": { "type": "Novel" },
            "volumeClaimTemplates": volume_claim_templates()
        },
        "status": {
            "conditions": [{
                "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "", "observedGeneration": 0,
                "reason": "PodReady", "status": "True", "type": "Ready"
            }],
            "message": "", "nodeName": "n", "observedGeneration": 2, "phase": "Novel",
            "podInfo": {
                "annotations": { "x": "y" }, "labels": { "x": "" }, "nodeName": "n", "podIP": "10.0.0.1", "podUID": "p"
            },
            "recycledCount": 3, "sandboxIp": "10.0.0.1", "updateRevision": "r1"
        }
    })
}

fn full_sandbox_set() -> Value {
    json!({
        "metadata": { "name": "full" },
        "spec": {
            "pauseStrategy": { "type": "Stop", "hibernateStrategy": { "type": "" } },
            "persistentContents": ["memory"], "replicas": 0, "runtimes": [{ "name": "r" }],
            "scaleStrategy": { "maxUnavailable": "20%" }, "template": template(),
            "templateRef": { "apiVersion": API_VERSION, "kind": "SandboxTemplate", "name": "t" },
            "updateStrategy": { "maxUnavailable": 3 }, "volumeClaimTemplates": volume_claim_templates()
        },
        "status": {
            "availableReplicas": 0, "currentRevision": "full-r", "observedGeneration": 1, "replicas": 2,
            "selector": "a=b", "updateRevision": "r",
            "updatedAvailableReplicas": 0, "updatedReplicas": 0,
            "conditions": [{
                "lastTransitionTime": "2026-01-01T00:00:00+01:00", "message": "m", "observedGeneration": 1,
                "reason": "R", "status": "Unknown", "type": "example.com/T"
            }]
        }
    })
}

fn full_sandbox_template() -> Value {
    json!({
        "metadata": { "name": "full" },
        "spec": {
            "pauseStrategy": { "type": "Hibernate", "hibernateStrategy": { "type": "Snapshot" } },
            "persistentContents": ["memory"], "runtimes": [{ "name": "r" }], "template": template(),
            "volumeClaimTemplates": volume_claim_templates()
        }
    })
}

fn full_checkpoint() -> Value {
    json!({
        "metadata": { "name": "full" },
        "spec": {
            "keepRunning": false, "persistentContents": ["memory"], "podName": "", "sandboxName": "a", "ttlAfterFinished": "1h"
        },
        "status": {
            "checkpointId": "id", "completionTime": "2030-01-01T00:00:00.5Z", "message": "m", "observedGeneration": 1,
            "phase": "Creating", "podTemplateDelta": { "spec": { "novel": [1.5, 9_007_199_254_740_993_i64, {}] } }
        }
    })
}

fn full_sandbox_claim() -> Value {
    json!({
        "metadata": { "name": "full" },
        "spec": {
            "annotations": { "a": "" }, "claimTimeout": "60s", "createOnNoStock": false,
            "dynamicVolumesMount": [
                { "mountID": "m", "mountPath": "/data", "pvName": "pv", "readOnly": true, "subPath": "" }
            ],
            "envVars": { "KEY": "value" },
            "inplaceUpdate": {
                "image": "i", "resources": { "limits": { "cpu": 1, "memory": "1Gi" }, "requests": { "cpu": "0.5" } }
            },
            "labels": { "x": "y" }, "replicas": 3, "reserveFailedSandbox": true, "runtimes": [{ "name": "r" }],
            "shutdownTime": "2030-01-01T08:00:00+08:00", "skipInitRuntime": true, "templateName": "pool",
            "ttlAfterCompleted": "-1s", "waitReadyTimeout": "1m0s"
        },
        "status": {
            "claimStartTime": "2030-01-01T00:00:00.5Z", "claimedReplicas": 0,
            "completionTime": "2030-01-01T00:00:00Z", "message": "m", "observedGeneration": 1, "phase": "Novel",
            "conditions": [{
                "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "", "observedGeneration": 2,
                "reason": "TimeoutReached", "status": "True", "type": "TimedOut"
            }]
        }
    })
}

/// Asserts that an object has every field that `tests/data/crd-fields.txt` lists for its kind.
fn assert_full(kind: &str, object: &Value) {
    let list = include_str!("../data/crd-fields.txt");
    let section = list.split("\nkind ").find(|section| section.starts_with(&format!("{kind} ")));
    let fields =
        section.unwrap().lines().filter(|line| line.starts_with("spec.") || line.starts_with("status."));
    let fields: Vec<_> = fields.collect();
    assert!(fields.len() >= 4, "{kind}: the list has but {fields:?}");
    for line in fields {
        let path = line.split_whitespace().next().unwrap().replace('!', "");
        let mut at = vec![object];
        for step in path.split('.') {
            let (name, inner) = step.split_at(step.find(['[', '{']).unwrap_or(step.len()));
            at = at.into_iter().filter_map(|value| value.get(name)).collect();
            if inner.starts_with('{') {
                at = at.into_iter().filter_map(Value::as_object).flat_map(|map| map.values()).collect();
            } else if inner.starts_with('[') {
                at = at.into_iter().filter_map(Value::as_array).flatten().collect();
            }
        }
        assert!(!at.is_empty(), "{kind} has no {path}");
    }
}

/// Writes an object unchanged and expects that the API server finds no difference. Both the object as read by
/// its type and the cached object are written.
async fn assert_round_trip<K>(client: &Client, namespace: &str, full: &Value)
where
    K: CachedResource + Resource<Scope = NamespaceResourceScope>,
    K: Serialize + DeserializeOwned + Clone + Debug,
{
    let kind = K::kind(&()).into_owned();
    assert_full(&kind, full);
    let untyped = raw::<K>(client, namespace);
    let mut object = full.clone();
    object["apiVersion"] = K::api_version(&()).into();
    object["kind"] = kind.clone().into();
    let create: DynamicObject = serde_json::from_value(object).unwrap();
    untyped.create(&PostParams::default(), &create).await.unwrap();
    if let Some(status) = full.get("status") {
        let patch = Patch::Merge(json!({ "status": status }));
        untyped.patch_status("full", &PatchParams::default(), &patch).await.unwrap();
    }
    let before = serde_json::to_value(untyped.get("full").await.unwrap()).unwrap();
    for field in ["spec", "status"] {
        assert_eq!(before.get(field), full.get(field), "{kind} as the API server keeps it");
    }

    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let cache = SharedCache::builder(client.clone())
        .cached_kind::<K>(Watch::namespaced(namespace))
        .sync_timeout(2 * SOON)
        .build()
        .unwrap();
    cache.start().await.unwrap();
    let cached = cache.reader::<K>().get(namespace, "full").unwrap().unwrap();
    cache.stop().await;
    assert_eq!(cached.meta().managed_fields, None);
    for object in [&api.get("full").await.unwrap(), &*cached] {
        api.replace("full", &PostParams::default(), object).await.unwrap();
        if full.get("status").is_some() {
            api.replace_status("full", &PostParams::default(), object).await.unwrap();
        }
        let after = serde_json::to_value(untyped.get("full").await.unwrap()).unwrap();
        assert_eq!(after, before, "{kind} was changed by writing it back");
    }
}

#[tokio::test]
async fn e2_writing_back_what_was_read_changes_nothing() {
    let (_, client, namespace) = prepared("round-trip").await;
    assert_round_trip::<Sandbox>(&client, &namespace, &full_sandbox()).await;
    assert_round_trip::<SandboxSet>(&client, &namespace, &full_sandbox_set()).await;
    assert_round_trip::<SandboxTemplate>(&client, &namespace, &full_sandbox_template()).await;
    assert_round_trip::<Checkpoint>(&client, &namespace, &full_checkpoint()).await;
    assert_round_trip::<SandboxClaim>(&client, &namespace, &full_sandbox_claim()).await;
}

#[tokio::test]
async fn printed_definitions_are_accepted_and_kubectl_knows_columns_and_short_names() {
    let cluster = Cluster::shared().await;
    crate::fleet::install_printed_crds(&cluster).await;
    let (client, namespace) = (cluster.client().await, cluster.namespace("columns").await);
    let Some(kubectl) = Kubectl::find(&cluster).await else {
        return;
    };
    let claimed =
        sandbox("a").claimed_by("alice").ready().shut_down_at("2030-01-01T00:00:00Z".parse().unwrap());
    create(&client, &namespace, &claimed).await;
    create(&client, &namespace, &sandbox_set("a", 3).having(2, 1)).await;
    for kind in ["SandboxTemplate", "Checkpoint"] {
        let object =
            json!({ "apiVersion": API_VERSION, "kind": kind, "metadata": { "name": "a" }, "spec": {} });
        kubectl.succeed(&["-n", &namespace, "create", "-f", "-"], &object.to_string()).await;
    }
    let claim = json!({
        "apiVersion": API_VERSION, "kind": "SandboxClaim", "metadata": { "name": "a" }, "spec": { "templateName": "p" }
    });
    kubectl.succeed(&["-n", &namespace, "create", "-f", "-"], &claim.to_string()).await;

    let columns: [(&[&str], &[&str], &[&str]); 5] = [
        (
            &["sbx", "sandbox", "sandboxes"],
            &["NAME", "STATUS", "AGE", "CLAIMED", "SHUTDOWN_TIME", "PAUSE_TIME", "RECYCLEDCOUNT", "MESSAGE"],
            &["a", "Running", "*", "true", "2030-01-01T00:00:00Z", "", "", ""],
        ),
        (
            &["sbs", "sandboxset", "sandboxsets"],
            &[
                "NAME",
                "REPLICAS",
                "AVAILABLE",
                "UPDATEDREPLICAS",
                "UPDATEDAVAILABLEREPLICAS",
                "UPDATEREVISION",
                "AGE",
            ],
            &["a", "2", "1", "", "", "", "*"],
        ),
        (&["sbt", "sandboxtemplate", "sandboxtemplates"], &["NAME", "AGE"], &["a", "*"]),
        (
            &["sbc", "sandboxclaim", "sandboxclaims"],
            &["NAME", "PHASE", "TEMPLATE", "DESIRED", "CLAIMED", "AGE"],
            &["a", "", "p", "1", "", "*"],
        ),
        (&["cp", "checkpoint", "checkpoints"], &["NAME", "STATUS", "AGE"], &["a", "", "*"]),
    ];
    for (names, headers, values) in columns {
        for name in names {
            let printed = kubectl.succeed(&["-n", &namespace, "get", name], "").await;
            let (head, row) = printed.split_once('\n').unwrap();
            assert_eq!(head.split_whitespace().collect::<Vec<_>>(), headers, "{name}");
            // Each value is under its header.
            for (header, value) in headers.iter().zip(values).filter(|(_, value)| **value != "*") {
                let below = row.get(head.find(header).unwrap()..).unwrap_or_default();
                let shown = below.split("  ").next().unwrap_or_default().trim();
                assert_eq!(shown, *value, "{name} {header}:\n{printed}");
            }
        }
    }
}

#[tokio::test]
async fn status_and_scale_are_subresources() {
    let (cluster, client, namespace) = prepared("subresources").await;
    let created = create(&client, &namespace, &sandbox("a").ready()).await;
    let api: Api<Sandbox> = Api::namespaced(client.clone(), &namespace);
    let patch = Patch::Merge(json!({ "status": { "message": "m" } }));
    let patched = api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.resource_version(), created.resource_version(), "status is not written with the rest");
    let patched = api.patch_status("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.status.unwrap().message.as_deref(), Some("m"));
    assert_eq!(patched.metadata.generation, Some(1), "status does not count as a new generation");

    create(&client, &namespace, &sandbox_set("a", 3).having(2, 1)).await;
    let sets: Api<SandboxSet> = Api::namespaced(client.clone(), &namespace);
    let scale = sets.get_scale("a").await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(3));
    assert_eq!(scale.status.unwrap().replicas, 2);
    if let Some(kubectl) = Kubectl::find(&cluster).await {
        kubectl.succeed(&["-n", &namespace, "scale", "sbs", "a", "--replicas=7"], "").await;
    } else {
        let patch = Patch::Merge(json!({ "spec": { "replicas": 7 } }));
        sets.patch_scale("a", &PatchParams::default(), &patch).await.unwrap();
    }
    assert_eq!(sets.get("a").await.unwrap().spec.replicas, Some(7));
}

#[tokio::test]
async fn defaults_are_set_and_bad_conditions_refused() {
    let (_, client, namespace) = prepared("schema").await;
    let untyped = raw::<Sandbox>(&client, &namespace);
    let resource = ApiResource::erase::<Sandbox>(&());
    let spec = json!({ "spec": { "lifecycle": { "preUpgrade": {}, "postUpgrade": { "timeoutSeconds": 5 } }, "no": 1 } });
    let object = DynamicObject::new("a", &resource).data(spec);
    let created = untyped.create(&PostParams::default(), &object).await.unwrap();
    let lifecycle = json!({ "preUpgrade": { "timeoutSeconds": 60 }, "postUpgrade": { "timeoutSeconds": 5 } });
    assert_eq!(
        created.data["spec"],
        json!({ "lifecycle": lifecycle }),
        "defaulted, and pruned of what is unknown"
    );
    let nameless = DynamicObject::new("b", &resource).data(json!({ "spec": { "templateRef": {} } }));
    let refused = untyped.create(&PostParams::default(), &nameless).await.unwrap_err().to_string();
    assert!(refused.contains("spec.templateRef.name: Required value"), "{refused}");
    let without_spec = DynamicObject::new("b", &resource).data(json!({}));
    let refused = untyped.create(&PostParams::default(), &without_spec).await.unwrap_err().to_string();
    assert!(refused.contains("spec: Required value"), "{refused}");

    let good = json!({
        "type": "Ready", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"
    });
    let with = |field: &str, value: Value| {
        let mut condition = good.clone();
        condition[field] = value;
        json!([condition])
    };
    let mut unnamed = good.clone();
    unnamed.as_object_mut().unwrap().remove("reason");
    let cases = [
        (with("status", json!("Maybe")), "status.conditions[0].status: Unsupported value: \"Maybe\""),
        (with("reason", json!("")), "status.conditions[0].reason"),
        (with("reason", json!("not one word")), "status.conditions[0].reason"),
        (with("type", json!("a b")), "status.conditions[0].type"),
        (with("observedGeneration", json!(-1)), "status.conditions[0].observedGeneration"),
        (with("lastTransitionTime", json!("yesterday")), "status.conditions[0].lastTransitionTime"),
        (with("message", json!("m".repeat(32769))), "status.conditions[0].message: Too long"),
        (json!([unnamed]), "status.conditions[0].reason: Required value"),
        (json!([good, good]), "status.conditions[1]: Duplicate value"),
    ];
    for (conditions, expected) in cases {
        let patch = Patch::Merge(json!({ "status": { "conditions": conditions } }));
        let refused =
            untyped.patch_status("a", &PatchParams::default(), &patch).await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{expected} is not in {refused}");
    }
    let patch = Patch::Merge(json!({ "status": { "conditions": [good] } }));
    untyped.patch_status("a", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn server_side_apply_merges_conditions_by_type_and_labels_by_key() {
    let (_, client, namespace) = prepared("apply").await;
    create(&client, &namespace, &sandbox("a")).await;
    let api: Api<Sandbox> = Api::namespaced(client, &namespace);
    let apply = async |manager: &str, type_: &str, label: &str| {
        let condition = json!({
            "type": type_, "status": "True", "reason": "R", "message": manager,
            "lastTransitionTime": "2026-01-01T00:00:00Z"
        });
        let status = json!({ "conditions": [condition], "podInfo": { "labels": { label: manager } } });
        let patch = json!({ "apiVersion": API_VERSION, "kind": "Sandbox", "metadata": { "name": "a" }, "status": status });
        api.patch_status("a", &PatchParams::apply(manager), &Patch::Apply(patch)).await
    };
    apply("one", "Ready", "first").await.unwrap();
    let both = apply("other", "SandboxPaused", "second").await.unwrap();
    let messages: Vec<_> = both.conditions().iter().map(|c| (c.type_.as_str(), &*c.message)).collect();
    assert_eq!(messages, [("Ready", "one"), ("SandboxPaused", "other")]);
    assert_eq!(both.status.unwrap().pod_info.unwrap().labels.unwrap().decode().len(), 2);
    let conflict = apply("other", "Ready", "second").await.unwrap_err().to_string();
    assert!(conflict.contains(".status.conditions[type=\"Ready\"].message"), "{conflict}");
    api.delete("a", &DeleteParams::default()).await.unwrap();
}
