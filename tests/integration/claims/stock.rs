//! Claims from a stock that is there.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use kube::ResourceExt as _;
use memory_apiserver::{FaultPlan, On, Verb, WatchFault};
use sandbox_manager::claims::{ClaimError, ClaimRequest, LockType, Target};
use serde_json::json;

use super::history::History;
use super::{NAMESPACE, POOL, Replica, member, names, request, sandboxes, stocked, until_locked, writes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q8_three_hundred_claims_at_once_take_one_write_each_and_are_all_distinct() {
    let server = stocked(300);
    let history = History::of(&server);
    let replica = Replica::start(&server).await;
    let before = server.requests().len();
    let started = Instant::now();
    let claimed =
        join_all((0..300).map(|number| replica.claims.claim(request(&format!("key-{number}"))))).await;
    let taken = started.elapsed();
    let claimed: Vec<_> = claimed.into_iter().map(Result::unwrap).collect();
    assert_eq!(names(&claimed).len(), 300);
    assert!(claimed.iter().all(|claimed| claimed.lock_type == LockType::Update && claimed.retries == 0));
    // Watches apart, a claim sends its patch and nothing else.
    let requests = server.requests().split_off(before);
    let patches = requests.iter().filter(|request| request.verb == Verb::Patch).count();
    let others: Vec<_> = requests
        .iter()
        .filter(|request| !matches!(request.verb, Verb::Patch | Verb::Watch | Verb::List))
        .collect();
    assert_eq!((patches, others), (300, vec![]));
    assert!(taken < Duration::from_secs(10), "{taken:?}");
    assert_eq!(replica.claims.ready_in_pool(NAMESPACE, POOL), 0);
    replica.cache.wait_until_synced().await;
    let none = replica.claim("one-more").await;
    assert!(matches!(none, Err(ClaimError::NoStock { .. })), "{none:?}");
    until_locked(&server, &names(&claimed)).await;
    history.assert_none_given_twice();
}

#[tokio::test]
async fn q2_the_lock_writes_everything_of_the_claim_at_once() {
    let server = stocked(1);
    let replica = Replica::start(&server).await;
    let request = ClaimRequest::from_pool(NAMESPACE, POOL)
        .owner("key-1")
        .timeout(Duration::from_mins(10))
        .auto_pause(true)
        .retention(sandbox_manager::claims::Retention::Forever)
        .metadata("user", "b")
        .label("l", "1")
        .own_label("agents.kruise.io/claim-name", "two")
        .own_annotation("own", "x")
        .allow_internet_access(false)
        .name_on_pod();
    let claimed = replica.claims.claim(request).await.unwrap();
    assert_eq!(writes(&server).len(), 1, "{:?}", writes(&server));
    let written = &sandboxes(&server).await[0];
    assert_eq!(written.metadata.resource_version, claimed.metadata.resource_version);
    assert!(written.metadata.owner_references.is_none());
    let labels = written.labels();
    for (key, value) in [
        ("agents.kruise.io/sandbox-claimed", "true"),
        ("agents.kruise.io/sandbox-pool", POOL),
        ("agents.kruise.io/allow-internet-access", "false"),
        ("agents.kruise.io/claim-name", "two"),
        ("l", "1"),
    ] {
        assert_eq!(labels.get(key).map(String::as_str), Some(value), "{key}");
    }
    let annotations = written.annotations();
    for (key, value) in [
        ("agents.kruise.io/lock", claimed.lock.as_str()),
        ("agents.kruise.io/owner", "key-1"),
        ("agents.kruise.io/reserve-paused-sandbox-duration", "forever"),
        ("agents.kruise.io/updated-metadata-in-claim", r#"{"annotations":["user"],"labels":["l"]}"#),
        ("user", "b"),
        ("own", "x"),
    ] {
        assert_eq!(annotations.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert!(
        !annotations.contains_key("agents.kruise.io/claim-unfinished-until"),
        "an ordinary claim is complete"
    );
    let template = serde_json::to_value(written.spec.template.as_ref().unwrap()).unwrap();
    let expected = json!({
        "agents.kruise.io/sandbox-pool": POOL, "agents.kruise.io/sandbox-template": POOL,
        "agents.kruise.io/sandbox-claimed": "false", "agents.kruise.io/template-hash": "new",
        "agents.kruise.io/allow-internet-access": "false", "agents.kruise.io/owner": "key-1",
        "agents.kruise.io/sandbox-name": "pool-0", "l": "1",
    });
    assert_eq!(template["metadata"]["labels"], expected);
    let (pause, shutdown) =
        (written.spec.pause_time.as_ref().unwrap(), written.spec.shutdown_time.as_ref().unwrap());
    let kept = shutdown.timestamp().duration_since(pause.timestamp());
    assert_eq!(kept.as_hours(), 36_500 * 24);
}

#[tokio::test]
async fn q1_members_of_the_current_revision_go_first() {
    let server = stocked(0);
    for number in 0..20 {
        server.force("sandboxes.agents.kruise.io", member(number, if number < 17 { "old" } else { "new" }));
    }
    let replica = Replica::start(&server).await;
    let mut first = BTreeSet::new();
    for _ in 0..3 {
        first.insert(replica.claim("key").await.unwrap().name_any());
    }
    assert_eq!(first, BTreeSet::from(["pool-17", "pool-18", "pool-19"].map(str::to_owned)));
    let next = replica.claim("key").await.unwrap();
    assert_eq!(next.labels()["agents.kruise.io/template-hash"], "old");
}

#[tokio::test]
async fn q3_without_stock_a_claim_fails_at_once_and_a_pool_that_does_not_exist_is_named() {
    let server = stocked(0);
    let replica = Replica::start(&server).await;
    let started = Instant::now();
    let none = replica.claim("key").await.unwrap_err();
    assert!(matches!(&none, ClaimError::NoStock { pool, .. } if pool == POOL), "{none:?}");
    assert!(none.is_nothing_done() && started.elapsed() < Duration::from_secs(1));
    let nowhere = replica.claims.claim(ClaimRequest::from_pool(NAMESPACE, "nowhere").owner("key")).await;
    assert!(matches!(nowhere, Err(ClaimError::PoolNotFound { .. })), "{nowhere:?}");
    for owner in ["", "-a", "a b", &"a".repeat(64)] {
        let invalid = replica.claim(owner).await;
        assert!(matches!(invalid, Err(ClaimError::Invalid(_))), "{owner}: {invalid:?}");
    }
    assert!(writes(&server).is_empty());
}

#[tokio::test]
async fn q1_fifty_claims_of_twenty_members_give_twenty_and_no_sandbox_twice() {
    let server = stocked(20);
    let replica = Replica::start(&server).await;
    let results = join_all((0..50).map(|_| replica.claim("key"))).await;
    let (claimed, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let claimed: Vec<_> = claimed.into_iter().map(Result::unwrap).collect();
    assert_eq!((names(&claimed).len(), refused.len()), (20, 30));
    for error in refused.into_iter().map(Result::unwrap_err) {
        assert!(matches!(error, ClaimError::NoStock { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn q4_a_claim_is_found_before_the_watch_shows_it_and_not_by_others() {
    let server = stocked(2);
    let replica = Replica::start(&server).await;
    let late = WatchFault::Hold(Duration::from_mins(1));
    server.inject(&FaultPlan::event(On::kind("sandboxes"), memory_apiserver::Times::Always, late));
    let claimed = replica.claim("key-1").await.unwrap();
    let own = Target::new(claimed.sandbox_id()).owned_by("key-1");
    assert_eq!(
        replica.claims.get(&own).unwrap().metadata.resource_version,
        claimed.metadata.resource_version
    );
    assert_eq!(replica.claims.list("key-1", Some(NAMESPACE)).unwrap().len(), 1);
    for other in [
        Target::new(claimed.sandbox_id()).owned_by("key-2"),
        Target::new(claimed.sandbox_id()).in_namespace("other"),
        Target::new("nope"),
        Target::new("a/b"),
        Target::new("x".repeat(300)),
    ] {
        let missing = replica.claims.get(&other);
        assert!(matches!(missing, Err(ClaimError::NotFound { .. })), "{other:?}: {missing:?}");
    }
    assert_eq!(replica.claims.list("key-2", None).unwrap().len(), 0);
    let second = replica.claim("key-1").await.unwrap();
    assert_ne!(second.name_any(), claimed.name_any(), "the own lock is not offered again");
    replica.claims.release(&own).await.unwrap();
    let again = replica.claims.release(&own).await;
    assert!(matches!(again, Err(ClaimError::NotFound { .. })), "{again:?}");
    assert!(matches!(replica.claims.get(&own), Err(ClaimError::NotFound { .. })));
    assert_eq!(replica.claims.list("key-1", None).unwrap().len(), 1);
}
