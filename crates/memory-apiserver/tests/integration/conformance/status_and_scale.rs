//! The subresources `status` and `scale`: the fields that each of them writes.

use serde_json::json;

use super::answer::version;
use super::collection::JSON_PATCH;
use super::server::Server;

on_every_server![
    status_is_not_written_with_the_rest,
    only_the_status_is_written_by_its_subresource,
    status_is_replaced_as_a_whole,
    status_is_read_by_its_subresource,
    status_is_patched_by_any_kind_of_patch,
    a_stale_status_is_a_conflict,
    a_status_that_changes_nothing_writes_nothing,
    the_status_of_nothing_is_not_found,
    kinds_without_a_status_subresource_have_an_ordinary_status,
    the_status_of_built_in_kinds_is_a_subresource,
    a_scale_tells_of_the_object,
    a_scale_is_replaced,
    a_scale_is_patched,
    a_scale_of_zero_is_one,
    a_negative_scale_is_invalid,
    a_stale_scale_is_a_conflict,
    a_scale_that_is_not_set_can_be_set,
    the_scale_of_nothing_is_not_found,
    machine_sets_can_be_scaled,
    kinds_without_subresources_have_none,
];

async fn status_is_not_written_with_the_rest(server: &Server) {
    let widgets = server.widgets().await;
    let created = widgets.made("a", json!({ "spec": { "text": "a" }, "status": { "phase": "Used" } })).await;
    assert_eq!(created.get("status"), None);
    widgets.merge("a/status", json!({ "status": { "phase": "Fresh" } })).await.ok();
    let merged =
        widgets.merge("a", json!({ "spec": { "text": "b" }, "status": { "phase": "Used" } })).await.ok();
    assert_eq!((&merged["spec"]["text"], &merged["status"]["phase"]), (&json!("b"), &json!("Fresh")));
    let mut replacement = merged.clone();
    replacement.as_object_mut().unwrap().remove("status");
    let replaced = widgets.put("a", replacement).await.ok();
    assert_eq!(replaced, merged, "nothing else was changed");
}

async fn only_the_status_is_written_by_its_subresource(server: &Server) {
    let widgets = server.widgets().await;
    let created = widgets.made("a", json!({ "spec": { "text": "a" } })).await;
    let mut changed = created.clone();
    changed["spec"]["text"] = json!("b");
    changed["metadata"]["labels"] = json!({ "l": "x" });
    changed["metadata"]["finalizers"] = json!(["example.com/f"]);
    changed["status"] = json!({ "phase": "Used" });
    let written = widgets.put("a/status", changed).await.ok();
    assert_eq!(written["status"], json!({ "phase": "Used" }));
    assert_eq!(written["spec"], created["spec"]);
    assert_eq!((written["metadata"].get("labels"), written["metadata"].get("finalizers")), (None, None));
    assert_eq!(written["metadata"]["generation"], 1);
    assert!(version(&written) > version(&created));
    assert_eq!(widgets.get("a").await.ok(), written);
}

async fn status_is_replaced_as_a_whole(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({})).await;
    let mut object =
        widgets.merge("a/status", json!({ "status": { "phase": "Used", "replicas": 1 } })).await.ok();
    object["status"] = json!({ "replicas": 2 });
    assert_eq!(widgets.put("a/status", object).await.ok()["status"], json!({ "replicas": 2 }));
}

async fn status_is_read_by_its_subresource(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({})).await;
    let written = widgets.merge("a/status", json!({ "status": { "phase": "Used" } })).await.ok();
    assert_eq!(widgets.get("a/status").await.ok(), written);
}

async fn status_is_patched_by_any_kind_of_patch(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({})).await;
    widgets.merge("a/status", json!({ "status": { "phase": "Used", "replicas": 1 } })).await.ok();
    let patch = json!([
        { "op": "replace", "path": "/status/replicas", "value": 2 },
        { "op": "add", "path": "/spec", "value": {} },
    ]);
    let patched = widgets.patch("a/status", JSON_PATCH, &patch).await.ok();
    assert_eq!(patched["status"], json!({ "phase": "Used", "replicas": 2 }));
    assert_eq!(patched.get("spec"), None);
}

