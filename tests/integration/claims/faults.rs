//! Claims while requests fail: nothing is given twice, and nothing stays locked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use http::{Method, Request};
use kube::client::Body;
use memory_apiserver::{FaultPlan, On, RequestFault, Times, Verb};
use sandbox_manager::cache::Cache;
use sandbox_manager::claims::{ClaimError, Claims, Fate, LostLock, WriteOutcome};
use tower::service_fn;

use super::history::History;
use super::{Replica, names, request, stocked, until_locked};

fn on_patch(times: Times, then: RequestFault) -> FaultPlan {
    FaultPlan::request(On::request(Verb::Patch, "sandboxes"), times, then)
}

fn answer(code: u16) -> RequestFault {
    RequestFault::Answer { code, retry_after: None }
}

#[tokio::test]
async fn q2_a_lock_whose_answer_is_lost_is_found_and_one_that_was_not_written_is_given_up() {
    let server = stocked(60);
    let history = History::of(&server);
    let replica = Replica::start(&server).await;
    server.inject(
        &on_patch(Times::Every(3), RequestFault::DropAnswer)
            .and(on_patch(Times::Every(5), RequestFault::Drop))
            .and(on_patch(Times::Every(7), answer(500))),
    );
    let claimed = join_all((0..30).map(|_| replica.claim("key"))).await;
    let claimed: Vec<_> = claimed.into_iter().map(Result::unwrap).collect();
    assert_eq!(names(&claimed).len(), 30);
    assert!(server.faults_fired().iter().all(|(_, fired)| *fired > 0), "{:?}", server.faults_fired());
    server.clear_faults();
    until_locked(&server, &names(&claimed)).await;
    assert_eq!(super::sandboxes(&server).await.len(), 60, "a lock that was found is used, and not undone");
    history.assert_none_given_twice();
}

#[tokio::test]
async fn q2_a_refusal_ends_the_claim_and_says_what_is_known() {
    let server = stocked(3);
    let replica = Replica::start(&server).await;
    server.inject(&on_patch(Times::First(1), answer(403)));
    let refused = replica.claim("key").await.unwrap_err();
    assert!(matches!(refused, ClaimError::Refused { code: 403, .. }), "{refused:?}");
    server.inject(&on_patch(Times::First(1), answer(429)));
    let busy = replica.claim("key").await.unwrap_err();
    assert!(matches!(busy, ClaimError::Unavailable { outcome: WriteOutcome::NothingDone, .. }), "{busy:?}");
    server.clear_faults();
    // Neither the lock nor the look is answered.
    server.inject(&on_patch(Times::First(1), RequestFault::DropAnswer).and(FaultPlan::request(
        On::request(Verb::Get, "sandboxes"),
        Times::First(1),
        RequestFault::Drop,
    )));
    let unknown = replica.claim("key").await.unwrap_err();
    assert!(
        matches!(unknown, ClaimError::Unavailable { outcome: WriteOutcome::Unknown { .. }, .. }),
        "{unknown:?}"
    );
    assert!(!unknown.is_nothing_done());
    // The lock was written, and nobody was told.
    until_locked(&server, &BTreeSet::new()).await;
    assert_eq!(replica.claim("key").await.unwrap().retries, 0, "the pool is not used up");
}

#[tokio::test]
async fn q2_a_conflict_takes_the_next_candidate_and_the_member_comes_back() {
    let server = stocked(2);
    let replica = Replica::start(&server).await;
    server.inject(&on_patch(Times::First(1), answer(409)));
    let claimed = replica.claim("key").await.unwrap();
    assert_eq!(claimed.retries, 1);
    // Nothing has changed the other member, so no event brings it back.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    replica.claim("key").await.unwrap();
}

#[tokio::test]
async fn q2_twenty_conflicts_count_as_no_stock() {
    let server = stocked(30);
    let replica = Replica::start(&server).await;
    server.inject(&on_patch(Times::Always, answer(409)));
    let none = replica.claim("key").await.unwrap_err();
    assert!(matches!(none, ClaimError::NoStock { .. }), "{none:?}");
    assert_eq!(super::writes(&server).len(), 20);
}

