//! Deletion: preconditions, finalizers, answers, collections, and the grace period of Pods.

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{text, version};
use super::collection::{Collection, names};
use super::server::Server;

on_every_server![
    a_deleted_object_is_gone,
    a_deletion_can_insist_on_a_uid,
    a_deletion_can_insist_on_a_version,
    a_finalizer_holds_an_object_that_is_being_deleted,
    deleting_twice_marks_once,
    the_object_goes_with_its_last_finalizer,
    the_last_finalizer_may_go_by_any_kind_of_write,
    no_finalizer_is_added_to_what_is_being_deleted,
    what_is_being_deleted_can_still_be_changed,
    a_deletion_is_not_taken_back,
    the_name_stays_taken_until_the_object_is_gone,
    preconditions_are_checked_before_anything_is_marked,
    foreground_and_orphan_are_finalizers,
    a_later_policy_takes_the_place_of_an_earlier_one,
    unknown_policies_are_invalid,
    bodies_that_are_no_options_are_bad_requests,
    options_may_say_what_they_are,
    a_collection_is_deleted_by_selectors,
    a_collection_is_deleted_in_its_namespace_only,
    finalizers_hold_the_objects_of_a_deleted_collection,
    a_pod_without_a_node_is_gone_at_once,
    a_pod_on_a_node_is_given_time,
    other_kinds_are_given_no_time,
    owned_objects_are_deleted_like_any_others,
];

const HOLD: &str = "example.com/hold";

/// Creates an object that a finalizer holds.
async fn held(objects: &Collection, name: &str) -> Value {
    objects.made(name, json!({ "metadata": { "finalizers": [HOLD] } })).await
}

/// Whether an object is marked as deleted. Checks the form of the mark.
fn is_marked(object: &Value) -> bool {
    let time = text(object, "/metadata/deletionTimestamp");
    assert!(time.is_empty() || (time.ends_with('Z') && time.parse::<Timestamp>().is_ok()), "{object}");
    !time.is_empty()
}

async fn a_deleted_object_is_gone(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({})).await;
        let status = objects.delete("a").await.ok();
        assert_eq!((text(&status, "/kind"), text(&status, "/status")), ("Status", "Success"), "{status}");
        assert_eq!(status["details"]["name"], "a");
        assert_eq!(status["details"]["uid"], created["metadata"]["uid"]);
        assert_eq!(status["details"]["kind"], objects.path.rsplit('/').next().unwrap());
        objects.get("a").await.refused(404, "NotFound");
        objects.delete("a").await.refused(404, "NotFound");
        assert!(!objects.names("").await.contains(&"a".to_owned()));
    }
}

async fn a_deletion_can_insist_on_a_uid(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({})).await;
        let wrong = json!({ "preconditions": { "uid": "00000000-0000-0000-0000-000000000000" } });
        objects.delete_with("a", wrong).await.refused(409, "Conflict");
        assert_eq!(objects.get("a").await.ok(), created);
        objects
            .delete_with("a", json!({ "preconditions": { "uid": created["metadata"]["uid"] } }))
            .await
            .ok();
        objects.get("a").await.refused(404, "NotFound");
    }
}

async fn a_deletion_can_insist_on_a_version(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({})).await;
        let changed = objects.merge("a", json!({ "metadata": { "labels": { "a": "b" } } })).await.ok();
        let insist = |object: &Value| {
            let metadata = &object["metadata"];
            json!({ "preconditions": { "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"] } })
        };
        objects.delete_with("a", insist(&created)).await.refused(409, "Conflict");
        assert_eq!(objects.get("a").await.ok(), changed);
        objects.delete_with("a", insist(&changed)).await.ok();
        objects.get("a").await.refused(404, "NotFound");
    }
}

