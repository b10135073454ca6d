//! Tests the behaviours of the informer against a scripted server, under paused time.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::kind::KindParams;
use crate::object::{Batch, KeyRef, Observer};
use crate::scripted_server::{Server, server};
use crate::subscription::{Subscription, SubscriptionEnd};
use crate::test_support::{Widget, params, show_event};

/// The annotation that the cache removes.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A running informer and its server.
pub(super) struct Fixture {
    pub(super) informer: Arc<Informer<Widget>>,
    pub(super) server: Server,
    events: Subscription<Widget>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub(super) fn start() -> Fixture {
    start_with(InformerOptions::default())
}

pub(super) fn start_with(options: InformerOptions) -> Fixture {
    start_with_params(params(), options)
}

pub(super) fn start_with_params(params: Arc<KindParams<Widget>>, options: InformerOptions) -> Fixture {
    let (client, server) = server();
    let informer = Arc::new(Informer::new(&client, params, options, Vec::new()));
    let events = subscribe(&informer);
    let stop = CancellationToken::new();
    let task = tokio::spawn({
        let (informer, stop) = (Arc::clone(&informer), stop.clone());
        async move { informer.run(stop).await }
    });
    Fixture { informer, server, events, stop, task }
}

fn subscribe(informer: &Informer<Widget>) -> Subscription<Widget> {
    Subscription::new(|observer| informer.attach(observer))
}

/// Options for one namespace.
fn namespaced(namespace: &str) -> InformerOptions {
    InformerOptions { namespaces: vec![namespace.into()], ..InformerOptions::default() }
}

/// Returns the next event that is not a marker; `None` at the end.
async fn next_event(events: &mut Subscription<Widget>) -> Option<String> {
    loop {
        let shown = show_event(events.next().await?);
        if shown != "synced" {
            return Some(shown);
        }
    }
}

pub(super) fn object(name: &str, uid: &str, version: u64) -> Value {
    json!({"metadata": {"namespace": "ns", "name": name, "uid": uid, "resourceVersion": version.to_string()}, "spec": {}})
}

impl Fixture {
    pub(super) async fn next_event(&mut self) -> String {
        let event = tokio::time::timeout(Duration::from_mins(10), next_event(&mut self.events)).await;
        event.expect("an event").expect("the subscription ended")
    }

    /// Returns the next event that is not a marker, if one is pending.
    pub(super) fn try_event(&mut self) -> Option<String> {
        std::iter::from_fn(|| self.events.try_next()).map(show_event).find(|shown| shown != "synced")
    }

    pub(super) fn freshness(&self) -> Freshness {
        self.informer.health().report().freshness()
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.informer.store().view().iter().map(|w| w.metadata.name.clone().unwrap()).collect();
        names.sort();
        names
    }

    /// Stops the informer and runs it again.
    pub(super) async fn restart(&mut self) {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
        self.stop = CancellationToken::new();
        let (informer, stop) = (Arc::clone(&self.informer), self.stop.clone());
        self.task = tokio::spawn(async move { informer.run(stop).await });
    }

