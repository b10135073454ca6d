//! Tests behaviours V of the informer against a scripted server, under paused time. The faults of API servers
//! tested here are hard to distinguish.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::tests::{Fixture, object, start};
use super::*;
use crate::scripted_server::Exchange;

const HOUR: Duration = Duration::from_hours(1);

/// Returns the next request, which must be a page of a list.
async fn page(f: &mut Fixture) -> Exchange {
    let exchange = f.server.next().await;
    assert_eq!(exchange.query.get("watch"), None, "{:?}", exchange.query);
    exchange
}

/// Returns a page that ends the list.
fn whole(version: &str, items: &[Value]) -> Value {
    json!({"metadata": {"resourceVersion": version}, "items": items})
}

/// Returns discovery's response, with or without the kind.
fn discovery(served: bool) -> Value {
    let resources: &[Value] = if served { &[json!({"name": "widgets"})] } else { &[] };
    json!({"kind": "APIResourceList", "resources": resources})
}

/// Answers every request with 404 for `span`, and discovery as given. Returns the number of discovery
/// requests.
async fn not_found_for(f: &mut Fixture, span: Duration, served: bool) -> u32 {
    let (end, mut asked) = (Instant::now() + span, 0);
    while let Ok(exchange) = timeout(end - Instant::now(), f.server.next()).await {
        if exchange.path == "/apis/test/v1" {
            asked += 1;
            exchange.json(&discovery(served));
        } else {
            exchange.status(404, "NotFound", &[]);
        }
    }
    asked
}

