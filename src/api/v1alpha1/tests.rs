//! Tests of all kinds: reading and writing lose no field, and equal templates share one copy.
//!
//! Rule numbers refer to docs/behaviours.md.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::core::{ObjectList, WatchEvent};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shared_cache::decode_partially;

use super::*;

/// Returns a Sandbox with every field, and with values that a plain type would change.
///
/// Such values are times with an offset or a fraction, empty lists, unknown names, and unknown fields and
/// large numbers inside the template.
fn full_sandbox() -> Value {
    json!({
        "apiVersion": "agents.kruise.io/v1alpha1",
        "kind": "Sandbox",
        "metadata": {
            "name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "7", "generation": 2,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { "agents.kruise.io/sandbox-claimed": "true" },
            "annotations": { "agents.kruise.io/owner": "alice" },
            "finalizers": ["agents.kruise.io/sandbox"]
        },
        "spec": {
            "lifecycle": {
                "postUpgrade": { "exec": { "command": ["true"] }, "timeoutSeconds": 60 },
                "preUpgrade": { "exec": { "command": [] }, "timeoutSeconds": 5 }
            },
            "pauseStrategy": { "type": "Novel", "hibernateStrategy": { "type": "Snapshot" } },
            "pauseTime": "2030-01-01T08:00:00+08:00",
            "paused": false,
            "persistentContents": [],
            "runtimes": [{ "name": "r" }],
            "shutdownTime": "2030-01-01T00:00:00.250Z",
            "template": {
                "metadata": { "creationTimestamp": null, "labels": {} },
                "spec": { "containers": [{ "name": "c", "novel": [1.5, 9_007_199_254_740_993_i64, null] }] }
            },
            "templateRef": { "apiVersion": API_VERSION, "kind": "SandboxTemplate", "name": "t" },
            "upgradePolicy": { "type": "Novel" },
            "volumeClaimTemplates": [{ "metadata": { "name": "v" }, "spec": { "novel": true } }]
        },
        "status": {
            "conditions": [{
                "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "", "observedGeneration": 2,
                "reason": "PodReady", "status": "True", "type": "Ready"
            }],
            "message": "", "nodeName": "n", "observedGeneration": 2, "phase": "Novel",
            "podInfo": {
                "annotations": { "x": "y" }, "labels": {}, "nodeName": "n", "podIP": "10.0.0.1", "podUID": "p"
            },
            "recycledCount": 0, "sandboxIp": "10.0.0.1", "updateRevision": "r1"
        }
    })
}

fn full_sandbox_set() -> Value {
    json!({
        "apiVersion": "agents.kruise.io/v1alpha1",
        "kind": "SandboxSet",
        "metadata": { "name": "s" },
        "spec": {
            "pauseStrategy": { "type": "Stop", "hibernateStrategy": { "type": "" } },
            "persistentContents": ["memory"], "replicas": 0, "runtimes": [],
            "scaleStrategy": { "maxUnavailable": "20%" },
            "template": { "spec": { "containers": [] } },
            "templateRef": { "apiVersion": API_VERSION, "kind": "SandboxTemplate", "name": "t" },
            "updateStrategy": { "maxUnavailable": 3 },
            "volumeClaimTemplates": []
        },
        "status": {
            "availableReplicas": 1, "conditions": [], "currentRevision": "s-r", "observedGeneration": 1, "replicas": 2,
            "selector": "a=b",
            "updateRevision": "r", "updatedAvailableReplicas": 0, "updatedReplicas": 0
        }
    })
}

fn full_sandbox_template() -> Value {
    json!({
        "apiVersion": "agents.kruise.io/v1alpha1",
        "kind": "SandboxTemplate",
        "metadata": { "name": "t" },
        "spec": {
            "pauseStrategy": { "type": "Hibernate", "hibernateStrategy": { "type": "Snapshot" } },
            "persistentContents": ["memory"], "runtimes": [{ "name": "r" }],
            "template": { "spec": { "containers": [] } }, "volumeClaimTemplates": []
        }
    })
}