    /// Returns the time until the next request arrives. The request is answered by dropping the connection.
    async fn refuse(&mut self) -> Duration {
        let start = Instant::now();
        drop(self.server.next().await);
        start.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn e1_one_streaming_list_from_the_quorum_becomes_the_watch() {
    let options = InformerOptions {
        label_selector: Some("a=b".into()),
        field_selector: Some("c=d".into()),
        ..namespaced("ns")
    };
    let mut f = start_with(options);
    let exchange = f.server.next().await;
    assert_eq!(exchange.path, "/apis/test/v1/namespaces/ns/widgets");
    let expected = [
        ("allowWatchBookmarks", "true"),
        ("fieldSelector", "c%3Dd"),
        ("labelSelector", "a%3Db"),
        ("resourceVersion", ""),
        ("resourceVersionMatch", "NotOlderThan"),
        ("sendInitialEvents", "true"),
        ("watch", "true"),
    ];
    for (name, value) in expected {
        assert_eq!(exchange.query.get(name).map(String::as_str), Some(value), "{name}");
    }
    let mut watch = exchange.stream();
    watch.event("ADDED", &object("a", "1", 5)).await;
    assert!(!f.informer.has_synced(), "not before the list is whole");
    watch.end_of_list("7").await;
    f.informer.wait_for_sync().await;
    assert_eq!(f.informer.version(), 7);
    watch.event("MODIFIED", &object("a", "1", 8)).await;
    assert_eq!(f.next_event().await, "+a@8");
}

#[tokio::test(start_paused = true)]
async fn e1_without_streaming_lists_pages_of_500_are_listed_from_the_quorum() {
    let mut f = start();
    f.server.next().await.status(422, "Invalid", &[]);
    let page = f.server.next().await;
    assert_eq!(page.query.get("limit").map(String::as_str), Some("500"));
    assert!(!page.query.contains_key("resourceVersion") && !page.query.contains_key("watch"));
    page.json(
        &json!({"metadata": {"resourceVersion": "9", "continue": "next"}, "items": [object("a", "1", 5)]}),
    );
    let page = f.server.next().await;
    assert_eq!(page.query["continue"], "next");
    page.json(&json!({"metadata": {"resourceVersion": "9"}, "items": [object("b", "2", 6)]}));
    let mut watch = f.server.watch_from("9").await;
    assert!(f.informer.has_synced());
    watch.event("ADDED", &object("c", "3", 10)).await;
    drop(watch);
    f.server.watch_from("10").await;
    assert_eq!(f.names(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn e1_a_failed_page_leaves_the_old_view_and_the_list_starts_again() {
    let mut f = start();
    f.server.next().await.status(422, "Invalid", &[]);
    let first =
        json!({"metadata": {"resourceVersion": "9", "continue": "x"}, "items": [object("a", "1", 5)]});
    f.server.next().await.json(&first);
    f.server
        .next()
        .await
        .json(&json!({"metadata": {"resourceVersion": "9"}, "items": [object("b", "2", 6)]}));
    let mut watch = f.server.watch_from("9").await;
    watch.event("ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired"})).await;
    f.server.next().await.json(&first);
    f.server.next().await.status(500, "InternalError", &[]);
    let again = f.server.next().await;
    assert!(!again.query.contains_key("continue"), "from the first page on");
    assert_eq!(f.names(), ["a", "b"]);
    assert_eq!(f.informer.health().report().relists, 2);
}

#[tokio::test(start_paused = true)]
async fn e7_after_two_expired_pagings_the_list_is_asked_for_whole() {
    let mut f = start();
    f.server.next().await.status(422, "Invalid", &[]);
    for _ in 0..2 {
        let page = f.server.next().await;
        assert!(page.query.contains_key("limit"));
        page.json(&json!({"metadata": {"resourceVersion": "9", "continue": "x"}, "items": []}));
        f.server.next().await.status(410, "Expired", &[]);
    }
    let whole = f.server.next().await;
    assert!(!whole.query.contains_key("limit"));
    whole.json(&json!({"metadata": {"resourceVersion": "12"}, "items": [object("a", "1", 5)]}));
    f.server.watch_from("12").await;
    assert!(f.informer.has_synced());
}

#[tokio::test(start_paused = true)]
async fn e2_managed_fields_and_the_last_applied_copy_are_not_kept() {
    let mut f = start();
    let mut full = object("a", "1", 5);
    full["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
    full["metadata"]["annotations"] = json!({LAST_APPLIED: "{}", "other": "kept"});
    full["metadata"]["generation"] = json!(3);
    let mut bare = object("b", "2", 6);
    bare["metadata"]["annotations"] = json!({LAST_APPLIED: "{}"});
    let _watch = f.server.list(&[full, bare], "7").await;
    f.informer.wait_for_sync().await;
    let view = f.informer.store().view();
    let meta = |name| view.get(KeyRef { namespace: "ns", name }).unwrap().metadata.clone();
    assert_eq!(meta("a").managed_fields, None);
    assert_eq!(meta("a").annotations.unwrap().keys().collect::<Vec<_>>(), ["other"]);
    assert_eq!(meta("a").generation, Some(3));
    assert_eq!(meta("b").annotations, None);
}

#[tokio::test(start_paused = true)]
async fn e3_what_vanished_while_the_watch_was_down_is_deleted_with_its_last_known_state() {
    let mut f = start();
    let mut watch = f.server.list(&[object("a", "1", 5), object("b", "2", 6)], "7").await;
    assert_eq!([f.next_event().await, f.next_event().await], ["+a@5", "+b@6"]);
    watch.event("ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired"})).await;
    let _watch = f.server.list(&[object("b", "9", 12)], "20").await;
    let mut events = [f.next_event().await, f.next_event().await, f.next_event().await];
    events.sort();
    assert_eq!(events, ["+b@12", "-a@5?", "-b@6?"]);
    assert_eq!(f.informer.health().report().relists, 1);
}

#[tokio::test(start_paused = true)]
async fn e4_duplicate_and_late_events_are_ignored() {
    let mut f = start();
    let mut watch = f.server.list(&[object("a", "1", 5)], "5").await;
    assert_eq!(f.next_event().await, "+a@5");
    watch.event("MODIFIED", &object("a", "1", 10)).await;
    watch.event("MODIFIED", &object("a", "1", 9)).await;
    watch.event("MODIFIED", &object("a", "1", 10)).await;
    watch.event("DELETED", &object("a", "1", 12)).await;
    watch.event("MODIFIED", &object("a", "1", 11)).await;
    watch.event("ADDED", &object("b", "2", 13)).await;
    drop(watch);
    f.server.watch_from("13").await;
    assert_eq!(f.names(), ["b"]);
    assert_eq!(f.next_event().await, "-a@12");
    assert_eq!(f.next_event().await, "+b@13");
    assert!(f.try_event().is_none());
}

#[tokio::test(start_paused = true)]
async fn e6_only_the_undecodable_object_is_hidden_until_it_can_be_decoded() {
    let mut f = start();
    let mut broken = object("bad", "1", 5);
    broken["spec"]["color"] = json!("not a list");
    let mut watch = f.server.list(&[object("a", "2", 4), broken.clone(), object("z", "3", 6)], "7").await;
    f.informer.wait_for_sync().await;
    assert_eq!(f.names(), ["a", "z"]);
    assert_eq!(f.informer.health().report().undecodable, 1);
    assert_eq!(f.freshness(), Freshness::Fresh, "one object does not hide the others");

    watch.event("MODIFIED", &object("bad", "1", 8)).await;
    watch.bookmark("9").await;
    f.informer.wait_for_version(9).await;
    assert_eq!(f.names(), ["a", "bad", "z"]);
    assert_eq!(f.informer.health().report().undecodable, 0);

    broken["metadata"]["resourceVersion"] = json!("10");
    watch.event("MODIFIED", &broken).await;
    watch.bookmark("11").await;
    f.informer.wait_for_version(11).await;
    assert_eq!(f.names(), ["a", "z"], "an outdated object is not shown");
    watch.event("DELETED", &broken).await;
    watch.bookmark("12").await;
    f.informer.wait_for_version(12).await;
    assert_eq!(f.informer.health().report().undecodable, 0);
}

#[tokio::test(start_paused = true)]
async fn e6_an_undecodable_object_that_a_relist_no_longer_finds_is_forgotten() {
    let mut f = start();
    f.server.next().await.status(422, "Invalid", &[]);
    let broken = json!({"metadata": {"namespace": "ns", "name": "bad", "resourceVersion": "4"}, "spec": 1});
    f.server.next().await.json(&json!({"metadata": {"resourceVersion": "9"}, "items": [broken]}));
    let mut watch = f.server.watch_from("9").await;
    assert_eq!(f.informer.health().report().undecodable, 1);
    watch.event("ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired"})).await;
    f.server.next().await.json(&json!({"metadata": {"resourceVersion": "10"}, "items": []}));
    f.server.watch_from("10").await;
    assert_eq!(f.informer.health().report().undecodable, 0);
}

#[tokio::test(start_paused = true)]
async fn e7_bookmarks_and_events_advance_the_version_that_a_clean_end_resumes_at() {
    let mut f = start();
    let mut watch = f.server.list(&[], "7").await;
    watch.event("ADDED", &object("a", "1", 8)).await;
    watch.bookmark("30").await;
    f.informer.wait_for_version(30).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let ended = Instant::now();
    drop(watch);
    let _watch = f.server.watch_from("30").await;
    assert_eq!(ended.elapsed(), Duration::ZERO, "at once");
    assert_eq!(f.informer.health().report().relists, 0);
}

#[tokio::test(start_paused = true)]
async fn e7_a_watch_that_lived_under_5_s_is_followed_by_a_pause() {
    let mut f = start();
    drop(f.server.list(&[], "7").await);
    let start = Instant::now();
    f.server.watch_from("7").await;
    assert!(start.elapsed() >= Duration::from_millis(600));
}

#[tokio::test(start_paused = true)]
async fn e7_a_reset_or_torn_line_loses_nothing_and_repeats_nothing() {
    let mut f = start();
    let mut watch = f.server.list(&[], "7").await;
    watch.event("ADDED", &object("a", "1", 8)).await;
    let line = format!("{}\n", json!({"type": "ADDED", "object": object("b", "2", 9)}));
    watch.raw(&line[..line.len() / 2]).await;
    watch.reset().await;
    let mut watch = f.server.watch_from("8").await;
    watch.raw(&line[..10]).await;
    watch.raw(&line[10..]).await;
    assert_eq!([f.next_event().await, f.next_event().await], ["+a@8", "+b@9"]);
    assert_eq!(f.informer.health().report().errors[&(Verb::Watch, "transport")], 1);
}

#[tokio::test(start_paused = true)]
async fn e7_errors_back_off_doubling() {
    let mut f = start();
    let mut delays = Vec::new();
    for _ in 0..9 {
        delays.push(f.refuse().await);
    }
    for (delay, full) in delays[1..].iter().zip([0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]) {
        let full = Duration::from_secs_f64(full);
        assert!(
            *delay >= full.mul_f64(0.74) && *delay <= full + Duration::from_millis(2),
            "{delay:?} of {full:?}"
        );
    }
    let report = f.informer.health().report();
    assert_eq!(report.errors[&(Verb::Watch, "transport")], 8, "the ninth is about to be noticed");
    assert!(report.freshness().to_string().contains("connection refused"));
}

#[tokio::test(start_paused = true)]
async fn e7_retry_after_of_429_and_503_is_honoured() {
    let mut f = start();
    for code in [429, 503] {
        f.server.next().await.status(code, "TooManyRequests", &[("retry-after", "11")]);
        let start = Instant::now();
        let next = f.server.next().await;
        assert!(start.elapsed() >= Duration::from_secs(11));
        next.status(500, "InternalError", &[]);
    }
}

#[tokio::test(start_paused = true)]
async fn e7_gone_as_a_status_in_the_stream_or_on_the_request_leads_to_a_relist() {
    let mut f = start();
    let mut watch = f.server.list(&[object("a", "1", 5)], "7").await;
    watch.event("ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired"})).await;
    let watch = f.server.list(&[object("a", "1", 5)], "8").await;
    drop(watch);
    f.server.next().await.status(410, "Gone", &[]);
    let _watch = f.server.list(&[object("a", "1", 5)], "9").await;
    f.informer.wait_for_version(9).await;
    assert_eq!(f.names(), ["a"]);
    assert_eq!(f.next_event().await, "+a@5");
    assert!(f.try_event().is_none(), "an object that did not change is no event");
}

