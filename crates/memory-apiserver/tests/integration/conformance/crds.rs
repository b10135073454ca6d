//! Definitions of custom kinds: when their kinds are served, their versions, changes, and deletion.

use anyhow::ensure;
use http::Method;
use serde_json::{Value, json};

use super::answer::{text, version};
use super::kinds::{any_object, definition};
use super::server::Server;
use crate::support::{SOON, eventually};

on_every_server![
    a_new_definition_is_completed,
    a_definition_is_established_and_then_served,
    only_served_versions_are_served,
    an_object_is_in_every_version,
    a_watch_tells_the_version_that_it_asked_for,
    a_changed_schema_takes_effect,
    versions_can_begin_and_cease_to_be_served,
    a_kind_that_is_taken_is_not_accepted,
    one_kind_may_be_in_several_groups,
    cluster_wide_kinds_are_in_no_namespace,
    a_deleted_definition_takes_its_objects_with_it,
    a_definition_waits_for_its_last_object,
    a_recreated_definition_has_no_objects,
    some_fields_never_change,
    stored_versions_are_not_dropped,
    definitions_can_be_applied,
    a_dry_run_serves_nothing,
];

/// A definition of `Thing` with a free schema, in a group of the test's own.
fn thing(test: &str) -> Value {
    definition(&group(test), "Thing", &json!({ "schema": any_object() }))
}

fn group(test: &str) -> String {
    format!("{test}.crds.conformance.test")
}

fn name_of(definition: &Value) -> &str {
    text(definition, "/metadata/name")
}

/// The condition of a type.
fn condition<'a>(definition: &'a Value, of: &str) -> Option<&'a Value> {
    definition["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == of)
}

async fn until_not_found(server: &Server, path: &str) {
    eventually(&format!("{path} is not served"), SOON, async || {
        let answer = server.get(path).await;
        ensure!(answer.code == 404, "{answer:?}");
        Ok(())
    })
    .await;
}

async fn a_new_definition_is_completed(server: &Server) {
    let definition = thing("completed");
    let created = server.crds().create(definition.clone()).await.created();
    assert_eq!(created["metadata"]["generation"], 1);
    let names = json!({ "kind": "Thing", "listKind": "ThingList", "plural": "things", "singular": "thing" });
    assert_eq!(created["spec"]["names"], names);
    assert_eq!(created["spec"]["conversion"], json!({ "strategy": "None" }));
    assert_eq!(created["spec"]["versions"], definition["spec"]["versions"], "which come back as they were");
    assert_eq!(created["status"]["storedVersions"], json!(["v1"]));
}

async fn a_definition_is_established_and_then_served(server: &Server) {
    let (crds, definition) = (server.crds(), thing("established"));
    let name = name_of(&definition);
    let created = crds.create(definition.clone()).await.created();
    let query = format!("&fieldSelector=metadata.name={name}&resourceVersion={}", version(&created));
    let mut watch = crds.watch(&query).await;
    let established = loop {
        let seen = watch.expect("MODIFIED", name).await;
        if condition(&seen, "Established").is_some_and(|condition| condition["status"] == "True") {
            break seen;
        }
    };
    for (of, reason) in [("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted")] {
        let condition = condition(&established, of).unwrap_or_else(|| panic!("no {of} in {established}"));
        assert_eq!((text(condition, "/status"), text(condition, "/reason")), ("True", reason));
        assert!(!text(condition, "/lastTransitionTime").is_empty());
    }
    assert_eq!(established["status"]["acceptedNames"], established["spec"]["names"]);
    assert_eq!(established["metadata"]["generation"], 1);
    server.install(definition).await;
    let things = server.namespaced(&format!("{}/v1", group("established")), "things", "Thing").await;
    things.made("a", json!({ "any": "thing" })).await;
}

/// Three versions: stored, served, neither.
fn versioned(test: &str) -> Value {
    let mut definition = thing(test);
    let version = |name: &str, stored: bool, served: bool, fields: Value| {
        let spec = json!({ "type": "object", "properties": fields });
        let schema = json!({ "openAPIV3Schema": { "type": "object", "properties": { "spec": spec } } });
        json!({ "name": name, "storage": stored, "served": served, "schema": schema })
    };
    let string = json!({ "type": "string" });
    definition["spec"]["versions"] = json!([
        version("v1", true, true, json!({ "common": string, "new": { "type": "string", "default": "n" } })),
        version("v1beta1", false, true, json!({ "common": string })),
        version("v1alpha1", false, false, json!({})),
    ]);
    definition
}