fn full_checkpoint() -> Value {
    json!({
        "apiVersion": "agents.kruise.io/v1alpha1",
        "kind": "Checkpoint",
        "metadata": { "name": "c", "annotations": { "agents.kruise.io/owner": "alice" } },
        "spec": {
            "keepRunning": true, "persistentContents": ["memory"], "podName": "p", "sandboxName": "a",
            "ttlAfterFinished": "1h"
        },
        "status": {
            "checkpointId": "id", "completionTime": "2030-01-01T00:00:00Z", "message": "m",
            "observedGeneration": 1, "phase": "Creating",
            "podTemplateDelta": { "spec": { "novel": [1.5, 9_007_199_254_740_993_i64] } }
        }
    })
}

fn full_sandbox_claim() -> Value {
    json!({
        "apiVersion": "agents.kruise.io/v1alpha1",
        "kind": "SandboxClaim",
        "metadata": { "name": "c", "annotations": { "agents.kruise.io/owner": "alice" } },
        "spec": {
            "annotations": { "a": "" }, "claimTimeout": "60s", "createOnNoStock": false,
            "dynamicVolumesMount": [
                { "mountID": "m", "mountPath": "/data", "pvName": "pv", "readOnly": true, "subPath": "" }
            ],
            "envVars": { "KEY": "value" },
            "inplaceUpdate": {
                "image": "i", "resources": { "limits": { "cpu": 1, "memory": "1Gi" }, "requests": {} }
            },
            "labels": {}, "replicas": 3, "reserveFailedSandbox": true, "runtimes": [{ "name": "r" }],
            "shutdownTime": "2030-01-01T08:00:00+08:00", "skipInitRuntime": true, "templateName": "pool",
            "ttlAfterCompleted": "-1s", "waitReadyTimeout": "1m0s"
        },
        "status": {
            "claimStartTime": "2030-01-01T00:00:00.5Z", "claimedReplicas": 0,
            "completionTime": "2030-01-01T00:00:00Z",
            "conditions": [{
                "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "", "observedGeneration": 2,
                "reason": "TimeoutReached", "status": "True", "type": "TimedOut"
            }],
            "message": "m", "observedGeneration": 1, "phase": "Novel"
        }
    })
}

/// Asserts that an object is written back as it was read, from a value and from text.
#[track_caller]
fn assert_nothing_lost<K: DeserializeOwned + Serialize + PartialEq + Debug>(original: &Value) -> K {
    let object: K = serde_json::from_value(original.clone()).unwrap();
    assert_eq!(&serde_json::to_value(&object).unwrap(), original);
    let from_text: K = serde_json::from_str(&original.to_string()).unwrap();
    assert_eq!(object, from_text);
    object
}

/// Asserts that `example` has every field of the schema of its kind.
///
/// A field that is added to the schema but not to the example makes the test fail.
fn assert_full(example: &Value) {
    fn check(path: &str, schema: &Value, example: &Value) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let value = example.get(name).unwrap_or_else(|| panic!("the example lacks {path}"));
            check(&path, property, value);
            if let Some(first) = value.get(0) {
                check(&format!("{path}[]"), &property["items"], first);
            }
        }
    }
    let crds = serde_json::to_value(crds()).unwrap();
    let of_kind = |crd: &&Value| crd["spec"]["names"]["kind"] == example["kind"];
    let crd = crds.as_array().unwrap().iter().find(of_kind).unwrap();
    check("", &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], example);
}

#[test]
fn e2_a_read_and_a_write_change_no_field_of_any_kind() {
    let examples = [full_sandbox(), full_sandbox_set(), full_sandbox_template()];
    for example in examples.into_iter().chain([full_checkpoint(), full_sandbox_claim()]) {
        assert_full(&example);
    }
    let sandbox: Sandbox = assert_nothing_lost(&full_sandbox());
    assert_eq!(sandbox.phase(), Some(&SandboxPhase::Other("Novel".into())));
    assert_eq!(sandbox.owner(), Some("alice"));
    assert_eq!(sandbox.spec.pause_strategy().unwrap().type_, Some(PauseStrategyType::Other("Novel".into())));
    assert_eq!(sandbox.spec.upgrade_policy().unwrap().type_.as_deref(), Some("Novel"));
    assert!(sandbox.spec.lifecycle().unwrap().pre_upgrade.is_some());
    assert_nothing_lost::<SandboxSet>(&full_sandbox_set());
    assert_nothing_lost::<SandboxTemplate>(&full_sandbox_template());
    let checkpoint: Checkpoint = assert_nothing_lost(&full_checkpoint());
    assert_eq!((checkpoint.owner(), checkpoint.checkpoint_id()), (Some("alice"), Some("id")));
    assert_eq!(checkpoint.phase(), Some(&CheckpointPhase::Creating));
    let claim: SandboxClaim = assert_nothing_lost(&full_sandbox_claim());
    assert_eq!(claim.phase(), Some(&SandboxClaimPhase::Other("Novel".into())));
    assert!(claim.condition(CONDITION_TIMED_OUT).unwrap().is_true());
    let resources = claim.spec.inplace_update.unwrap().resources.unwrap();
    assert_eq!(resources.limits.unwrap().decode()["cpu"].0, "1", "a quantity may be a number");
}

