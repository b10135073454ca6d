//! Schemas: the objects that they refuse, and the cause for each field.

use serde_json::{Value, json};

use super::answer::text;
use super::server::Server;

on_every_server![
    texts_have_lengths_and_patterns,
    numbers_have_bounds,
    values_have_types,
    values_may_be_listed,
    times_have_a_format,
    fields_may_be_required,
    integers_or_texts_may_be_mixed,
    items_of_a_set_are_unique,
    items_of_a_list_map_have_unique_keys,
    lists_and_maps_have_sizes,
    values_of_maps_have_a_type,
    one_of_several_schemas_must_hold,
    any_of_several_schemas_must_hold,
    all_of_several_schemas_must_hold,
    a_schema_may_have_to_fail,
    embedded_objects_say_what_they_are,
    known_fields_are_validated_where_unknown_ones_are_kept,
    all_that_is_wrong_is_told_at_once,
    the_message_tells_the_object_and_the_field,
    replacements_are_validated,
    status_is_validated_by_its_subresource,
    machines_are_validated,
];

/// Expects that a widget with this spec is accepted, or refused with these causes.
async fn assert_specs<const N: usize>(server: &Server, cases: [(Value, &[&str]); N]) {
    let widgets = server.widgets().await;
    for (number, (spec, causes)) in cases.into_iter().enumerate() {
        let name = format!("w{number}");
        let answer = widgets.create(widgets.object(&name, json!({ "spec": spec }))).await;
        if causes.is_empty() {
            answer.created();
        } else {
            assert_eq!(answer.invalid(), causes, "{spec}");
            widgets.get(&name).await.refused(404, "NotFound");
        }
    }
}

async fn texts_have_lengths_and_patterns(server: &Server) {
    let cases: [(_, &[_]); 5] = [
        (json!({ "text": "abcdefghij" }), &[]),
        (json!({ "text": "" }), &["spec.text: FieldValueInvalid"]),
        (json!({ "text": "abcdefghijk" }), &["spec.text: FieldValueTooLong"]),
        (json!({ "text": "aBc" }), &["spec.text: FieldValueInvalid"]),
        (json!({ "text": "a\nb" }), &["spec.text: FieldValueInvalid"]),
    ];
    assert_specs(server, cases).await;
}

async fn numbers_have_bounds(server: &Server) {
    let cases: [(_, &[_]); 9] = [
        (json!({ "number": 1, "step": -10, "ratio": 0.5 }), &[]),
        (json!({ "number": 10, "step": 0, "ratio": 0 }), &[]),
        (json!({ "number": 0 }), &["spec.number: FieldValueInvalid"]),
        (json!({ "number": 11 }), &["spec.number: FieldValueInvalid"]),
        (json!({ "step": 3 }), &["spec.step: FieldValueInvalid"]),
        (json!({ "ratio": 1 }), &["spec.ratio: FieldValueInvalid"]),
        (json!({ "ratio": 0.999 }), &[]),
        (json!({ "ratio": -0.1 }), &["spec.ratio: FieldValueInvalid"]),
        (json!({ "number": 2.0 }), &[]),
    ];
    assert_specs(server, cases).await;
}

async fn values_have_types(server: &Server) {
    let cases: [(_, &[_]); 10] = [
        (json!({ "text": 1 }), &["spec.text: FieldValueTypeInvalid"]),
        (json!({ "number": "1" }), &["spec.number: FieldValueTypeInvalid"]),
        (json!({ "number": 1.5 }), &["spec.number: FieldValueTypeInvalid"]),
        (json!({ "ratio": true }), &["spec.ratio: FieldValueTypeInvalid"]),
        (json!({ "flag": "true" }), &["spec.flag: FieldValueTypeInvalid"]),
        (json!({ "ordered": {} }), &["spec.ordered: FieldValueTypeInvalid"]),
        (json!({ "ordered": [1] }), &["spec.ordered[0]: FieldValueTypeInvalid"]),
        (json!({ "nested": [] }), &["spec.nested: FieldValueTypeInvalid"]),
        (json!({ "nested": { "depth": {} } }), &["spec.nested.depth: FieldValueTypeInvalid"]),
        (json!({ "parts": [null] }), &["spec.parts[0]: FieldValueTypeInvalid"]),
    ];
    assert_specs(server, cases).await;
}

