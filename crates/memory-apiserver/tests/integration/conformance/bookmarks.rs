//! Bookmarks, which tell a watch its version, and watches that begin with all present objects.

use serde_json::{Value, json};

use super::answer::{text, version};
use super::collection::Collection;
use super::server::Server;

on_every_server![
    a_bookmark_comes_before_the_timeout,
    bookmarks_come_only_when_asked_for,
    bookmarks_count_what_is_not_selected,
    a_watch_resumes_from_a_bookmark,
    initial_events_end_with_a_bookmark,
    initial_events_of_nothing_are_a_bookmark,
    changes_follow_the_initial_events,
    initial_events_are_of_what_is_selected,
    initial_events_may_be_asked_from_any_version,
    initial_events_need_a_match,
    initial_events_without_bookmarks_have_no_end,
    initial_events_can_be_declined,
    initial_events_of_a_version_not_reached_yet_time_out,
];

const INITIAL: &str = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";

async fn now(objects: &Collection) -> u64 {
    version(&objects.list("").await.ok())
}

/// A bookmark has the kind of the watched objects and a version, and no other field of an object.
fn assert_bookmark(objects: &Collection, bookmark: &Value) {
    let mut expected = objects.object("", json!({ "metadata": {} }));
    expected["metadata"]["resourceVersion"] = bookmark["metadata"]["resourceVersion"].clone();
    for field in ["apiVersion", "kind"] {
        assert_eq!(bookmark[field], expected[field]);
    }
    let mut metadata = bookmark["metadata"].clone();
    metadata.as_object_mut().unwrap().remove("annotations");
    metadata.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    assert_eq!(metadata, expected["metadata"]);
}

fn ends_initial_events(bookmark: &Value) -> bool {
    bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
}

async fn a_bookmark_comes_before_the_timeout(server: &Server) {
    for objects in server.both().await {
        let from = now(&objects).await;
        let query = format!("&resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds=5");
        let watch = objects.watch(&query).await;
        let last = version(&objects.made("a", json!({})).await);
        let events = watch.rest().await;
        let (kind, bookmark) = &events[events.len() - 1];
        assert_eq!(kind, "BOOKMARK");
        assert_bookmark(&objects, bookmark);
        assert!(version(bookmark) >= last);
        assert!(!ends_initial_events(bookmark));
    }
}

async fn bookmarks_come_only_when_asked_for(server: &Server) {
    let widgets = server.widgets().await;
    let from = now(&widgets).await;
    for query in ["&timeoutSeconds=4", "&timeoutSeconds=4&allowWatchBookmarks=false"] {
        let watch = widgets.watch(&format!("&resourceVersion={from}{query}")).await;
        assert_eq!(watch.rest().await, []);
    }
}

async fn bookmarks_count_what_is_not_selected(server: &Server) {
    for objects in server.both().await {
        let from = now(&objects).await;
        let query =
            format!("&resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds=5&labelSelector=none");
        let watch = objects.watch(&query).await;
        let unseen = version(&objects.made("a", json!({})).await);
        let events = watch.rest().await;
        assert!(!events.is_empty() && events.iter().all(|(kind, _)| kind == "BOOKMARK"), "{events:?}");
        assert!(version(&events[events.len() - 1].1) >= unseen);
    }
}

async fn a_watch_resumes_from_a_bookmark(server: &Server) {
    let widgets = server.widgets().await;
    let from = now(&widgets).await;
    let query = format!("&resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds=5");
    let watch = widgets.watch(&query).await;
    widgets.made("before", json!({})).await;
    let bookmark = version(&watch.rest().await.pop().unwrap().1);
    widgets.made("after", json!({})).await;
    widgets.watch(&format!("&resourceVersion={bookmark}")).await.expect("ADDED", "after").await;
}

async fn initial_events_end_with_a_bookmark(server: &Server) {
    for objects in server.both().await {
        let label = json!({ "metadata": { "labels": { "l": "x" } } });
        let created = [objects.made("a", label.clone()).await, objects.made("b", label).await];
        let mut watch = objects.watch(&format!("{INITIAL}&allowWatchBookmarks=true&labelSelector=l")).await;
        let mut seen = [watch.expect_any("ADDED").await, watch.expect_any("ADDED").await];
        seen.sort_by_key(version);
        assert_eq!(seen, created);
        let bookmark = watch.expect("BOOKMARK", "").await;
        assert_bookmark(&objects, &bookmark);
        assert!(ends_initial_events(&bookmark), "{bookmark}");
        assert!(version(&bookmark) >= version(&created[1]));
    }
}

