//! `metadata.managedFields`: who set which field, by which operation, over which subresource.

use http::Method;
use serde_json::{Value, json};

use super::answer::text;
use super::apply::{apply, apply_with};
use super::server::Server;

on_every_server![
    entries_have_their_form,
    fields_are_named_by_property_key_and_value,
    built_in_kinds_have_the_same_form,
    applying_owns_what_is_applied_and_not_the_defaults,
    creating_owns_the_defaults_too,
    updating_owns_what_it_changes,
    updates_of_one_manager_are_one_entry,
    the_manager_of_an_update_is_the_head_of_the_user_agent,
    what_an_update_changes_is_taken_from_whoever_applied_it,
    what_an_update_removes_is_nobody_s,
    writes_of_the_status_are_entries_of_their_own,
    managers_with_nothing_left_are_not_listed,
    lists_and_watches_tell_managers_too,
    the_time_stays_when_nothing_changes,
    entries_can_be_cleared,
    scaling_is_an_entry_of_its_own,
];

/// The entries as manager, operation and subresource.
fn entries(object: &Value) -> Vec<[&str; 3]> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .map(|entry| [text(entry, "/manager"), text(entry, "/operation"), text(entry, "/subresource")])
        .collect()
}

/// The fields that a manager owns by an operation on the object itself.
#[track_caller]
fn owned<'a>(object: &'a Value, manager: &str, operation: &str) -> &'a Value {
    let mut entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let entry = entries.find(|entry| {
        entry["manager"] == manager && entry["operation"] == operation && entry.get("subresource").is_none()
    });
    &entry.unwrap_or_else(|| panic!("no entry of {manager}, {operation} in {object}"))["fieldsV1"]
}

async fn entries_have_their_form(server: &Server) {
    for objects in server.both().await {
        let object = objects.object("a", json!({ "metadata": { "labels": { "a": "b" } } }));
        let created = objects.create_with("?fieldManager=one", object).await.created();
        let mut entries = created["metadata"]["managedFields"].clone();
        let time = entries[0]["time"].take();
        assert_eq!(time, created["metadata"]["creationTimestamp"]);
        let expected = json!([{
            "manager": "one", "operation": "Update", "apiVersion": created["apiVersion"], "time": null,
            "fieldsType": "FieldsV1", "fieldsV1": { "f:metadata": { "f:labels": { ".": {}, "f:a": {} } } },
        }]);
        if created["kind"] == "ConfigMap" {
            assert_eq!(entries, expected);
        } else {
            // The creator owns its defaults.
            assert_eq!(entries[0]["fieldsV1"]["f:metadata"], expected[0]["fieldsV1"]["f:metadata"]);
        }
    }
}

async fn fields_are_named_by_property_key_and_value(server: &Server) {
    let widgets = server.widgets().await;
    let spec = json!({
        "text": "a", "tags": ["x", "y"], "labels": { "l/m.n": "1" }, "ordered": ["a"], "whole": { "a": "1" },
        "parts": [{ "name": "p", "size": 1 }], "ports": [{ "port": 1, "protocol": "TCP" }], "need": { "this": "x" },
        "free": { "q": { "r": [{}] } }, "opaque": { "s": 1 },
    });
    let created = apply(&widgets, "one", "a", json!({ "spec": spec })).await.created();
    let expected = json!({ "f:spec": {
        "f:text": {}, "f:tags": { "v:\"x\"": {}, "v:\"y\"": {} }, "f:labels": { "f:l/m.n": {} }, "f:ordered": {},
        "f:whole": {}, "f:parts": { "k:{\"name\":\"p\"}": { ".": {}, "f:name": {}, "f:size": {} } },
        "f:ports": { "k:{\"port\":1,\"protocol\":\"TCP\"}": { ".": {}, "f:port": {}, "f:protocol": {} } },
        "f:need": { "f:this": {} }, "f:free": { "f:q": { ".": {}, "f:r": {} } }, "f:opaque": { "f:s": {} },
    } });
    assert_eq!(owned(&created, "one", "Apply"), &expected);
}

