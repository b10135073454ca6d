//! When watches end: while they are busy, when their kind goes, and when they are too slow.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::access::User;
use crate::faults::Interference;
use crate::filter::Filter;
use crate::form::{Form, Presenter};
use crate::harness::{CONFIG_MAPS, DEFINITIONS, Harness, definition};
use crate::request::{Params, Target};
use crate::router;
use crate::store::{Key, Limits};

const THINGS: &str = "things.watch.test";

/// The body of a watch, read chunk by chunk.
struct Reader(Body);

impl Reader {
    async fn of(h: &Harness, path: &str) -> Self {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(h.state.access.sender(User::admin(), true));
        let response = router::handle(Arc::clone(&h.state), request).await.unwrap();
        assert_eq!(response.status(), 200);
        Self(response.into_body())
    }

    /// The types of the events in the next chunk; `None` at the end, an error if the connection breaks.
    async fn next(&mut self) -> Option<Result<Vec<String>, axum::Error>> {
        let frame = self.0.frame().await?;
        Some(frame.map(|frame| {
            let bytes = frame.into_data().unwrap();
            let events = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
            events.map(|event| event.unwrap()["type"].as_str().unwrap().to_owned()).collect()
        }))
    }
}

fn put(h: &Harness, storage: &str, name: &str) {
    let object = json!({"metadata": {"name": name, "namespace": "default", "uid": name}});
    h.state.store.force(&storage.into(), &Key::new("default", name), object);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_always_has_something_to_tell_ends_in_time() {
    let h = Harness::new();
    let from = h.state.store.revision();
    let path = format!(
        "{CONFIG_MAPS}?watch=true&timeoutSeconds=100&allowWatchBookmarks=true&resourceVersion={from}"
    );
    let mut watch = Reader::of(&h, &path).await;
    let (mut lines, mut seconds) = (Vec::new(), 0);
    loop {
        put(&h, "configmaps", "a");
        tokio::time::advance(Duration::from_secs(1)).await;
        match watch.next().await {
            Some(chunk) => lines.extend(chunk.unwrap()),
            None => break,
        }
        seconds += 1;
    }
    assert_eq!(seconds, 99);
    // One after a minute and one before the end, although there was no pause.
    assert_eq!(lines.iter().filter(|kind| *kind == "BOOKMARK").count(), 2, "{lines:?}");
}

#[tokio::test]
async fn a_cut_breaks_a_watch_that_has_something_to_tell() {
    let h = Harness::new();
    let from = h.state.store.revision();
    let mut watch = Reader::of(&h, &format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}")).await;
    put(&h, "configmaps", "a");
    assert_eq!(watch.next().await.unwrap().unwrap(), ["ADDED"]);
    put(&h, "configmaps", "b");
    h.state.cut();
    assert!(watch.next().await.unwrap().is_err());
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_cut_breaks_a_watch_in_the_midst_of_its_initial_objects() {
    let h = Harness::new();
    for i in 0..2000 {
        put(&h, "configmaps", &format!("c{i}"));
    }
    let mut watch = Reader::of(&h, &format!("{CONFIG_MAPS}?watch=true")).await;
    let first = watch.next().await.unwrap().unwrap().len();
    assert!(first < 2000, "{first}");
    h.state.cut();
    assert!(watch.next().await.unwrap().is_err());
}

#[tokio::test]
async fn a_slow_watch_is_told_that_its_version_has_expired() {
    let h = Harness::with(Limits { events: 10, ..Limits::default() });
    let from = h.state.store.revision();
    let mut watch = Reader::of(&h, &format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}")).await;
    (0..10).for_each(|i| put(&h, "configmaps", &format!("c{i}")));
    assert_eq!(watch.next().await.unwrap().unwrap().len(), 10);
    (0..11).for_each(|i| put(&h, "configmaps", &format!("c{i}")));
    assert_eq!(watch.next().await.unwrap().unwrap(), ["ERROR"]);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_quiet_watch_survives_a_compaction() {
    let h = Harness::new();
    put(&h, "configmaps", "a");
    let from = h.state.store.revision();
    let mut watch = Reader::of(&h, &format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}")).await;
    put(&h, "secrets", "s");
    h.state.store.compact();
    put(&h, "configmaps", "b");
    assert_eq!(watch.next().await.unwrap().unwrap(), ["ADDED"]);
    // One that begins before the compaction cannot know what it misses.
    let mut late = Reader::of(&h, &format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}")).await;
    assert_eq!(late.next().await.unwrap().unwrap(), ["ERROR"]);
    assert!(late.next().await.is_none());
}

#[tokio::test]
async fn watches_of_a_deleted_kind_tell_the_deletions_and_end() {
    let h = Harness::new();
    h.create(DEFINITIONS, definition("watch.test", "Thing")).await;
    put(&h, THINGS, "a");
    let path = "/apis/watch.test/v1/things?watch=true";
    let mut watch = Reader::of(&h, path).await;
    assert_eq!(watch.next().await.unwrap().unwrap(), ["ADDED"]);
    h.delete(&format!("{DEFINITIONS}/{THINGS}")).await;
    // The kind comes back before the watch has read its end; the new object is not for it.
    h.create(DEFINITIONS, definition("watch.test", "Thing")).await;
    put(&h, THINGS, "b");
    assert_eq!(watch.next().await.unwrap().unwrap(), ["DELETED"]);
    assert!(watch.next().await.is_none());
    assert_eq!(Reader::of(&h, path).await.next().await.unwrap().unwrap(), ["ADDED"]);
}

/// A request may find the resource, and its definition may be deleted before the watch begins.
#[tokio::test]
async fn a_watch_of_a_resource_that_is_gone_already_ends_at_once() {
    let h = Harness::new();
    h.create(DEFINITIONS, definition("watch.test", "Thing")).await;
    let registry = h.state.registry();
    let resource = Arc::clone(registry.find("watch.test", "v1", "things").unwrap());
    h.delete(&format!("{DEFINITIONS}/{THINGS}")).await;
    let request = super::WatchRequest {
        storage: Arc::clone(&resource.storage),
        filter: Filter::of(&resource, &Target::default(), &Params::default()).unwrap(),
        presenter: Presenter::new(resource, Form::Object, h.state.clock.clone()),
        from: h.state.store.revision(),
        initial: Vec::new(),
        marks_end_of_initial: false,
        bookmarks: false,
        lifetime: None,
    };
    let lines = super::lines(Arc::clone(&h.state), request, &Interference::default());
    assert_eq!(futures::StreamExt::count(lines).await, 0);
}

#[tokio::test]
async fn a_changed_definition_ends_its_watches() {
    let h = Harness::new();
    let path = format!("{DEFINITIONS}/{THINGS}");
    h.create(DEFINITIONS, definition("watch.test", "Thing")).await;
    let mut watch = Reader::of(&h, "/apis/watch.test/v1/things?watch=true").await;
    h.merge(&path, json!({"metadata": {"labels": {"a": "b"}}})).await;
    put(&h, THINGS, "a");
    assert_eq!(watch.next().await.unwrap().unwrap(), ["ADDED"], "labels do not change the kind");
    let (code, _) = h.merge(&path, json!({"spec": {"names": {"shortNames": ["th"]}}})).await;
    assert_eq!(code, 200);
    assert!(watch.next().await.is_none());
}

/// A client whose version is from before a rewind learns by a bookmark that the server was set back.
#[tokio::test(start_paused = true)]
async fn a_bookmark_tells_the_version_of_a_server_that_was_set_back() {
    let h = Harness::new();
    let past = h.state.store.revision();
    put(&h, "configmaps", "a");
    let from = h.state.store.revision();
    h.state.rewind(past).unwrap();
    let path = format!("{CONFIG_MAPS}?watch=true&allowWatchBookmarks=true&resourceVersion={from}");
    let request = h.request(Request::get(format!("{path}&timeoutSeconds=5")), Body::empty());
    let (_, lines) = request.await;
    let bookmark: Value = serde_json::from_slice(&lines).unwrap();
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], past.to_string());
}

#[tokio::test(start_paused = true)]
async fn an_event_behind_many_that_do_not_pass_is_told_at_once() {
    let h = Harness::new();
    let from = h.state.store.revision();
    for _ in 0..1000 {
        put(&h, "configmaps", "a");
    }
    put(&h, "configmaps", "b");
    let path = format!(
        "{CONFIG_MAPS}?watch=true&timeoutSeconds=100&resourceVersion={from}&fieldSelector=metadata.name=b"
    );
    let begun = tokio::time::Instant::now();
    let mut watch = Reader::of(&h, &path).await;
    assert_eq!(watch.next().await.unwrap().unwrap(), ["ADDED"]);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_its_kind_though_no_event_passes() {
    let h = Harness::new();
    h.create(DEFINITIONS, definition("watch.test", "Thing")).await;
    let things = "/apis/watch.test/v1/namespaces/default/things";
    let path = format!("{things}?watch=true&timeoutSeconds=100&fieldSelector=metadata.name=none");
    let mut watch = Reader::of(&h, &path).await;
    let begun = tokio::time::Instant::now();
    let goes = async {
        // Once the watch waits for events.
        tokio::task::yield_now().await;
        let thing = json!({"apiVersion": "watch.test/v1", "kind": "Thing", "metadata": {"name": "a"}});
        h.create(things, thing).await;
        h.delete(&format!("{DEFINITIONS}/{THINGS}")).await;
    };
    let (end, ()) = tokio::join!(watch.next(), goes);
    assert!(end.is_none());
    assert_eq!(begun.elapsed(), Duration::ZERO);
}