#[test]
fn v9_each_rare_field_that_cannot_be_read_is_named_and_hides_no_other() {
    for (field, value) in [
        ("lifecycle.preUpgrade.timeoutSeconds", json!("soon")),
        ("pauseStrategy.type", json!(5)),
        ("pauseStrategy.hibernateStrategy", json!([])),
        ("upgradePolicy", json!("Recreate")),
        ("paused", json!("yes")),
    ] {
        let mut object = full_sandbox();
        *object["spec"].pointer_mut(&format!("/{}", field.replace('.', "/"))).unwrap() = value;
        let (sandbox, unread) = decode_partially::<Sandbox>(&object.to_string()).unwrap();
        let unread: Vec<_> = unread.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(unread, [format!("spec.{field}")]);
        assert!(sandbox.spec.rare.is_some() && sandbox.spec.template.is_some(), "{field}");
    }
}

#[test]
fn v9_a_field_of_a_claim_that_cannot_be_read_is_named_and_hides_no_other() {
    for (field, value) in [
        ("claimTimeout", json!("soon")),
        ("ttlAfterCompleted", json!("30d")),
        ("replicas", json!("two")),
        ("templateName", json!(5)),
        ("inplaceUpdate.resources.limits", json!({ "cpu": [] })),
        ("dynamicVolumesMount", json!("all")),
    ] {
        let mut object = full_sandbox_claim();
        *object["spec"].pointer_mut(&format!("/{}", field.replace('.', "/"))).unwrap() = value;
        let (claim, unread) = decode_partially::<SandboxClaim>(&object.to_string()).unwrap();
        let unread: Vec<_> = unread.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(unread, [format!("spec.{field}")]);
        assert_eq!(claim.spec.skip_init_runtime, Some(true), "{field}");
    }
}

#[test]
fn rare_fields_take_a_box_only_if_one_of_them_is_set() {
    let spec = |fields: Value| serde_json::from_value::<SandboxSpec>(fields).unwrap();
    assert_eq!(spec(json!({ "paused": true })).rare, None);
    assert_eq!(spec(json!({ "paused": true, "lifecycle": null })).rare, None);
    for field in ["lifecycle", "pauseStrategy", "upgradePolicy"] {
        let fields = json!({ field: {} });
        assert!(spec(fields.clone()).rare.is_some(), "{field}");
        assert_eq!(serde_json::to_value(spec(fields.clone())).unwrap(), fields);
    }
    let mut built = SandboxSpec::default();
    built.rare.get_or_insert_default().upgrade_policy =
        Some(UpgradePolicy { type_: Some("Recreate".into()) });
    assert_eq!(serde_json::to_value(built).unwrap(), json!({ "upgradePolicy": { "type": "Recreate" } }));
}

#[test]
fn e2_absent_fields_stay_absent_and_empty_ones_empty() {
    for spec in
        [json!({}), json!({ "lifecycle": {} }), json!({ "lifecycle": { "preUpgrade": { "exec": {} } } })]
    {
        let mut object = serde_json::to_value(Sandbox::new("a", SandboxSpec::default())).unwrap();
        object["spec"] = spec;
        assert_nothing_lost::<Sandbox>(&object);
        object["status"] = json!({});
        assert_nothing_lost::<Sandbox>(&object);
        object["status"] = json!({ "phase": "", "podInfo": {}, "conditions": [] });
        assert_nothing_lost::<Sandbox>(&object);
    }
}

#[test]
fn e2_managed_fields_are_not_kept() {
    let mut object = full_sandbox();
    object["metadata"]["managedFields"] = json!([{ "manager": "kubectl", "fieldsV1": { "f:spec": {} } }]);
    let sandbox: Sandbox = serde_json::from_str(&object.to_string()).unwrap();
    assert_eq!(sandbox.metadata.managed_fields, None);
    assert_eq!(serde_json::to_value(&sandbox).unwrap(), full_sandbox());
}

