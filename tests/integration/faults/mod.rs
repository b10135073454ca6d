//! Tests the cache under faults between the cache and the API server. docs/faults.md lists the faults and their
//! tests. Each fault is tested alone, and random plans combine them. Only the in-memory server can inject faults;
//! the tests run under paused time.
//!
//! `TEST_FAULT_SEED=n cargo test plan_of_the_environment -- --ignored` runs the one plan of that seed.

pub(crate) mod oracle;
mod random;
mod storms;
mod unserved;

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use memory_apiserver::{FaultPlan, On, RequestFault, Times, Verb, WatchFault};
use sandbox_manager::api::v1alpha1::{Sandbox, crds};
use sandbox_manager::cache::{CachedKind, LookupError};
use sandbox_manager::controller_manager::{Action, Observed};
use sandbox_manager::options::SandboxManagerOptions;
use sandbox_manager::shared_cache::Report;
use sandbox_manager::shared_cache::{Check, WaitAction, WaitError};
use sandbox_manager::testing::TestCache;
use sandbox_manager::testing::fixtures::{MetadataFixture, SandboxFixture, TestObject};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{SOON, eventually};
use oracle::{Calls, Oracle};

const SANDBOXES: &str = "sandboxes";

fn api(test: &TestCache) -> Api<Sandbox> {
    Api::default_namespaced(test.client())
}

async fn create(test: &TestCache, name: &str) -> Sandbox {
    api(test).create(&PostParams::default(), &Sandbox::test(name)).await.unwrap()
}

async fn touch(test: &TestCache, name: &str) -> Sandbox {
    let patch = json!({"metadata": {"annotations": {"touched": uuid()}}});
    api(test).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
}

async fn delete(test: &TestCache, name: &str) {
    api(test).delete(name, &DeleteParams::default()).await.unwrap();
}

/// Returns a text that is new each time.
fn uuid() -> String {
    format!("{:x}", rand::random::<u64>())
}

/// Returns the health of the watch of sandboxes.
fn report(test: &TestCache) -> Report {
    let kinds = test.cache().kinds();
    kinds.iter().find(|kind| kind.plural() == SANDBOXES).unwrap().report()
}

/// Returns the reasons of the failures of the watch of sandboxes, and the number of its relists.
fn met(test: &TestCache) -> (Vec<&'static str>, u64) {
    let report = report(test);
    (report.errors.keys().map(|(_, reason)| *reason).collect(), report.relists)
}

fn on_watch(then: RequestFault) -> FaultPlan {
    FaultPlan::request(On::request(Verb::Watch, SANDBOXES), Times::First(1), then)
}

fn on_next_event(then: WatchFault) -> FaultPlan {
    FaultPlan::event(On::kind(SANDBOXES), Times::First(1), then)
}

/// Returns a cache with two sandboxes, and its oracle.
async fn two() -> (TestCache, Oracle) {
    let objects = ["a", "b"].map(Sandbox::test);
    let test = TestCache::builder().objects(objects).build().await.unwrap();
    let mut oracle = Oracle::new(&test);
    oracle.converged(&test).await.unwrap();
    oracle.told();
    (test, oracle)
}