#[tokio::test(start_paused = true)]
async fn q2_an_api_server_that_is_silent_ends_the_claim_in_time_and_leaves_nothing_locked() {
    let server = stocked(3);
    let replica = Replica::start(&server).await;
    let silent =
        |verb| FaultPlan::request(On::request(verb, "sandboxes"), Times::Always, RequestFault::Silence);
    server.inject(&silent(Verb::Patch).and(silent(Verb::Get)));
    let started = tokio::time::Instant::now();
    let unknown = replica.claim("key").await.unwrap_err();
    assert!(
        matches!(unknown, ClaimError::Unavailable { outcome: WriteOutcome::Unknown { .. }, .. }),
        "{unknown:?}"
    );
    assert_eq!(started.elapsed(), Duration::from_secs(10), "five for the lock, and five for the look");
    server.clear_faults();
    replica.claims.settled().await;
    until_locked(&server, &BTreeSet::new()).await;
}

#[tokio::test]
async fn q4_a_claim_whose_caller_is_gone_leaves_nothing_locked() {
    let server = stocked(40);
    let replica = Replica::start(&server).await;
    server.inject(&on_patch(Times::Always, RequestFault::Delay(Duration::from_millis(10))));
    for millis in 0..25 {
        // Some are dropped before the request, some while it runs, and some after its answer.
        let _ =
            tokio::time::timeout(Duration::from_millis(millis), replica.claim("gone")).await.map(|claimed| {
                let target = super::target(&claimed.unwrap());
                let claims = replica.claims.clone();
                tokio::spawn(async move { claims.release(&target).await })
            });
    }
    replica.claims.settled().await;
    until_locked(&server, &BTreeSet::new()).await;
}

#[tokio::test]
async fn q4_a_result_that_is_ready_and_never_taken_is_undone() {
    let server = stocked(1);
    let replica = Replica::start(&server).await;
    let mut claim = Box::pin(replica.claim("gone"));
    // Begun, and not polled any more while its task ends.
    assert!(futures::poll!(&mut claim).is_pending());
    crate::support::eventually("the lock", crate::support::SOON, async || {
        anyhow::ensure!(!super::locked(&server).await.is_empty());
        Ok(())
    })
    .await;
    drop(claim);
    until_locked(&server, &BTreeSet::new()).await;
}

#[tokio::test]
async fn q2_a_caller_that_answers_for_its_lock_gets_it_back_when_its_answer_is_lost_and_repeats_it() {
    let server = stocked(3);
    let replica = Replica::start(&server).await;
    let locked_only = || request("key").return_when_locked();
    server.inject(&on_patch(Times::First(1), answer(504)));
    let lost = lost_lock(replica.claims.claim(locked_only()).await.unwrap_err());
    assert_eq!(super::writes(&server).len(), 1, "no other member is tried");
    assert!(matches!(replica.claims.fate(&lost).await.unwrap(), Fate::Open));
    let claimed = replica.claims.claim(locked_only().again(lost.clone())).await.unwrap();
    assert_eq!((claimed.name_or_empty(), &*claimed.lock), (&*lost.key().name, lost.lock()));
    assert!(matches!(replica.claims.fate(&lost).await.unwrap(), Fate::Made(_)));
    // Repeated once more, it is the same claim.
    let again = replica.claims.claim(locked_only().again(lost.clone())).await.unwrap();
    assert_eq!(names([&again]), names([&claimed]));
    replica.claims.settled().await;
    until_locked(&server, &names([&claimed])).await;
}

#[tokio::test]
async fn q2_a_lost_lock_of_a_member_that_somebody_else_has_taken_is_void_and_another_one_is_taken() {
    let server = stocked(2);
    let (replica, other) = (Replica::start(&server).await, Replica::start(&server).await);
    server.inject(&on_patch(Times::First(1), answer(504)));
    let request = || request("key").return_when_locked();
    let lost = lost_lock(replica.claims.claim(request()).await.unwrap_err());
    let theirs = [other.claim("other").await.unwrap(), other.claim("other").await.unwrap()];
    let theirs = theirs.iter().find(|claimed| claimed.name_or_empty() == lost.key().name).unwrap();
    assert!(matches!(replica.claims.fate(&lost).await.unwrap(), Fate::Void));
    server.force("sandboxes.agents.kruise.io", super::member(2, "new"));
    crate::support::eventually("a third member", crate::support::SOON, async || {
        anyhow::ensure!(replica.claims.ready_in_pool(super::NAMESPACE, super::POOL) == 1);
        Ok(())
    })
    .await;
    let mine = replica.claims.claim(request().again(lost)).await.unwrap();
    assert_eq!((mine.name_or_empty(), theirs.owner()), ("pool-2", Some("other")));
}

