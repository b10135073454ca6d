//! Server-side apply: merges, conflicts, and fields that are removed when they are no longer applied.
//!
//! `managed_fields` tests the owners in `metadata.managedFields` in detail.

use http::Method;
use serde_json::{Value, json};

use super::answer::{Answer, text, version};
use super::collection::{APPLY_PATCH, Collection};
use super::server::Server;

on_every_server![
    applying_creates_what_is_not_there,
    applying_again_changes_nothing,
    what_is_no_longer_applied_is_removed,
    what_others_own_too_stays_when_one_lets_go,
    what_another_manager_set_is_a_conflict,
    all_conflicts_are_told,
    a_conflict_with_whoever_updated_names_them,
    equal_values_are_shared_without_conflict,
    force_takes_the_fields_over,
    items_of_a_set_are_merged,
    items_of_a_list_map_are_merged_by_their_keys,
    keys_with_defaults_are_filled_in,
    atomic_values_are_owned_as_a_whole,
    maps_are_merged_by_key,
    finalizers_and_owners_are_merged,
    built_in_kinds_are_merged_by_their_own_keys,
    an_applied_null_is_a_value_where_null_is_one,
    status_is_applied_by_its_subresource,
    a_manager_is_needed,
    the_name_and_the_kind_must_be_those_of_the_path,
    managed_fields_cannot_be_applied,
    a_stale_version_is_a_conflict,
    a_uid_of_nothing_is_a_conflict,
    applied_objects_are_validated,
    fields_that_no_schema_knows_are_refused,
    duplicate_keys_are_refused,
    yaml_is_understood,
    force_is_only_for_applying,
];

/// Applies an object of this kind as this manager.
pub(super) async fn apply(objects: &Collection, manager: &str, name: &str, rest: Value) -> Answer {
    apply_with(objects, &format!("{name}?fieldManager={manager}"), rest).await
}

/// Applies an object of this kind. The name is followed by the query, and is also set in the object.
pub(super) async fn apply_with(objects: &Collection, name_and_query: &str, rest: Value) -> Answer {
    let name = name_and_query.split(['/', '?']).next().unwrap_or_default();
    objects.patch(name_and_query, APPLY_PATCH, &objects.object(name, rest)).await
}