#[tokio::test(start_paused = true)]
async fn e8_bookmarks_alone_keep_a_watch_alive() {
    let mut f = start();
    let mut watch = f.server.list(&[object("a", "1", 5)], "7").await;
    for version in 8..20 {
        tokio::time::sleep(Duration::from_mins(1)).await;
        watch.bookmark(&version.to_string()).await;
    }
    f.informer.wait_for_version(19).await;
    assert!(f.informer.health().report().errors.is_empty());
    assert_eq!(f.next_event().await, "+a@5");
    assert!(f.try_event().is_none(), "bookmarks are no events");
}

#[tokio::test(start_paused = true)]
async fn e8_response_headers_are_due_within_30_s() {
    let mut f = start();
    let start = Instant::now();
    let unanswered = f.server.next().await;
    drop(f.server.next().await);
    assert!(start.elapsed() >= Duration::from_secs(30) && start.elapsed() < Duration::from_secs(32));
    assert_eq!(f.informer.health().report().errors[&(Verb::Watch, "response_timeout")], 1);
    drop(unanswered);
}

#[tokio::test(start_paused = true)]
async fn a_stale_list_is_rejected_until_the_server_repeats_it() {
    let mut f = start();
    let watch = f.server.list(&[object("a", "1", 50)], "50").await;
    assert_eq!(f.next_event().await, "+a@50");
    drop(watch);
    f.server.next().await.status(410, "Expired", &[]);
    for _ in 0..2 {
        let _watch = f.server.list(&[object("b", "2", 3)], "9").await;
    }
    let _watch = f.server.list(&[object("a", "1", 4), object("b", "2", 3)], "9").await;
    let mut events = [f.next_event().await, f.next_event().await];
    events.sort();
    assert_eq!(events, ["+b@3", "a@50->4"], "every key is reported again");
    assert_eq!(f.informer.health().report().errors[&(Verb::Watch, "stale_list")], 2);
}