async fn built_in_kinds_have_the_same_form(server: &Server) {
    let pods = server.namespaced("v1", "pods", "Pod").await;
    let container =
        json!({ "name": "c", "image": "i", "env": [{ "name": "E", "value": "v" }], "command": ["x"] });
    let object =
        json!({ "metadata": { "finalizers": ["example.com/f"] }, "spec": { "containers": [container] } });
    let created = apply(&pods, "one", "p", object).await.created();
    let expected = json!({
        "f:metadata": { "f:finalizers": { "v:\"example.com/f\"": {} } },
        "f:spec": { "f:containers": { "k:{\"name\":\"c\"}": {
            ".": {}, "f:name": {}, "f:image": {}, "f:command": {},
            "f:env": { "k:{\"name\":\"E\"}": { ".": {}, "f:name": {}, "f:value": {} } },
        } } },
    });
    assert_eq!(owned(&created, "one", "Apply"), &expected);
}

async fn applying_owns_what_is_applied_and_not_the_defaults(server: &Server) {
    let widgets = server.widgets().await;
    let created = apply(&widgets, "one", "a", json!({ "spec": { "text": "a" } })).await.created();
    assert_eq!(created["spec"]["mode"], "On");
    assert_eq!(entries(&created), [["one", "Apply", ""]]);
    assert_eq!(owned(&created, "one", "Apply"), &json!({ "f:spec": { "f:text": {} } }));
}

async fn creating_owns_the_defaults_too(server: &Server) {
    let widgets = server.widgets().await;
    let object = widgets.object("a", json!({ "spec": { "text": "a" } }));
    let created = widgets.create_with("?fieldManager=one", object).await.created();
    let defaults = json!({ "f:spec": {
        ".": {}, "f:text": {}, "f:mode": {}, "f:maybeDefaulted": {}, "f:nested": { ".": {}, "f:depth": {} },
    } });
    assert_eq!(owned(&created, "one", "Update"), &defaults);
    apply(&widgets, "two", "a", json!({ "spec": { "mode": "Off" } })).await.refused(409, "Conflict");
}

async fn updating_owns_what_it_changes(server: &Server) {
    let maps = server.config_maps().await;
    let object = maps.object("a", json!({ "data": { "a": "1", "b": "1" } }));
    let mut object = maps.create_with("?fieldManager=one", object).await.created();
    object["data"] = json!({ "a": "1", "b": "2", "c": "2" });
    let updated = maps.put("a?fieldManager=two", object).await.ok();
    assert_eq!(owned(&updated, "one", "Update"), &json!({ "f:data": { ".": {}, "f:a": {} } }));
    assert_eq!(owned(&updated, "two", "Update"), &json!({ "f:data": { "f:b": {}, "f:c": {} } }));
}

async fn updates_of_one_manager_are_one_entry(server: &Server) {
    let maps = server.config_maps().await;
    maps.create_with("?fieldManager=one", maps.object("a", json!({ "data": { "a": "1" } }))).await.created();
    let merged = maps.merge("a?fieldManager=one", json!({ "data": { "b": "2" } })).await.ok();
    assert_eq!(entries(&merged), [["one", "Update", ""]]);
    assert_eq!(owned(&merged, "one", "Update"), &json!({ "f:data": { ".": {}, "f:a": {}, "f:b": {} } }));
    let applied = apply(&maps, "one", "a", json!({ "data": { "c": "3" } })).await.ok();
    let mut both = entries(&applied);
    both.sort_unstable();
    assert_eq!(both, [["one", "Apply", ""], ["one", "Update", ""]], "applying is another operation");
}

async fn the_manager_of_an_update_is_the_head_of_the_user_agent(server: &Server) {
    let maps = server.config_maps().await;
    let headers = [("content-type", "application/json"), ("user-agent", "some-agent/v1.2 (linux) extra")];
    let object = maps.object("a", json!({ "data": { "a": "1" } })).to_string();
    let created = server.http(Method::POST, &maps.path, &headers, object).await.created();
    assert_eq!(entries(&created), [["some-agent", "Update", ""]]);
}

async fn what_an_update_changes_is_taken_from_whoever_applied_it(server: &Server) {
    let maps = server.config_maps().await;
    apply(&maps, "one", "a", json!({ "data": { "a": "1", "b": "1" } })).await.created();
    let merged = maps.merge("a?fieldManager=two", json!({ "data": { "b": "2" } })).await.ok();
    assert_eq!(owned(&merged, "one", "Apply"), &json!({ "f:data": { "f:a": {} } }));
    assert_eq!(owned(&merged, "two", "Update"), &json!({ "f:data": { "f:b": {} } }));
}