#[test]
fn e6_a_part_that_is_kept_as_text_is_named_by_its_field() {
    for (field, value) in [
        ("spec.template", json!(5)),
        ("spec.template.spec", json!([])),
        ("spec.runtimes", json!([{"name": 5}])),
        ("spec.volumeClaimTemplates", json!([{"spec": {"volumeName": []}}])),
    ] {
        let mut object = full_sandbox();
        *object.pointer_mut(&format!("/{}", field.replace('.', "/"))).unwrap() = value;
        let text = object.to_string();
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        let error = serde_path_to_error::deserialize::<_, Sandbox>(&mut deserializer).unwrap_err();
        assert_eq!(error.path().to_string(), field);
    }
}

#[test]
fn objects_of_lists_and_watches_share_their_templates() {
    let item = full_sandbox();
    let list = json!({
        "apiVersion": API_VERSION, "kind": "SandboxList", "metadata": { "resourceVersion": "9" },
        "items": [item, item]
    });
    let list: ObjectList<Sandbox> = serde_json::from_str(&list.to_string()).unwrap();
    let template = |sandbox: &Sandbox| sandbox.spec.template.clone().unwrap();
    assert!(template(&list.items[0]).ptr_eq(&template(&list.items[1])));

    // The API server writes `type` first. In another order, serde would buffer the object, and decoding the
    // raw text of a template would fail.
    let event = format!(r#"{{"type":"ADDED","object":{item}}}"#);
    let WatchEvent::Added(added) = serde_json::from_str::<WatchEvent<Sandbox>>(&event).unwrap() else {
        panic!("{event}")
    };
    assert!(template(&added).ptr_eq(&template(&list.items[0])));
}

#[test]
fn kinds_know_their_place_in_the_api() {
    assert_eq!(Sandbox::url_path(&(), Some("ns")), "/apis/agents.kruise.io/v1alpha1/namespaces/ns/sandboxes");
    assert_eq!(SandboxSet::url_path(&(), None), "/apis/agents.kruise.io/v1alpha1/sandboxsets");
    assert_eq!(SandboxTemplate::url_path(&(), None), "/apis/agents.kruise.io/v1alpha1/sandboxtemplates");
    assert_eq!(SandboxClaim::url_path(&(), None), "/apis/agents.kruise.io/v1alpha1/sandboxclaims");
    assert_eq!(Checkpoint::url_path(&(), None), "/apis/agents.kruise.io/v1alpha1/checkpoints");
    assert_eq!(API_VERSION, format!("{}/{VERSION}", crate::api::GROUP));
    let sandbox = Sandbox::new("a", SandboxSpec::default());
    assert_eq!((sandbox.name_or_empty(), sandbox.namespace_or_empty()), ("a", ""));
    assert_eq!(
        serde_json::to_value(&sandbox).unwrap(),
        json!({ "apiVersion": API_VERSION, "kind": "Sandbox", "metadata": { "name": "a" }, "spec": {} })
    );
}

#[test]
fn a_sandbox_stays_small() {
    // With the two counters of an `Arc` this is 640 bytes, a size class of jemalloc. The next class has 768 bytes.
    assert!(size_of::<Sandbox>() <= 624, "{} bytes", size_of::<Sandbox>());
}

#[test]
fn the_samples_decode_and_lose_nothing() {
    fn check<K: DeserializeOwned + Serialize + PartialEq + Debug>(file: &str) -> K {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples").join(file);
        let sample: Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_nothing_lost(&sample)
    }
    let sandbox: Sandbox = check("sandbox.yaml");
    assert!(sandbox.is_claimed());
    let template = sandbox.spec.template.unwrap();
    assert_eq!(template.decode().unwrap().spec.unwrap().containers.len(), 1);
    check::<SandboxSet>("sandboxset.yaml");
    check::<SandboxTemplate>("sandboxtemplate.yaml");
    check::<SandboxClaim>("sandboxclaim.yaml");
    check::<Checkpoint>("checkpoint.yaml");
}

fn with_labels(labels: &[(&str, &str)]) -> Sandbox {
    let mut sandbox = Sandbox::new("a", SandboxSpec::default());
    sandbox.metadata.namespace = Some("ns".to_owned());
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    sandbox.metadata.labels = Some(labels.collect());
    sandbox
}

#[test]
fn b1_the_pool_is_the_template_else_the_set() {
    let pool = |labels: &[(&str, &str)]| with_labels(labels).pool().map(str::to_owned);
    assert_eq!(pool(&[(LABEL_SANDBOX_TEMPLATE, "t"), (LABEL_SANDBOX_POOL, "p")]).as_deref(), Some("t"));
    assert_eq!(pool(&[(LABEL_SANDBOX_TEMPLATE, ""), (LABEL_SANDBOX_POOL, "p")]).as_deref(), Some("p"));
    assert_eq!(pool(&[(LABEL_SANDBOX_POOL, "")]), None);
    assert_eq!(pool(&[]), None);
}

#[test]
fn b3_claimed_is_exactly_true_and_the_id_falls_back_to_the_name() {
    assert!(with_labels(&[(LABEL_SANDBOX_CLAIMED, "true")]).is_claimed());
    assert!(!with_labels(&[(LABEL_SANDBOX_CLAIMED, "True")]).is_claimed());
    assert!(!with_labels(&[]).is_claimed());
    assert_eq!(with_labels(&[(LABEL_SANDBOX_ID, "short")]).sandbox_id(), "short");
    assert_eq!(with_labels(&[(LABEL_SANDBOX_ID, "")]).sandbox_id(), "ns--a");
    assert_eq!(with_labels(&[]).sandbox_id(), "ns--a");
}

#[test]
fn b4_an_empty_owner_or_checkpoint_id_is_none() {
    let mut sandbox = with_labels(&[]);
    assert_eq!(sandbox.owner(), None);
    sandbox.metadata.annotations = Some(BTreeMap::from([(ANNOTATION_OWNER.to_owned(), String::new())]));
    assert_eq!(sandbox.owner(), None);
    let mut checkpoint = Checkpoint::new("c", CheckpointSpec::default());
    assert_eq!(checkpoint.checkpoint_id(), None);
    checkpoint.status =
        Some(CheckpointStatus { checkpoint_id: Some(String::new()), ..CheckpointStatus::default() });
    assert_eq!(checkpoint.checkpoint_id(), None);
}

#[test]
fn a8_reserved_failed_is_exactly_true() {
    assert!(with_labels(&[(LABEL_RESERVED_FAILED_SANDBOX, "true")]).is_reserved_failed());
    assert!(!with_labels(&[(LABEL_RESERVED_FAILED_SANDBOX, "1")]).is_reserved_failed());
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-z0-9-]{0,8}", 1 => any::<String>()]
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        (0..4_000_000_000_i64).prop_map(|second| Time::from(Timestamp::from_second(second).unwrap())),
        (0..4_000_000_000_000_i64).prop_map(|milli| Time::from(Timestamp::from_millisecond(milli).unwrap())),
        Just("2030-01-01T08:00:00.50+08:00".parse().unwrap()),
    ]
}