#[tokio::test(start_paused = true)]
async fn c5_a_missing_crd_is_reported_and_picked_up_within_30_s() {
    let mut f = start();
    f.server.next().await.status(404, "NotFound", &[]);
    for _ in 0..10 {
        let start = Instant::now();
        f.server.next().await.status(404, "NotFound", &[]);
        assert!(start.elapsed() < Duration::from_secs(30));
        let problem = f.freshness().to_string();
        assert!(problem.contains("widgets.test is not served, is its CRD installed?"), "{problem}");
    }
    let _watch = f.server.list(&[object("a", "1", 5)], "7").await;
    f.informer.wait_for_sync().await;
    assert_eq!(f.freshness(), Freshness::Fresh);
}

#[tokio::test(start_paused = true)]
async fn c5_a_forbidden_kind_is_named_with_verb_and_resource_and_recovers() {
    let mut f = start_with(namespaced("sys"));
    f.server.next().await.status(403, "Forbidden", &[]);
    let granted = f.server.next().await;
    let report = f.informer.health().report();
    let problem = report.freshness().to_string();
    assert!(problem.contains("no permission to watch widgets.test in namespace \"sys\""), "{problem}");
    assert_eq!(report.errors[&(Verb::Watch, "forbidden")], 1);
    let mut watch = granted.stream();
    watch.end_of_list("7").await;
    f.informer.wait_for_sync().await;
    assert_eq!(f.freshness(), Freshness::Fresh);
}