async fn a_finalizer_holds_an_object_that_is_being_deleted(server: &Server) {
    for objects in server.both().await {
        let created = held(&objects, "a").await;
        let marked = objects.delete("a").await.ok();
        assert!(is_marked(&marked), "{marked}");
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
        assert_eq!(marked["kind"], created["kind"], "the object is answered");
        assert!(version(&marked) > version(&created));
        assert_eq!(objects.get("a").await.ok(), marked);
        if created["kind"] == "Widget" {
            assert_eq!(marked["metadata"]["generation"], 2, "deletion is a change of what is wanted");
        }
    }
}

async fn deleting_twice_marks_once(server: &Server) {
    for objects in server.both().await {
        held(&objects, "a").await;
        let marked = objects.delete("a").await.ok();
        assert_eq!(objects.delete("a").await.ok(), marked);
        assert_eq!(objects.get("a").await.ok(), marked);
    }
}

async fn the_object_goes_with_its_last_finalizer(server: &Server) {
    for objects in server.both().await {
        objects.made("a", json!({ "metadata": { "finalizers": [HOLD, "example.com/other"] } })).await;
        objects.delete("a").await.ok();
        let left = objects.merge("a", json!({ "metadata": { "finalizers": [HOLD] } })).await.ok();
        assert!(is_marked(&left));
        let last = objects.merge("a", json!({ "metadata": { "finalizers": null } })).await.ok();
        assert_eq!(last["metadata"].get("finalizers"), None);
        assert!(is_marked(&last), "the last answer has the object as it went");
        objects.get("a").await.refused(404, "NotFound");
    }
}

async fn the_last_finalizer_may_go_by_any_kind_of_write(server: &Server) {
    for objects in server.both().await {
        held(&objects, "a").await;
        let mut marked = objects.delete("a").await.ok();
        marked["metadata"]["finalizers"] = json!([]);
        objects.put("a", marked).await.ok();
        objects.get("a").await.refused(404, "NotFound");

        held(&objects, "b").await;
        objects.delete("b").await.ok();
        let patch = json!([{ "op": "remove", "path": "/metadata/finalizers/0" }]);
        objects.patch("b", super::collection::JSON_PATCH, &patch).await.ok();
        objects.get("b").await.refused(404, "NotFound");
    }
}

async fn no_finalizer_is_added_to_what_is_being_deleted(server: &Server) {
    for objects in server.both().await {
        held(&objects, "a").await;
        let marked = objects.delete("a").await.ok();
        let more = json!({ "metadata": { "finalizers": [HOLD, "example.com/late"] } });
        assert_eq!(objects.merge("a", more).await.invalid(), ["metadata.finalizers: FieldValueForbidden"]);
        assert_eq!(objects.get("a").await.ok(), marked);
    }
}

async fn what_is_being_deleted_can_still_be_changed(server: &Server) {
    for objects in server.both().await {
        held(&objects, "a").await;
        objects.delete("a").await.ok();
        let changed = objects.merge("a", json!({ "metadata": { "labels": { "a": "b" } } })).await.ok();
        assert_eq!(changed["metadata"]["labels"], json!({ "a": "b" }));
        assert!(is_marked(&changed));
    }
    let widgets = server.widgets().await;
    held(&widgets, "a").await;
    widgets.delete("a").await.ok();
    widgets.merge("a/status", json!({ "status": { "phase": "Used" } })).await.ok();
    let seen = widgets.get("a").await.ok();
    assert_eq!((&seen["status"]["phase"], is_marked(&seen)), (&json!("Used"), true));
}

async fn a_deletion_is_not_taken_back(server: &Server) {
    for objects in server.both().await {
        held(&objects, "a").await;
        let marked = objects.delete("a").await.ok();
        let mut unmarked = marked.clone();
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
            unmarked["metadata"].as_object_mut().unwrap().remove(field);
        }
        objects.put("a", unmarked).await.ok();
        let seen = objects.get("a").await.ok();
        assert_eq!(seen["metadata"]["deletionTimestamp"], marked["metadata"]["deletionTimestamp"]);
    }
}

