//! Watches: their events, the order of events, the version at which they begin, and selectors.

use futures::future::join_all;
use serde_json::{Value, json};

use super::answer::{text, version};
use super::collection::Collection;
use super::server::Server;

on_every_server![
    every_write_is_an_event,
    events_say_what_their_objects_are,
    a_deletion_is_told_with_a_version_of_its_own,
    a_watch_from_a_version_tells_what_came_after_it,
    a_watch_without_a_version_begins_with_what_is_there,
    a_watch_resumes_where_another_ended,
    writes_that_change_nothing_are_no_events,
    events_come_in_order_of_their_versions,
    all_watchers_see_the_same,
    a_watch_ends_after_its_timeout,
    a_watch_is_answered_before_anything_happens,
    objects_come_and_go_by_their_labels,
    objects_come_and_go_by_their_fields,
    a_watch_of_one_name_tells_of_no_other,
    an_object_that_is_held_is_modified_and_then_deleted,
    a_recreated_object_is_deleted_and_added,
    a_namespace_is_watched_alone,
    all_namespaces_are_watched_together,
    a_deleted_collection_is_an_event_for_each_object,
    status_writes_are_events,
    patches_and_applies_are_events,
    dry_runs_are_no_events,
    parameters_that_are_none_are_bad_requests,
    a_match_is_only_for_initial_events,
    a_watch_from_the_future_waits_for_it,
];

/// The present version of a collection, as a part of a query.
async fn from_now(objects: &Collection) -> String {
    format!("&resourceVersion={}", version(&objects.list("").await.ok()))
}

fn label(value: &str) -> Value {
    json!({ "metadata": { "labels": { "l": value } } })
}

async fn every_write_is_an_event(server: &Server) {
    for objects in server.both().await {
        let mut watch = objects.watch(&from_now(&objects).await).await;
        let created = objects.made("a", label("1")).await;
        let merged = objects.merge("a", label("2")).await.ok();
        let mut replacement = merged.clone();
        replacement["metadata"]["labels"] = json!({ "l": "3" });
        let replaced = objects.put("a", replacement).await.ok();
        assert_eq!(watch.expect("ADDED", "a").await, created);
        assert_eq!(watch.expect("MODIFIED", "a").await, merged);
        assert_eq!(watch.expect("MODIFIED", "a").await, replaced);
        objects.delete("a").await.ok();
        watch.expect("DELETED", "a").await;
    }
}

async fn events_say_what_their_objects_are(server: &Server) {
    for objects in server.both().await {
        let mut watch = objects.watch(&from_now(&objects).await).await;
        let created = objects.made("a", json!({})).await;
        objects.delete("a").await.ok();
        for event in ["ADDED", "DELETED"] {
            let object = watch.expect(event, "a").await;
            assert_eq!([&object["apiVersion"], &object["kind"]], [&created["apiVersion"], &created["kind"]]);
            assert!(version(&object) > 0);
        }
    }
}

async fn a_deletion_is_told_with_a_version_of_its_own(server: &Server) {
    for objects in server.both().await {
        let mut created = objects.made("a", label("1")).await;
        let mut watch = objects.watch(&from_now(&objects).await).await;
        objects.delete("a").await.ok();
        let mut deleted = watch.expect("DELETED", "a").await;
        assert!(version(&deleted) > version(&created));
        for object in [&mut created, &mut deleted] {
            object["metadata"]["resourceVersion"].take();
        }
        assert_eq!(deleted, created, "otherwise it is the object as it was last");
    }
}

async fn a_watch_from_a_version_tells_what_came_after_it(server: &Server) {
    for objects in server.both().await {
        objects.made("before", json!({})).await;
        let at = version(&objects.made("at", json!({})).await);
        objects.made("after", json!({})).await;
        objects.delete("before").await.ok();
        let mut watch = objects.watch(&format!("&resourceVersion={at}")).await;
        watch.expect("ADDED", "after").await;
        watch.expect("DELETED", "before").await;
    }
}