fn texts() -> impl Strategy<Value = Option<BTreeMap<String, String>>> {
    prop::option::of(prop::collection::btree_map(text(), text(), 0..3))
}

fn list() -> impl Strategy<Value = Option<Vec<String>>> {
    prop::option::of(prop::collection::vec(text(), 0..3))
}

prop_compose! {
    fn meta()(
        name in prop::option::of(text()),
        labels in texts(),
        annotations in texts(),
        finalizers in list(),
        generation in any::<Option<i64>>(),
        owner in prop::option::of(text()),
    ) -> ObjectMeta {
        let controller = |name| OwnerReference { name, controller: Some(true), ..OwnerReference::default() };
        let owner_references = owner.map(|name| vec![controller(name)]);
        ObjectMeta {
            name, labels, annotations, finalizers, generation, owner_references, ..ObjectMeta::default()
        }
    }
}

prop_compose! {
    fn action()(
        exec in prop::option::of(list().prop_map(|command| ExecAction { command })),
        timeout_seconds in any::<Option<i32>>(),
    ) -> UpgradeAction {
        UpgradeAction { exec, timeout_seconds }
    }
}

prop_compose! {
    fn rare()(
        lifecycle in prop::option::of((prop::option::of(action()), prop::option::of(action()))),
        pause_strategy in prop::option::of((prop::option::of(text()), prop::option::of(prop::option::of(text())))),
        upgrade_policy in prop::option::of(prop::option::of(text())),
    ) -> RareFields {
        RareFields {
            lifecycle: lifecycle
                .map(|(pre_upgrade, post_upgrade)| SandboxLifecycle { post_upgrade, pre_upgrade }),
            pause_strategy: pause_strategy.map(|(type_, hibernate)| PauseStrategy {
                hibernate_strategy: hibernate.map(|type_| HibernateStrategy { type_ }),
                type_: type_.map(|type_| PauseStrategyType::from(type_.as_str())),
            }),
            upgrade_policy: upgrade_policy.map(|type_| UpgradePolicy { type_ }),
        }
    }
}