async fn the_name_stays_taken_until_the_object_is_gone(server: &Server) {
    for objects in server.both().await {
        let first = held(&objects, "a").await;
        objects.delete("a").await.ok();
        let status = objects.create(objects.object("a", json!({}))).await.refused(409, "AlreadyExists");
        assert!(text(&status, "/message").starts_with("object is being deleted: "), "{status}");
        objects.merge("a", json!({ "metadata": { "finalizers": null } })).await.ok();
        let second = objects.made("a", json!({})).await;
        assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
    }
}

async fn preconditions_are_checked_before_anything_is_marked(server: &Server) {
    for objects in server.both().await {
        let created = held(&objects, "a").await;
        objects
            .delete_with("a", json!({ "preconditions": { "resourceVersion": "1" } }))
            .await
            .refused(409, "Conflict");
        assert_eq!(objects.get("a").await.ok(), created);
    }
}

/// The answer has the finalizer. The garbage collector may have removed it by the next read.
async fn foreground_and_orphan_are_finalizers(server: &Server) {
    for objects in server.both().await {
        for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
            objects.made(finalizer.to_lowercase().as_str(), json!({})).await;
            let name = format!("{}?propagationPolicy={policy}", finalizer.to_lowercase());
            let marked = objects.delete(&name).await.ok();
            assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
            assert!(is_marked(&marked));
        }
        objects.made("background", json!({})).await;
        objects.delete_with("background", json!({ "propagationPolicy": "Background" })).await.ok();
        objects.get("background").await.refused(404, "NotFound");
    }
}