async fn a_watch_without_a_version_begins_with_what_is_there(server: &Server) {
    for objects in server.both().await {
        let first = objects.made("a", label("x")).await;
        let second = objects.made("b", label("x")).await;
        for from in ["", "&resourceVersion=", "&resourceVersion=0"] {
            let mut watch = objects.watch(&format!("&labelSelector=l=x{from}")).await;
            let mut seen = [watch.expect_any("ADDED").await, watch.expect_any("ADDED").await];
            seen.sort_by_key(version);
            assert_eq!(seen, [first.clone(), second.clone()]);
            let third = objects.made("c", label("x")).await;
            assert_eq!(watch.expect("ADDED", "c").await, third);
            objects.delete("c").await.ok();
            watch.expect("DELETED", "c").await;
        }
    }
}

async fn a_watch_resumes_where_another_ended(server: &Server) {
    for objects in server.both().await {
        let mut watch = objects.watch(&from_now(&objects).await).await;
        objects.made("a", json!({})).await;
        objects.made("b", json!({})).await;
        let last = version(&watch.expect("ADDED", "a").await);
        drop(watch);
        objects.delete("a").await.ok();
        let mut watch = objects.watch(&format!("&resourceVersion={last}")).await;
        watch.expect("ADDED", "b").await;
        let last = version(&watch.expect("DELETED", "a").await);
        drop(watch);
        objects.made("c", json!({})).await;
        objects.watch(&format!("&resourceVersion={last}")).await.expect("ADDED", "c").await;
    }
}

async fn writes_that_change_nothing_are_no_events(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", label("1")).await;
        let mut watch = objects.watch(&from_now(&objects).await).await;
        objects.merge("a", label("1")).await.ok();
        objects.put("a", created).await.ok();
        objects.made("mark", json!({})).await;
        watch.expect("ADDED", "mark").await;
    }
}

async fn events_come_in_order_of_their_versions(server: &Server) {
    let widgets = server.widgets().await;
    let mut watch = widgets.watch(&from_now(&widgets).await).await;
    let writer = async |name: String| {
        widgets.made(&name, json!({})).await;
        for round in 0..4 {
            widgets.merge(&name, label(&round.to_string())).await.ok();
        }
        widgets.delete(&name).await.ok();
    };
    join_all((0..8).map(|n| writer(format!("w{n}")))).await;
    let mut last = 0;
    let mut kinds = Vec::new();
    for _ in 0..8 * 6 {
        let (kind, object) = watch.next().await.unwrap();
        assert!(version(&object) > last, "{last} before {object}");
        last = version(&object);
        kinds.push((text(&object, "/metadata/name").to_owned(), kind));
    }
    for n in 0..8 {
        let of = format!("w{n}");
        let own: Vec<_> =
            kinds.iter().filter(|(name, _)| *name == of).map(|(_, kind)| kind.as_str()).collect();
        assert_eq!(own, ["ADDED", "MODIFIED", "MODIFIED", "MODIFIED", "MODIFIED", "DELETED"]);
    }
}

async fn all_watchers_see_the_same(server: &Server) {
    let maps = server.config_maps().await;
    let from = from_now(&maps).await;
    let watches = join_all((0..5).map(|_| maps.watch(&from))).await;
    let mut written = Vec::new();
    for round in 0..5 {
        written.push(maps.made(&format!("m{round}"), json!({})).await);
    }
    for mut watch in watches {
        for object in &written {
            assert_eq!(&watch.expect("ADDED", text(object, "/metadata/name")).await, object);
        }
    }
}

/// The watch goes on until its time is over, and then ends without an error.
async fn a_watch_ends_after_its_timeout(server: &Server) {
    for objects in server.both().await {
        let from = from_now(&objects).await;
        let mut watch = objects.watch(&format!("{from}&timeoutSeconds=3")).await;
        objects.made("a", json!({})).await;
        watch.expect("ADDED", "a").await;
        assert_eq!(watch.rest().await, []);
    }
}

async fn a_watch_is_answered_before_anything_happens(server: &Server) {
    for objects in server.both().await {
        assert_eq!(objects.watch(&from_now(&objects).await).await.code, 200);
    }
}