#[tokio::test(start_paused = true)]
async fn answers_of_not_found_count_only_in_a_row() {
    let mut f = start();
    for _ in 0..2 {
        f.server.next().await.status(404, "NotFound", &[]);
    }
    let mut watch = f.server.list(&[object("a", "1", 5)], "7").await;
    for version in 8..30 {
        tokio::time::sleep(Duration::from_mins(1)).await;
        watch.bookmark(&version.to_string()).await;
    }
    drop(watch);
    f.server.next().await.status(404, "NotFound", &[]);
    let _watch = f.server.list(&[object("a", "1", 5)], "31").await;
    f.informer.wait_for_version(31).await;
    assert_eq!(f.next_event().await, "+a@5");
    assert!(f.try_event().is_none(), "nothing was deleted");
}

#[tokio::test(start_paused = true)]
async fn e1_after_an_hour_streaming_lists_are_tried_again() {
    let mut f = start();
    f.server.next().await.status(422, "Invalid", &[]);
    f.server.next().await.json(&json!({"metadata": {"resourceVersion": "9"}, "items": []}));
    let mut watch = f.server.watch_from("9").await;
    for version in 10..80 {
        tokio::time::sleep(Duration::from_mins(1)).await;
        watch.bookmark(&version.to_string()).await;
    }
    watch.event("ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired"})).await;
    f.server.streaming_list().await;
}