/// The conflicts of a refused apply as `field: manager`, in order.
fn conflicts(answer: &Answer) -> Vec<String> {
    let status = answer.refused(409, "Conflict");
    let causes = status["details"]["causes"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
    let mut conflicts: Vec<_> = causes
        .iter()
        .map(|cause| {
            assert_eq!(cause["reason"], "FieldManagerConflict");
            let message = text(cause, "/message");
            let manager = message.strip_prefix("conflict with ").unwrap_or_else(|| panic!("{message}"));
            format!("{}: {manager}", text(cause, "/field"))
        })
        .collect();
    conflicts.sort();
    conflicts
}

async fn applying_creates_what_is_not_there(server: &Server) {
    for objects in server.both().await {
        let answer = apply(&objects, "one", "a", json!({ "metadata": { "labels": { "a": "b" } } })).await;
        let created = answer.created();
        assert_eq!(created["metadata"]["labels"], json!({ "a": "b" }));
        assert_eq!(objects.get("a").await.ok(), created);
        assert_eq!(
            apply(&objects, "one", "a", json!({})).await.ok()["metadata"]["uid"],
            created["metadata"]["uid"]
        );
    }
}

async fn applying_again_changes_nothing(server: &Server) {
    for objects in server.both().await {
        let object = json!({ "metadata": { "labels": { "a": "b" } } });
        let created = apply(&objects, "one", "a", object.clone()).await.created();
        assert_eq!(apply(&objects, "one", "a", object).await.ok(), created);
    }
}

async fn what_is_no_longer_applied_is_removed(server: &Server) {
    let maps = server.config_maps().await;
    apply(&maps, "one", "a", json!({ "data": { "a": "1", "b": "2" } })).await.created();
    maps.merge("a?fieldManager=other", json!({ "data": { "c": "3" } })).await.ok();
    let applied = apply(&maps, "one", "a", json!({ "data": { "b": "2" } })).await.ok();
    assert_eq!(applied["data"], json!({ "b": "2", "c": "3" }));

    let widgets = server.widgets().await;
    let full = json!({ "spec": {
        "text": "a", "mode": "Off", "labels": { "a": "1" }, "tags": ["a", "b"],
        "parts": [{ "name": "a" }, { "name": "b" }],
    } });
    apply(&widgets, "one", "a", full).await.created();
    let less = json!({ "spec": { "tags": ["b"], "parts": [{ "name": "b" }] } });
    let applied = apply(&widgets, "one", "a", less).await.ok();
    assert_eq!(applied["spec"].get("text"), None);
    assert_eq!(applied["spec"].get("labels"), None);
    assert_eq!(applied["spec"]["mode"], "On", "the default again");
    assert_eq!(applied["spec"]["tags"], json!(["b"]));
    assert_eq!(applied["spec"]["parts"], json!([{ "name": "b" }]));
}

async fn what_others_own_too_stays_when_one_lets_go(server: &Server) {
    let maps = server.config_maps().await;
    let shared = json!({ "data": { "shared": "s" } });
    apply(&maps, "one", "a", json!({ "data": { "shared": "s", "own": "o" } })).await.created();
    apply(&maps, "two", "a", shared.clone()).await.ok();
    assert_eq!(apply(&maps, "one", "a", json!({})).await.ok()["data"], json!({ "shared": "s" }));
    assert_eq!(apply(&maps, "two", "a", json!({})).await.ok().get("data"), None);
}

async fn what_another_manager_set_is_a_conflict(server: &Server) {
    let maps = server.config_maps().await;
    let created = apply(&maps, "one", "a", json!({ "data": { "a.b": "1" } })).await.created();
    let refused = apply(&maps, "two", "a", json!({ "data": { "a.b": "2" } })).await;
    assert_eq!(conflicts(&refused), [r#".data.a.b: "one""#]);
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with(r#"Apply failed with 1 conflict: conflict with "one": .data.a.b"#),
        "{message}"
    );
    assert_eq!(maps.get("a").await.ok(), created);
}

async fn all_conflicts_are_told(server: &Server) {
    let widgets = server.widgets().await;
    let spec = |n: i64, text: &str| {
        json!({ "spec": {
            "text": text, "ordered": [text], "whole": { text: "x" }, "labels": { "l": text }, "free": { "q": [n] },
            "parts": [{ "name": "x", "size": n }], "ports": [{ "port": 1, "protocol": "UDP", "name": text }],
        } })
    };
    apply(&widgets, "one", "a", spec(1, "a")).await.created();
    let refused = apply(&widgets, "two", "a", spec(2, "b")).await;
    let fields = [
        r#".spec.free.q: "one""#,
        r#".spec.labels.l: "one""#,
        r#".spec.ordered: "one""#,
        r#".spec.parts[name="x"].size: "one""#,
        r#".spec.ports[port=1,protocol="UDP"].name: "one""#,
        r#".spec.text: "one""#,
        r#".spec.whole: "one""#,
    ];
    assert_eq!(conflicts(&refused), fields);
    assert!(
        text(&refused.json(), "/message")
            .starts_with("Apply failed with 7 conflicts: conflicts with \"one\":\n- .")
    );
}

async fn a_conflict_with_whoever_updated_names_them(server: &Server) {
    let maps = server.config_maps().await;
    let object = maps.object("a", json!({ "data": { "a": "1" } }));
    maps.create_with("?fieldManager=updater", object).await.created();
    let refused = apply(&maps, "one", "a", json!({ "data": { "a": "2" } })).await;
    let [conflict] = &conflicts(&refused)[..] else { panic!("{refused:?}") };
    assert!(conflict.starts_with(r#".data.a: "updater" using v1"#), "{conflict}");
}

async fn equal_values_are_shared_without_conflict(server: &Server) {
    let widgets = server.widgets().await;
    let object = json!({ "spec": { "text": "a", "ordered": ["x"] } });
    apply(&widgets, "one", "a", object.clone()).await.created();
    apply(&widgets, "two", "a", object).await.ok();
    let refused = apply(&widgets, "three", "a", json!({ "spec": { "text": "b" } })).await;
    assert_eq!(conflicts(&refused), [r#".spec.text: "one""#, r#".spec.text: "two""#]);
}

async fn force_takes_the_fields_over(server: &Server) {
    let maps = server.config_maps().await;
    apply(&maps, "one", "a", json!({ "data": { "a": "1", "b": "1" } })).await.created();
    let forced =
        apply_with(&maps, "a?fieldManager=two&force=true", json!({ "data": { "a": "2" } })).await.ok();
    assert_eq!(forced["data"], json!({ "a": "2", "b": "1" }));
    let refused = apply(&maps, "one", "a", json!({ "data": { "a": "1", "b": "1" } })).await;
    assert_eq!(conflicts(&refused), [r#".data.a: "two""#]);
    let applied = apply(&maps, "one", "a", json!({ "data": { "b": "3" } })).await.ok();
    assert_eq!(applied["data"], json!({ "a": "2", "b": "3" }), "it no longer owns what was taken");
}

async fn items_of_a_set_are_merged(server: &Server) {
    let widgets = server.widgets().await;
    let tags = |tags: Value| json!({ "spec": { "tags": tags } });
    apply(&widgets, "one", "a", tags(json!(["a", "b"]))).await.created();
    let merged = apply(&widgets, "two", "a", tags(json!(["c", "b"]))).await.ok();
    let mut items: Vec<_> =
        merged["spec"]["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
    items.sort_unstable();
    assert_eq!(items, ["a", "b", "c"]);
    let left = apply(&widgets, "one", "a", tags(json!(["a"]))).await.ok();
    assert!(
        left["spec"]["tags"].as_array().unwrap().contains(&json!("b")),
        "the other still applies it: {left}"
    );
}

async fn items_of_a_list_map_are_merged_by_their_keys(server: &Server) {
    let widgets = server.widgets().await;
    let parts = |parts: Value| json!({ "spec": { "parts": parts } });
    apply(&widgets, "one", "a", parts(json!([{ "name": "a", "size": 1 }]))).await.created();
    let two = parts(json!([{ "name": "b", "size": 2 }, { "name": "a", "color": "red" }]));
    let merged = apply(&widgets, "two", "a", two).await.ok();
    let part = |name: &str| {
        let parts = merged["spec"]["parts"].as_array().unwrap();
        parts.iter().find(|part| part["name"] == name).unwrap_or_else(|| panic!("{merged}")).clone()
    };
    assert_eq!(part("a"), json!({ "name": "a", "size": 1, "color": "red" }));
    assert_eq!(part("b"), json!({ "name": "b", "size": 2 }));
    let left = apply(&widgets, "one", "a", json!({ "spec": {} })).await.ok();
    let a = left["spec"]["parts"].as_array().unwrap().iter().find(|part| part["name"] == "a").unwrap();
    assert_eq!(
        a,
        &json!({ "name": "a", "color": "red" }),
        "the item stays, without what only one had applied"
    );
}

async fn keys_with_defaults_are_filled_in(server: &Server) {
    let widgets = server.widgets().await;
    let ports = |ports: Value| json!({ "spec": { "ports": ports } });
    apply(&widgets, "one", "a", ports(json!([{ "port": 1, "name": "x" }]))).await.created();
    let refused =
        apply(&widgets, "two", "a", ports(json!([{ "port": 1, "protocol": "TCP", "name": "y" }]))).await;
    assert_eq!(conflicts(&refused), [r#".spec.ports[port=1,protocol="TCP"].name: "one""#]);
    let merged = apply(&widgets, "two", "a", ports(json!([{ "port": 1, "protocol": "UDP" }]))).await.ok();
    assert_eq!(merged["spec"]["ports"].as_array().unwrap().len(), 2);
}

async fn atomic_values_are_owned_as_a_whole(server: &Server) {
    let widgets = server.widgets().await;
    let spec = |a: &str| json!({ "spec": { "whole": { a: "x" }, "ordered": [a] } });
    apply(&widgets, "one", "a", spec("a")).await.created();
    let refused = apply(&widgets, "two", "a", spec("b")).await;
    assert_eq!(conflicts(&refused), [r#".spec.ordered: "one""#, r#".spec.whole: "one""#]);
    let forced = apply_with(&widgets, "a?fieldManager=two&force=true", spec("b")).await.ok();
    assert_eq!(forced["spec"]["whole"], json!({ "b": "x" }));
    assert_eq!(forced["spec"]["ordered"], json!(["b"]));
}

async fn maps_are_merged_by_key(server: &Server) {
    let widgets = server.widgets().await;
    let spec = |key: &str| json!({ "spec": { "labels": { key: "x" }, "free": { key: { "deep": 1 } } } });
    apply(&widgets, "one", "a", spec("a")).await.created();
    let merged = apply(&widgets, "two", "a", spec("b")).await.ok();
    assert_eq!(merged["spec"]["labels"], json!({ "a": "x", "b": "x" }));
    assert_eq!(merged["spec"]["free"], json!({ "a": { "deep": 1 }, "b": { "deep": 1 } }));
}

async fn finalizers_and_owners_are_merged(server: &Server) {
    let maps = server.config_maps().await;
    let metadata = |name: &str| {
        let owner = json!({ "apiVersion": "v1", "kind": "Node", "name": name, "uid": name });
        json!({ "metadata": { "finalizers": [format!("example.com/{name}")], "ownerReferences": [owner] } })
    };
    apply(&maps, "one", "a", metadata("one")).await.created();
    let merged = apply(&maps, "two", "a", metadata("two")).await.ok();
    assert_eq!(merged["metadata"]["finalizers"].as_array().unwrap().len(), 2);
    assert_eq!(merged["metadata"]["ownerReferences"].as_array().unwrap().len(), 2);
    let left = apply(&maps, "one", "a", json!({})).await.ok();
    assert_eq!(left["metadata"]["finalizers"], json!(["example.com/two"]));
    assert_eq!(text(&left, "/metadata/ownerReferences/0/uid"), "two");
}

async fn built_in_kinds_are_merged_by_their_own_keys(server: &Server) {
    let services = server.namespaced("v1", "services", "Service").await;
    let spec = |port: u16, name: &str| {
        let port = json!({ "port": port, "name": name, "protocol": "TCP" });
        json!({ "spec": { "clusterIP": "None", "ports": [port] } })
    };
    apply(&services, "one", "s", spec(1, "a")).await.created();
    let merged = apply(&services, "two", "s", spec(2, "b")).await.ok();
    assert_eq!(merged["spec"]["ports"].as_array().unwrap().len(), 2);
    let refused = apply(&services, "two", "s", spec(1, "b")).await;
    assert_eq!(conflicts(&refused), [r#".spec.ports[port=1,protocol="TCP"].name: "one""#]);
}

async fn an_applied_null_is_a_value_where_null_is_one(server: &Server) {
    let widgets = server.widgets().await;
    let created = apply(&widgets, "one", "a", json!({ "spec": { "maybe": null } })).await.created();
    assert_eq!(created["spec"].get("maybe"), Some(&Value::Null));
    let refused = apply(&widgets, "two", "a", json!({ "spec": { "maybe": "x" } })).await;
    assert_eq!(conflicts(&refused), [r#".spec.maybe: "one""#]);
}

async fn status_is_applied_by_its_subresource(server: &Server) {
    let widgets = server.widgets().await;
    apply(&widgets, "one", "a", json!({ "spec": { "text": "a" }, "status": { "phase": "Used" } }))
        .await
        .created();
    assert_eq!(widgets.get("a").await.ok().get("status"), None, "status is not written with the rest");
    let condition = |of: &str| {
        let conditions = json!([{ "type": of, "status": "True" }]);
        json!({ "status": { "conditions": conditions }, "spec": { "text": "b" } })
    };
    apply_with(&widgets, "a/status?fieldManager=two", condition("A")).await.ok();
    let both = apply_with(&widgets, "a/status?fieldManager=three", condition("B")).await.ok();
    assert_eq!(both["status"]["conditions"].as_array().unwrap().len(), 2);
    assert_eq!(both["spec"]["text"], "a", "nor the rest with the status");
}

async fn a_manager_is_needed(server: &Server) {
    let maps = server.config_maps().await;
    assert_eq!(apply_with(&maps, "a", json!({})).await.invalid(), ["fieldManager: FieldValueRequired"]);
    let long = format!("a?fieldManager={}", "x".repeat(129));
    assert_eq!(apply_with(&maps, &long, json!({})).await.invalid(), ["fieldManager: FieldValueTooLong"]);
}

async fn the_name_and_the_kind_must_be_those_of_the_path(server: &Server) {
    let maps = server.config_maps().await;
    for object in [
        maps.object("b", json!({})),
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a" } }),
        json!({ "apiVersion": "v2", "kind": "ConfigMap", "metadata": { "name": "a" } }),
        json!({ "metadata": { "name": "a" } }),
    ] {
        maps.patch("a?fieldManager=one", APPLY_PATCH, &object).await.refused(400, "BadRequest");
    }
    maps.get("a").await.refused(404, "NotFound");
}

async fn managed_fields_cannot_be_applied(server: &Server) {
    for objects in server.both().await {
        let created =
            apply(&objects, "one", "a", json!({ "metadata": { "labels": { "a": "b" } } })).await.created();
        let fields = json!({ "metadata": { "managedFields": created["metadata"]["managedFields"] } });
        apply(&objects, "one", "a", fields).await.refused(400, "BadRequest");
    }
}

async fn a_stale_version_is_a_conflict(server: &Server) {
    let widgets = server.widgets().await;
    let created = apply(&widgets, "one", "a", json!({ "spec": { "text": "a" } })).await.created();
    let version_of = &created["metadata"]["resourceVersion"];
    let object =
        |text: &str| json!({ "metadata": { "resourceVersion": version_of }, "spec": { "text": text } });
    let changed = apply(&widgets, "one", "a", object("b")).await.ok();
    assert!(version(&changed) > version(&created));
    let status = apply(&widgets, "one", "a", object("c")).await.refused(409, "Conflict");
    assert_eq!(status["details"].get("causes"), None, "{status}");
}

async fn a_uid_of_nothing_is_a_conflict(server: &Server) {
    let widgets = server.widgets().await;
    apply(&widgets, "one", "a", json!({ "metadata": { "uid": "u" } })).await.refused(409, "Conflict");
    widgets.get("a").await.refused(404, "NotFound");
}

async fn applied_objects_are_validated(server: &Server) {
    let widgets = server.widgets().await;
    let refused = apply(&widgets, "one", "a", json!({ "spec": { "number": 11, "mode": "No" } })).await;
    assert_eq!(refused.invalid(), ["spec.mode: FieldValueNotSupported", "spec.number: FieldValueInvalid"]);
    widgets.get("a").await.refused(404, "NotFound");
}

/// kube-apiserver answers these with 500 and without a reason.
async fn fields_that_no_schema_knows_are_refused(server: &Server) {
    let widgets = server.widgets().await;
    let answer = apply(&widgets, "one", "a", json!({ "spec": { "unknown": 1 } })).await;
    assert!(answer.code >= 400, "{answer:?}");
    assert!(answer.text().contains(".spec.unknown: field not declared in schema"), "{answer:?}");
    widgets.get("a").await.refused(404, "NotFound");
}

/// As above.
async fn duplicate_keys_are_refused(server: &Server) {
    let widgets = server.widgets().await;
    let parts = json!({ "spec": { "parts": [{ "name": "a" }, { "name": "a" }] } });
    for object in [parts, json!({ "spec": { "parts": [{ "size": 1 }] } })] {
        let answer = apply(&widgets, "one", "a", object).await;
        assert!(answer.code >= 400 && answer.text().contains(".spec.parts"), "{answer:?}");
        widgets.get("a").await.refused(404, "NotFound");
    }
}

async fn yaml_is_understood(server: &Server) {
    let maps = server.config_maps().await;
    let yaml =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: |\n    first\n    second\n";
    let path = maps.path_of("a?fieldManager=one");
    let answer = maps.server.http(Method::PATCH, &path, &[("content-type", APPLY_PATCH)], yaml).await;
    assert_eq!(answer.created()["data"], json!({ "k": "first\nsecond\n" }));
    let answer = maps.server.http(Method::PATCH, &path, &[("content-type", APPLY_PATCH)], "{").await;
    answer.refused(400, "BadRequest");
}

async fn force_is_only_for_applying(server: &Server) {
    let maps = server.config_maps().await;
    maps.made("a", json!({})).await;
    let refused = maps.merge("a?force=true", json!({ "data": { "a": "1" } })).await;
    assert_eq!(refused.invalid(), ["force: FieldValueForbidden"]);
}
