//! Tests the consistency check and cheap relists against a scripted server, under paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::tests::{Fixture, object, start, start_with, start_with_params};
use super::*;
use crate::kind::KindParams;
use crate::scripted_server::Exchange;
use crate::test_support::Widget;

fn checked() -> Fixture {
    start_with(InformerOptions {
        check_interval: Some(Duration::from_secs(10)),
        ..InformerOptions::default()
    })
}

fn page(version: &str, items: &[Value]) -> Value {
    json!({"metadata": {"resourceVersion": version}, "items": items})
}

/// Returns the next request, which must be the first page of a check.
async fn check(f: &mut Fixture) -> Exchange {
    let exchange = f.server.next().await;
    assert!(!exchange.query.contains_key("watch") && !exchange.query.contains_key("fieldSelector"));
    assert_eq!(exchange.query["limit"], "500");
    exchange
}

/// Answers the reads of single objects until another request arrives, which is returned.
async fn answer_reads(f: &mut Fixture, version: &str, objects: &[Value]) -> Exchange {
    loop {
        let exchange = f.server.next().await;
        let Some(selector) = exchange.query.get("fieldSelector") else { return exchange };
        let is_it = |object: &&Value| {
            let name = object["metadata"]["name"].as_str().unwrap();
            selector.starts_with(&format!("metadata.name%3D{name}%2C"))
        };
        let found: Vec<_> = objects.iter().filter(is_it).cloned().collect();
        exchange.json(&page(version, &found));
    }
}

#[tokio::test(start_paused = true)]
async fn v4_ghosts_and_missing_objects_of_a_silent_watch_are_found_and_repaired() {
    let mut f = checked();
    let _watch = f.server.list(&[object("a", "1", 5), object("ghost", "2", 6)], "7").await;
    f.informer.wait_for_sync().await;
    // The server was restored and has another history. The watch goes on and reports nothing.
    let truth = [object("a", "1", 5), object("missing", "3", 6)];
    check(&mut f).await.json(&page("60", &truth));
    let list = answer_reads(&mut f, "60", &truth).await;
    assert_eq!(list.query["sendInitialEvents"], "true");
    let mut list = list.stream();
    for object in &truth {
        list.event("ADDED", object).await;
    }
    list.end_of_list("61").await;
    f.informer.wait_for_version(61).await;
    assert_eq!(f.names(), ["a", "missing"]);
    let report = f.informer.health().report();
    assert_eq!((report.checks, report.inconsistencies, report.relists), (1, 1, 1));
    assert_eq!(report.errors[&(Verb::Watch, "inconsistent")], 1);
}

#[tokio::test(start_paused = true)]
async fn v4_an_object_of_another_history_is_replaced_even_by_an_older_version() {
    let mut f = checked();
    let _watch = f.server.list(&[object("a", "1", 50)], "50").await;
    assert_eq!(f.next_event().await, "+a@50");
    let truth = [object("a", "1", 5)];
    check(&mut f).await.json(&page("60", &truth));
    let list = answer_reads(&mut f, "60", &truth).await;
    let mut list = list.stream();
    list.event("ADDED", &truth[0]).await;
    list.end_of_list("61").await;
    f.informer.wait_for_version(61).await;
    assert_eq!(f.next_event().await, "a@50->5");
}

#[tokio::test(start_paused = true)]
async fn v4_a_change_in_progress_is_no_difference() {
    let mut f = checked();
    let mut watch = f.server.list(&[object("a", "1", 5), object("b", "2", 6)], "7").await;
    f.informer.wait_for_sync().await;
    // The list is ahead of the watch, and the watch then is ahead of the list.
    check(&mut f).await.json(&page("9", &[object("a", "1", 9)]));
    watch.event("DELETED", &object("b", "2", 8)).await;
    watch.event("MODIFIED", &object("a", "1", 9)).await;
    watch.event("MODIFIED", &object("a", "1", 12)).await;
    watch.event("ADDED", &object("c", "3", 13)).await;
    let truth = [object("a", "1", 12), object("c", "3", 13)];
    let second = answer_reads(&mut f, "13", &truth).await;
    assert_eq!(second.query["limit"], "500", "the next check, no list");
    second.json(&page("13", &truth));
    let third = check(&mut f).await;
    let report = f.informer.health().report();
    assert_eq!((report.checks, report.inconsistencies, report.relists), (2, 0, 0));
    drop(third);
}

#[tokio::test(start_paused = true)]
async fn v4_a_check_at_a_version_below_the_watch_shows_a_restored_server() {
    let mut f = checked();
    let _watch = f.server.list(&[object("a", "1", 50)], "50").await;
    assert_eq!(f.next_event().await, "+a@50");
    for _ in 0..2 {
        check(&mut f).await.json(&page("9", &[object("a", "1", 5)]));
    }
    let mut list = f.server.streaming_list().await;
    list.event("ADDED", &object("a", "1", 5)).await;
    list.end_of_list("9").await;
    while f.informer.version() != 9 {
        tokio::task::yield_now().await;
    }
    assert_eq!(f.next_event().await, "a@50->5");
}

