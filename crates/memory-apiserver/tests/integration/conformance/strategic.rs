//! Strategic merge patches of built-in kinds: lists that are merged by a key, and directives.

use serde_json::{Value, json};

use super::answer::{Answer, version};
use super::collection::{Collection, STRATEGIC_PATCH};
use super::server::Server;

on_every_server![
    maps_are_merged_and_nulls_remove,
    lists_of_objects_are_merged_by_their_key,
    items_are_deleted_by_directive,
    a_list_can_be_replaced_by_directive,
    a_map_can_be_replaced_by_directive,
    lists_of_scalars_are_added_to,
    scalars_are_deleted_from_lists_by_directive,
    the_order_of_a_list_can_be_given,
    owners_are_told_apart_by_uid,
    lists_without_a_key_are_replaced,
    conditions_are_told_apart_by_type,
    a_strategic_patch_with_a_stale_version_is_a_conflict,
    a_strategic_patch_that_changes_nothing_writes_nothing,
    bodies_that_are_no_objects_are_bad_requests,
];

async fn strategic(objects: &Collection, name: &str, patch: Value) -> Answer {
    objects.patch(name, STRATEGIC_PATCH, &patch).await
}

/// A service with two ports.
async fn service(server: &Server) -> Collection {
    let services = server.namespaced("v1", "services", "Service").await;
    let ports =
        json!([{ "name": "a", "port": 1, "targetPort": 11 }, { "name": "b", "port": 2, "targetPort": 12 }]);
    let spec = json!({ "clusterIP": "None", "selector": { "app": "x" }, "ports": ports });
    services.made("s", json!({ "spec": spec })).await;
    services
}

/// The ports of a service as short texts.
fn ports(service: &Value) -> Vec<(i64, String, i64)> {
    let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let port = |port: &Value| {
        let number = |field: &str| port[field].as_i64().unwrap_or_default();
        (number("port"), port["name"].as_str().unwrap_or_default().to_owned(), number("targetPort"))
    };
    ports.iter().map(port).collect()
}

fn port(number: i64, name: &str, target: i64) -> (i64, String, i64) {
    (number, name.to_owned(), target)
}

async fn maps_are_merged_and_nulls_remove(server: &Server) {
    let maps = server.config_maps().await;
    let object = json!({ "metadata": { "labels": { "a": "1" } }, "data": { "kept": "k", "gone": "g" } });
    maps.made("a", object).await;
    let patch = json!({ "metadata": { "labels": { "b": "2" } }, "data": { "gone": null, "new": "n" } });
    let patched = strategic(&maps, "a", patch).await.ok();
    assert_eq!(patched["data"], json!({ "kept": "k", "new": "n" }));
    assert_eq!(patched["metadata"]["labels"], json!({ "a": "1", "b": "2" }));
    assert_eq!(maps.get("a").await.ok(), patched);
}

async fn lists_of_objects_are_merged_by_their_key(server: &Server) {
    let services = service(server).await;
    let patch = json!({ "spec": { "ports": [{ "port": 2, "targetPort": 99 }, { "name": "c", "port": 3 }] } });
    let mut merged = ports(&strategic(&services, "s", patch).await.ok());
    merged.sort();
    assert_eq!(merged, [port(1, "a", 11), port(2, "b", 99), port(3, "c", 3)]);

    let pods = server.namespaced("v1", "pods", "Pod").await;
    let container =
        |name: &str| json!({ "name": name, "image": "one", "env": [{ "name": "e", "value": "v" }] });
    pods.made("p", json!({ "spec": { "containers": [container("a"), container("b")] } })).await;
    let patch = json!({ "spec": { "containers": [{ "name": "b", "image": "two" }] } });
    let patched = strategic(&pods, "p", patch).await.ok();
    let containers = patched["spec"]["containers"].as_array().unwrap();
    let images: Vec<_> = containers.iter().map(|c| (&c["name"], &c["image"])).collect();
    assert_eq!(images, [(&json!("a"), &json!("one")), (&json!("b"), &json!("two"))]);
    assert_eq!(containers[1]["env"], json!([{ "name": "e", "value": "v" }]));
}

async fn items_are_deleted_by_directive(server: &Server) {
    let services = service(server).await;
    let patch = json!({ "spec": { "ports": [{ "port": 1, "$patch": "delete" }] } });
    assert_eq!(ports(&strategic(&services, "s", patch).await.ok()), [port(2, "b", 12)]);
}

async fn a_list_can_be_replaced_by_directive(server: &Server) {
    let services = service(server).await;
    let ports_now = json!([{ "$patch": "replace" }, { "name": "c", "port": 3, "targetPort": 13 }]);
    let patch = json!({ "spec": { "ports": ports_now } });
    assert_eq!(ports(&strategic(&services, "s", patch).await.ok()), [port(3, "c", 13)]);
}

async fn a_map_can_be_replaced_by_directive(server: &Server) {
    let maps = server.config_maps().await;
    maps.made("a", json!({ "data": { "a": "1", "b": "2" } })).await;
    let patched = strategic(&maps, "a", json!({ "data": { "$patch": "replace", "c": "3" } })).await.ok();
    assert_eq!(patched["data"], json!({ "c": "3" }));
    let patched = strategic(&maps, "a", json!({ "data": { "$patch": "delete" } })).await.ok();
    assert_eq!(patched.get("data"), None);
}