async fn only_served_versions_are_served(server: &Server) {
    server.install(versioned("served")).await;
    let group = group("served");
    for (version, code) in [("v1", 200), ("v1beta1", 200), ("v1alpha1", 404), ("v2", 404)] {
        let answer = server.get(&format!("/apis/{group}/{version}/things")).await;
        assert_eq!(answer.code, code, "{answer:?}");
        if code == 404 {
            assert_eq!(answer.text(), "404 page not found\n");
        }
    }
}

async fn an_object_is_in_every_version(server: &Server) {
    server.install(versioned("every")).await;
    let namespace = server.namespace().await;
    let [new, old] = ["v1", "v1beta1"].map(|version| {
        server.in_namespace(&namespace, &format!("{}/{version}", group("every")), "things", "Thing")
    });
    let created = new.made("a", json!({ "spec": { "common": "c" } })).await;
    assert_eq!(created["spec"], json!({ "common": "c", "new": "n" }));
    let seen = old.get("a").await.ok();
    assert_eq!(seen["apiVersion"], format!("{}/v1beta1", group("every")));
    assert_eq!(seen["spec"], json!({ "common": "c" }), "as its own schema has it");
    for field in ["uid", "resourceVersion", "generation", "creationTimestamp"] {
        assert_eq!(seen["metadata"][field], created["metadata"][field], "{field}");
    }
    let list = old.list("").await.ok();
    let version = |object: &Value| text(object, "/apiVersion").to_owned();
    assert_eq!(version(&list), version(&seen));
    assert_eq!(version(&list["items"][0]), version(&seen));

    old.made("b", json!({ "spec": { "common": "old" } })).await;
    assert_eq!(new.get("b").await.ok()["spec"], json!({ "common": "old", "new": "n" }));
    old.merge("a", json!({ "spec": { "common": "changed" } })).await.ok();
    assert_eq!(new.get("a").await.ok()["spec"]["common"], "changed");
    old.create_with("", json!({})).await.refused(422, "Invalid");
    let wrong = new.object("c", json!({})).to_string();
    let headers = [("content-type", "application/json")];
    server.http(Method::POST, &old.path, &headers, wrong).await.refused(400, "BadRequest");
}

async fn a_watch_tells_the_version_that_it_asked_for(server: &Server) {
    server.install(versioned("watched")).await;
    let namespace = server.namespace().await;
    let [new, old] = ["v1", "v1beta1"].map(|version| {
        server.in_namespace(&namespace, &format!("{}/{version}", group("watched")), "things", "Thing")
    });
    let from = version(&new.list("").await.ok());
    let mut watch = old.watch(&format!("&resourceVersion={from}")).await;
    new.made("a", json!({ "spec": { "common": "c" } })).await;
    let added = watch.expect("ADDED", "a").await;
    assert_eq!(added, old.get("a").await.ok());
}

async fn a_changed_schema_takes_effect(server: &Server) {
    let test = "changed";
    server.install(versioned(test)).await;
    let name = format!("things.{}", group(test));
    let things = server.namespaced(&format!("{}/v1", group(test)), "things", "Thing").await;
    assert_eq!(things.made("a", json!({ "spec": { "later": 1 } })).await["spec"].get("later"), None);

    let mut definition = server.crds().get(&name).await.ok();
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["properties"]["later"] = json!({ "type": "integer", "maximum": 5 });
    let changed = server.crds().put(&name, definition).await.ok();
    assert_eq!(changed["metadata"]["generation"], 2);
    eventually("the field is known", SOON, async || {
        let merged = things.merge("a", json!({ "spec": { "later": 1 } })).await;
        ensure!(merged.json()["spec"]["later"] == 1, "{merged:?}");
        Ok(())
    })
    .await;
    let refused = things.merge("a", json!({ "spec": { "later": 6 } })).await;
    assert_eq!(refused.invalid(), ["spec.later: FieldValueInvalid"]);
}

