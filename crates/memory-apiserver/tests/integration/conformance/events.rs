//! Events: one storage, seen as `v1` and as `events.k8s.io/v1`.

use serde_json::{Value, json};

use super::answer::{text, version};
use super::collection::Collection;
use super::server::Server;

on_every_server![
    an_old_event_is_seen_as_a_new_one,
    a_new_event_is_seen_as_an_old_one,
    events_are_changed_and_deleted_as_either,
    events_are_listed_and_watched_as_either,
    events_are_selected_by_what_they_are_about,
    new_events_are_selected_by_what_they_regard,
    events_are_in_the_namespace_of_what_they_are_about,
    new_events_say_when_and_what,
    times_of_new_events_have_microseconds,
];

/// The events of a namespace as `v1` and as `events.k8s.io/v1`.
async fn events(server: &Server) -> (Collection, Collection, String) {
    let namespace = server.namespace().await;
    let old = server.in_namespace(&namespace, "v1", "events", "Event");
    (old, server.in_namespace(&namespace, "events.k8s.io/v1", "events", "Event"), namespace)
}

fn old_event(namespace: &str, kind: &str, name: &str) -> Value {
    json!({
        "involvedObject": {
            "apiVersion": "v1", "kind": kind, "name": name, "namespace": namespace, "uid": format!("uid-{name}"),
        },
        "reason": "Started", "message": "it runs", "type": "Normal", "count": 2,
        "source": { "component": "agent", "host": "node" },
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:01Z",
    })
}

fn new_event(namespace: &str, name: &str) -> Value {
    json!({
        "regarding": { "kind": "Pod", "name": name, "namespace": namespace },
        "related": { "kind": "Node", "name": "n" },
        "eventTime": "2026-01-01T00:00:00.123456Z", "reportingController": "example.com/agent",
        "reportingInstance": "agent-1", "action": "Start", "reason": "Started", "note": "it runs", "type": "Normal",
    })
}

/// Asserts that an object has these fields among its own.
#[track_caller]
fn assert_fields(object: &Value, fields: &Value) {
    for (field, value) in fields.as_object().unwrap() {
        assert_eq!(&object[field], value, "{field} of {object}");
    }
}

async fn an_old_event_is_seen_as_a_new_one(server: &Server) {
    let (old, new, namespace) = events(server).await;
    let event = old_event(&namespace, "Pod", "p");
    let created = old.made("e", event.clone()).await;
    assert_fields(&created, &event);
    let seen = new.get("e").await.ok();
    assert_eq!((text(&seen, "/apiVersion"), text(&seen, "/kind")), ("events.k8s.io/v1", "Event"));
    let expected = json!({
        "regarding": event["involvedObject"], "reason": "Started", "note": "it runs", "type": "Normal",
        "deprecatedCount": 2, "deprecatedSource": event["source"],
        "deprecatedFirstTimestamp": event["firstTimestamp"], "deprecatedLastTimestamp": event["lastTimestamp"],
    });
    assert_fields(&seen, &expected);
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        assert_eq!(seen["metadata"][field], created["metadata"][field], "{field}");
    }
}

async fn a_new_event_is_seen_as_an_old_one(server: &Server) {
    let (old, new, namespace) = events(server).await;
    let event = new_event(&namespace, "p");
    let created = new.made("e", event.clone()).await;
    assert_fields(&created, &event);
    let seen = old.get("e").await.ok();
    assert_eq!(text(&seen, "/apiVersion"), "v1");
    let expected = json!({
        "involvedObject": event["regarding"], "related": event["related"], "eventTime": event["eventTime"],
        "reportingComponent": "example.com/agent", "reportingInstance": "agent-1", "action": "Start",
        "reason": "Started", "message": "it runs", "type": "Normal",
    });
    assert_fields(&seen, &expected);
    assert_eq!(seen["metadata"]["uid"], created["metadata"]["uid"]);
}

async fn events_are_changed_and_deleted_as_either(server: &Server) {
    let (old, new, namespace) = events(server).await;
    old.made("e", old_event(&namespace, "Pod", "p")).await;
    let changed = old.merge("e", json!({ "count": 3 })).await.ok();
    let seen = new.get("e").await.ok();
    assert_eq!((&seen["deprecatedCount"], version(&seen)), (&json!(3), version(&changed)));
    new.delete("e").await.ok();
    old.get("e").await.refused(404, "NotFound");

    new.made("f", new_event(&namespace, "p")).await;
    let series = json!({ "count": 2, "lastObservedTime": "2026-01-01T00:00:02.000001Z" });
    new.merge("f", json!({ "series": series })).await.ok();
    assert_eq!(old.get("f").await.ok()["series"], series);
    old.delete("f").await.ok();
    new.get("f").await.refused(404, "NotFound");
}

