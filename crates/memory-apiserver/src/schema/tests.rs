//! What kube-apiserver 1.35 answered to schemas and objects, and that the same is answered here.
//!
//! The answers are in `tests/data/kube-apiserver`. Causes are compared without their order, which the real server
//! leaves to chance. Answers that are known to differ were left out: a whole number that only a float can hold is
//! no integer there, a factor below one divides no whole number there, and types that Go has names for and `OpenAPI`
//! has not (`v1.ResourceList`) are told by these.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use super::super::error::{ApiError, FieldError};
use super::*;

fn data(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn cases(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// Reason, field and message of each.
fn causes(errors: &[FieldError]) -> Vec<[String; 3]> {
    let error = ApiError::invalid("g", "K", "n", errors);
    let cause = |cause: super::super::error::Cause| [cause.reason.to_owned(), cause.field, cause.message];
    let mut causes: Vec<_> = error.details.causes.into_iter().map(cause).collect();
    causes.sort();
    causes
}

fn recorded(case: &Value) -> Vec<[String; 3]> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |cause: &Value| [text(&cause[0]), text(&cause[1]), text(&cause[2])];
    let mut causes: Vec<_> = case["causes"].as_array().into_iter().flatten().map(of).collect();
    causes.sort();
    causes
}

/// The kind that most answers are about, and the objects that were sent.
fn objects() -> &'static (CustomKind, Value) {
    static OBJECTS: LazyLock<(CustomKind, Value)> = LazyLock::new(|| {
        let data = data(include_str!("../../tests/data/kube-apiserver/objects.json"));
        (CustomKind::new(&data["schema"], "schema", false).unwrap(), data["cases"].clone())
    });
    &OBJECTS
}

fn object(spec: &Value) -> Value {
    json!({ "apiVersion": "t.example.com/v1", "kind": "Probe", "metadata": { "name": "x" }, "spec": spec })
}

/// Which objects are answered to in another way than they were.
fn differing(kind: &CustomKind, all: &[Value]) -> Vec<String> {
    let mut differing = Vec::new();
    for case in all {
        let mut object = object(&case["spec"]);
        let refused = metadata_type_error(&object, &kind.schema);
        if let Some(message) = case["message"].as_str() {
            let expected =
                message.split_once("cannot be handled as a Probe: ").map(|(_, why)| why.to_owned());
            if refused != expected {
                differing.push(format!("{case}\n  but {refused:?}"));
            }
            continue;
        }
        let dropped = prune(&mut object, &kind.schema);
        apply_defaults(&mut object, &kind.schema);
        let errors = causes(&kind.validator.validate(&object));
        let warned: Vec<_> = dropped.iter().map(|path| format!("unknown field \"{path}\"")).collect();
        let warnings = case["warnings"].as_array().cloned().unwrap_or_default();
        let is_stored = case["stored"].is_null() || (object["spec"] == case["stored"] && warnings == warned);
        if refused.is_some() || errors != recorded(case) || !is_stored {
            differing.push(format!("{case}\n  but {refused:?} {errors:?} {warned:?} {}", object["spec"]));
        }
    }
    differing
}

