//! A kind with everything that matters to owners, and short ways to write to its objects.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::{Endpoint, FieldSet, Manager, Origin, track_update};
use crate::schema::{ListType, Schema};

/// A schema as a CustomResourceDefinition has it, as far as owners are concerned.
pub(super) fn schema(openapi: &Value) -> Schema {
    let sub = |openapi: &Value| Arc::new(schema(openapi));
    let is = |name: &str| openapi[name] == true;
    let list_type = match openapi["x-kubernetes-list-type"].as_str() {
        Some("set") => ListType::Set,
        Some("map") => {
            let keys = openapi["x-kubernetes-list-map-keys"].as_array().unwrap();
            ListType::Map(keys.iter().map(|key| key.as_str().unwrap().to_owned()).collect())
        }
        _ => ListType::Atomic,
    };
    let properties = openapi["properties"].as_object().into_iter().flatten();
    Schema {
        kind: openapi["type"].as_str().unwrap_or_default().to_owned(),
        properties: properties.map(|(name, property)| (name.clone(), sub(property))).collect(),
        values: openapi.get("additionalProperties").map(sub),
        items: openapi.get("items").map(sub),
        default: openapi.get("default").cloned(),
        preserve_unknown_fields: is("x-kubernetes-preserve-unknown-fields"),
        embedded_resource: is("x-kubernetes-embedded-resource"),
        int_or_string: is("x-kubernetes-int-or-string"),
        list_type,
        atomic: openapi["x-kubernetes-map-type"] == "atomic",
        ..Schema::default()
    }
}

pub(super) static WIDGET: LazyLock<Schema> = LazyLock::new(|| {
    let map = || json!({"type": "object", "additionalProperties": {"type": "string"}});
    let list_map = |keys: &[&str], properties: Value| {
        json!({
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys,
            "items": {"type": "object", "properties": properties},
        })
    };
    let text = || json!({"type": "string"});
    let port = json!({
        "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}, "name": text(),
        "options": map(),
    });
    schema(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "replicas": {"type": "integer"},
            "text": text(),
            "flag": {"type": "boolean"},
            "quantity": {"x-kubernetes-int-or-string": true},
            "labels": map(),
            "atomic": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": text()},
            "list": {"type": "array", "items": text()},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": text()},
            "ports": list_map(&["port", "protocol"], port),
            "env": list_map(&["name"], json!({"name": text(), "value": text()})),
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "embedded": {
                "type": "object", "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true,
            },
        }},
        "status": {"type": "object", "properties": {
            "phase": text(),
            "conditions": list_map(&["type"], json!({"type": text(), "status": text()})),
        }},
    }}))
});

static RESET: LazyLock<[FieldSet<'static>; 2]> =
    LazyLock::new(|| [FieldSet::of(["status"]), FieldSet::of(["spec"])]);

pub(super) fn main() -> Endpoint<'static> {
    Endpoint {
        schema: &WIDGET,
        api_version: "example.com/v1",
        kind: "Widget",
        subresource: "",
        reset: &RESET[0],
        origin: Origin::Custom,
    }
}

pub(super) fn status() -> Endpoint<'static> {
    Endpoint { subresource: "status", reset: &RESET[1], ..main() }
}

/// A manager who writes in this second.
pub(super) fn at(second: i64, name: &str) -> Manager<'_> {
    Manager { name, now: Timestamp::from_second(second).unwrap() }
}

/// How [`at`] this second is written.
pub(super) fn time(second: i64) -> String {
    Timestamp::from_second(second).unwrap().to_string()
}

#[expect(clippy::needless_pass_by_value, reason = "made for the call")]
pub(super) fn widget(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec})
}

/// A widget that this manager has created in second 1.
pub(super) fn created(manager: &str, spec: Value) -> Value {
    let mut object = widget(spec);
    track_update(&main(), &at(1, manager), None, &mut object);
    object["metadata"]["uid"] = json!("1");
    object
}

/// The live object after a merge patch.
#[expect(clippy::needless_pass_by_value, reason = "made for the call")]
pub(super) fn patched(endpoint: &Endpoint<'_>, manager: &Manager<'_>, live: &Value, patch: Value) -> Value {
    let mut object = live.clone();
    json_patch::merge(&mut object, &patch);
    track_update(endpoint, manager, Some(live), &mut object);
    object
}

pub(super) fn entries(object: &Value) -> &[Value] {
    object["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Who there is, in the order of the list, as in `ctl Update status`.
pub(super) fn managers(object: &Value) -> Vec<String> {
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let shown = |entry| {
        format!("{} {} {}", text(entry, "manager"), text(entry, "operation"), text(entry, "subresource"))
    };
    entries(object).iter().map(|entry| shown(entry).trim().to_owned()).collect()
}

/// The entry of a manager.
pub(super) fn entry<'a>(object: &'a Value, manager: &str) -> &'a Value {
    entries(object).iter().find(|entry| entry["manager"] == manager).unwrap_or(&Value::Null)
}

/// What a manager owns.
pub(super) fn owned<'a>(object: &'a Value, manager: &str) -> &'a Value {
    &entry(object, manager)["fieldsV1"]
}