#[tokio::test(start_paused = true)]
async fn a_dropped_watch_resumes_where_it_was_without_loss_or_duplicate() {
    for (fault, reason) in [
        (WatchFault::End, None),
        (WatchFault::Reset, Some("transport")),
        (WatchFault::MidLine, Some("transport")),
    ] {
        let (test, mut oracle) = two().await;
        test.server().inject(&on_next_event(fault.clone()));
        let versions = [touch(&test, "a").await, touch(&test, "b").await];
        delete(&test, "b").await;
        create(&test, "c").await;
        oracle.converged(&test).await.unwrap();

        let (met, relists) = met(&test);
        assert_eq!(met, reason.into_iter().collect::<Vec<_>>(), "{fault:?}");
        assert_eq!(relists, 0, "{fault:?}: no list was needed");
        assert_eq!(test.server().faults_fired()[0].1, 1, "{fault:?}");
        let version = versions[0].resource_version().unwrap();
        let told = oracle.told();
        assert_eq!(told.iter().filter(|told| **told == format!("a {version}")).count(), 1, "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lives_for_less_than_five_seconds_is_not_resumed_at_once() {
    let (test, mut oracle) = two().await;
    // The server ends the watch after every event. If the watch resumed at once, all events would arrive at
    // once.
    test.server().inject(&FaultPlan::event(On::kind(SANDBOXES), Times::First(3), WatchFault::End));
    let started = Instant::now();
    touch(&test, "a").await;
    oracle.converged(&test).await.unwrap();
    // The first watch lived longer; the next two ended at once.
    assert!(started.elapsed() >= Duration::from_millis(600 + 1200), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_expired_version_leads_to_a_list_while_the_old_view_is_served() {
    for plan in [
        on_next_event(WatchFault::Expire),
        on_next_event(WatchFault::End).and(on_watch(RequestFault::Answer { code: 410, retry_after: None })),
    ] {
        let (test, mut oracle) = two().await;
        test.server().inject(&plan);
        // The list is slow, so that the cache can be checked meanwhile.
        let slow = RequestFault::Delay(Duration::from_secs(20));
        let on = On::request(Verb::Watch, SANDBOXES);
        let times = if plan.faults.len() == 1 { Times::Nth(1) } else { Times::Nth(2) };
        test.server().inject(&FaultPlan::request(on, times, slow));
        delete(&test, "b").await;
        create(&test, "c").await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let names: Vec<_> = test.cache().reader::<Sandbox>().list(None).unwrap();
        let mut names: Vec<_> = names.iter().map(|sandbox| sandbox.name_any()).collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "b"], "{plan:?}: the old view");

        oracle.converged(&test).await.unwrap();
        let (met, relists) = met(&test);
        assert!(met.contains(&"expired"), "{plan:?}: {met:?}");
        assert_eq!(relists, 1, "{plan:?}");
    }
}

/// Returns options with pages of two objects.
fn small_pages() -> SandboxManagerOptions {
    let mut options = SandboxManagerOptions::default();
    options.cache.page_size = 2;
    options
}

/// Returns a plan in which streaming lists fail.
fn no_streaming_lists() -> FaultPlan {
    on_watch(RequestFault::Answer { code: 422, retry_after: None })
}

fn on_page(nth: Times, code: u16) -> FaultPlan {
    let then = RequestFault::Answer { code, retry_after: None };
    FaultPlan::request(On::request(Verb::List, SANDBOXES), nth, then)
}

#[tokio::test(start_paused = true)]
async fn a_page_that_fails_leads_to_a_new_list() {
    for code in [500, 410] {
        let plan = no_streaming_lists().and(on_page(Times::Nth(2), code));
        let objects = (0..7).map(|i| Sandbox::test(&format!("s{i}")));
        let builder = TestCache::builder().options(small_pages()).objects(objects).faults(plan);
        let test = builder.build().await.unwrap();
        let mut oracle = Oracle::new(&test);
        oracle.converged(&test).await.unwrap();
        assert_eq!(test.server().faults_fired().iter().map(|(_, fired)| *fired).collect::<Vec<_>>(), [1, 1]);
    }
}

#[tokio::test(start_paused = true)]
async fn after_two_failed_pagings_everything_is_listed_at_once() {
    // The second page of each list is gone, and also that of a third list.
    let plan = no_streaming_lists()
        .and(on_page(Times::Nth(2), 410))
        .and(on_page(Times::Nth(4), 410))
        .and(on_page(Times::Nth(6), 410));
    let objects = (0..7).map(|i| Sandbox::test(&format!("s{i}")));
    let builder = TestCache::builder().options(small_pages()).objects(objects).faults(plan);
    let test = builder.build().await.unwrap();
    Oracle::new(&test).converged(&test).await.unwrap();
    let fired: Vec<_> = test.server().faults_fired().iter().map(|(_, fired)| *fired).collect();
    assert_eq!(fired, [1, 1, 1, 0], "the fifth request had no second page");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_fails_leaves_the_old_view_intact() {
    let objects = (0..5).map(|i| Sandbox::test(&format!("s{i}")));
    let test = TestCache::builder().options(small_pages()).objects(objects).build().await.unwrap();
    let mut oracle = Oracle::new(&test);
    oracle.converged(&test).await.unwrap();
    // The first page of each list succeeds, the second page fails.
    let failing = on_page(Times::Nth(2), 500).and(on_page(Times::Nth(4), 500));
    test.server().inject(&on_next_event(WatchFault::Expire).and(no_streaming_lists()).and(failing));
    delete(&test, "s0").await;
    api(&test).create(&PostParams::default(), &Sandbox::test("s9")).await.unwrap();
    eventually("two lists have failed", SOON, async || {
        let fired: Vec<_> = test.server().faults_fired()[2..].iter().map(|(_, fired)| *fired).collect();
        ensure!(fired == [1, 1], "{fired:?}");
        Ok(())
    })
    .await;
    let shown = test.cache().reader::<Sandbox>().list(None).unwrap();
    let mut names: Vec<_> = shown.iter().filter_map(|sandbox| sandbox.metadata.name.clone()).collect();
    names.sort();
    assert_eq!(names, ["s0", "s1", "s2", "s3", "s4"], "what was known before, all of it");
    oracle.converged(&test).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_patience_gets_it() {
    for code in [429, 503] {
        let (test, mut oracle) = two().await;
        let busy = RequestFault::Answer { code, retry_after: Some(25) };
        test.server().inject(&on_next_event(WatchFault::Reset).and(on_watch(busy)));
        let started = Instant::now();
        touch(&test, "a").await;
        eventually("the cache is reported as stale within 10 s", Duration::from_secs(12), async || {
            let freshness = report(&test).freshness();
            ensure!(freshness.to_string().starts_with("stale for "), "{freshness}");
            freshness.within(Duration::from_mins(5)).map_err(anyhow::Error::msg)
        })
        .await;
        oracle.converged(&test).await.unwrap();
        assert!(started.elapsed() >= Duration::from_secs(25), "{code}: {:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_list_keeps_its_own_kind_waiting_and_no_other() {
    let calls = Calls::default();
    let noted = calls.clone();
    let slow = on_watch(RequestFault::Delay(Duration::from_secs(20)));
    let test = TestCache::builder()
        .object(Sandbox::test("a"))
        .sandbox_handler(move |observed: Observed<Sandbox>| {
            noted.add(observed.key().to_string());
            std::future::ready(Ok(Action::await_change()))
        })
        .faults(slow)
        .start()
        .unwrap();
    let others = test.cache().kinds().iter().filter(|kind| kind.plural() != SANDBOXES);
    futures::future::join_all(others.map(|kind| CachedKind::synced(Arc::clone(kind)))).await;
    let lookup = test.cache().reader::<Sandbox>().get("default", "a");
    assert!(matches!(lookup, Err(LookupError::NotSynced { .. })), "{lookup:?}");
    assert!(calls.all().is_empty(), "a controller starts once its kind is synced");
    test.cache().wait_for_cache_sync().await;
    eventually("the handler is called", SOON, async || {
        ensure!(calls.all() == ["default/a"], "{:?}", calls.all());
        Ok(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_noticed_within_90_seconds() {
    let silent_watch = on_next_event(WatchFault::Silence);
    let silent_answer = on_next_event(WatchFault::End).and(on_watch(RequestFault::Silence));
    for (plan, reason) in [(silent_watch, "silent"), (silent_answer, "response_timeout")] {
        let (test, mut oracle) = two().await;
        test.server().inject(&plan);
        touch(&test, "a").await;
        let started = Instant::now();
        oracle.converged(&test).await.unwrap();
        assert!(started.elapsed() <= Duration::from_secs(90), "{plan:?}: {:?}", started.elapsed());
        assert!(met(&test).0.contains(&reason), "{plan:?}: {:?}", met(&test).0);
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_come_twice_or_in_the_wrong_order_change_nothing() {
    for fault in [WatchFault::Duplicate, WatchFault::Reorder] {
        let (test, mut oracle) = two().await;
        let every_other = FaultPlan::event(On::kind(SANDBOXES), Times::Every(2), fault.clone());
        test.server().inject(&every_other);
        for i in 0..12 {
            touch(&test, ["a", "b"][i % 2]).await;
            if i % 4 == 1 {
                delete(&test, "b").await;
                create(&test, "b").await;
            }
        }
        assert!(test.server().faults_fired()[0].1 >= 6, "{:?}", test.server().faults_fired());
        // An event that is delayed until the next event needs a next event.
        test.server().clear_faults();
        touch(&test, "a").await;
        oracle.converged(&test).await.unwrap();
        assert_eq!(met(&test), (vec![], 0), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_or_made_anew_unseen_is_told_in_order() {
    let (test, mut oracle) = two().await;
    // The watch breaks, and its version expires before it reconnects.
    test.server().inject(&on_next_event(WatchFault::Reset));
    touch(&test, "a").await;
    delete(&test, "a").await;
    delete(&test, "b").await;
    let new = create(&test, "b").await;
    test.server().compact();
    oracle.converged(&test).await.unwrap();
    let told = oracle.told();
    let (gone, back) = (
        told.iter().position(|told| told.starts_with("b gone")),
        told.iter().position(|told| *told == format!("b {}", new.resource_version().unwrap())),
    );
    assert!(gone < back && gone.is_some(), "{told:?}");
    assert!(told.iter().any(|told| told.starts_with("a gone")), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restored_server_is_accepted_in_the_end() {
    let (test, mut oracle) = two().await;
    let version = test.server().revision();
    for _ in 0..5 {
        touch(&test, "a").await;
    }
    delete(&test, "b").await;
    test.wait_until_synced().await;
    oracle.check().unwrap();
    test.server().rewind(version).unwrap();
    // Deleted objects exist again and versions are smaller. This is correct only in this test.
    let names = async || {
        let mut names: Vec<_> =
            test.cache().reader::<Sandbox>().list(None)?.iter().map(|sandbox| sandbox.name_any()).collect();
        names.sort_unstable();
        ensure!(names == ["a", "b"], "{names:?}");
        Ok(())
    };
    eventually("the cache shows the older state", Duration::from_mins(3), names).await;
    assert_eq!(met(&test).0, ["inconsistent", "transport"], "the consistency check has recognised it");
    create(&test, "c").await;
    test.wait_until_synced().await;
    assert_eq!(test.cache().reader::<Sandbox>().len().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_list_from_a_stale_replica_is_refused() {
    let (test, mut oracle) = two().await;
    delete(&test, "b").await;
    create(&test, "c").await;
    oracle.converged(&test).await.unwrap();
    let stale = FaultPlan::request(
        On::request(Verb::List, SANDBOXES),
        Times::First(1),
        RequestFault::OldList { behind: 2 },
    );
    let relist = on_next_event(WatchFault::Expire).and(no_streaming_lists()).and(stale);
    test.server().inject(&relist);
    oracle.told();
    touch(&test, "a").await;
    oracle.converged(&test).await.unwrap();
    assert!(met(&test).0.contains(&"stale_list"), "{:?}", met(&test).0);
    assert!(!oracle.told().iter().any(|told| told.starts_with("b ")), "what is gone did not come back");
}

#[tokio::test(start_paused = true)]
async fn bookmarks_alone_keep_a_watch_alive_and_its_version_new() {
    let (test, mut oracle) = two().await;
    let kinds = test.cache().kinds();
    let sandboxes = kinds.iter().find(|kind| kind.plural() == SANDBOXES).unwrap();
    let config_map: k8s_openapi::api::core::v1::ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "other"}})).unwrap();
    let other =
        Api::default_namespaced(test.client()).create(&PostParams::default(), &config_map).await.unwrap();
    let version: u64 = other.resource_version().unwrap().parse().unwrap();
    assert!(sandboxes.version() < version);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(sandboxes.version() >= version);
    assert_eq!(met(&test), (vec![], 0));
    oracle.check().unwrap();
    assert_eq!(oracle.told(), Vec::<String>::new(), "no subscriber was called");
}

#[tokio::test(start_paused = true)]
async fn v8_an_idle_watch_without_bookmarks_is_probed_and_stays_open() {
    let (test, mut oracle) = two().await;
    let mute =
        FaultPlan::request(On::request(Verb::Watch, SANDBOXES), Times::Always, RequestFault::NoBookmarks);
    test.server().inject(&mute.and(on_next_event(WatchFault::End)));
    touch(&test, "a").await;
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert!(met(&test).0.is_empty(), "nothing is wrong: {:?}", met(&test).0);
    test.server().clear_faults();
    touch(&test, "b").await;
    oracle.converged(&test).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn v9_a_field_that_cannot_be_read_hides_no_object_and_makes_none_available() {
    let (test, mut oracle) = two().await;
    let broken = json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "Sandbox",
        "metadata": {
            "name": "broken", "namespace": "default", "labels": {"agents.kruise.io/sandbox-pool": "p"},
            "ownerReferences": [{
                "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxSet", "name": "p", "uid": "p",
                "controller": true,
            }],
        },
        "spec": {"paused": "maybe", "shutdownTime": "2126-01-01T00:00:00Z"},
    });
    test.server().force("sandboxes.agents.kruise.io", broken);
    create(&test, "c").await;
    test.wait_until_synced().await;
    let counts = || (report(&test).undecodable, report(&test).partially_decoded);
    let reader = test.cache().reader::<Sandbox>();
    assert_eq!((reader.len().unwrap(), counts()), (4, (0, 1)));
    let read = reader.get("default", "broken").unwrap().unwrap();
    assert_eq!(read.partially_decoded()[0].field, "spec.paused");
    assert!(read.shutdown_at().is_some(), "all other fields are read");
    assert_eq!(reader.count("sandboxPool", "p", |_| true).unwrap(), 0, "never available");

    // The same after a list, which receives the object again.
    test.server().restart();
    create(&test, "d").await;
    test.wait_until_synced().await;
    assert_eq!((reader.len().unwrap(), counts()), (5, (0, 1)));

    delete(&test, "broken").await;
    create(&test, "broken").await;
    oracle.converged(&test).await.unwrap();
    assert_eq!((reader.len().unwrap(), counts()), (5, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_leaves_the_selection_is_told_to_be_gone() {
    let options = SandboxManagerOptions { sandbox_label_selector: "tier=a".into(), ..Default::default() };
    let test = TestCache::builder()
        .options(options)
        .objects([
            Sandbox::test("a").label("tier", "a").claimed_by("u"),
            Sandbox::test("b").label("tier", "b"),
        ])
        .build()
        .await
        .unwrap();
    let mut oracle = Oracle::new(&test);
    let reader = test.cache().reader::<Sandbox>();
    assert_eq!(reader.len().unwrap(), 1);
    let patch = json!({"metadata": {"labels": {"tier": "b"}}});
    let patched = api(&test).patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    test.wait_until_synced().await;
    assert_eq!(reader.len().unwrap(), 0);
    oracle.check().unwrap();
    let told = oracle.told();
    let gone = format!("a gone {}", patched.resource_version().unwrap());
    assert_eq!(told.last(), Some(&gone), "{told:?}");
}

fn is_done(sandbox: &Sandbox) -> Check {
    match sandbox.annotations().get("done") {
        Some(_) => Check::Satisfied,
        None => Check::not_yet("not done"),
    }
}

#[tokio::test(start_paused = true)]
async fn f13_a_wait_ends_right_while_the_watch_is_away() {
    let (test, _) = two().await;
    let wait = |name: &str| {
        let cache = test.cache().clone();
        let object = cache.reader::<Sandbox>().get("default", name).unwrap().unwrap();
        tokio::spawn(async move {
            cache
                .wait_task(&object, WaitAction::new("Done"), |object, _| is_done(object))
                .wait(Duration::from_mins(2))
                .await
        })
    };
    let (done, gone) = (wait("a"), wait("b"));
    // The watch breaks before it tells of anything, and no other one is to be had.
    let away = FaultPlan::request(On::request(Verb::Watch, SANDBOXES), Times::Always, RequestFault::Drop);
    let no_list = FaultPlan::request(On::request(Verb::List, SANDBOXES), Times::Always, RequestFault::Drop);
    test.server().inject(&on_next_event(WatchFault::Reset).and(away).and(no_list));
    let patch = json!({"metadata": {"annotations": {"done": "yes"}}});
    let patched = api(&test).patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    delete(&test, "b").await;

    assert_eq!(done.await.unwrap().unwrap().resource_version(), patched.resource_version());
    assert!(matches!(gone.await.unwrap(), Err(WaitError::Gone(_))));
    assert!(report(&test).stale_for.is_some(), "the watch is away still");
    let shown = test.cache().reader::<Sandbox>();
    assert!(!shown.get("default", "a").unwrap().unwrap().annotations().contains_key("done"), "the old view");
    assert!(shown.get("default", "b").unwrap().is_some(), "the old view");
}

/// That it comes back within 30 s is counted on the clock that only moves when nobody has anything to do.
#[tokio::test(start_paused = true)]
async fn c5_a_kind_that_goes_is_cleared_and_that_comes_again_is_shown() {
    let (test, mut oracle) = two().await;
    // The watch tells of no deletion: only the clearing does.
    test.server().inject(&on_next_event(WatchFault::Reset));
    let definitions: Api<CustomResourceDefinition> = Api::all(test.client());
    definitions.delete("sandboxes.agents.kruise.io", &DeleteParams::default()).await.unwrap();
    eventually("the kind is cleared", Duration::from_mins(1), async || {
        let problem = report(&test).freshness().to_string();
        ensure!(
            problem.contains("sandboxes.agents.kruise.io is not served, is its CRD installed?"),
            "{problem}"
        );
        let lookup = test.cache().reader::<Sandbox>().len();
        ensure!(matches!(lookup, Err(LookupError::NotSynced { .. })), "{lookup:?}");
        Ok(())
    })
    .await;
    oracle.check().unwrap();
    let mut gone: Vec<_> = oracle.told().iter().map(|told| told[..6].to_owned()).collect();
    gone.sort_unstable();
    assert_eq!(gone, ["a gone", "b gone"]);

    let sandboxes = crds().into_iter().find(|crd| crd.name_any() == "sandboxes.agents.kruise.io").unwrap();
    definitions.create(&PostParams::default(), &sandboxes).await.unwrap();
    eventually("it is served", SOON, async || {
        api(&test).list(&ListParams::default()).await?;
        Ok(())
    })
    .await;
    create(&test, "c").await;
    let served = Instant::now();
    test.cache().wait_for_cache_sync().await;
    assert!(served.elapsed() <= Duration::from_secs(30), "{:?}", served.elapsed());
    oracle.converged(&test).await.unwrap();
}
