//! The ends of watches: when their time is over, and when their definition changes.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::answer::version;
use super::collection::Collection;
use super::kinds::{any_object, definition};
use super::server::Server;
use super::watching::Watch;
use crate::support::{SOON, eventually};

on_every_server![
    a_changed_definition_ends_its_watches,
    a_version_that_is_no_longer_served_is_not_found_and_its_watches_end,
    versions_before_a_change_of_the_definition_have_expired_for_watches,
    a_deleted_definition_ends_its_watches_after_the_deletions,
    a_watch_that_is_always_busy_ends_in_time,
];

fn group(test: &str) -> String {
    format!("{test}.endings.conformance.test")
}

/// A definition with two versions, both of which are served.
fn thing(test: &str) -> Value {
    let mut definition = definition(&group(test), "Thing", &json!({ "schema": any_object() }));
    let mut second = definition["spec"]["versions"][0].clone();
    (second["name"], second["storage"]) = (json!("v2"), json!(false));
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    definition
}

fn name(test: &str) -> String {
    format!("things.{}", group(test))
}

async fn things(server: &Server, test: &str, version: &str) -> Collection {
    server.install(thing(test)).await;
    server.namespaced(&format!("{}/{version}", group(test)), "things", "Thing").await
}

/// Watches what happens from now on.
async fn watch(objects: &Collection) -> Watch {
    let from = version(&objects.list("").await.ok());
    objects.watch(&format!("&resourceVersion={from}")).await
}

/// Changes the schema of a definition.
async fn change(server: &Server, test: &str) {
    let patch = json!([{
        "op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/description", "value": "changed",
    }]);
    server.crds().patch(&name(test), super::collection::JSON_PATCH, &patch).await.ok();
}

async fn a_changed_definition_ends_its_watches(server: &Server) {
    let v1 = things(server, "changed", "v1").await;
    let v2 = server.at(&v1.path.replace("/v1/", "/v2/"), &format!("{}/v2", group("changed")), "Thing");
    let watches = [watch(&v1).await, watch(&v2).await];
    v1.made("a", json!({})).await;
    change(server, "changed").await;
    for mut watch in watches {
        watch.expect("ADDED", "a").await;
        assert_eq!(watch.rest().await, []);
    }
}

async fn a_version_that_is_no_longer_served_is_not_found_and_its_watches_end(server: &Server) {
    let v2 = things(server, "unserved", "v2").await;
    let watch = watch(&v2).await;
    let toggle =
        |served: bool| json!([{ "op": "replace", "path": "/spec/versions/1/served", "value": served }]);
    let crds = server.crds();
    crds.patch(&name("unserved"), super::collection::JSON_PATCH, &toggle(false)).await.ok();
    assert_eq!(watch.rest().await, []);
    eventually("the version is not served", SOON, async || {
        for path in [v2.path.clone(), v2.path_of("a"), format!("/apis/{}/v2", group("unserved"))] {
            let answer = server.get(&path).await;
            ensure!(answer.code == 404, "{answer:?}");
        }
        let answer = v2.create(v2.object("a", json!({}))).await;
        ensure!(answer.code == 404, "{answer:?}");
        Ok(())
    })
    .await;
    crds.patch(&name("unserved"), super::collection::JSON_PATCH, &toggle(true)).await.ok();
    server.served(&v2.path).await;
    v2.made("b", json!({})).await;
}

/// Clients list again after a change, as the history of the kind begins anew.
async fn versions_before_a_change_of_the_definition_have_expired_for_watches(server: &Server) {
    let things = things(server, "resumed", "v1").await;
    let mut first = watch(&things).await;
    things.made("a", json!({})).await;
    let seen = version(&first.expect("ADDED", "a").await);
    change(server, "resumed").await;
    assert_eq!(first.rest().await, []);
    things.made("b", json!({})).await;
    let mut second = things.watch(&format!("&resourceVersion={seen}")).await;
    let error = second.expect_any("ERROR").await;
    assert_eq!((&error["code"], &error["reason"]), (&json!(410), &json!("Expired")));
    assert_eq!(second.rest().await, []);
    let mut third = watch(&things).await;
    things.delete("b").await.ok();
    third.expect("DELETED", "b").await;
}

async fn a_deleted_definition_ends_its_watches_after_the_deletions(server: &Server) {
    let things = things(server, "deleted", "v1").await;
    for name in ["a", "b"] {
        things.made(name, json!({})).await;
    }
    let watch = watch(&things).await;
    server.crds().delete(&name("deleted")).await.ok();
    let kinds: Vec<_> = watch.rest().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["DELETED", "DELETED"]);
}

async fn a_watch_that_is_always_busy_ends_in_time(server: &Server) {
    for objects in server.both().await {
        objects.made("a", json!({})).await;
        let from = version(&objects.list("").await.ok());
        let watch = objects.watch(&format!("&resourceVersion={from}&timeoutSeconds=2")).await;
        let writes = async {
            for number in 0.. {
                objects
                    .merge("a", json!({ "metadata": { "labels": { "n": number.to_string() } } }))
                    .await
                    .ok();
            }
        };
        let events = tokio::select! {
            events = timeout(SOON + Duration::from_secs(2), watch.rest()) => events.expect("the watch ends"),
            () = writes => unreachable!("there is always another write"),
        };
        assert!(!events.is_empty() && events.iter().all(|(kind, _)| kind == "MODIFIED"), "{events:?}");
    }
}
