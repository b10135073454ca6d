//! The steps before an object is stored: defaults, pruning, field validation, rules of metadata. In a dry run, all of
//! them are done and nothing is stored.

use http::Method;
use serde_json::{Value, json};

use super::answer::{Answer, text};
use super::collection::Collection;
use super::server::Server;

on_every_server![
    defaults_are_filled_in,
    defaults_are_filled_in_where_their_parent_is,
    nulls_give_way_to_defaults_unless_null_is_a_value,
    removed_fields_get_their_defaults_again,
    unknown_fields_are_pruned,
    unknown_fields_are_kept_where_the_schema_says_so,
    strict_writes_refuse_unknown_fields,
    strict_writes_refuse_fields_twice,
    by_default_unknown_fields_are_warned_about,
    ignored_fields_are_pruned_without_a_warning,
    patches_are_strict_too,
    kept_fields_are_known,
    values_of_parameters_are_checked,
    dry_runs_create_nothing,
    dry_runs_change_nothing,
    dry_runs_delete_nothing,
    dry_runs_are_refused_as_the_real_thing_is,
    names_have_rules,
    labels_have_rules,
    annotations_have_rules,
    finalizers_have_rules,
    owners_have_rules,
    metadata_has_types,
    immutable_config_maps_do_not_change,
];

async fn create(objects: &Collection, query: &str, name: &str, rest: Value) -> Answer {
    objects.create_with(query, objects.object(name, rest)).await
}

async fn defaults_are_filled_in(server: &Server) {
    let widgets = server.widgets().await;
    let created = widgets.made("a", json!({ "spec": { "text": "a" } })).await;
    let expected = json!({ "text": "a", "mode": "On", "maybeDefaulted": "d", "nested": { "depth": 3 } });
    assert_eq!(created["spec"], expected);
    let kept = json!({ "mode": "Off", "maybeDefaulted": "x", "nested": { "depth": 0 } });
    assert_eq!(widgets.made("b", json!({ "spec": kept })).await["spec"], kept);
}

async fn defaults_are_filled_in_where_their_parent_is(server: &Server) {
    let widgets = server.widgets().await;
    assert_eq!(widgets.made("a", json!({})).await.get("spec"), None);
    assert_eq!(widgets.made("b", json!({ "spec": {} })).await["spec"].get("lazy"), None);
    let created = widgets.made("c", json!({ "spec": { "lazy": {}, "ports": [{ "port": 1 }] } })).await;
    assert_eq!(created["spec"]["lazy"], json!({ "depth": 3 }));
    assert_eq!(created["spec"]["ports"], json!([{ "port": 1, "protocol": "TCP" }]));
    let machines = server.machines().await;
    let created = machines.made("a", json!({ "spec": { "lifecycle": { "preUpgrade": {} } } })).await;
    assert_eq!(created["spec"], json!({ "lifecycle": { "preUpgrade": { "timeoutSeconds": 60 } } }));
}

async fn nulls_give_way_to_defaults_unless_null_is_a_value(server: &Server) {
    let widgets = server.widgets().await;
    let spec = json!({
        "text": null, "mode": null, "nested": null, "maybe": null, "maybeDefaulted": null, "tags": null, "opaque": null,
        "free": { "x": null },
    });
    let created = widgets.made("a", json!({ "spec": spec })).await;
    let expected = json!({
        "mode": "On", "nested": { "depth": 3 }, "maybe": null, "maybeDefaulted": null, "free": { "x": null },
    });
    assert_eq!(created["spec"], expected);
    let created = widgets.made("b", json!({ "spec": { "nested": { "depth": null } } })).await;
    assert_eq!(created["spec"]["nested"], json!({ "depth": 3 }));
}

async fn removed_fields_get_their_defaults_again(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({ "spec": { "mode": "Off", "nested": { "depth": 1 } } })).await;
    let merged = widgets.merge("a", json!({ "spec": { "mode": null, "nested": null } })).await.ok();
    assert_eq!((&merged["spec"]["mode"], &merged["spec"]["nested"]), (&json!("On"), &json!({ "depth": 3 })));
}