async fn versions_can_begin_and_cease_to_be_served(server: &Server) {
    let test = "toggled";
    server.install(versioned(test)).await;
    let patch = json!([
        { "op": "replace", "path": "/spec/versions/1/served", "value": false },
        { "op": "replace", "path": "/spec/versions/2/served", "value": true },
    ]);
    let name = format!("things.{}", group(test));
    server.crds().patch(&name, super::collection::JSON_PATCH, &patch).await.ok();
    server.served(&format!("/apis/{}/v1alpha1/things", group(test))).await;
    until_not_found(server, &format!("/apis/{}/v1beta1/things", group(test))).await;
    server.served(&format!("/apis/{}/v1/things", group(test))).await;
}

async fn a_kind_that_is_taken_is_not_accepted(server: &Server) {
    let first = thing("taken");
    server.install(first.clone()).await;
    let mut second = definition(&group("taken"), "Item", &json!({ "schema": any_object() }));
    second["spec"]["names"]["kind"] = json!("Thing");
    server.crds().create(second).await.created();
    let name = format!("items.{}", group("taken"));
    let refused = eventually("the names are refused", SOON, async || {
        let seen = server.crds().get(&name).await.ok();
        let done = condition(&seen, "NamesAccepted").is_some() && condition(&seen, "Established").is_some();
        ensure!(done, "{seen}");
        Ok(seen)
    })
    .await;
    for (of, reason) in [("NamesAccepted", "ListKindConflict"), ("Established", "NotAccepted")] {
        let condition = condition(&refused, of).unwrap();
        assert_eq!((text(condition, "/status"), text(condition, "/reason")), ("False", reason));
    }
    assert_eq!(server.get(&format!("/apis/{}/v1/items", group("taken"))).await.code, 404);
    server.served(&format!("/apis/{}/v1/things", group("taken"))).await;
}

async fn one_kind_may_be_in_several_groups(server: &Server) {
    let namespace = server.namespace().await;
    for test in ["one", "two"] {
        server.install(thing(test)).await;
        let things = server.in_namespace(&namespace, &format!("{}/v1", group(test)), "things", "Thing");
        things.made("a", json!({ "of": test })).await;
    }
    for test in ["one", "two"] {
        let things = server.in_namespace(&namespace, &format!("{}/v1", group(test)), "things", "Thing");
        assert_eq!(things.get("a").await.ok()["of"], test);
        assert_eq!(things.names("").await, ["a"]);
    }
}

async fn cluster_wide_kinds_are_in_no_namespace(server: &Server) {
    let mut definition = thing("wide");
    definition["spec"]["scope"] = json!("Cluster");
    server.install(definition).await;
    let api_version = format!("{}/v1", group("wide"));
    let things = server.everywhere(&api_version, "things", "Thing");
    let created = things.made("a", json!({ "metadata": { "finalizers": ["example.com/f"] } })).await;
    assert_eq!(created["metadata"].get("namespace"), None);
    assert_eq!(things.names("").await, ["a"]);
    assert_eq!(things.names("?fieldSelector=metadata.name=a").await, ["a"]);
    let answer = server.in_namespace("default", &api_version, "things", "Thing").list("").await;
    assert_eq!((answer.code, answer.text().as_str()), (404, "404 page not found\n"));
    things.merge("a", json!({ "metadata": { "finalizers": null } })).await.ok();
    things.delete("a").await.ok();
    things.get("a").await.refused(404, "NotFound");
}

async fn a_deleted_definition_takes_its_objects_with_it(server: &Server) {
    let definition = thing("deleted");
    server.install(definition.clone()).await;
    let api_version = format!("{}/v1", group("deleted"));
    let things = server.namespaced(&api_version, "things", "Thing").await;
    things.made("a", json!({})).await;
    let elsewhere = server.namespaced(&api_version, "things", "Thing").await;
    elsewhere.made("b", json!({})).await;
    let everywhere = server.everywhere(&api_version, "things", "Thing");
    let mut watch =
        everywhere.watch(&format!("&resourceVersion={}", version(&everywhere.list("").await.ok()))).await;
    server.crds().delete(name_of(&definition)).await.ok();
    let mut gone = [watch.expect_any("DELETED").await, watch.expect_any("DELETED").await]
        .map(|object| text(&object, "/metadata/name").to_owned());
    gone.sort();
    assert_eq!(gone, ["a", "b"]);
    until_not_found(server, &format!("{}/{}", super::kinds::CRDS, name_of(&definition))).await;
    until_not_found(server, &things.path).await;
    until_not_found(server, &format!("/apis/{api_version}")).await;
    until_not_found(server, &format!("/apis/{}", group("deleted"))).await;
}