async fn lists_of_scalars_are_added_to(server: &Server) {
    let maps = server.config_maps().await;
    maps.made("a", json!({ "metadata": { "finalizers": ["example.com/a"] } })).await;
    let patch = json!({ "metadata": { "finalizers": ["example.com/b", "example.com/a"] } });
    let patched = strategic(&maps, "a", patch).await.ok();
    let mut finalizers: Vec<_> =
        patched["metadata"]["finalizers"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    finalizers.sort_unstable();
    assert_eq!(finalizers, ["example.com/a", "example.com/b"]);
}

async fn scalars_are_deleted_from_lists_by_directive(server: &Server) {
    let maps = server.config_maps().await;
    maps.made("a", json!({ "metadata": { "finalizers": ["example.com/a", "example.com/b"] } })).await;
    let patch = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["example.com/a"] } });
    let patched = strategic(&maps, "a", patch).await.ok();
    assert_eq!(patched["metadata"]["finalizers"], json!(["example.com/b"]));
}

async fn the_order_of_a_list_can_be_given(server: &Server) {
    let services = service(server).await;
    let patch = json!({ "spec": {
        "$setElementOrder/ports": [{ "port": 3 }, { "port": 2 }, { "port": 1 }],
        "ports": [{ "name": "c", "port": 3, "targetPort": 13 }],
    } });
    let patched = ports(&strategic(&services, "s", patch).await.ok());
    assert_eq!(patched, [port(3, "c", 13), port(2, "b", 12), port(1, "a", 11)]);
}

async fn owners_are_told_apart_by_uid(server: &Server) {
    let maps = server.config_maps().await;
    let owner =
        |uid: &str, name: &str| json!({ "apiVersion": "v1", "kind": "Node", "name": name, "uid": uid });
    maps.made("a", json!({ "metadata": { "ownerReferences": [owner("1", "one"), owner("2", "two")] } }))
        .await;
    let owners = json!([owner("2", "deux"), { "uid": "1", "$patch": "delete" }]);
    let patch = json!({ "metadata": { "ownerReferences": owners } });
    let patched = strategic(&maps, "a", patch).await.ok();
    assert_eq!(patched["metadata"]["ownerReferences"], json!([owner("2", "deux")]));
}

async fn lists_without_a_key_are_replaced(server: &Server) {
    let claims = server.namespaced("v1", "persistentvolumeclaims", "PersistentVolumeClaim").await;
    let spec = json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": "s", "resources": { "requests": { "storage": "1Gi" } },
    });
    claims.made("c", json!({ "spec": spec })).await;
    let status = |modes: Value| json!({ "status": { "accessModes": modes } });
    strategic(&claims, "c/status", status(json!(["ReadWriteOnce", "ReadOnlyMany"]))).await.ok();
    let patched = strategic(&claims, "c/status", status(json!(["ReadWriteMany"]))).await.ok();
    assert_eq!(patched["status"]["accessModes"], json!(["ReadWriteMany"]));
}

async fn conditions_are_told_apart_by_type(server: &Server) {
    let pods = server.namespaced("v1", "pods", "Pod").await;
    pods.made("p", json!({ "spec": { "containers": [{ "name": "a", "image": "one" }] } })).await;
    let conditions = |conditions: Value| json!({ "status": { "conditions": conditions } });
    let two = json!([{ "type": "Ready", "status": "False" }, { "type": "Initialized", "status": "True" }]);
    strategic(&pods, "p/status", conditions(two)).await.ok();
    let ready = json!([{ "type": "Ready", "status": "True" }]);
    let patched = strategic(&pods, "p/status", conditions(ready)).await.ok();
    let mut seen: Vec<_> = patched["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| format!("{}={}", condition["type"], condition["status"]).replace('"', ""))
        .collect();
    seen.sort();
    assert_eq!(seen, ["Initialized=True", "Ready=True"]);
}

async fn a_strategic_patch_with_a_stale_version_is_a_conflict(server: &Server) {
    let maps = server.config_maps().await;
    let created = maps.made("a", json!({})).await;
    let version = &created["metadata"]["resourceVersion"];
    let patch = |value: &str| json!({ "metadata": { "resourceVersion": version }, "data": { "a": value } });
    strategic(&maps, "a", patch("1")).await.ok();
    strategic(&maps, "a", patch("2")).await.refused(409, "Conflict");
}

async fn a_strategic_patch_that_changes_nothing_writes_nothing(server: &Server) {
    let services = service(server).await;
    let before = services.get("s").await.ok();
    for patch in [json!({}), json!({ "spec": { "ports": [{ "port": 1, "targetPort": 11 }] } })] {
        let after = strategic(&services, "s", patch).await.ok();
        assert_eq!(version(&after), version(&before));
    }
}

async fn bodies_that_are_no_objects_are_bad_requests(server: &Server) {
    let maps = server.config_maps().await;
    maps.made("a", json!({})).await;
    for body in ["{", "[]"] {
        let headers = [("content-type", STRATEGIC_PATCH)];
        let answer = maps.server.http(http::Method::PATCH, &maps.path_of("a"), &headers, body).await;
        answer.refused(400, "BadRequest");
    }
}
