//! What kube-apiserver 1.35 answered to schemas and objects, and that the same is answered here.
//!
//! The answers are in `tests/data/kube-apiserver`. Causes are compared without their order, which the real server
//! leaves to chance. Answers that are known to differ were left out: a whole number that only a float can hold is
//! no integer there, and a factor below one divides no whole number there.

use proptest::prelude::*;
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
    let cause = |cause: &Value| [text(&cause[0]), text(&cause[1]), text(&cause[2])];
    let mut causes: Vec<_> = case["causes"].as_array().into_iter().flatten().map(cause).collect();
    causes.sort();
    causes
}

fn objects() -> (CustomKind, Value) {
    let data = data(include_str!("../../../tests/data/kube-apiserver/objects.json"));
    (CustomKind::new(&data["schema"], "schema", false).unwrap(), data["cases"].clone())
}

fn object(spec: &Value) -> Value {
    json!({ "apiVersion": "t.example.com/v1", "kind": "Probe", "metadata": { "name": "x" }, "spec": spec })
}

#[test]
fn objects_are_pruned_defaulted_and_validated_as_by_the_real_server() {
    let (kind, all) = objects();
    let mut differing = Vec::new();
    for case in cases(&all) {
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
    assert!(differing.is_empty(), "{}\n{}", differing.len(), differing.join("\n"));
}

#[test]
fn schemas_are_refused_as_by_the_real_server() {
    let all = data(include_str!("../../../tests/data/kube-apiserver/schemas.json"));
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
    let data = data(include_str!("../../../tests/data/kube-apiserver/updates.json"));
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
    let all = data(include_str!("../../../tests/data/kube-apiserver/decoding.json"));
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