async fn values_may_be_listed(server: &Server) {
    let cases: [(_, &[_]); 3] = [
        (json!({ "mode": "Off" }), &[]),
        (json!({ "mode": "off" }), &["spec.mode: FieldValueNotSupported"]),
        (json!({ "mode": "" }), &["spec.mode: FieldValueNotSupported"]),
    ];
    assert_specs(server, cases).await;
}

async fn times_have_a_format(server: &Server) {
    for good in ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456789+02:00", "2028-02-29T23:59:59-11:00"] {
        assert_specs(server, [(json!({ "at": good }), &[])]).await;
    }
    let widgets = server.widgets().await;
    for bad in
        ["yesterday", "", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z"]
    {
        let answer = widgets.create(widgets.object("a", json!({ "spec": { "at": bad } }))).await;
        assert_eq!(answer.invalid(), ["spec.at: FieldValueTypeInvalid"], "{bad}");
    }
}

async fn fields_may_be_required(server: &Server) {
    let cases: [(_, &[_]); 5] = [
        (json!({ "need": { "this": "" } }), &[]),
        (json!({ "need": {} }), &["spec.need.this: FieldValueRequired"]),
        (json!({ "need": { "this": null } }), &["spec.need.this: FieldValueRequired"]),
        (json!({ "parts": [{ "name": "a" }, { "size": 1 }] }), &["spec.parts[1].name: FieldValueRequired"]),
        (json!({}), &[]),
    ];
    assert_specs(server, cases).await;
}

async fn integers_or_texts_may_be_mixed(server: &Server) {
    let cases: [(_, &[_]); 5] = [
        (json!({ "port": 80 }), &[]),
        (json!({ "port": "http" }), &[]),
        (json!({ "port": 1.5 }), &["spec.port: FieldValueTypeInvalid"]),
        (json!({ "port": true }), &["spec.port: FieldValueTypeInvalid"]),
        (json!({ "port": {} }), &["spec.port: FieldValueTypeInvalid"]),
    ];
    assert_specs(server, cases).await;
}

async fn items_of_a_set_are_unique(server: &Server) {
    let cases: [(_, &[_]); 3] = [
        (json!({ "tags": ["a", "b"] }), &[]),
        (json!({ "tags": ["a", "b", "a"] }), &["spec.tags[2]: FieldValueDuplicate"]),
        (json!({ "ordered": ["a", "a"] }), &[]),
    ];
    assert_specs(server, cases).await;
}

async fn items_of_a_list_map_have_unique_keys(server: &Server) {
    let cases: [(_, &[_]); 5] = [
        (json!({ "parts": [{ "name": "a", "size": 1 }, { "name": "b", "size": 1 }] }), &[]),
        (
            json!({ "parts": [{ "name": "a", "size": 1 }, { "name": "a" }] }),
            &["spec.parts[1]: FieldValueDuplicate"],
        ),
        (json!({ "ports": [{ "port": 1, "protocol": "UDP" }, { "port": 1 }, { "port": 2 }] }), &[]),
        (
            json!({ "ports": [{ "port": 1, "protocol": "UDP" }, { "port": 1, "protocol": "UDP" }] }),
            &["spec.ports[1]: FieldValueDuplicate"],
        ),
        // Absent fields have their defaults.
        (
            json!({ "ports": [{ "port": 1, "protocol": "TCP" }, { "port": 1 }] }),
            &["spec.ports[1]: FieldValueDuplicate"],
        ),
    ];
    assert_specs(server, cases).await;
}