#[tokio::test(start_paused = true)]
async fn v1_every_object_of_a_kind_that_was_unserved_for_a_while_is_back() {
    let mut f = start();
    let watch = f.server.list(&[object("a", "1", 5), object("b", "2", 6)], "7").await;
    assert_eq!([f.next_event().await, f.next_event().await], ["+a@5", "+b@6"]);
    drop(watch);
    assert!(not_found_for(&mut f, Duration::from_secs(40), false).await > 0);
    assert!(!f.informer.has_synced());
    let mut gone = [f.next_event().await, f.next_event().await];
    gone.sort();
    assert_eq!(gone, ["-a@5?", "-b@6?"]);
    // The same objects in the same versions, in a list whose version is not newer.
    let _watch = f.server.list(&[object("a", "1", 5), object("b", "2", 6)], "7").await;
    f.informer.wait_for_sync().await;
    assert_eq!(f.names(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn v2_404_counts_only_if_discovery_confirms_it() {
    let mut f = start();
    let watch = f.server.list(&[object("a", "1", 5)], "7").await;
    assert_eq!(f.next_event().await, "+a@5");
    drop(watch);
    assert_eq!(not_found_for(&mut f, Duration::from_secs(15), false).await, 0, "too early to ask");
    assert!(not_found_for(&mut f, Duration::from_mins(1), true).await > 0);
    assert!(f.informer.has_synced(), "another API server serves the kind");
    assert_eq!(f.names(), ["a"]);
    assert!(f.try_event().is_none(), "no handler receives a deletion");
    let _watch = f.server.list(&[object("a", "1", 5)], "8").await;
    f.informer.wait_for_version(8).await;
    assert!(f.try_event().is_none());
}

#[tokio::test(start_paused = true)]
async fn v2_requests_after_a_404_ask_for_a_connection_of_their_own() {
    let mut f = start();
    let first = f.server.next().await;
    assert!(!first.closes);
    first.status(404, "NotFound", &[]);
    let second = f.server.next().await;
    assert!(second.closes, "the next one may then reach another API server");
    second.stream().end_of_list("7").await;
    f.informer.wait_for_sync().await;
}

#[tokio::test(start_paused = true)]
async fn v6_failures_at_one_resume_version_lead_to_a_list() {
    let mut f = start();
    let watch = f.server.list(&[object("a", "1", 5)], "7").await;
    drop(watch);
    for _ in 0..5 {
        let exchange = f.server.next().await;
        assert_eq!(exchange.query["resourceVersion"], "7");
        exchange.status(500, "InternalError", &[]);
    }
    f.server.list(&[object("a", "1", 5)], "8").await;
}

#[tokio::test(start_paused = true)]
async fn v6_an_outage_without_an_answer_leads_to_a_list_after_a_minute_only() {
    let mut f = start();
    let watch = f.server.list(&[object("a", "1", 5)], "7").await;
    drop(watch);
    let down = Instant::now();
    let first_list = loop {
        let exchange = f.server.next().await;
        if exchange.query.contains_key("sendInitialEvents") {
            break exchange;
        }
        drop(exchange);
    };
    assert!(
        (Duration::from_mins(1)..Duration::from_mins(2)).contains(&down.elapsed()),
        "{:?}",
        down.elapsed()
    );
    first_list.stream().end_of_list("8").await;
}

#[tokio::test(start_paused = true)]
async fn v7_a_streaming_list_that_fails_is_replaced_by_pages_at_once() {
    for code in [400, 422, 500, 501] {
        let mut f = start();
        let failed = Instant::now();
        f.server.next().await.status(code, "No", &[]);
        page(&mut f).await.json(&whole("9", &[object("a", "1", 5)]));
        assert_eq!(failed.elapsed(), Duration::ZERO, "{code}");
        f.server.watch_from("9").await;
        assert_eq!(f.names(), ["a"]);
    }
}

#[tokio::test(start_paused = true)]
async fn v7_a_streaming_list_that_is_refused_like_any_other_request_stays_one() {
    for code in [401, 403, 429] {
        let mut f = start();
        f.server.next().await.status(code, "No", &[]);
        f.server.streaming_list().await;
    }
    let mut f = start();
    drop(f.server.next().await);
    f.server.streaming_list().await;
}

#[tokio::test(start_paused = true)]
async fn v7_a_streaming_list_that_falls_silent_is_replaced_after_10_s_and_one_that_goes_on_is_not() {
    let mut f = start();
    let mut list = f.server.streaming_list().await;
    for version in 1..40 {
        list.event("ADDED", &object(&format!("w-{version}"), &version.to_string(), version)).await;
        tokio::time::sleep(Duration::from_secs(9)).await;
    }
    // No bookmark closes the list.
    let silent = Instant::now();
    page(&mut f).await.json(&whole("40", &[]));
    assert!(silent.elapsed() <= Duration::from_secs(2), "{:?}", silent.elapsed());
    f.server.watch_from("40").await;
}

#[tokio::test(start_paused = true)]
async fn v7_a_list_whose_answer_does_not_begin_is_given_more_time_from_try_to_try() {
    let mut f = start();
    let mut given = Vec::new();
    for _ in 0..6 {
        let (asked, mut exchange) = (Instant::now(), f.server.next().await);
        exchange.abandoned().await;
        given.push(asked.elapsed().as_secs());
    }
    let least = [30, 60, 120, 240, 300, 300];
    // The pause before a try is at most 30 s.
    assert!(given.iter().zip(least).all(|(given, least)| (least..=least + 30).contains(given)), "{given:?}");
    page(&mut f).await.json(&whole("7", &[]));
    f.server.watch_from("7").await;
}

#[tokio::test(start_paused = true)]
async fn v8_an_idle_watch_without_bookmarks_stays_open_and_nothing_is_reported() {
    let mut f = start();
    let mut idle = f.server.list(&[object("a", "1", 5)], "7").await;
    let end = Instant::now() + HOUR;
    let mut probes = 0;
    while let Ok(exchange) = timeout(end - Instant::now(), f.server.next()).await {
        probes += 1;
        if exchange.query.contains_key("watch") {
            assert_eq!((&*exchange.query["resourceVersion"], &*exchange.query["timeoutSeconds"]), ("7", "1"));
            drop(exchange.stream());
        } else {
            assert_eq!(exchange.query["limit"], "1");
            // Other kinds have changed meanwhile.
            exchange.json(&whole("900", &[]));
        }
    }
    assert!((80..=100).contains(&probes), "two requests every 75 s: {probes}");
    let report = f.informer.health().report();
    assert_eq!((report.errors.len(), report.relists, report.stale_for), (0, 0, None));
    idle.event("MODIFIED", &object("a", "1", 901)).await;
    f.informer.wait_for_version(901).await;
}

#[tokio::test(start_paused = true)]
async fn e8_a_dead_watch_is_noticed_within_90_s_and_resumed() {
    let mut f = start();
    let dead = f.server.list(&[object("a", "1", 5)], "7").await;
    let start = Instant::now();
    page(&mut f).await.json(&whole("9", &[]));
    let mut second = f.server.watch_from("7").await;
    second.event("MODIFIED", &object("a", "1", 9)).await;
    // The object that the probe read is not applied. The resumed watch delivers it.
    f.server.watch_from("7").await.event("MODIFIED", &object("a", "1", 9)).await;
    f.informer.wait_for_version(9).await;
    assert!(start.elapsed() <= Duration::from_secs(90));
    assert_eq!(f.informer.health().report().errors[&(Verb::Watch, "silent")], 1);
    drop(dead);
}

#[tokio::test(start_paused = true)]
async fn e8_a_black_hole_is_noticed_within_90_s() {
    let mut f = start();
    let dead = f.server.list(&[], "7").await;
    let start = Instant::now();
    // Neither the watch nor the probe is ever answered.
    let probe = f.server.next().await;
    let next = f.server.next().await;
    assert!(start.elapsed() <= Duration::from_secs(90), "{:?}", start.elapsed());
    assert_eq!(next.query["resourceVersion"], "7");
    assert_eq!(f.informer.health().report().errors[&(Verb::Watch, "silent")], 1);
    drop((dead, probe));
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_on_a_restored_server_is_relisted() {
    let mut f = start();
    let _silent = f.server.list(&[object("a", "1", 50)], "50").await;
    page(&mut f).await.json(&whole("9", &[]));
    f.server.streaming_list().await;
}

#[tokio::test(start_paused = true)]
async fn e7_a_list_that_breaks_late_continues_page_by_page() {
    let mut f = start();
    let mut list = f.server.streaming_list().await;
    list.event("ADDED", &object("a", "1", 5)).await;
    list.reset().await;
    page(&mut f).await.json(&whole("9", &[object("a", "1", 5)]));
    f.server.watch_from("9").await;
    assert_eq!(f.names(), ["a"]);
}