async fn events_are_listed_and_watched_as_either(server: &Server) {
    let (old, new, namespace) = events(server).await;
    let from = version(&old.list("").await.ok());
    let mut watches = [
        old.watch(&format!("&resourceVersion={from}")).await,
        new.watch(&format!("&resourceVersion={from}")).await,
    ];
    old.made("a", old_event(&namespace, "Pod", "p")).await;
    new.made("b", new_event(&namespace, "p")).await;
    for (watch, api_version) in watches.iter_mut().zip(["v1", "events.k8s.io/v1"]) {
        for name in ["a", "b"] {
            assert_eq!(text(&watch.expect("ADDED", name).await, "/apiVersion"), api_version);
        }
    }
    for objects in [&old, &new] {
        assert_eq!(objects.names("").await, ["a", "b"]);
    }
}

async fn events_are_selected_by_what_they_are_about(server: &Server) {
    let (old, _, namespace) = events(server).await;
    old.made("a", old_event(&namespace, "Pod", "p")).await;
    old.made("b", old_event(&namespace, "Machine", "p")).await;
    old.made("c", old_event(&namespace, "Pod", "q")).await;
    let about_namespace = format!("involvedObject.namespace={namespace},involvedObject.name=q");
    for (selector, expected) in [
        ("involvedObject.name=p", "ab"),
        ("involvedObject.kind=Pod", "ac"),
        ("involvedObject.name=p,involvedObject.kind=Machine", "b"),
        ("involvedObject.uid=uid-q", "c"),
        ("involvedObject.name!=p", "c"),
        (&about_namespace, "c"),
        ("metadata.name=b", "b"),
    ] {
        assert_eq!(old.names(&format!("?fieldSelector={selector}")).await.concat(), expected, "{selector}");
    }
    old.list("?fieldSelector=message=x").await.refused(400, "BadRequest");
    let mut watch = old.watch("&fieldSelector=involvedObject.name=q").await;
    watch.expect("ADDED", "c").await;
    old.delete("c").await.ok();
    watch.expect("DELETED", "c").await;
}

async fn new_events_are_selected_by_what_they_regard(server: &Server) {
    let (_, new, namespace) = events(server).await;
    new.made("a", new_event(&namespace, "p")).await;
    new.made("b", new_event(&namespace, "q")).await;
    assert_eq!(new.names("?fieldSelector=regarding.name=q,regarding.kind=Pod").await, ["b"]);
    new.list("?fieldSelector=involvedObject.name=q").await.refused(400, "BadRequest");
}

async fn events_are_in_the_namespace_of_what_they_are_about(server: &Server) {
    let (old, _, _) = events(server).await;
    for namespace in ["other", ""] {
        let refused = old.create(old.object("a", old_event(namespace, "Pod", "p"))).await;
        assert_eq!(refused.invalid(), ["involvedObject.namespace: FieldValueInvalid"]);
    }
    let everywhere = server.in_namespace("default", "v1", "events", "Event");
    let mut node = old_event("", "Node", "n");
    node["metadata"] = json!({ "generateName": "conformance-" });
    let name = everywhere.create(node).await.created()["metadata"]["name"].as_str().unwrap().to_owned();
    everywhere.delete(&name).await.ok();
}

async fn new_events_say_when_and_what(server: &Server) {
    let (_, new, namespace) = events(server).await;
    for (field, cause) in [
        ("eventTime", "eventTime: FieldValueRequired"),
        ("reportingController", "reportingController: FieldValueRequired"),
        ("reportingInstance", "reportingInstance: FieldValueRequired"),
        ("action", "action: FieldValueRequired"),
        ("reason", "reason: FieldValueRequired"),
        ("type", "type: FieldValueInvalid"),
    ] {
        let mut event = new_event(&namespace, "p");
        event.as_object_mut().unwrap().remove(field);
        let causes = new.create(new.object("a", event)).await.invalid();
        assert!(causes.contains(&cause.to_owned()), "{cause} is not in {causes:?}");
    }
}

async fn times_of_new_events_have_microseconds(server: &Server) {
    let (_, new, namespace) = events(server).await;
    let mut event = new_event(&namespace, "p");
    event["eventTime"] = json!("2026-01-01T02:00:00.000001+02:00");
    assert_eq!(new.made("a", event).await["eventTime"], "2026-01-01T00:00:00.000001Z");
}