async fn lists_and_maps_have_sizes(server: &Server) {
    let cases: [(_, &[_]); 4] = [
        (json!({ "tags": ["a", "b", "c"], "labels": { "a": "", "b": "", "c": "" } }), &[]),
        (json!({ "tags": [] }), &["spec.tags: FieldValueInvalid"]),
        (json!({ "tags": ["a", "b", "c", "d"] }), &["spec.tags: FieldValueTooMany"]),
        (json!({ "labels": { "a": "", "b": "", "c": "", "d": "" } }), &["spec.labels: FieldValueTooMany"]),
    ];
    assert_specs(server, cases).await;
}

async fn values_of_maps_have_a_type(server: &Server) {
    let cases: [(_, &[_]); 2] = [
        (json!({ "labels": { "any.key/at all": "x" } }), &[]),
        (json!({ "labels": { "a": 1 } }), &["spec.labels.a: FieldValueTypeInvalid"]),
    ];
    assert_specs(server, cases).await;
}

/// The field of a failed combination differs between versions, so only the failure is checked.
async fn assert_combination(server: &Server, good: &[Value], bad: &[Value]) {
    let widgets = server.widgets().await;
    for (number, spec) in good.iter().enumerate() {
        widgets.made(&format!("w{number}"), json!({ "spec": spec })).await;
    }
    for spec in bad {
        let answer = widgets.create(widgets.object("bad", json!({ "spec": spec }))).await;
        assert!(!answer.invalid().is_empty(), "{answer:?}");
    }
}

async fn one_of_several_schemas_must_hold(server: &Server) {
    let good = [json!({ "one": { "left": "a" } }), json!({ "one": { "right": "b" } }), json!({})];
    let bad = [json!({ "one": {} }), json!({ "one": { "left": "a", "right": "b" } })];
    assert_combination(server, &good, &bad).await;
}

async fn any_of_several_schemas_must_hold(server: &Server) {
    let good = [json!({ "any": { "size": 10 } }), json!({ "any": { "size": 1, "unit": "x" } })];
    assert_combination(server, &good, &[json!({ "any": { "size": 9 } })]).await;
}

async fn all_of_several_schemas_must_hold(server: &Server) {
    let good = [json!({ "all": { "size": 2 } }), json!({ "all": { "size": 4 } }), json!({ "all": {} })];
    assert_combination(server, &good, &[json!({ "all": { "size": 1 } }), json!({ "all": { "size": 5 } })])
        .await;
}

async fn a_schema_may_have_to_fail(server: &Server) {
    assert_combination(server, &[json!({ "never": {} })], &[json!({ "never": { "bad": "x" } })]).await;
}

async fn embedded_objects_say_what_they_are(server: &Server) {
    let cases: [(_, &[_]); 3] = [
        (
            json!({ "embedded": { "apiVersion": "v1", "kind": "X", "metadata": { "name": "a" }, "any": {} } }),
            &[],
        ),
        (
            json!({ "embedded": { "any": 1 } }),
            &["spec.embedded.apiVersion: FieldValueRequired", "spec.embedded.kind: FieldValueRequired"],
        ),
        (json!({ "embedded": { "apiVersion": "v1" } }), &["spec.embedded.kind: FieldValueRequired"]),
    ];
    assert_specs(server, cases).await;
}

async fn known_fields_are_validated_where_unknown_ones_are_kept(server: &Server) {
    let cases: [(_, &[_]); 4] = [
        (json!({ "free": { "known": 1, "unknown": { "a": ["b"] } } }), &[]),
        (json!({ "free": { "known": "1", "unknown": 1 } }), &["spec.free.known: FieldValueTypeInvalid"]),
        (json!({ "opaque": "text" }), &[]),
        (json!({ "opaque": [{}] }), &[]),
    ];
    assert_specs(server, cases).await;
}

async fn all_that_is_wrong_is_told_at_once(server: &Server) {
    let spec = json!({ "text": "A", "number": "1", "mode": "x", "need": {}, "nested": { "depth": "x" } });
    let causes = [
        "spec.mode: FieldValueNotSupported",
        "spec.need.this: FieldValueRequired",
        "spec.nested.depth: FieldValueTypeInvalid",
        "spec.number: FieldValueTypeInvalid",
        "spec.text: FieldValueInvalid",
    ];
    assert_specs(server, [(spec, &causes)]).await;
}