#[tokio::test(start_paused = true)]
async fn d4_dropping_the_run_is_the_same_as_stopping_it() {
    let mut f = start();
    let _watch = f.server.list(&[object("a", "1", 5)], "7").await;
    f.informer.wait_for_sync().await;
    f.task.abort();
    assert_eq!(f.next_event().await, "+a@5");
    assert_eq!(next_event(&mut f.events).await, None);
    assert_eq!(f.events.end(), Some(SubscriptionEnd::InformerDropped), "V12");
    assert!(matches!(f.freshness(), Freshness::Stale { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_panicking_observer_does_not_block_the_others() {
    struct Panicking;
    impl Observer<Widget> for Panicking {
        fn observe(&self, _: &Batch<Widget>) {
            panic!("on demand");
        }
    }
    let (client, mut server) = server();
    let informer =
        Arc::new(Informer::new(&client, params(), InformerOptions::default(), vec![Arc::new(Panicking)]));
    let mut events = subscribe(&informer);
    let running = Arc::clone(&informer);
    tokio::spawn(async move { running.run(CancellationToken::new()).await });
    let _watch = server.list(&[object("a", "1", 5)], "7").await;
    assert_eq!(next_event(&mut events).await.unwrap(), "+a@5");
}

#[tokio::test(start_paused = true)]
async fn a_stale_page_is_refused_before_any_of_it_is_shown() {
    let mut f = start();
    f.server.next().await.status(422, "Invalid", &[]);
    f.server.next().await.json(&json!({"metadata": {"resourceVersion": "50"}, "items": []}));
    let mut watch = f.server.watch_from("50").await;
    watch.event("ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired"})).await;
    let stale = json!({"metadata": {"resourceVersion": "40"}, "items": [object("a", "1", 30)]});
    f.server.next().await.json(&stale);
    f.server.next().await.json(&json!({"metadata": {"resourceVersion": "51"}, "items": []}));
    f.server.watch_from("51").await;
    assert!(f.try_event().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stale_list_does_not_bring_back_what_a_newer_one_did_not_show() {
    let mut f = start();
    let mut watch = f.server.list(&[object("a", "1", 40)], "45").await;
    assert_eq!(f.next_event().await, "+a@40");
    watch.event("ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired"})).await;
    let mut watch = f.server.list(&[], "100").await;
    assert_eq!(f.next_event().await, "-a@40?");
    watch.event("ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired"})).await;
    let _stale = f.server.list(&[object("a", "1", 40)], "60").await;
    let _watch = f.server.list(&[], "101").await;
    f.informer.wait_for_version(101).await;
    assert!(f.try_event().is_none());
}