/// Unknown fields at every kind of place.
fn unknown() -> Value {
    json!({
        "extra": 1,
        "metadata": { "extra": 1 },
        "spec": {
            "extra": 1, "nested": { "extra": 1 }, "parts": [{ "name": "a", "extra": 1 }], "whole": { "extra": 1 },
        },
    })
}

const UNKNOWN: [&str; 6] =
    ["extra", "metadata.extra", "spec.extra", "spec.nested.extra", "spec.parts[0].extra", "spec.whole.extra"];

async fn unknown_fields_are_pruned(server: &Server) {
    let widgets = server.widgets().await;
    let created = widgets.made("a", unknown()).await;
    assert_eq!((created.get("extra"), created["metadata"].get("extra")), (None, None));
    assert_eq!(created["spec"].get("extra"), None);
    assert_eq!(created["spec"]["nested"], json!({ "depth": 3 }));
    assert_eq!(created["spec"]["parts"], json!([{ "name": "a" }]));
    assert_eq!(created["spec"]["whole"], json!({}));

    let maps = server.config_maps().await;
    let created = maps.made("a", json!({ "extra": 1, "data": { "a": "b" } })).await;
    assert_eq!((created.get("extra"), &created["data"]), (None, &json!({ "a": "b" })));
}

async fn unknown_fields_are_kept_where_the_schema_says_so(server: &Server) {
    let widgets = server.widgets().await;
    let spec = json!({
        "free": { "known": 1, "extra": { "a": [{ "b": null }] } }, "opaque": { "any": { "thing": 1.5 } },
        "embedded": { "apiVersion": "v1", "kind": "K", "metadata": { "name": "x", "extra": 1 }, "data": { "a": 1 } },
    });
    let created = widgets.made("a", json!({ "spec": spec })).await;
    assert_eq!(created["spec"]["free"], spec["free"]);
    assert_eq!(created["spec"]["opaque"], spec["opaque"]);
    let embedded =
        json!({ "apiVersion": "v1", "kind": "K", "metadata": { "name": "x" }, "data": { "a": 1 } });
    assert_eq!(created["spec"]["embedded"], embedded, "its metadata is that of any object");
}

/// The messages of an error for each field.
fn strict_errors(message: &str) -> Vec<&str> {
    let errors = message.split_once("strict decoding error: ").unwrap_or_else(|| panic!("{message}")).1;
    let mut errors: Vec<_> = errors.split(", ").collect();
    errors.sort_unstable();
    errors
}

async fn strict_writes_refuse_unknown_fields(server: &Server) {
    let widgets = server.widgets().await;
    let status = create(&widgets, "?fieldValidation=Strict", "a", unknown()).await.refused(400, "BadRequest");
    let message = text(&status, "/message");
    let start = r#"Widget in version "v1" cannot be handled as a Widget: strict decoding error: "#;
    assert!(message.starts_with(start), "{message}");
    assert_eq!(strict_errors(message), UNKNOWN.map(|field| format!("unknown field {field:?}")));

    let maps = server.config_maps().await;
    let object = json!({ "extra": 1 });
    let status = create(&maps, "?fieldValidation=Strict", "a", object).await.refused(400, "BadRequest");
    let expected = r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "extra""#;
    assert_eq!(text(&status, "/message"), expected);

    let machines = server.machines().await;
    let object = json!({ "extra": 1, "spec": {} });
    let status = create(&machines, "?fieldValidation=Strict", "a", object).await.refused(400, "BadRequest");
    let expected = r#"Machine in version "v1alpha1" cannot be handled as a Machine: strict decoding error: unknown field "extra""#;
    assert_eq!(text(&status, "/message"), expected);

    for (objects, known) in
        [(widgets, json!({ "spec": { "text": "a" } })), (maps, json!({ "data": { "a": "b" } }))]
    {
        let created = create(&objects, "?fieldValidation=Strict", "a", known).await.created();
        let mut extra = created.clone();
        extra["extra"] = json!(1);
        objects.put("a?fieldValidation=Strict", extra).await.refused(400, "BadRequest");
        assert_eq!(objects.get("a").await.ok(), created);
    }
}