#[test]
fn objects_are_pruned_defaulted_and_validated_as_by_the_real_server() {
    let (kind, all) = objects();
    let differing = differing(kind, cases(all));
    assert!(differing.is_empty(), "{}\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn alternatives_are_explained_as_by_the_real_server() {
    let data = data(include_str!("../../tests/data/kube-apiserver/alternatives.json"));
    let kind = CustomKind::new(&data["schema"], "schema", false).unwrap();
    let differing = differing(&kind, cases(&data["cases"]));
    assert!(differing.is_empty(), "{}\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn schemas_are_refused_as_by_the_real_server() {
    let all = data(include_str!("../../tests/data/kube-apiserver/schemas.json"));
    let mut differing = Vec::new();
    for case in cases(&all) {
        let path = "spec.validation.openAPIV3Schema";
        let errors = CustomKind::new(&case["schema"], path, case["status"] == true).err().unwrap_or_default();
        let errors = causes(&errors);
        if errors != recorded(case) {
            differing.push(format!("{case}\n  but {errors:?}"));
        }
    }
    assert!(differing.is_empty(), "{}\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn what_was_wrong_before_and_is_unchanged_is_let_pass_as_by_the_real_server() {
    let data = data(include_str!("../../tests/data/kube-apiserver/updates.json"));
    let kind = CustomKind::new(&data["schema"], "schema", true).unwrap();
    let mut differing = Vec::new();
    for case in cases(&data["cases"]) {
        let errors = if case["of_status"] == true {
            kind.validator.validate_status_update(&case["new"], &case["old"])
        } else {
            kind.validator.validate_update(&case["new"], &case["old"])
        };
        if causes(&errors) != recorded(case) {
            differing.push(format!("{case}\n  but {:?}", causes(&errors)));
        }
    }
    assert!(differing.is_empty(), "{}\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn types_and_required_fields_are_checked_as_by_the_real_server() {
    let all = data(include_str!("../../tests/data/kube-apiserver/decoding.json"));
    let (custom, _) = objects();
    let mut differing = Vec::new();
    for case in cases(&all) {
        let object = &case["object"];
        let (group, version) = object["apiVersion"].as_str().unwrap().rsplit_once('/').unwrap_or(("", "v1"));
        let builtin = Builtin::find(group, version, object["kind"].as_str().unwrap());
        let (refused, missing) = match builtin {
            Some(builtin) => {
                let missing = missing_fields(object, builtin.schema());
                (type_error(object, builtin.schema()), missing)
            }
            None => (metadata_type_error(object, &custom.schema), Vec::new()),
        };
        let is_refused = refused.as_deref() == case["message"].as_str();
        if !is_refused || (refused.is_none() && causes(&missing) != recorded(case)) {
            differing.push(format!("{case}\n  but {refused:?} {:?}", causes(&missing)));
        }
    }
    assert!(differing.is_empty(), "{}\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn rules_in_cel_are_called_unchecked_where_the_object_is_wrong_anyhow() {
    let schema = json!({
        "type": "object",
        "properties": { "spec": {
            "type": "object",
            "required": ["a"],
            "properties": { "a": { "type": "string", "minLength": 2 } },
            "x-kubernetes-validations": [{ "rule": "self.a != 'x'" }]
        } }
    });
    let kind = CustomKind::new(&schema, "schema", false).unwrap();
    let fields = |spec| {
        let errors = kind.validator.validate(&object(&spec));
        errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
    };
    assert_eq!(fields(json!({})), ["spec.a", "<nil>"]);
    assert_eq!(
        fields(json!({ "a": "y" })),
        ["spec.a"],
        "so short a text does not keep rules from being tried"
    );
    assert!(fields(json!({ "a": "yy" })).is_empty());
}

#[test]
fn a_schema_that_is_nested_too_deeply_is_refused() {
    let mut schema = json!({ "type": "string" });
    for _ in 0..120 {
        schema = json!({ "type": "object", "properties": { "a": schema } });
    }
    let errors = CustomKind::new(&schema, "schema", false).unwrap_err();
    assert_eq!(errors, [FieldError::forbidden("schema", "is nested too deeply")]);
}

#[test]
fn keys_of_maps_that_are_numbers_are_no_indexes() {
    let schema = json!({
        "type": "object",
        "properties": { "spec": { "type": "object", "additionalProperties": { "type": "string" } } }
    });
    let kind = CustomKind::new(&schema, "schema", false).unwrap();
    let errors = kind.validator.validate(&object(&json!({ "0": 1 })));
    assert_eq!(errors[0].field, "spec.0");
}

#[test]
fn of_metadata_only_what_is_known_and_not_empty_is_kept() {
    let (kind, _) = objects();
    let mut object = json!({
        "apiVersion": "t.example.com/v1", "kind": "Probe", "unknown": 1,
        "metadata": {
            "name": "x", "unknown": 1, "labels": { "a": null }, "annotations": {}, "finalizers": [],
            "creationTimestamp": null, "ownerReferences": [{ "uid": "u", "unknown": 1 }]
        },
        "spec": { "must": "a", "emb": { "metadata": { "unknown": 1 } } }
    });
    let dropped = prune(&mut object, &kind.schema);
    let paths =
        ["metadata.ownerReferences[0].unknown", "metadata.unknown", "unknown", "spec.emb.metadata.unknown"];
    assert_eq!(dropped, paths);
    let metadata = json!({ "name": "x", "labels": { "a": "" }, "ownerReferences": [{ "uid": "u" }] });
    assert_eq!(object["metadata"], metadata);
}

#[test]
fn repeated_fields_are_named_once_and_in_the_order_of_the_body() {
    let body = br#"{
        "spec": {
            "must": "a", "must": "b", "must": "c",
            "props": { "a.b": 1, "a.b": 2 },
            "lom": [{ "k": "a" }, { "k": "a", "k": "b" }],
            "any": { "z": [[{ "q": 1, "q": 1.5 }]] }
        },
        "spec": { "must": null }
    }"#;
    let paths = ["spec.must", "spec.props.a.b", "spec.lom[1].k", "spec.any.z[0][0].q", "spec"];
    assert_eq!(duplicate_fields(body).unwrap(), paths);
    assert!(duplicate_fields(b"{\"a\": {\"a\": 1}}").unwrap().is_empty());
    assert!(duplicate_fields(b"{} {}").is_err(), "one value and nothing after it");
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    assert!(duplicate_fields(deep.as_bytes()).is_err(), "the stack has an end");
}

/// Any JSON, with the names of fields that the schema of the recorded answers knows.
fn any_value() -> impl Strategy<Value = Value> {
    let texts = prop::sample::select(vec!["", "a", "ab", "A", "10%", "2026-01-01T00:00:00Z"]);
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..12_i64).prop_map(Value::from),
        (-2..4_i32).prop_map(|halves| Value::from(f64::from(halves) / 2.0)),
        texts.prop_map(Value::from),
    ];
    let names =
        || prop::sample::select(vec!["a", "b", "d", "k", "x", "z", "apiVersion", "kind", "metadata", "spec"]);
    scalar.prop_recursive(3, 24, 4, move |below| {
        prop_oneof![
            prop::collection::vec(below.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names(), below, 0..4).prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

/// Fields of recorded specs, of which every now and then one has another value.
fn any_spec(all: &[Value]) -> impl Strategy<Value = Value> + use<> {
    let mut fields = Vec::new();
    for spec in all.iter().filter_map(|case| case["spec"].as_object()) {
        fields.extend(spec.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    let names: Vec<_> = fields.iter().map(|(name, _)| name.clone()).collect();
    let field = prop_oneof![
        4 => prop::sample::select(fields),
        1 => (prop::sample::select(names), any_value()),
    ];
    prop::collection::vec(field, 0..6)
        .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>()))
}

proptest! {
    #[test]
    fn what_was_pruned_and_defaulted_once_stays_as_it_is(spec in any_spec(cases(&objects().1))) {
        let kind = &objects().0;
        let mut once = object(&spec);
        prune(&mut once, &kind.schema);
        apply_defaults(&mut once, &kind.schema);
        let mut twice = once.clone();
        let dropped = prune(&mut twice, &kind.schema);
        prop_assert!(dropped.is_empty(), "{dropped:?}");
        prop_assert_eq!(&twice, &once);
        apply_defaults(&mut twice, &kind.schema);
        prop_assert_eq!(&twice, &once);
        let errors = kind.validator.validate(&once);
        prop_assert!(kind.validator.validate_update(&twice, &once).len() <= errors.len());
    }
}

/// The schema of the first definition of `tests/data/crds.yaml`.
fn machine() -> CustomKind {
    let first =
        serde_yaml::Deserializer::from_str(include_str!("../../tests/data/crds.yaml")).next().unwrap();
    let definition = Value::deserialize(first).unwrap();
    let version = &definition["spec"]["versions"][0];
    CustomKind::new(&version["schema"]["openAPIV3Schema"], "schema", true).unwrap()
}

#[test]
fn the_lists_of_metadata_have_keys_in_every_custom_kind() {
    let kind = machine();
    let metadata = kind.schema.field("metadata").unwrap();
    assert_eq!(metadata.field("ownerReferences").unwrap().list_type, ListType::Map(vec!["uid".to_owned()]));
    assert_eq!(metadata.field("finalizers").unwrap().list_type, ListType::Set);
}

#[test]
fn conditions_are_complete_and_there_once() {
    let kind = machine();
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
        (json!([good]), None),
        (with("status", json!("Maybe")), Some("status.conditions[0].status: Unsupported value: \"Maybe\"")),
        (with("reason", json!("")), Some("status.conditions[0].reason: Invalid value: \"\"")),
        (
            with("observedGeneration", json!(-1)),
            Some("status.conditions[0].observedGeneration: Invalid value: -1"),
        ),
        (
            with("lastTransitionTime", json!("now")),
            Some("status.conditions[0].lastTransitionTime: Invalid value"),
        ),
        (with("message", json!("m".repeat(32769))), Some("status.conditions[0].message: Too long")),
        (json!([unnamed]), Some("status.conditions[0].reason: Required value")),
        (json!([good, good]), Some("status.conditions[1]: Duplicate value: {\"type\":\"Ready\"}")),
    ];
    for (conditions, expected) in cases {
        let new = json!({ "spec": {}, "status": { "conditions": conditions } });
        let errors = kind.validator.validate_status_update(&new, &json!({ "spec": {} }));
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        match expected {
            Some(expected) => {
                assert!(texts.len() == 1 && texts[0].starts_with(expected), "{expected}: {texts:?}");
            }
            None => assert!(texts.is_empty(), "{texts:?}"),
        }
    }
}

#[test]
fn built_in_kinds_say_by_what_name_they_are_served() {
    let names = &components()["io.k8s.api.coordination.v1.Lease"]["x-kubernetes-group-version-kind"];
    assert_eq!(*names, json!([{ "group": "coordination.k8s.io", "version": "v1", "kind": "Lease" }]));
    assert!(Builtin::find("coordination.k8s.io", "v1", "Lease").is_some());
    assert!(Builtin::find("", "v1", "Lease").is_none());
}