#[tokio::test(start_paused = true)]
async fn v4_a_check_that_fails_changes_nothing_and_is_repeated() {
    let mut f = checked();
    let mut watch = f.server.list(&[object("a", "1", 5)], "7").await;
    f.informer.wait_for_sync().await;
    for version in 8..12 {
        check(&mut f).await.status(503, "ServiceUnavailable", &[]);
        watch.bookmark(&version.to_string()).await;
    }
    let report = f.informer.health().report();
    assert_eq!((report.checks, report.inconsistencies, report.relists), (0, 0, 0));
    assert_eq!(report.freshness(), Freshness::Fresh);
}

/// Returns an informer, and the number of objects that it has decoded.
fn counting() -> (Fixture, Arc<AtomicUsize>) {
    let decoded = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&decoded);
    let mut params = KindParams::<Widget>::cached();
    params.add_transform(Arc::new(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    (start_with_params(Arc::new(params), InformerOptions::default()), decoded)
}

const EXPIRED: &str = r#"{"kind": "Status", "code": 410, "reason": "Expired"}"#;

#[tokio::test(start_paused = true)]
async fn e5_a_relist_decodes_only_what_has_changed() {
    for streaming in [true, false] {
        let (mut f, decoded) = counting();
        let mut objects: Vec<_> =
            (0..300).map(|number| object(&format!("w-{number:03}"), &number.to_string(), 5)).collect();
        let mut watch = f.server.list(&objects, "7").await;
        f.informer.wait_for_sync().await;
        assert_eq!(decoded.swap(0, Ordering::SeqCst), 300);
        while f.try_event().is_some() {}
        // One has changed, one was replaced, one is gone, one is new.
        objects[7] = object("w-007", "7", 8);
        objects[8] = object("w-008", "other", 9);
        objects[299] = object("w-new", "new", 10);
        watch.event("ERROR", &serde_json::from_str(EXPIRED).unwrap()).await;
        if streaming {
            f.server.list(&objects, "20").await;
        } else {
            f.server.next().await.status(501, "NotImplemented", &[]);
            f.server.next().await.json(&page("20", &objects));
        }
        f.informer.wait_for_version(20).await;
        assert_eq!(decoded.load(Ordering::SeqCst), 3, "streaming: {streaming}");
        let mut events: Vec<_> = std::iter::from_fn(|| f.try_event()).collect();
        events.sort();
        assert_eq!(events, ["+w-008@9", "+w-new@10", "-w-008@5?", "-w-299@5?", "w-007@5->8"]);
        assert_eq!(f.names().len(), 300);
    }
}

#[tokio::test(start_paused = true)]
async fn v13_a_page_that_is_refused_for_a_while_is_asked_for_again_and_the_list_goes_on() {
    let mut f = start();
    f.server.next().await.status(422, "Invalid", &[]);
    let mut first = page("9", &[object("a", "1", 5)]);
    first["metadata"]["continue"] = "next".into();
    f.server.next().await.json(&first);
    for code in [429, 503] {
        let busy = f.server.next().await;
        assert_eq!(busy.query["continue"], "next");
        busy.status(code, "Busy", &[("Retry-After", "3")]);
    }
    let again = f.server.next().await;
    assert_eq!(again.query.get("continue").map(String::as_str), Some("next"), "the same page");
    again.json(&page("9", &[object("b", "2", 6)]));
    f.server.watch_from("9").await;
    assert_eq!(f.names(), ["a", "b"]);
    assert_eq!(f.informer.health().report().errors[&(Verb::List, "too_many_requests")], 1);
}

#[tokio::test(start_paused = true)]
async fn v12_a_panicking_observer_is_counted() {
    use crate::object::{Batch, Observer};
    struct Panicking;
    impl Observer<Widget> for Panicking {
        fn observe(&self, _: &Batch<Widget>) {
            panic!("on demand");
        }
    }
    let mut f = start();
    let observer: Arc<dyn Observer<Widget>> = Arc::new(Panicking);
    f.informer.attach(Arc::downgrade(&observer));
    let mut watch = f.server.list(&[object("a", "1", 5)], "7").await;
    f.informer.wait_for_sync().await;
    assert_eq!(f.informer.health().report().panics, 1);
    watch.event("MODIFIED", &object("a", "1", 8)).await;
    f.informer.wait_for_version(8).await;
    assert_eq!(f.informer.health().report().panics, 2);
    assert_eq!(f.informer.health().report().freshness(), Freshness::Fresh, "no restart is needed");
}