prop_compose! {
    fn spec()(
        rare in prop::option::of(rare()),
        pause_time in prop::option::of(time()),
        paused in any::<Option<bool>>(),
        persistent_contents in list(),
        runtimes in list(),
        shutdown_time in prop::option::of(time()),
        template in prop::option::of(text()),
        template_ref in prop::option::of((prop::option::of(text()), prop::option::of(text()), text())),
        claims in list(),
    ) -> SandboxSpec {
        let runtimes = runtimes.map(|names| {
            names.into_iter().map(|name| RuntimeConfig { name: name.into() }).collect::<Vec<_>>().into()
        });
        let template = template.map(|name| json!({ "novel": 1.5, "metadata": { "name": name } }));
        let claim = |name: String| json!({ "metadata": { "name": name } });
        let claims = claims.map(|names| names.into_iter().map(claim).collect::<Value>());
        SandboxSpec {
            pause_time,
            paused,
            persistent_contents: persistent_contents.map(JsonText::from),
            rare: rare.filter(|rare| *rare != RareFields::default()).map(Box::new),
            runtimes,
            shutdown_time,
            template: template.map(|template| serde_json::from_value(template).unwrap()),
            template_ref: template_ref
                .map(|(api_version, kind, name)| Box::new(TemplateRef { api_version, kind, name })),
            volume_claim_templates: claims.map(|claims| serde_json::from_value(claims).unwrap()),
        }
    }
}

prop_compose! {
    fn condition()(
        last_transition_time in prop::option::of(time()),
        message in text(),
        observed_generation in any::<Option<i64>>(),
        reason in text(),
        status in prop_oneof![Just("True".to_owned()), Just("False".to_owned()), text()],
        type_ in text(),
    ) -> Condition {
        let status = ConditionStatus::from(status.as_str());
        Condition {
            last_transition_time,
            message: message.into(),
            observed_generation: observed_generation.map(Generation::from),
            reason: reason.into(),
            status,
            type_: type_.into(),
        }
    }
}

prop_compose! {
    fn status()(
        conditions in prop::option::of(prop::collection::vec(condition(), 0..3)),
        message in prop::option::of(text()),
        observed_generation in any::<Option<i64>>(),
        phase in prop::option::of(prop_oneof![Just("Running".to_owned()), Just("Paused".to_owned()), text()]),
        pod_info in prop::option::of((texts(), texts(), prop::option::of(text()), prop::option::of(text()))),
        recycled_count in any::<Option<i32>>(),
        update_revision in prop::option::of(text()),
    ) -> SandboxStatus {
        let pod_info = pod_info.map(|(annotations, labels, pod_ip, pod_uid)| PodInfo {
            annotations: annotations.map(JsonText::from),
            labels: labels.map(JsonText::from),
            node_name: message.clone().map(Symbol::from),
            pod_ip: pod_ip.map(Ip::from),
            pod_uid: pod_uid.map(Uid::from),
        });
        SandboxStatus {
            conditions,
            node_name: message.clone().map(Symbol::from),
            sandbox_ip: update_revision.clone().map(Ip::from),
            message: message.map(Symbol::from),
            observed_generation: observed_generation.map(Generation::from),
            phase: phase.map(|phase| SandboxPhase::from(phase.as_str())),
            pod_info,
            recycled_count,
            update_revision: update_revision.map(Symbol::from),
        }
    }
}

proptest! {
    #[test]
    fn any_sandbox_is_read_back_as_it_was_written(
        metadata in meta(),
        spec in spec(),
        status in prop::option::of(status()),
    ) {
        let sandbox = Sandbox { metadata, spec, status, unread: UnreadFields::default() };
        let text = serde_json::to_string(&sandbox).unwrap();
        let read: Sandbox = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &sandbox);
        // Two times with different texts can be equal, so the test compares the text too.
        prop_assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}