async fn a_stale_status_is_a_conflict(server: &Server) {
    let widgets = server.widgets().await;
    let mut stale = widgets.made("a", json!({})).await;
    widgets.merge("a", json!({ "spec": { "text": "b" } })).await.ok();
    stale["status"] = json!({ "phase": "Used" });
    widgets.put("a/status", stale).await.refused(409, "Conflict");
    assert_eq!(widgets.get("a").await.ok().get("status"), None);
    let unversioned = widgets.object("a", json!({ "status": { "phase": "Used" } }));
    assert_eq!(
        widgets.put("a/status", unversioned).await.invalid(),
        ["metadata.resourceVersion: FieldValueInvalid"]
    );
}

async fn a_status_that_changes_nothing_writes_nothing(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({})).await;
    let written = widgets.merge("a/status", json!({ "status": { "phase": "Used" } })).await.ok();
    assert_eq!(widgets.merge("a/status", json!({ "status": { "phase": "Used" } })).await.ok(), written);
    assert_eq!(widgets.put("a/status", written.clone()).await.ok(), written);
}

async fn the_status_of_nothing_is_not_found(server: &Server) {
    let widgets = server.widgets().await;
    widgets.get("none/status").await.refused(404, "NotFound");
    widgets.merge("none/status", json!({ "status": {} })).await.refused(404, "NotFound");
}

async fn kinds_without_a_status_subresource_have_an_ordinary_status(server: &Server) {
    let group = "bare.conformance.test";
    server
        .install(super::kinds::definition(group, "Bare", &json!({ "schema": super::kinds::any_object() })))
        .await;
    let bares = server.namespaced(&format!("{group}/v1"), "bares", "Bare").await;
    let created = bares.made("a", json!({ "status": { "phase": "x" } })).await;
    assert_eq!(created["status"], json!({ "phase": "x" }));
    let merged = bares.merge("a", json!({ "status": { "phase": "y" } })).await.ok();
    assert_eq!(merged["status"], json!({ "phase": "y" }));
    assert_eq!(merged["metadata"]["generation"], 2, "it counts like everything else");
    for name in ["a/status", "a/scale"] {
        bares.get(name).await.refused(404, "NotFound");
        bares.merge(name, json!({})).await.refused(404, "NotFound");
    }
}

async fn the_status_of_built_in_kinds_is_a_subresource(server: &Server) {
    let pods = server.namespaced("v1", "pods", "Pod").await;
    let spec = json!({ "containers": [{ "name": "c", "image": "i" }] });
    let created = pods.made("p", json!({ "spec": spec, "status": { "phase": "Failed" } })).await;
    assert_eq!(created["status"]["phase"], "Pending");
    let written =
        pods.merge("p/status", json!({ "status": { "phase": "Running", "podIP": "10.0.0.1" } })).await.ok();
    assert_eq!(written["status"]["phase"], "Running");
    assert_eq!(written["status"]["podIP"], "10.0.0.1");
    pods.merge("p", json!({ "status": { "phase": "Failed" } })).await.ok();
    assert_eq!(pods.get("p").await.ok()["status"]["phase"], "Running");
}

async fn a_scale_tells_of_the_object(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({ "spec": { "replicas": 3 }, "metadata": { "labels": { "l": "x" } } })).await;
    let written =
        widgets.merge("a/status", json!({ "status": { "replicas": 2, "selector": "app=x" } })).await.ok();
    let scale = widgets.get("a/scale").await.ok();
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({ "replicas": 3 }), &json!({ "replicas": 2, "selector": "app=x" }))
    );
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        assert_eq!(scale["metadata"][field], written["metadata"][field], "{field}");
    }
    assert_eq!(scale["metadata"].get("labels"), None);
}

async fn a_scale_is_replaced(server: &Server) {
    let widgets = server.widgets().await;
    let created = widgets.made("a", json!({ "spec": { "replicas": 3 } })).await;
    let mut scale = widgets.get("a/scale").await.ok();
    scale["spec"]["replicas"] = json!(5);
    let scale = widgets.send(http::Method::PUT, "/a/scale", "application/json", &scale).await.ok();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(5)));
    let object = widgets.get("a").await.ok();
    assert_eq!(object["spec"]["replicas"], 5);
    assert_eq!(object["metadata"]["generation"], 2);
    assert_eq!(version(&object), version(&scale));
    assert!(version(&object) > version(&created));
}