async fn a_definition_waits_for_its_last_object(server: &Server) {
    let definition = thing("waits");
    let name = name_of(&definition);
    server.install(definition.clone()).await;
    let things = server.namespaced(&format!("{}/v1", group("waits")), "things", "Thing").await;
    things.made("a", json!({ "metadata": { "finalizers": ["example.com/hold"] } })).await;
    server.crds().delete(name).await.ok();
    let held = eventually("its objects are being deleted", SOON, async || {
        let seen = server.crds().get(name).await.ok();
        ensure!(condition(&seen, "Terminating").is_some_and(|c| c["status"] == "True"), "{seen}");
        let object = things.get("a").await;
        ensure!(object.json()["metadata"]["deletionTimestamp"].is_string(), "{object:?}");
        Ok(seen)
    })
    .await;
    assert_eq!(held["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    eventually("nothing new is made", SOON, async || {
        let answer = things.create_with("?dryRun=All", things.object("b", json!({}))).await;
        ensure!(answer.code == 403, "{answer:?}");
        answer.refused(403, "Forbidden");
        Ok(())
    })
    .await;
    things.merge("a", json!({ "metadata": { "finalizers": null } })).await.ok();
    until_not_found(server, &format!("{}/{name}", super::kinds::CRDS)).await;
    until_not_found(server, &things.path).await;
}

async fn a_recreated_definition_has_no_objects(server: &Server) {
    let definition = thing("recreated");
    server.install(definition.clone()).await;
    let things = server.namespaced(&format!("{}/v1", group("recreated")), "things", "Thing").await;
    things.made("a", json!({})).await;
    server.crds().delete(name_of(&definition)).await.ok();
    until_not_found(server, &format!("{}/{}", super::kinds::CRDS, name_of(&definition))).await;
    until_not_found(server, &things.path).await;
    server.install(definition).await;
    assert_eq!(things.names("").await, [""; 0]);
    things.made("a", json!({})).await;
}

async fn some_fields_never_change(server: &Server) {
    let definition = thing("fixed");
    server.install(definition.clone()).await;
    for (spec, field) in [
        (json!({ "scope": "Cluster" }), "spec.scope"),
        (json!({ "group": "other.conformance.test" }), "spec.group"),
    ] {
        let refused = server.crds().merge(name_of(&definition), json!({ "spec": spec })).await;
        let causes = refused.invalid();
        assert!(causes.contains(&format!("{field}: FieldValueInvalid")), "{causes:?}");
    }
}

async fn stored_versions_are_not_dropped(server: &Server) {
    let definition = thing("dropped");
    server.install(definition.clone()).await;
    let version = json!({ "name": "v2", "served": true, "storage": true, "schema": any_object() });
    let refused =
        server.crds().merge(name_of(&definition), json!({ "spec": { "versions": [version] } })).await;
    assert_eq!(refused.invalid(), ["status.storedVersions[0]: FieldValueInvalid"]);
}

async fn definitions_can_be_applied(server: &Server) {
    let definition = thing("applied");
    let (crds, name) = (server.crds(), name_of(&definition));
    let applied = super::apply::apply(&crds, "one", name, definition.clone()).await.created();
    server.served(&format!("/apis/{}/v1/things", group("applied"))).await;
    let again = super::apply::apply(&crds, "one", name, definition.clone()).await.ok();
    assert_eq!(again["metadata"]["generation"], applied["metadata"]["generation"]);
    assert_eq!(again["spec"], applied["spec"]);
}

async fn a_dry_run_serves_nothing(server: &Server) {
    let definition = thing("dry");
    server.crds().create_with("?dryRun=All", definition.clone()).await.created();
    server.crds().get(name_of(&definition)).await.refused(404, "NotFound");
    assert_eq!(server.get(&format!("/apis/{}/v1/things", group("dry"))).await.code, 404);
}