async fn objects_come_and_go_by_their_labels(server: &Server) {
    for objects in server.both().await {
        let mut watch = objects.watch(&format!("{}&labelSelector=l=in", from_now(&objects).await)).await;
        objects.made("a", label("out")).await;
        let entered = objects.merge("a", label("in")).await.ok();
        let patch = json!({ "metadata": { "labels": { "more": "1" } } });
        let changed = objects.merge("a", patch).await.ok();
        let left = objects.merge("a", label("out")).await.ok();
        objects.merge("a", json!({ "metadata": { "labels": { "more": "2" } } })).await.ok();
        let back = objects.merge("a", label("in")).await.ok();
        objects.delete("a").await.ok();
        assert_eq!(watch.expect("ADDED", "a").await, entered);
        assert_eq!(watch.expect("MODIFIED", "a").await, changed);
        let gone = watch.expect("DELETED", "a").await;
        assert_eq!(version(&gone), version(&left), "it leaves by this write");
        assert_eq!(gone["metadata"]["labels"]["l"], "in", "and is told as it was selected last");
        assert_eq!(watch.expect("ADDED", "a").await, back);
        watch.expect("DELETED", "a").await;
    }
}

async fn objects_come_and_go_by_their_fields(server: &Server) {
    let widgets = server.widgets().await;
    let mut watch = widgets.watch(&format!("{}&fieldSelector=spec.text=in", from_now(&widgets).await)).await;
    let spec = |text: &str| json!({ "spec": { "text": text } });
    widgets.made("a", spec("out")).await;
    let entered = widgets.merge("a", spec("in")).await.ok();
    let left = widgets.merge("a", spec("out")).await.ok();
    widgets.made("b", spec("in")).await;
    assert_eq!(watch.expect("ADDED", "a").await, entered);
    assert_eq!(version(&watch.expect("DELETED", "a").await), version(&left));
    watch.expect("ADDED", "b").await;
}

async fn a_watch_of_one_name_tells_of_no_other(server: &Server) {
    for objects in server.both().await {
        let mut watch =
            objects.watch(&format!("{}&fieldSelector=metadata.name=b", from_now(&objects).await)).await;
        for name in ["a", "b", "c"] {
            objects.made(name, json!({})).await;
        }
        for name in ["a", "b", "c"] {
            objects.delete(name).await.ok();
        }
        watch.expect("ADDED", "b").await;
        watch.expect("DELETED", "b").await;
    }
}

async fn an_object_that_is_held_is_modified_and_then_deleted(server: &Server) {
    for objects in server.both().await {
        let mut watch = objects.watch(&from_now(&objects).await).await;
        objects.made("a", json!({ "metadata": { "finalizers": ["example.com/hold"] } })).await;
        let marked = objects.delete("a").await.ok();
        objects.merge("a", json!({ "metadata": { "finalizers": null } })).await.ok();
        watch.expect("ADDED", "a").await;
        assert_eq!(watch.expect("MODIFIED", "a").await, marked);
        let deleted = watch.expect("DELETED", "a").await;
        assert!(version(&deleted) > version(&marked));
        assert_eq!(deleted["metadata"]["deletionTimestamp"], marked["metadata"]["deletionTimestamp"]);
    }
}

async fn a_recreated_object_is_deleted_and_added(server: &Server) {
    for objects in server.both().await {
        let first = objects.made("a", json!({})).await;
        let mut watch = objects.watch(&from_now(&objects).await).await;
        objects.delete("a").await.ok();
        let second = objects.made("a", json!({})).await;
        assert_eq!(watch.expect("DELETED", "a").await["metadata"]["uid"], first["metadata"]["uid"]);
        assert_eq!(watch.expect("ADDED", "a").await, second);
    }
}

async fn a_namespace_is_watched_alone(server: &Server) {
    for (here, there) in server.both().await.into_iter().zip(server.both().await) {
        let mut watch = here.watch(&from_now(&here).await).await;
        there.made("elsewhere", json!({})).await;
        here.made("here", json!({})).await;
        watch.expect("ADDED", "here").await;
    }
}