#[tokio::test(start_paused = true)]
async fn v3_a_watch_that_is_down_is_stale_and_ready_until_the_limit() {
    let limit = Duration::from_mins(5);
    let mut f = start();
    assert_eq!(f.freshness().within(Duration::ZERO).unwrap_err(), "not synced yet");
    let watch = f.server.list(&[object("a", "1", 5)], "7").await;
    f.informer.wait_for_sync().await;
    assert_eq!(f.freshness(), Freshness::Fresh);
    drop(watch);
    while f.informer.health().report().stale_for.is_none_or(|down| down < Duration::from_secs(30)) {
        f.refuse().await;
    }
    let stale = f.freshness();
    let shown = stale.to_string();
    assert!(shown.starts_with("stale for ") && shown.contains("connection refused"), "{shown}");
    assert_eq!(stale.within(limit), Ok(()), "the old view is served");
    assert_eq!(f.names(), ["a"]);
    while f.informer.health().report().stale_for.is_none_or(|down| down < limit) {
        f.refuse().await;
    }
    let stale = f.freshness();
    assert_eq!(stale.within(limit), Err(stale.to_string()));
    assert_eq!(stale.within(Duration::ZERO), Ok(()), "zero sets no limit");
    let _watch = f.server.list(&[object("a", "1", 5)], "9").await;
    f.informer.wait_for_version(9).await;
    while f.freshness() != Freshness::Fresh {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn v3_a_relist_is_a_state_of_its_own_and_keeps_the_old_view() {
    let mut f = start();
    assert!(matches!(f.freshness(), Freshness::NotSynced { .. }), "the first list is no relist");
    let mut watch = f.server.list(&[object("a", "1", 5), object("b", "2", 6)], "7").await;
    f.informer.wait_for_sync().await;
    watch.event("ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired"})).await;
    let mut list = f.server.streaming_list().await;
    for version in 8..60 {
        list.event("ADDED", &object("a", "1", version)).await;
        tokio::time::sleep(Duration::from_secs(9)).await;
    }
    let shown = f.freshness().to_string();
    assert!(shown.starts_with("relisting, view of 46"), "{shown}");
    assert_eq!(f.freshness().within(Duration::from_mins(5)), Ok(()), "after more than five minutes");
    assert_eq!(f.names(), ["a", "b"]);
    list.end_of_list("60").await;
    f.informer.wait_for_version(60).await;
    assert_eq!(f.freshness(), Freshness::Fresh);
    assert_eq!(f.names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn v3_a_list_that_the_server_does_not_answer_is_an_outage() {
    let limit = Duration::from_mins(5);
    let mut f = start();
    let watch = f.server.list(&[object("a", "1", 5)], "7").await;
    f.informer.wait_for_sync().await;
    drop(watch);
    let unanswered = loop {
        let exchange = f.server.next().await;
        let is_old = f.informer.health().report().stale_for.is_some_and(|down| down > limit);
        if is_old && exchange.query.contains_key("sendInitialEvents") {
            break exchange;
        }
    };
    let shown = f.freshness().to_string();
    assert!(shown.starts_with("stale for "), "{shown}");
    assert_eq!(f.freshness().within(limit), Err(shown));
    drop(unanswered);
}

#[tokio::test(start_paused = true)]
async fn v3_the_oldest_of_several_namespaces_counts_with_its_reason() {
    let options = InformerOptions { namespaces: vec!["x".into(), "y".into()], ..InformerOptions::default() };
    let mut f = start_with(options);
    let mut watches = Vec::new();
    for _ in 0..2 {
        watches.push(f.server.list(&[], "7").await);
    }
    f.informer.wait_for_sync().await;
    assert_eq!(f.freshness(), Freshness::Fresh);
    drop(watches.pop());
    f.server.next().await.status(403, "Forbidden", &[]);
    f.server.next().await.status(403, "Forbidden", &[]);
    let shown = f.freshness().to_string();
    assert!(shown.starts_with("stale for ") && shown.contains("in namespace"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn v3_a_namespace_that_lists_does_not_hide_one_whose_watch_is_down() {
    let options = InformerOptions { namespaces: vec!["x".into(), "y".into()], ..InformerOptions::default() };
    let mut f = start_with(options);
    let mut lists = f.server.list(&[], "7").await;
    let down = f.server.list(&[], "7").await;
    f.informer.wait_for_sync().await;
    lists.event("ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired"})).await;
    let mut list = f.server.streaming_list().await;
    list.event("ADDED", &object("a", "1", 8)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(f.freshness().to_string().starts_with("relisting"), "{}", f.freshness());
    drop(down);
    f.server.next().await.status(403, "Forbidden", &[]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(f.freshness().to_string().starts_with("stale for "), "{}", f.freshness());
}

#[tokio::test(start_paused = true)]
async fn d3_a_stopped_informer_ends_at_once_and_ends_its_subscriptions() {
    let mut f = start();
    let _watch = f.server.list(&[object("a", "1", 5)], "7").await;
    f.informer.wait_for_sync().await;
    f.stop.cancel();
    f.task.await.unwrap();
    assert_eq!(next_event(&mut f.events).await.as_deref(), Some("+a@5"));
    assert_eq!(next_event(&mut f.events).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_line_beyond_the_bound_ends_the_connection_and_is_not_held() {
    let mut f = start();
    let mut watch = f.server.list(&[], "7").await;
    let chunk = "x".repeat(1 << 20);
    for _ in 0..=(super::list_watch::MAX_LINE >> 20) {
        watch.raw(&chunk).await;
    }
    f.server.watch_from("7").await;
    assert_eq!(f.informer.health().report().errors[&(Verb::Watch, "too_large")], 1);
}