#[tokio::test]
async fn q4_a_caller_that_answers_for_its_lock_and_leaves_has_it_all_the_same() {
    let server = stocked(2);
    // The lock is written, and its answer never comes.
    let inner = server.client_without_faults();
    let client = kube::Client::new(
        service_fn(move |request: Request<Body>| {
            let (inner, is_lock) = (inner.clone(), request.method() == Method::PATCH);
            async move {
                let answer = inner.send(request).await;
                if is_lock { std::future::pending().await } else { answer }
            }
        }),
        "default",
    );
    let cache = Cache::builder(client).build();
    cache.start().await.unwrap();
    let claims = Claims::builder(&cache).build().unwrap();
    let mut claim = Box::pin(claims.claim(request("key").return_when_locked()));
    let locked = tokio::select! {
        claimed = &mut claim => panic!("{claimed:?}"),
        locked = crate::support::eventually("the lock", crate::support::SOON, async || {
            let locked = super::locked(&server).await;
            anyhow::ensure!(!locked.is_empty());
            Ok(locked)
        }) => locked,
    };
    drop(claim);
    claims.settled().await;
    assert_eq!(super::locked(&server).await, locked, "nothing is undone");
    assert_eq!(super::sandboxes(&server).await.len(), 2);
}

/// Returns the lock that an error leaves to the caller.
fn lost_lock(error: ClaimError) -> LostLock {
    match error {
        ClaimError::Unavailable { outcome: WriteOutcome::Unknown { lock: Some(lost), .. }, .. } => *lost,
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn q5_three_processes_with_conflicts_and_lost_answers_give_nothing_twice() {
    let server = stocked(120);
    let history = History::of(&server);
    let replicas =
        [Replica::start(&server).await, Replica::start(&server).await, Replica::start(&server).await];
    server.inject(
        &on_patch(Times::Every(4), answer(409))
            .and(on_patch(Times::Every(9), RequestFault::Drop))
            .and(on_patch(Times::Every(11), RequestFault::DropAnswer))
            .and(on_patch(Times::Every(2), RequestFault::Delay(Duration::from_millis(2)))),
    );
    let claims = (0..90).map(|number| replicas[number % 3].claim("key"));
    let claimed: Vec<_> = join_all(claims).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(names(&claimed).len(), 90);
    server.clear_faults();
    until_locked(&server, &names(&claimed)).await;
    history.assert_none_given_twice();
}

#[tokio::test(start_paused = true)]
async fn q2_a_lock_that_the_api_server_writes_late_is_undone() {
    let server = stocked(2);
    // The first patch is on its way for eight seconds. Its sender gives up after five.
    let (inner, is_first) = (server.client_without_faults(), Arc::new(AtomicBool::new(true)));
    let client = kube::Client::new(
        service_fn(move |request: Request<Body>| {
            let is_late = request.method() == Method::PATCH && is_first.swap(false, Ordering::Relaxed);
            let inner = inner.clone();
            async move {
                if !is_late {
                    return inner.send(request).await;
                }
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(8)).await;
                    inner.send(request).await
                });
                std::future::pending().await
            }
        }),
        "default",
    );
    let cache = Cache::builder(client).build();
    cache.start().await.unwrap();
    let claims = Claims::builder(&cache).build().unwrap();
    let claimed = claims.claim(request("key")).await.unwrap();
    assert_eq!(super::locked(&server).await.len(), 1);
    crate::support::eventually("the late lock is undone", Duration::from_mins(5), async || {
        let left = super::sandboxes(&server).await.len();
        anyhow::ensure!(left == 1, "{left}");
        Ok(())
    })
    .await;
    until_locked(&server, &names([&claimed])).await;
}