async fn all_namespaces_are_watched_together(server: &Server) {
    let (first, second) = (server.widgets().await, server.widgets().await);
    let everywhere = server.everywhere("conformance.test/v1", "widgets", "Widget");
    let mark = first.path.split('/').nth(5).unwrap();
    let mut watch =
        everywhere.watch(&format!("{}&labelSelector=l={mark}", from_now(&everywhere).await)).await;
    let in_first = first.made("a", label(mark)).await;
    let in_second = second.made("a", label(mark)).await;
    assert_eq!(watch.expect("ADDED", "a").await, in_first);
    assert_eq!(watch.expect("ADDED", "a").await, in_second);
}

async fn a_deleted_collection_is_an_event_for_each_object(server: &Server) {
    for objects in server.both().await {
        for name in ["a", "b"] {
            objects.made(name, label("x")).await;
        }
        let mut watch = objects.watch(&from_now(&objects).await).await;
        server.http(http::Method::DELETE, &format!("{}?labelSelector=l=x", objects.path), &[], "").await.ok();
        let mut deleted = [watch.expect_any("DELETED").await, watch.expect_any("DELETED").await]
            .map(|object| text(&object, "/metadata/name").to_owned());
        deleted.sort();
        assert_eq!(deleted, ["a", "b"]);
    }
}

async fn status_writes_are_events(server: &Server) {
    let machines = server.machines().await;
    machines.made("a", json!({ "spec": {} })).await;
    let mut watch = machines.watch(&from_now(&machines).await).await;
    let written = machines.merge("a/status", json!({ "status": { "phase": "Running" } })).await.ok();
    assert_eq!(watch.expect("MODIFIED", "a").await, written);
}

async fn patches_and_applies_are_events(server: &Server) {
    let widgets = server.widgets().await;
    let mut watch = widgets.watch(&from_now(&widgets).await).await;
    let applied =
        super::apply::apply(&widgets, "one", "a", json!({ "spec": { "text": "a" } })).await.created();
    let patch = json!([{ "op": "replace", "path": "/spec/text", "value": "b" }]);
    let patched = widgets.patch("a", super::collection::JSON_PATCH, &patch).await.ok();
    let scaled = widgets.merge("a/scale", json!({ "spec": { "replicas": 3 } })).await.ok();
    assert_eq!(watch.expect("ADDED", "a").await, applied);
    assert_eq!(watch.expect("MODIFIED", "a").await, patched);
    assert_eq!(version(&watch.expect("MODIFIED", "a").await), version(&scaled));
}

async fn dry_runs_are_no_events(server: &Server) {
    for objects in server.both().await {
        objects.made("a", json!({})).await;
        let mut watch = objects.watch(&from_now(&objects).await).await;
        objects.create_with("?dryRun=All", objects.object("b", json!({}))).await.created();
        objects.merge("a?dryRun=All", label("x")).await.ok();
        objects.delete("a?dryRun=All").await.ok();
        objects.made("mark", json!({})).await;
        watch.expect("ADDED", "mark").await;
    }
}

async fn parameters_that_are_none_are_bad_requests(server: &Server) {
    for objects in server.both().await {
        for query in
            ["timeoutSeconds=x", "labelSelector=a%20b", "fieldSelector=spec.unknown=a", "fieldSelector=x"]
        {
            objects.list(&format!("?watch=true&{query}")).await.refused(400, "BadRequest");
        }
    }
}

async fn a_match_is_only_for_initial_events(server: &Server) {
    for objects in server.both().await {
        let refused = objects.list("?watch=true&resourceVersionMatch=NotOlderThan&resourceVersion=1").await;
        assert_eq!(refused.invalid(), ["resourceVersionMatch: FieldValueForbidden"]);
    }
}

async fn a_watch_from_the_future_waits_for_it(server: &Server) {
    let widgets = server.widgets().await;
    let future = version(&widgets.list("").await.ok()) + 1_000_000;
    let watch = widgets.watch(&format!("&resourceVersion={future}&timeoutSeconds=1")).await;
    widgets.made("a", json!({})).await;
    assert_eq!(watch.rest().await, []);
}
