//! Tests the consistency check and cheap relists against a scripted server, under paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::tests::{Fixture, object, start, start_with, start_with_params};
use super::*;
use crate::informer::list_watch::PageContent;
use crate::kind::KindParams;
use crate::scripted_server::Exchange;
use crate::test_support::{UNREAD_OWNER, Widget};

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
    check(&mut f).await.json(&page("9", &[object("a", "1", 5)]));
    let first = Instant::now();
    check(&mut f).await.json(&page("9", &[object("a", "1", 5)]));
    assert!(
        first.elapsed() < Duration::from_secs(15),
        "a restored server must be recognised within two minutes"
    );
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
    assert!(report.failed_checks >= 3, "{}", report.failed_checks);
    assert_eq!(report.freshness(), Freshness::Fresh);
}

#[tokio::test(start_paused = true)]
async fn v4_an_event_that_arrives_before_the_answer_of_a_read_does_not_hide_a_difference() {
    let mut f = checked();
    let mut watch = f.server.list(&[object("busy", "1", 5), object("ghost", "2", 6)], "60").await;
    f.informer.wait_for_sync().await;
    check(&mut f).await.json(&page("60", &[object("busy", "1", 5)]));
    for version in 61..63 {
        let read = f.server.next().await;
        assert!(read.query["fieldSelector"].contains("ghost"), "{:?}", read.query);
        watch.event("MODIFIED", &object("busy", "1", version)).await;
        f.informer.wait_for_version(version).await;
        read.json(&page(&(version - 1).to_string(), &[]));
    }
    f.server.list(&[object("busy", "1", 62)], "63").await;
    f.informer.wait_for_version(63).await;
    assert_eq!(f.names(), ["busy"]);
}

#[tokio::test(start_paused = true)]
async fn v4_a_check_goes_on_when_the_watch_is_renewed() {
    let mut f = checked();
    let watch = f.server.list(&[object("a", "1", 5), object("b", "2", 6)], "7").await;
    f.informer.wait_for_sync().await;
    let first = check(&mut f).await;
    drop(watch);
    let watch = f.server.watch_from("7").await;
    let mut half = page("7", &[object("a", "1", 5)]);
    half["metadata"]["continue"] = "next".into();
    first.json(&half);
    let second = f.server.next().await;
    assert_eq!(second.query.get("continue").map(String::as_str), Some("next"), "the same check");
    second.json(&page("7", &[object("b", "2", 6)]));
    check(&mut f).await;
    let report = f.informer.health().report();
    assert_eq!((report.checks, report.failed_checks, report.inconsistencies), (1, 0, 0));
    drop(watch);
}