async fn what_an_update_removes_is_nobody_s(server: &Server) {
    let maps = server.config_maps().await;
    apply(&maps, "one", "a", json!({ "data": { "a": "1", "b": "1" } })).await.created();
    let merged = maps.merge("a?fieldManager=two", json!({ "data": { "b": null } })).await.ok();
    assert_eq!(entries(&merged), [["one", "Apply", ""]]);
    assert_eq!(owned(&merged, "one", "Apply"), &json!({ "f:data": { "f:a": {} } }));
    apply(&maps, "three", "a", json!({ "data": { "b": "3" } })).await.ok();
}

async fn writes_of_the_status_are_entries_of_their_own(server: &Server) {
    let widgets = server.widgets().await;
    apply(&widgets, "one", "a", json!({ "spec": { "text": "a" } })).await.created();
    apply_with(&widgets, "a/status?fieldManager=one", json!({ "status": { "phase": "Used" } })).await.ok();
    let patch = json!({ "status": { "replicas": 3 } });
    let written = widgets.merge("a/status?fieldManager=two", patch).await.ok();
    let mut all = entries(&written);
    all.sort_unstable();
    assert_eq!(all, [["one", "Apply", ""], ["one", "Apply", "status"], ["two", "Update", "status"]]);
    let entry =
        written["metadata"]["managedFields"].as_array().unwrap().iter().find(|e| e["manager"] == "two");
    assert_eq!(entry.unwrap()["fieldsV1"], json!({ "f:status": { "f:replicas": {} } }));
}

async fn managers_with_nothing_left_are_not_listed(server: &Server) {
    let maps = server.config_maps().await;
    apply(&maps, "one", "a", json!({ "data": { "a": "1" } })).await.created();
    apply_with(&maps, "a?fieldManager=two&force=true", json!({ "data": { "a": "2" } })).await.ok();
    let object = apply(&maps, "one", "a", json!({})).await.ok();
    assert_eq!(entries(&object), [["two", "Apply", ""]]);
}

async fn lists_and_watches_tell_managers_too(server: &Server) {
    let maps = server.config_maps().await;
    let before = maps.list("").await.ok();
    apply(&maps, "one", "a", json!({ "data": { "a": "1" } })).await.created();
    let list = maps.list("?fieldSelector=metadata.name=a").await.ok();
    assert_eq!(entries(&list["items"][0]), [["one", "Apply", ""]]);
    let from = format!(
        "&fieldSelector=metadata.name=a&resourceVersion={}",
        text(&before, "/metadata/resourceVersion")
    );
    let added = maps.watch(&from).await.expect("ADDED", "a").await;
    assert_eq!(entries(&added), [["one", "Apply", ""]]);
}

async fn the_time_stays_when_nothing_changes(server: &Server) {
    let widgets = server.widgets().await;
    let object = json!({ "spec": { "text": "a" } });
    let first = apply(&widgets, "one", "a", object.clone()).await.created();
    let again = apply(&widgets, "one", "a", object).await.ok();
    assert_eq!(again["metadata"]["managedFields"], first["metadata"]["managedFields"]);
}

async fn entries_can_be_cleared(server: &Server) {
    for objects in server.both().await {
        apply(&objects, "one", "a", json!({ "metadata": { "labels": { "a": "b" } } })).await.created();
        let cleared = objects.merge("a", json!({ "metadata": { "managedFields": [{}] } })).await.ok();
        assert_eq!(cleared["metadata"].get("managedFields"), None);
        assert_eq!(cleared["metadata"]["labels"], json!({ "a": "b" }));
    }
}

async fn scaling_is_an_entry_of_its_own(server: &Server) {
    let widgets = server.widgets().await;
    apply(&widgets, "one", "a", json!({ "spec": { "replicas": 1 } })).await.created();
    widgets.merge("a/scale?fieldManager=scaler", json!({ "spec": { "replicas": 2 } })).await.ok();
    let object = widgets.get("a").await.ok();
    assert_eq!(entries(&object), [["scaler", "Update", "scale"]]);
    apply(&widgets, "one", "a", json!({ "spec": { "replicas": 1 } })).await.refused(409, "Conflict");
}