async fn a_later_policy_takes_the_place_of_an_earlier_one(server: &Server) {
    for objects in server.both().await {
        held(&objects, "a").await;
        let marked = objects.delete("a?propagationPolicy=Foreground").await.ok();
        let mut finalizers: Vec<_> = marked["metadata"]["finalizers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f.as_str().unwrap())
            .collect();
        finalizers.sort_unstable();
        assert_eq!(finalizers, [HOLD, "foregroundDeletion"]);
        let marked = objects.delete("a?propagationPolicy=Background").await.ok();
        assert_eq!(marked["metadata"]["finalizers"], json!([HOLD]));
    }
}

async fn unknown_policies_are_invalid(server: &Server) {
    for objects in server.both().await {
        objects.made("a", json!({})).await;
        let refused = objects.delete_with("a", json!({ "propagationPolicy": "Sideways" })).await;
        assert_eq!(refused.invalid(), ["propagationPolicy: FieldValueNotSupported"]);
        objects.get("a").await.ok();
    }
}

async fn bodies_that_are_no_options_are_bad_requests(server: &Server) {
    for objects in server.both().await {
        objects.made("a", json!({})).await;
        let headers = [("content-type", "application/json")];
        server.http(Method::DELETE, &objects.path_of("a"), &headers, "{").await.refused(400, "BadRequest");
        objects.get("a").await.ok();
    }
}

async fn options_may_say_what_they_are(server: &Server) {
    for objects in server.both().await {
        for api_version in ["v1", "meta.k8s.io/v1"] {
            objects.made("a", json!({})).await;
            let mut options = json!({ "kind": "DeleteOptions", "propagationPolicy": "Background" });
            options["apiVersion"] = json!(api_version);
            objects.delete_with("a", options).await.ok();
            objects.get("a").await.refused(404, "NotFound");
        }
    }
}

async fn a_collection_is_deleted_by_selectors(server: &Server) {
    for objects in server.both().await {
        for name in ["a", "b", "c", "d"] {
            objects.made(name, json!({ "metadata": { "labels": { "of": name } } })).await;
        }
        let deleted =
            objects.send(Method::DELETE, "?labelSelector=of+in+(a,b)", "application/json", &json!({})).await;
        let deleted = deleted.ok();
        assert_eq!(
            deleted["kind"],
            format!("{}List", objects.object("", json!({}))["kind"].as_str().unwrap())
        );
        assert_eq!(names(&deleted), ["a", "b"]);
        assert_eq!(objects.names("?labelSelector=of").await, ["c", "d"]);

        let path = format!("{}?fieldSelector=metadata.name=c", objects.path);
        server.http(Method::DELETE, &path, &[], "").await.ok();
        assert_eq!(objects.names("?labelSelector=of").await, ["d"]);

        server.http(Method::DELETE, &objects.path, &[], "").await.ok();
        assert_eq!(objects.names("").await, [""; 0]);
        server.http(Method::DELETE, &objects.path, &[], "").await.ok();
    }
}

async fn a_collection_is_deleted_in_its_namespace_only(server: &Server) {
    let (here, there) = (server.widgets().await, server.widgets().await);
    here.made("a", json!({})).await;
    there.made("a", json!({})).await;
    server.http(Method::DELETE, &here.path, &[], "").await.ok();
    here.get("a").await.refused(404, "NotFound");
    there.get("a").await.ok();
}

async fn finalizers_hold_the_objects_of_a_deleted_collection(server: &Server) {
    for objects in server.both().await {
        held(&objects, "held").await;
        objects.made("free", json!({ "metadata": { "labels": { "a": "b" } } })).await;
        server.http(Method::DELETE, &objects.path, &[], "").await.ok();
        assert_eq!(objects.names("").await, ["held"]);
        assert!(is_marked(&objects.get("held").await.ok()));
    }
}

fn pod(node: Option<&str>) -> Value {
    let containers = json!([{ "name": "c", "image": "i" }]);
    json!({ "spec": { "nodeName": node, "terminationGracePeriodSeconds": 70, "containers": containers } })
}

async fn a_pod_without_a_node_is_gone_at_once(server: &Server) {
    let pods = server.namespaced("v1", "pods", "Pod").await;
    pods.made("p", pod(None)).await;
    pods.delete("p").await.ok();
    pods.get("p").await.refused(404, "NotFound");
}

async fn a_pod_on_a_node_is_given_time(server: &Server) {
    let pods = server.namespaced("v1", "pods", "Pod").await;
    let created = pods.made("p", pod(Some("node"))).await;
    let marked = pods.delete("p").await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 70);
    assert!(version(&marked) > version(&created));
    let [created, until] =
        [&created["metadata"]["creationTimestamp"], &marked["metadata"]["deletionTimestamp"]]
            .map(|time| time.as_str().unwrap().parse::<Timestamp>().unwrap());
    assert!(
        (70..100).contains(&created.duration_until(until).as_secs()),
        "the mark is when its time is over"
    );

    let sooner = pods.delete_with("p", json!({ "gracePeriodSeconds": 5 })).await.ok();
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    let later = pods.delete_with("p", json!({ "gracePeriodSeconds": 50 })).await.ok();
    assert_eq!(later["metadata"]["deletionGracePeriodSeconds"], 5, "time is only shortened");
    pods.delete_with("p", json!({ "gracePeriodSeconds": 0 })).await.ok();
    pods.get("p").await.refused(404, "NotFound");
}

async fn other_kinds_are_given_no_time(server: &Server) {
    for objects in server.both().await {
        objects.made("a", json!({})).await;
        objects.delete_with("a", json!({ "gracePeriodSeconds": 30 })).await.ok();
        objects.get("a").await.refused(404, "NotFound");
    }
}

async fn owned_objects_are_deleted_like_any_others(server: &Server) {
    for objects in server.both().await {
        let first = objects.made("owner", json!({})).await;
        let reference = json!({
            "apiVersion": first["apiVersion"], "kind": first["kind"], "name": "owner",
            "uid": first["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
        });
        let owned = objects.made("owned", json!({ "metadata": { "ownerReferences": [reference] } })).await;
        assert_eq!(owned["metadata"]["ownerReferences"], json!([reference]));
        objects.delete("owned").await.ok();
        objects.get("owned").await.refused(404, "NotFound");
        objects.get("owner").await.ok();
    }
}