async fn strict_writes_refuse_fields_twice(server: &Server) {
    for objects in server.both().await {
        let object = objects.object("a", json!({ "metadata": { "labels": { "a": "1" } } })).to_string();
        let twice = object.replace(r#""a":"1""#, r#""a":"1","a":"2""#);
        let headers = [("content-type", "application/json")];
        let path = format!("{}?fieldValidation=Strict", objects.path);
        let status =
            server.http(Method::POST, &path, &headers, twice.clone()).await.refused(400, "BadRequest");
        assert_eq!(strict_errors(text(&status, "/message")), [r#"duplicate field "metadata.labels.a""#]);

        let answer = server.http(Method::POST, &objects.path, &headers, twice).await;
        assert_eq!(answer.created()["metadata"]["labels"], json!({ "a": "2" }), "the last one is taken");
        assert_eq!(answer.header("warning"), r#"299 - "duplicate field \"metadata.labels.a\"""#);
    }
}

/// The warnings of an answer, in the form of HTTP headers.
fn warnings(answer: &Answer) -> Vec<String> {
    let header = answer.header("warning");
    let mut warnings: Vec<_> = header
        .split("299 - ")
        .filter(|warning| !warning.is_empty())
        .map(|warning| warning.trim_end_matches([',', ' ']).replace("\\\"", "'"))
        .collect();
    warnings.sort();
    warnings
}

async fn by_default_unknown_fields_are_warned_about(server: &Server) {
    let widgets = server.widgets().await;
    for (name, query) in [("a", ""), ("b", "?fieldValidation=Warn"), ("c", "?fieldValidation=")] {
        let answer = create(&widgets, query, name, unknown()).await;
        answer.created();
        assert_eq!(warnings(&answer), UNKNOWN.map(|field| format!("\"unknown field '{field}'\"")));
    }
    let maps = server.config_maps().await;
    let answer = create(&maps, "", "a", json!({ "extra": 1 })).await;
    answer.created();
    assert_eq!(warnings(&answer), ["\"unknown field 'extra'\""]);
}

async fn ignored_fields_are_pruned_without_a_warning(server: &Server) {
    let widgets = server.widgets().await;
    let answer = create(&widgets, "?fieldValidation=Ignore", "a", unknown()).await;
    assert_eq!(answer.created()["spec"].get("extra"), None);
    assert_eq!(warnings(&answer), [""; 0]);
}

async fn patches_are_strict_too(server: &Server) {
    for (objects, known) in
        server.both().await.into_iter().zip([json!({ "data": { "a": "1" } }), json!({ "spec": {} })])
    {
        let created = objects.made("a", known).await;
        let patch = json!({ "extra": 1 });
        let status = objects.merge("a?fieldValidation=Strict", patch.clone()).await.refused(422, "Invalid");
        assert!(text(&status, "/message").contains(r#"unknown field "extra""#), "{status}");
        let answer = objects.merge("a", patch).await;
        assert_eq!(answer.ok(), created);
        assert_eq!(warnings(&answer), ["\"unknown field 'extra'\""]);
    }
}

async fn kept_fields_are_known(server: &Server) {
    let widgets = server.widgets().await;
    let spec =
        json!({ "spec": { "free": { "extra": 1 }, "opaque": { "extra": 1 }, "labels": { "extra": "x" } } });
    create(&widgets, "?fieldValidation=Strict", "a", spec).await.created();
}

async fn values_of_parameters_are_checked(server: &Server) {
    for objects in server.both().await {
        for (query, cause) in [
            ("?fieldValidation=Sometimes", "fieldValidation: FieldValueNotSupported"),
            ("?dryRun=Some", "dryRun: FieldValueNotSupported"),
        ] {
            assert_eq!(create(&objects, query, "a", json!({})).await.invalid(), [cause]);
        }
        objects.get("a").await.refused(404, "NotFound");
    }
}

async fn dry_runs_create_nothing(server: &Server) {
    let widgets = server.widgets().await;
    let object = json!({ "spec": { "text": "a" } });
    let created = create(&widgets, "?dryRun=All", "a", object).await.created();
    assert_eq!(created["spec"]["mode"], "On");
    assert_eq!(text(&created, "/metadata/uid").len(), 36);
    assert_eq!(created["metadata"].get("resourceVersion"), None, "which it never got");
    widgets.get("a").await.refused(404, "NotFound");
    let maps = server.config_maps().await;
    let answer = create(&maps, "?dryRun=All", "", json!({ "metadata": { "generateName": "g-" } })).await;
    assert!(text(&answer.created(), "/metadata/name").len() == 7);
    let patch = maps.object("a", json!({}));
    maps.patch("a?dryRun=All&fieldManager=m", super::collection::APPLY_PATCH, &patch).await.created();
    assert!(!maps.names("").await.iter().any(|name| name == "a" || name.starts_with("g-")));
}

async fn dry_runs_change_nothing(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({ "metadata": { "labels": { "a": "1" } } })).await;
        let mut changed = created.clone();
        changed["metadata"]["labels"]["a"] = json!("2");
        let patch = json!({ "metadata": { "labels": { "a": "2" } } });
        for answer in [objects.put("a?dryRun=All", changed).await, objects.merge("a?dryRun=All", patch).await]
        {
            assert_eq!(answer.ok()["metadata"]["labels"], json!({ "a": "2" }));
            assert_eq!(objects.get("a").await.ok(), created);
        }
    }
}

async fn dry_runs_delete_nothing(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({ "metadata": { "labels": { "l": "x" } } })).await;
        objects.delete("a?dryRun=All").await.ok();
        objects.delete_with("a", json!({ "dryRun": ["All"] })).await.ok();
        let path = format!("{}?dryRun=All&labelSelector=l", objects.path);
        server.http(Method::DELETE, &path, &[], "").await.ok();
        assert_eq!(objects.get("a").await.ok(), created);
    }
}

async fn dry_runs_are_refused_as_the_real_thing_is(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({})).await;
    create(&widgets, "?dryRun=All", "a", json!({})).await.refused(409, "AlreadyExists");
    assert!(
        !create(&widgets, "?dryRun=All", "b", json!({ "spec": { "number": 0 } })).await.invalid().is_empty()
    );
    let stale = json!({ "metadata": { "resourceVersion": "1" } });
    widgets.merge("a?dryRun=All", stale).await.refused(409, "Conflict");
    widgets.delete("b?dryRun=All").await.refused(404, "NotFound");
}

async fn names_have_rules(server: &Server) {
    for objects in server.both().await {
        for name in ["A", "a_b", "-a", "a-", "a..b", "a b", "ä", &"x".repeat(254)] {
            let causes = create(&objects, "", name, json!({})).await.invalid();
            assert!(causes.iter().all(|cause| cause.starts_with("metadata.name: ")), "{name}: {causes:?}");
        }
        assert_eq!(
            create(&objects, "", "", json!({})).await.invalid(),
            ["metadata.name: FieldValueRequired"]
        );
        for name in ["a", "1", "a.b-c.d", &"x".repeat(253)] {
            objects.made(name, json!({})).await;
        }
    }
}

/// Expects that each of these values of a field of metadata is refused, with this cause.
async fn assert_metadata_refused(server: &Server, field: &str, values: &[Value], cause: &str) {
    for objects in server.both().await {
        objects.made("kept", json!({})).await;
        for value in values {
            let metadata = json!({ "metadata": { field: value } });
            assert_eq!(create(&objects, "", "a", metadata.clone()).await.invalid(), [cause], "{value}");
            assert_eq!(objects.merge("kept", metadata).await.invalid(), [cause], "{value}");
        }
    }
}

async fn labels_have_rules(server: &Server) {
    let long = "x".repeat(64);
    let bad = [
        json!({ "a": "b c" }),
        json!({ "a": "-b" }),
        json!({ "a": long }),
        json!({ "a b": "c" }),
        json!({ "": "c" }),
        json!({ "a/b/c": "d" }),
        json!({ "A.example/b": "d" }),
        json!({ long: "d" }),
    ];
    assert_metadata_refused(server, "labels", &bad, "metadata.labels: FieldValueInvalid").await;
    let good = json!({ "a": "", "example.com/B_c.d-e": "F_g.h-1" });
    server.config_maps().await.made("a", json!({ "metadata": { "labels": good } })).await;
}

async fn annotations_have_rules(server: &Server) {
    let cause = "metadata.annotations: FieldValueInvalid";
    assert_metadata_refused(server, "annotations", &[json!({ "a b": "c" }), json!({ "": "" })], cause).await;
    let large = [json!({ "a": "x".repeat(256 * 1024) })];
    assert_metadata_refused(server, "annotations", &large, "metadata.annotations: FieldValueTooLong").await;
    let maps = server.config_maps().await;
    maps.made("a", json!({ "metadata": { "annotations": { "a": "any text\n\u{1F600}" } } })).await;
}

async fn finalizers_have_rules(server: &Server) {
    let bad = [json!(["example.com/a b"]), json!(["example.com/a/b"])];
    assert_metadata_refused(server, "finalizers", &bad, "metadata.finalizers: FieldValueInvalid").await;
    let maps = server.config_maps().await;
    let refused = create(&maps, "", "a", json!({ "metadata": { "finalizers": ["unqualified"] } })).await;
    let cause = "metadata.finalizers[0]: FieldValueInvalid";
    assert_eq!(refused.invalid(), [cause], "built-in kinds want a domain as well");
}

async fn owners_have_rules(server: &Server) {
    let owner = |field: &str, value: Value| {
        let mut owner = json!({ "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u" });
        owner[field] = value;
        owner
    };
    for field in ["uid", "name", "kind", "apiVersion"] {
        let cause = format!("metadata.ownerReferences.{field}: FieldValueInvalid");
        let bad = [json!([owner(field, json!(""))])];
        assert_metadata_refused(server, "ownerReferences", &bad, &cause).await;
    }
    let mut another = owner("uid", json!("v"));
    another["controller"] = json!(true);
    let two = [json!([owner("controller", json!(true)), another])];
    let cause = "metadata.ownerReferences: FieldValueInvalid";
    assert_metadata_refused(server, "ownerReferences", &two, cause).await;
}

async fn metadata_has_types(server: &Server) {
    for objects in server.both().await {
        for metadata in [
            json!({ "labels": 3 }),
            json!({ "labels": { "a": 1 } }),
            json!({ "finalizers": "a" }),
            json!({ "ownerReferences": {} }),
            json!({ "creationTimestamp": "yesterday" }),
        ] {
            create(&objects, "", "a", json!({ "metadata": metadata })).await.refused(400, "BadRequest");
        }
    }
}

async fn immutable_config_maps_do_not_change(server: &Server) {
    let maps = server.config_maps().await;
    maps.made("a", json!({ "immutable": true, "data": { "a": "1" } })).await;
    let refused = maps.merge("a", json!({ "data": { "a": "2" } })).await;
    assert_eq!(refused.invalid(), ["data: FieldValueForbidden"]);
    maps.merge("a", json!({ "metadata": { "labels": { "l": "x" } } })).await.ok();
}