async fn initial_events_of_nothing_are_a_bookmark(server: &Server) {
    for objects in server.both().await {
        let before = now(&objects).await;
        let query = format!("{INITIAL}&allowWatchBookmarks=true&labelSelector=none");
        let bookmark = objects.watch(&query).await.expect("BOOKMARK", "").await;
        assert!(ends_initial_events(&bookmark), "{bookmark}");
        assert!(version(&bookmark) >= before, "it is not of the past");
    }
}

async fn changes_follow_the_initial_events(server: &Server) {
    for objects in server.both().await {
        let created = objects.made("a", json!({})).await;
        let query = format!("{INITIAL}&allowWatchBookmarks=true&fieldSelector=metadata.name=a");
        let mut watch = objects.watch(&query).await;
        watch.expect("ADDED", "a").await;
        let bookmark = version(&watch.expect("BOOKMARK", "").await);
        let changed = objects.merge("a", json!({ "metadata": { "labels": { "l": "x" } } })).await.ok();
        assert!(version(&created) <= bookmark && bookmark < version(&changed));
        assert_eq!(watch.expect("MODIFIED", "a").await, changed);
        objects.delete("a").await.ok();
        watch.expect("DELETED", "a").await;
        let mut resumed =
            objects.watch(&format!("&resourceVersion={bookmark}&fieldSelector=metadata.name=a")).await;
        resumed.expect("MODIFIED", "a").await;
    }
}

async fn initial_events_are_of_what_is_selected(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({ "spec": { "text": "in" } })).await;
    widgets.made("b", json!({ "spec": { "text": "out" } })).await;
    let mut watch =
        widgets.watch(&format!("{INITIAL}&allowWatchBookmarks=true&fieldSelector=spec.text=in")).await;
    watch.expect("ADDED", "a").await;
    watch.expect("BOOKMARK", "").await;
}

async fn initial_events_may_be_asked_from_any_version(server: &Server) {
    let widgets = server.widgets().await;
    let created = version(&widgets.made("a", json!({})).await);
    for from in [String::new(), "&resourceVersion=0".to_owned(), format!("&resourceVersion={created}")] {
        let mut watch = widgets.watch(&format!("{INITIAL}&allowWatchBookmarks=true{from}")).await;
        watch.expect("ADDED", "a").await;
        assert!(ends_initial_events(&watch.expect("BOOKMARK", "").await));
    }
}

async fn initial_events_need_a_match(server: &Server) {
    for objects in server.both().await {
        for query in ["", "&resourceVersionMatch=Exact&resourceVersion=1"] {
            let answer = objects.list(&format!("?watch=true&sendInitialEvents=true{query}")).await;
            assert!(
                answer.invalid().contains(&"resourceVersionMatch: FieldValueForbidden".to_owned()),
                "{answer:?}"
            );
        }
    }
}

async fn initial_events_without_bookmarks_have_no_end(server: &Server) {
    let widgets = server.widgets().await;
    widgets.made("a", json!({})).await;
    let events = widgets.watch(&format!("{INITIAL}&timeoutSeconds=1")).await.rest().await;
    let seen: Vec<_> =
        events.iter().map(|(kind, object)| (kind.as_str(), text(object, "/metadata/name"))).collect();
    assert_eq!(seen, [("ADDED", "a")]);
}

async fn initial_events_can_be_declined(server: &Server) {
    let widgets = server.widgets().await;
    let created = version(&widgets.made("a", json!({})).await);
    // The cache of the server is new enough now.
    widgets.list(&format!("?resourceVersion={created}")).await.ok();
    let decline = "&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = widgets.watch(decline).await;
    widgets.made("b", json!({})).await;
    watch.expect("ADDED", "b").await;
}

async fn initial_events_of_a_version_not_reached_yet_time_out(server: &Server) {
    let widgets = server.widgets().await;
    let future = now(&widgets).await + 1_000_000;
    let query = format!("{INITIAL}&allowWatchBookmarks=true&resourceVersion={future}");
    let status = widgets.watch(&query).await.expect("ERROR", "").await;
    assert_eq!((&status["code"], &status["reason"]), (&json!(504), &json!("Timeout")));
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}
