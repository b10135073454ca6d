//! Definitions that are refused, and the field that each error names.

use serde_json::{Value, json};

use super::kinds::{any_object, definition};
use super::server::Server;

on_every_server![
    the_name_is_the_plural_and_the_group,
    the_group_is_a_domain,
    the_scope_is_one_of_two,
    names_have_the_form_of_names,
    one_version_is_stored,
    every_version_has_a_schema,
    schemas_are_structural,
    lists_say_how_their_items_are_told_apart,
    defaults_fit_their_schema,
    patterns_can_be_read,
    metadata_is_not_redefined,
    columns_have_a_type_and_a_path,
    selectable_fields_are_fields,
    scales_are_below_spec_and_status,
    unknown_fields_are_kept_by_the_schema_only,
];

const GROUP: &str = "invalid.crds.conformance.test";

fn valid() -> Value {
    definition(GROUP, "Thing", &json!({ "schema": any_object() }))
}

/// A definition with this schema for `spec`.
fn with_spec(spec: &Value) -> Value {
    let schema = json!({ "type": "object", "properties": { "spec": spec } });
    definition(GROUP, "Thing", &json!({ "schema": { "openAPIV3Schema": schema } }))
}

/// Expects that a definition is refused for a field. Paths within a version differ, so only their ends are compared.
async fn assert_refused(server: &Server, definition: Value, field: &str) {
    let refused = server.crds().create(definition.clone()).await;
    let causes = refused.invalid();
    let told =
        causes.iter().any(|cause| cause.rsplit_once(": ").is_some_and(|(path, _)| path.ends_with(field)));
    assert!(told, "{field} is not in {causes:?}");
}

async fn the_name_is_the_plural_and_the_group(server: &Server) {
    let mut bad = valid();
    bad["metadata"]["name"] = json!(format!("others.{GROUP}"));
    assert_refused(server, bad, "metadata.name").await;
    server.crds().create_with("?dryRun=All", valid()).await.created();
}

async fn the_group_is_a_domain(server: &Server) {
    assert_refused(server, definition("flat", "Thing", &json!({ "schema": any_object() })), "spec.group")
        .await;
    assert_refused(server, definition("A.b", "Thing", &json!({ "schema": any_object() })), "spec.group")
        .await;
}

async fn the_scope_is_one_of_two(server: &Server) {
    let mut bad = valid();
    bad["spec"]["scope"] = json!("Universal");
    assert_refused(server, bad, "spec.scope").await;
    let mut bad = valid();
    bad["spec"].as_object_mut().unwrap().remove("scope");
    assert_refused(server, bad, "spec.scope").await;
}

async fn names_have_the_form_of_names(server: &Server) {
    for (field, value) in
        [("kind", "a thing"), ("plural", "Things"), ("singular", "Thing"), ("listKind", "list of")]
    {
        let mut bad = valid();
        bad["spec"]["names"][field] = json!(value);
        assert_refused(server, bad, &format!("spec.names.{field}")).await;
    }
    let mut bad = valid();
    bad["spec"]["names"]["shortNames"] = json!(["T H"]);
    assert_refused(server, bad, "spec.names.shortNames[0]").await;
}

async fn one_version_is_stored(server: &Server) {
    let version = |name: &str, stored: bool| {
        let schema = any_object();
        json!({ "name": name, "served": true, "storage": stored, "schema": schema })
    };
    for versions in [
        json!([]),
        json!([version("v1", false)]),
        json!([version("v1", true), version("v2", true)]),
        json!([version("v1", true), version("v1", false)]),
    ] {
        let mut bad = valid();
        bad["spec"]["versions"] = versions;
        assert_refused(server, bad, "spec.versions").await;
    }
}

async fn every_version_has_a_schema(server: &Server) {
    let mut bad = valid();
    bad["spec"]["versions"][0].as_object_mut().unwrap().remove("schema");
    assert_refused(server, bad, "schema.openAPIV3Schema").await;
}