async fn the_message_tells_the_object_and_the_field(server: &Server) {
    let widgets = server.widgets().await;
    let answer = widgets.create(widgets.object("a", json!({ "spec": { "need": {} } }))).await;
    let status = answer.refused(422, "Invalid");
    let message = "Widget.conformance.test \"a\" is invalid: spec.need.this: Required value";
    assert_eq!(text(&status, "/message"), message);
    let details = json!({ "name": "a", "group": "conformance.test", "kind": "Widget" });
    for (field, value) in details.as_object().unwrap() {
        assert_eq!(&status["details"][field], value);
    }
    assert_eq!(status["details"]["causes"][0]["message"], "Required value");

    let answer = widgets.create(widgets.object("a", json!({ "spec": { "mode": "Up" } }))).await;
    let message = text(&answer.json(), "/message").to_owned();
    assert!(message.contains(r#"spec.mode: Unsupported value: "Up": supported values: "#), "{message}");
    let answer = widgets.create(widgets.object("a", json!({ "spec": { "tags": ["x", "x"] } }))).await;
    let message = text(&answer.json(), "/message").to_owned();
    assert!(message.ends_with(r#"spec.tags[1]: Duplicate value: "x""#), "{message}");
}

async fn replacements_are_validated(server: &Server) {
    let widgets = server.widgets().await;
    let created = widgets.made("a", json!({ "spec": { "number": 1 } })).await;
    let mut bad = created.clone();
    bad["spec"]["number"] = json!(0);
    assert_eq!(widgets.put("a", bad).await.invalid(), ["spec.number: FieldValueInvalid"]);
    assert_eq!(widgets.get("a").await.ok(), created);
}

async fn status_is_validated_by_its_subresource(server: &Server) {
    let widgets = server.widgets().await;
    let created = widgets.made("a", json!({})).await;
    for (status, cause) in [
        (json!({ "phase": "Lost" }), "status.phase: FieldValueNotSupported"),
        (json!({ "conditions": 3 }), "status.conditions: FieldValueTypeInvalid"),
        (json!({ "conditions": [{ "type": "A" }] }), "status.conditions[0].status: FieldValueRequired"),
        (
            json!({ "conditions": [{ "type": "A", "status": "True" }, { "type": "A", "status": "False" }] }),
            "status.conditions[1]: FieldValueDuplicate",
        ),
    ] {
        assert_eq!(widgets.merge("a/status", json!({ "status": status })).await.invalid(), [cause]);
    }
    assert_eq!(widgets.get("a").await.ok(), created);
}

async fn machines_are_validated(server: &Server) {
    let machines = server.machines().await;
    let refused = async |spec: Value| {
        let object = machines.object("bad", if spec.is_null() { json!({}) } else { json!({ "spec": spec }) });
        machines.create(object).await.invalid()
    };
    assert_eq!(refused(Value::Null).await, ["spec: FieldValueRequired"]);
    assert_eq!(refused(json!({ "runtimes": [{}] })).await, ["spec.runtimes[0].name: FieldValueRequired"]);
    assert_eq!(
        refused(json!({ "shutdownTime": "soon" })).await,
        ["spec.shutdownTime: FieldValueTypeInvalid"]
    );
    assert_eq!(refused(json!({ "templateRef": {} })).await, ["spec.templateRef.name: FieldValueRequired"]);

    machines
        .made(
            "a",
            json!({ "spec": { "template": { "anything": [1] }, "volumeClaimTemplates": "even this" } }),
        )
        .await;
    let condition = json!({
        "type": "Ready", "status": "Perhaps", "reason": "not one word", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": -1,
    });
    let refused = machines.merge("a/status", json!({ "status": { "conditions": [condition] } })).await;
    let causes = [
        "status.conditions[0].observedGeneration: FieldValueInvalid",
        "status.conditions[0].reason: FieldValueInvalid",
        "status.conditions[0].status: FieldValueNotSupported",
    ];
    assert_eq!(refused.invalid(), causes);
}