#[tokio::test(start_paused = true)]
async fn v4_a_list_interrupts_a_check_which_counts_as_failed() {
    let mut f = checked();
    let mut watch = f.server.list(&[object("a", "1", 5)], "7").await;
    f.informer.wait_for_sync().await;
    let mut unanswered = check(&mut f).await;
    watch.event("ERROR", &serde_json::from_str(EXPIRED).unwrap()).await;
    let _watch = f.server.list(&[object("a", "1", 5)], "8").await;
    unanswered.abandoned().await;
    f.informer.wait_for_version(8).await;
    let report = f.informer.health().report();
    assert_eq!((report.checks, report.failed_checks), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn v4_a_watch_that_is_down_during_the_comparison_is_no_difference() {
    let mut f = checked();
    let watch = f.server.list(&[object("a", "1", 5)], "7").await;
    f.informer.wait_for_sync().await;
    let truth = [object("a", "1", 5), object("b", "2", 9)];
    check(&mut f).await.json(&page("9", &truth));
    drop(watch);
    let down = Instant::now();
    let watch = loop {
        let exchange = f.server.next().await;
        if exchange.query.contains_key("fieldSelector") {
            exchange.json(&page("9", &truth[1..]));
        } else if down.elapsed() > Duration::from_secs(30) {
            break exchange;
        } else {
            drop(exchange);
        }
    };
    assert_eq!(watch.query["resourceVersion"], "7");
    let mut watch = watch.stream();
    watch.event("ADDED", &truth[1]).await;
    assert_eq!(answer_reads(&mut f, "9", &truth).await.query["limit"], "500", "the next check, no list");
    let report = f.informer.health().report();
    assert_eq!((report.checks, report.inconsistencies), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn v4_changes_in_progress_do_not_push_a_difference_aside() {
    let mut f = checked();
    let mut watch = f.server.list(&[object("a", "1", 5)], "7").await;
    f.informer.wait_for_sync().await;
    let mut truth: Vec<_> =
        (0..40).map(|n| object(&format!("new-{n:02}"), &format!("n{n}"), 9 + n)).collect();
    truth.push(object("z-missing", "3", 3));
    truth.push(object("a", "1", 5));
    check(&mut f).await.json(&page("48", &truth));
    for object in &truth[..40] {
        watch.event("ADDED", object).await;
    }
    let list = answer_reads(&mut f, "48", &truth).await;
    assert_eq!(list.query.get("sendInitialEvents").map(String::as_str), Some("true"), "a repair");
}

#[tokio::test(start_paused = true)]
async fn v4_v10_the_lost_deletion_of_an_undecodable_object_is_found_and_repaired() {
    let mut f = checked();
    let mut undecodable = object("b", "2", 6);
    undecodable["spec"] = json!({"color": 5});
    let _watch = f.server.list(&[object("a", "1", 5), undecodable], "7").await;
    f.informer.wait_for_sync().await;
    assert_eq!(f.informer.health().report().undecodable, 1);
    let truth = [object("a", "1", 5)];
    check(&mut f).await.json(&page("7", &truth));
    assert_eq!(answer_reads(&mut f, "7", &truth).await.query["sendInitialEvents"], "true");
}

#[tokio::test(start_paused = true)]
async fn v9_a_run_that_begins_again_counts_partially_decoded_objects_again() {
    let mut f = start();
    let mut partial = object("a", "1", 5);
    partial["spec"] = json!({"owner": UNREAD_OWNER});
    let _first = f.server.list(std::slice::from_ref(&partial), "7").await;
    f.informer.wait_for_sync().await;
    assert_eq!(f.informer.health().report().partially_decoded, 1);
    f.restart().await;
    let _second = f.server.list(&[partial], "8").await;
    f.informer.wait_for_version(8).await;
    assert_eq!(f.informer.health().report().partially_decoded, 1);
}

#[tokio::test(start_paused = true)]
async fn v12_a_kind_is_down_while_it_rests_after_a_panic() {
    let mut params = KindParams::<Widget>::cached();
    params.add_transform(Arc::new(|widget| assert_ne!(widget.spec.owner, "panic", "on demand")));
    let mut f = start_with_params(Arc::new(params), InformerOptions::default());
    let mut watch = f.server.list(&[object("a", "1", 5)], "7").await;
    f.informer.wait_for_sync().await;
    let mut changed = object("a", "1", 8);
    changed["spec"] = json!({"owner": "panic"});
    watch.event("MODIFIED", &changed).await;
    let down = f.informer.health().until_live(0, false);
    tokio::time::timeout(Duration::from_millis(900), down).await.expect("waits read live during the pause");
    assert!(f.server.try_next().is_none(), "the next run has not begun");
    assert!(matches!(f.freshness(), Freshness::Stale { .. }), "{}", f.freshness());
    assert_eq!(f.informer.health().report().panics, 1);
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

#[tokio::test(start_paused = true)]
async fn v4_a_check_of_many_objects_lets_the_watch_go_first_again_and_again() {
    let mut f = checked();
    let objects: Vec<_> = (0..3200).map(|n| object(&format!("w-{n}"), &format!("u-{n}"), 5)).collect();
    let _watch = f.server.list(&objects, "7").await;
    f.informer.wait_for_sync().await;
    check(&mut f).await.json(&page("7", &objects));
    let mut turns = 0;
    while f.informer.health().report().checks == 0 {
        tokio::task::yield_now().await;
        turns += 1;
    }
    assert!(turns >= 3200 / 32 + 3200 / 64, "{turns} turns of other tasks");
}

#[test]
fn v4_a_list_of_no_metadata_is_null_on_kube_apiserver() {
    let page: PageContent<'_> =
        serde_json::from_str(r#"{"metadata":{"resourceVersion":"7"},"items":null}"#).unwrap();
    assert_eq!((page.version(), page.items.len()), (Some(7), 0));
}