async fn a_scale_is_patched(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({ "spec": { "replicas": 3, "text": "a" } })).await;
    assert_eq!(
        widgets.merge("a/scale", json!({ "spec": { "replicas": 4 } })).await.ok()["spec"]["replicas"],
        4
    );
    let patch = json!([{ "op": "replace", "path": "/spec/replicas", "value": 5 }]);
    assert_eq!(widgets.patch("a/scale", JSON_PATCH, &patch).await.ok()["spec"]["replicas"], 5);
    let object = widgets.get("a").await.ok();
    assert_eq!((&object["spec"]["replicas"], &object["spec"]["text"]), (&json!(5), &json!("a")));
}

async fn a_scale_of_zero_is_one(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({ "spec": { "replicas": 3 } })).await;
    widgets.merge("a/scale", json!({ "spec": { "replicas": 0 } })).await.ok();
    assert_eq!(widgets.get("a").await.ok()["spec"]["replicas"], 0);
    let scale = widgets.get("a/scale").await.ok();
    assert!([None, Some(&json!(0))].contains(&scale["spec"].get("replicas")), "{scale}");
}

async fn a_negative_scale_is_invalid(server: &Server) {
    let widgets = server.widgets().await;
    let created = widgets.made("a", json!({ "spec": { "replicas": 3 } })).await;
    let refused = widgets.merge("a/scale", json!({ "spec": { "replicas": -1 } })).await;
    assert!(refused.invalid().iter().all(|cause| cause.contains("spec.replicas: ")), "{refused:?}");
    assert_eq!(widgets.get("a").await.ok(), created);
}

async fn a_stale_scale_is_a_conflict(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({ "spec": { "replicas": 3 } })).await;
    let stale = widgets.get("a/scale").await.ok();
    let newer = widgets.merge("a", json!({ "spec": { "text": "a" } })).await.ok();
    let patch = json!({
        "metadata": { "resourceVersion": stale["metadata"]["resourceVersion"] }, "spec": { "replicas": 4 },
    });
    widgets.merge("a/scale", patch).await.refused(409, "Conflict");
    assert_eq!(widgets.get("a").await.ok(), newer);
}

async fn a_scale_that_is_not_set_can_be_set(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({})).await;
    let scale = widgets.merge("a/scale", json!({ "spec": { "replicas": 7 } })).await.ok();
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(7), &json!(0)));
    assert_eq!(widgets.get("a").await.ok()["spec"]["replicas"], 7);
}

async fn the_scale_of_nothing_is_not_found(server: &Server) {
    let widgets = server.widgets().await;
    widgets.get("none/scale").await.refused(404, "NotFound");
    widgets.merge("none/scale", json!({ "spec": { "replicas": 1 } })).await.refused(404, "NotFound");
}

async fn machine_sets_can_be_scaled(server: &Server) {
    let sets = server.machine_sets().await;
    sets.made("a", json!({ "spec": { "replicas": 1 } })).await;
    let status = json!({ "replicas": 1, "availableReplicas": 0, "selector": "app=x" });
    sets.merge("a/status", json!({ "status": status })).await.ok();
    sets.merge("a/scale", json!({ "spec": { "replicas": 9 } })).await.ok();
    let scale = sets.get("a/scale").await.ok();
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]),
        (&json!(9), &json!({ "replicas": 1, "selector": "app=x" }))
    );
    let set = sets.get("a").await.ok();
    assert_eq!((&set["spec"]["replicas"], &set["status"]["replicas"]), (&json!(9), &json!(1)));
}

async fn kinds_without_subresources_have_none(server: &Server) {
    let maps = server.config_maps().await;
    maps.made("a", json!({})).await;
    maps.get("a/status").await.refused(404, "NotFound");
    let machines = server.machines().await;
    machines.made("a", json!({ "spec": {} })).await;
    machines.get("a/scale").await.refused(404, "NotFound");
}