async fn schemas_are_structural(server: &Server) {
    assert_refused(
        server,
        with_spec(&json!({ "properties": { "a": { "type": "string" } } })),
        "properties[spec].type",
    )
    .await;
    assert_refused(server, with_spec(&json!({ "type": "text" })), "properties[spec].type").await;
    let root = json!({ "schema": { "openAPIV3Schema": { "type": "string" } } });
    assert_refused(server, definition(GROUP, "Thing", &root), "openAPIV3Schema.type").await;
    let string = json!({ "type": "string" });
    let both = json!({ "type": "object", "properties": { "a": string }, "additionalProperties": string });
    assert_refused(server, with_spec(&both), "properties[spec].additionalProperties").await;
}

async fn lists_say_how_their_items_are_told_apart(server: &Server) {
    let keyed = |keys: Value| {
        let item = json!({ "type": "object", "properties": { "k": { "type": "string" } } });
        let mut list = json!({ "type": "array", "x-kubernetes-list-type": "map", "items": item });
        list["x-kubernetes-list-map-keys"] = keys;
        with_spec(&list)
    };
    assert_refused(server, with_spec(&json!({ "type": "array" })), "properties[spec].items").await;
    assert_refused(server, keyed(json!([])), "x-kubernetes-list-map-keys").await;
    assert_refused(server, keyed(json!(["other"])), "x-kubernetes-list-map-keys").await;
    // A key must be required or have a default.
    assert_refused(server, keyed(json!(["k"])), "items.properties[k].default").await;
    let set = json!({ "type": "array", "x-kubernetes-list-type": "bag", "items": { "type": "string" } });
    assert_refused(server, with_spec(&set), "x-kubernetes-list-type").await;
}

async fn defaults_fit_their_schema(server: &Server) {
    assert_refused(server, with_spec(&json!({ "type": "string", "default": 3 })), "properties[spec].default")
        .await;
    let small = json!({ "type": "integer", "minimum": 5, "default": 3 });
    assert_refused(server, with_spec(&small), "properties[spec].default").await;
    let unknown = json!({ "type": "object", "properties": {}, "default": { "a": 1 } });
    assert_refused(server, with_spec(&unknown), "properties[spec].default").await;
}

async fn patterns_can_be_read(server: &Server) {
    assert_refused(
        server,
        with_spec(&json!({ "type": "string", "pattern": "(" })),
        "properties[spec].pattern",
    )
    .await;
}

async fn metadata_is_not_redefined(server: &Server) {
    let metadata = json!({ "type": "object", "properties": { "labels": { "type": "object" } } });
    let schema = json!({ "type": "object", "properties": { "metadata": metadata } });
    let bad = definition(GROUP, "Thing", &json!({ "schema": { "openAPIV3Schema": schema } }));
    assert_refused(server, bad, "properties[metadata]").await;
}

async fn columns_have_a_type_and_a_path(server: &Server) {
    let with = |column: Value| {
        definition(GROUP, "Thing", &json!({ "schema": any_object(), "additionalPrinterColumns": [column] }))
    };
    let bad = with(json!({ "name": "A", "type": "text", "jsonPath": ".a" }));
    assert_refused(server, bad, "additionalPrinterColumns[0].type").await;
    let bad = with(json!({ "name": "A", "type": "string", "jsonPath": "a" }));
    assert_refused(server, bad, "additionalPrinterColumns[0].JSONPath").await;
}

async fn selectable_fields_are_fields(server: &Server) {
    let mut bad = with_spec(&json!({ "type": "object", "properties": { "a": { "type": "object" } } }));
    for path in [".spec.none", ".spec.a", ".metadata.name"] {
        bad["spec"]["versions"][0]["selectableFields"] = json!([{ "jsonPath": path }]);
        assert_refused(server, bad.clone(), "selectableFields[0].jsonPath").await;
    }
}

async fn scales_are_below_spec_and_status(server: &Server) {
    for (field, value) in [("specReplicasPath", ".replicas"), ("statusReplicasPath", ".spec.replicas")] {
        let mut scale =
            json!({ "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas" });
        scale[field] = json!(value);
        let bad = definition(
            GROUP,
            "Thing",
            &json!({ "schema": any_object(), "subresources": { "scale": scale } }),
        );
        assert_refused(server, bad, &format!("subresources.scale.{field}")).await;
    }
}

async fn unknown_fields_are_kept_by_the_schema_only(server: &Server) {
    let mut bad = valid();
    bad["spec"]["preserveUnknownFields"] = json!(true);
    assert_refused(server, bad, "spec.preserveUnknownFields").await;
}
