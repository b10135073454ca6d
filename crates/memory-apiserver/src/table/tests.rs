//! Whole tables, and rows of built-in kinds compared with those of kube-apiserver 1.35 for the same objects.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{IncludeObject, Printer, Tables, partial_list, partial_object};

/// Answers of kube-apiserver: kinds with their columns, and rows with their objects.
const RECORDED: &str = include_str!("../../tests/data/kube-apiserver/tables.json");

/// The time of those answers, five minutes after the objects were created.
fn now() -> Timestamp {
    "2026-11-24T10:25:05Z".parse().unwrap()
}

#[test]
fn built_in_kinds_have_the_columns_and_rows_of_the_real_server() {
    let kinds: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    assert_eq!(kinds.len(), 13);
    for recorded in kinds {
        let (group, kind) = (recorded["group"].as_str().unwrap(), recorded["kind"].as_str().unwrap());
        let printer = Printer::built_in(group, kind);
        let columns: Vec<_> = printer
            .columns
            .iter()
            .map(|column| json!([column.name, column.kind, column.format, column.priority]))
            .collect();
        assert_eq!(Value::from(columns), recorded["columns"], "{kind}");
        for row in recorded["rows"].as_array().unwrap() {
            let object = &row["object"];
            assert_eq!(Value::from(printer.cells(object, now())), row["cells"], "{kind} {object}");
            let conditions = printer.row_conditions(object).unwrap_or_default();
            assert_eq!(conditions, row["conditions"], "{kind} {object}");
        }
    }
}

#[test]
fn rows_of_objects_that_lack_everything_are_rendered() {
    let kinds: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    for recorded in kinds {
        let (group, kind) = (recorded["group"].as_str().unwrap(), recorded["kind"].as_str().unwrap());
        let printer = Printer::built_in(group, kind);
        for object in [json!({}), json!(null), json!({"metadata": 1, "spec": [], "status": "x"})] {
            assert_eq!(printer.cells(&object, now()).len(), printer.columns.len(), "{kind}");
        }
    }
    let config_maps = Printer::built_in("", "ConfigMap");
    assert_eq!(config_maps.cells(&json!({}), now()), [json!(""), json!(0), json!("<unknown>")]);
}

fn config_map() -> Value {
    json!({
        "kind": "ConfigMap", "apiVersion": "v1", "data": {"a": "1"},
        "metadata": {"name": "c", "resourceVersion": "7", "creationTimestamp": "2026-11-24T10:25:00Z"},
    })
}

fn tables(include: IncludeObject, render: impl Fn(Tables<'_>) -> Value) -> Value {
    render(Tables { printer: &Printer::built_in("", "ConfigMap"), include })
}

#[test]
fn a_table_of_a_list_has_the_metadata_of_the_list() {
    let metadata = json!({"resourceVersion": "9", "continue": "token", "remainingItemCount": 3});
    let table = tables(IncludeObject::None, |tables| {
        tables.of_list(&metadata, [&config_map(), &config_map()], now())
    });
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["apiVersion"], "meta.k8s.io/v1");
    assert_eq!(table["metadata"], metadata);
    assert_eq!(table["columnDefinitions"][0]["format"], "name");
    let row = json!({"cells": ["c", 1, "5s"], "object": null});
    assert_eq!(table["rows"], json!([row, row]));
    let empty = tables(IncludeObject::None, |tables| tables.of_list(&metadata, [], now()));
    assert_eq!(empty["rows"], json!([]));
}

#[test]
fn a_row_has_as_much_of_its_object_as_was_asked_for() {
    let object = config_map();
    let row_object = |include| {
        let table = tables(include, |tables| tables.of_object(&object, now()));
        assert_eq!(table["metadata"], json!({"resourceVersion": "7"}));
        table["rows"][0]["object"].clone()
    };
    assert_eq!(row_object(IncludeObject::None), Value::Null);
    assert_eq!(row_object(IncludeObject::Metadata), partial_object(&object));
    assert_eq!(row_object(IncludeObject::Object), object);
}

#[test]
fn what_to_include_is_a_query_parameter() {
    for (parameter, include) in [
        ("", IncludeObject::Metadata),
        ("Metadata", IncludeObject::Metadata),
        ("None", IncludeObject::None),
        ("Object", IncludeObject::Object),
    ] {
        assert_eq!(IncludeObject::parse(parameter), Ok(include));
    }
    let error = IncludeObject::parse("none").unwrap_err();
    assert_eq!((error.code, error.reason), (400, "BadRequest"));
    assert_eq!(
        error.message,
        "Unable to convert to Table as requested: includeObject: Invalid value: \"none\": must be 'Metadata', \
         'Object', 'None', or empty"
    );
}

#[test]
fn only_the_first_event_of_a_watch_has_headers() {
    let event =
        |first| tables(IncludeObject::Metadata, |tables| tables.of_event(&config_map(), first, now()));
    assert!(event(true)["columnDefinitions"].is_array());
    let later = event(false);
    assert_eq!(later["columnDefinitions"], Value::Null);
    assert_eq!(later["rows"], event(true)["rows"]);
}

#[test]
fn the_end_of_the_initial_events_can_be_seen_without_objects() {
    let annotations = json!({"k8s.io/initial-events-end": "true"});
    let bookmark = json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"resourceVersion": "8", "annotations": annotations},
    });
    let table = tables(IncludeObject::None, |tables| tables.of_event(&bookmark, false, now()));
    assert_eq!(table["metadata"], json!({"resourceVersion": "8"}));
    assert_eq!(table["rows"], json!([{"cells": ["", 0, "<unknown>"], "object": partial_object(&bookmark)}]));
}

#[test]
fn partial_objects_have_nothing_but_metadata() {
    let object = config_map();
    let partial = json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
    });
    assert_eq!(partial_object(&object), partial);
    let list = partial_list(&json!({"resourceVersion": "9"}), [&object]);
    let expected = json!({
        "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": "9"}, "items": [partial],
    });
    assert_eq!(list, expected);
}
