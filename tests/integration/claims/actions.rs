//! Pauses, resumes, timeouts and releases of claimed sandboxes, and their races.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use memory_apiserver::{FaultPlan, On, RequestFault, Times, Verb};
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxPhase};
use sandbox_manager::claims::{ClaimError, ConflictReason, Target, TimeoutChange, ends_at};
use serde_json::json;
use shared_cache::Event;

use super::{Lab, NAMESPACE, Replica, request, target, writes};
use crate::runtime::Runtime;
use crate::support::eventually;

const MINUTE: Duration = Duration::from_mins(1);
const LIMIT: Duration = Duration::from_secs(20);

/// Seconds from now until the sandbox ends.
fn left(sandbox: &Sandbox) -> i64 {
    ends_at(sandbox).expect("an end").duration_since(Timestamp::now()).as_secs()
}

#[track_caller]
fn assert_left(sandbox: &Sandbox, seconds: i64) {
    let left = left(sandbox);
    assert!((seconds - 10..=seconds + 1).contains(&left), "ends in {left} s, not {seconds}");
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "made for the call")]
fn assert_conflict<T: std::fmt::Debug>(result: Result<T, ClaimError>, expected: ConflictReason) {
    let is_it = matches!(&result, Err(ClaimError::Conflict { reason, .. }) if *reason == expected);
    assert!(is_it, "{result:?}");
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "made for the call")]
fn assert_not_found<T: std::fmt::Debug>(result: Result<T, ClaimError>) {
    assert!(matches!(&result, Err(ClaimError::NotFound { .. })), "{result:?}");
}

/// The writes of the spec of a sandbox since so many.
fn own_writes(lab: &Lab, since: usize) -> usize {
    writes(&lab.server)[since..].iter().filter(|write| write.subresource.is_none()).count()
}

async fn claimed(lab: &Lab) -> Target {
    let claimed = lab.replica.claims.claim(request("key")).await.unwrap();
    target(&claimed).owned_by("key")
}

#[tokio::test]
async fn q4_a_pause_is_one_write_stops_the_time_and_a_second_one_is_refused() {
    let lab = Lab::start(1).await;
    let claims = &lab.replica.claims;
    let target = claimed(&lab).await;
    assert_not_found(claims.pause(&target.clone().owned_by("other"), LIMIT).await);
    let paused = claims.pause(&target, LIMIT).await.unwrap();
    assert_eq!((paused.phase(), paused.spec.paused), (Some(&SandboxPhase::Paused), Some(true)));
    assert!(left(&paused) > 90 * 365 * 24 * 3600, "kept for ever, as nothing says otherwise");
    assert_conflict(claims.pause(&target, LIMIT).await, ConflictReason::AlreadyPaused);
    assert_conflict(claims.set_timeout(&target, TimeoutChange::Set(MINUTE)).await, ConflictReason::Paused);
    claims.release(&target).await.unwrap();
    assert_not_found(claims.release(&target).await);
}

#[tokio::test]
async fn q4_pauses_at_once_share_the_first_write_and_all_succeed() {
    let lab = Lab::start(1).await;
    let target = claimed(&lab).await;
    let second = Replica::start(&lab.server).await;
    let since = writes(&lab.server).len();
    let engines = [&lab.replica.claims, &second.claims, &lab.replica.claims, &second.claims];
    for result in join_all(engines.map(|claims| claims.pause(&target, LIMIT))).await {
        assert_eq!(result.unwrap().spec.paused, Some(true));
    }
    let won = writes(&lab.server)[since..]
        .iter()
        .filter(|write| write.subresource.is_none() && write.verb == Verb::Patch && write.status == Some(200))
        .count();
    // Beside the pause, the controller adds its finalizer.
    assert!(won <= 2, "{:#?}", &writes(&lab.server)[since..]);
}

#[tokio::test]
async fn q4_connect_extends_a_running_sandbox_and_never_shortens_it() {
    let lab = Lab::start(1).await;
    let claims = &lab.replica.claims;
    let target = claimed(&lab).await;
    let since = writes(&lab.server).len();
    let connected = claims.connect(&target, MINUTE, LIMIT).await.unwrap();
    assert!(!connected.resumed);
    assert_left(&connected.sandbox, 300);
    assert_eq!(own_writes(&lab, since), 0, "nothing to write");
    let connected = claims.connect(&target, 10 * MINUTE, LIMIT).await.unwrap();
    assert_left(&connected.sandbox, 600);
    let set = claims.set_timeout(&target, TimeoutChange::Set(MINUTE)).await.unwrap();
    assert_left(&set, 60);
    let extended = claims.set_timeout(&target, TimeoutChange::Extend(Duration::from_secs(1))).await.unwrap();
    assert_left(&extended, 60);
    assert_conflict(claims.resume(&target, MINUTE, LIMIT).await, ConflictReason::NotPaused);
}

/// A claimed sandbox with a request for its runtime.
async fn claimed_with_runtime(lab: &Lab) -> Target {
    let request = request("key").own_annotation("agents.kruise.io/init-runtime-request", "{}");
    target(&lab.replica.claims.claim(request).await.unwrap()).owned_by("key")
}

#[tokio::test]
async fn q6_a_resume_whose_runtime_cannot_be_initialised_leaves_the_sandbox_paused() {
    let lab = Lab::start(1).await;
    let claims = &lab.replica.claims;
    // Nothing listens in the pod.
    let target = claimed_with_runtime(&lab).await;
    claims.pause(&target, LIMIT).await.unwrap();
    let failed = claims.connect(&target, MINUTE, LIMIT).await.unwrap_err();
    assert!(matches!(failed, ClaimError::Failed { .. }), "{failed:?}");
    // A connect to a running sandbox would hand it out as it is.
    assert_eq!(claims.get(&target).unwrap().spec.paused, Some(true));
}

fn resume_mark(sandbox: &Sandbox) -> Option<&String> {
    sandbox.annotations().get("agents.kruise.io/runtime-init-pending")
}

#[tokio::test]
async fn q6_a_resume_is_marked_until_the_runtime_is_initialised() {
    let runtime = Runtime::start().await;
    let lab = Lab::with_runtime(&runtime, 1).await;
    let claims = lab.replica.claims.clone();
    let target = claimed_with_runtime(&lab).await;
    claims.pause(&target, LIMIT).await.unwrap();
    let uid = claims.get(&target).unwrap().metadata.uid.clone();
    let mut changes = lab.replica.cache.cache().shared().subscribe::<Sandbox>().unwrap();
    // From the first write to the last one: whether it runs.
    let marked = tokio::spawn(async move {
        let mut marked = BTreeSet::new();
        while let Some(event) = changes.next().await {
            let Event::Applied { new, .. } = event else { continue };
            if new.metadata.uid == uid && new.spec.paused.is_none() {
                if resume_mark(&new).is_none() {
                    break;
                }
                marked.insert(new.phase() == Some(&SandboxPhase::Running));
            }
        }
        marked
    });
    runtime.refuse(1..=4);
    let connected = claims.connect(&target, MINUTE, LIMIT).await.unwrap();
    assert!(connected.resumed && runtime.requests().len() == 5);
    assert_eq!(resume_mark(&connected.sandbox), None);
    assert_left(&connected.sandbox, 60);
    let marked = tokio::time::timeout(LIMIT, marked).await.unwrap().unwrap();
    assert!(marked.contains(&true), "while it runs");
}

#[tokio::test]
async fn q6_a_replica_that_fails_leaves_alone_what_another_one_has_resumed() {
    let runtime = Runtime::start().await;
    let lab = Lab::with_runtime(&runtime, 1).await;
    let target = claimed_with_runtime(&lab).await;
    let other = Replica::start(&lab.server).await;
    lab.replica.claims.pause(&target, LIMIT).await.unwrap();
    other.cache.wait_until_synced().await;
    // The other one succeeds between the last two tries of the first one, unless this machine is too busy for that.
    runtime.refuse([1, 2, 3, 4, 6]);
    let fails = lab.replica.claims.connect(&target, MINUTE, LIMIT);
    let succeeds = async {
        runtime.until_asked(4).await;
        other.claims.connect(&target, MINUTE, LIMIT).await
    };
    let (first, second) = futures::join!(fails, succeeds);
    assert!(first.is_ok() || second.is_ok(), "{first:?} {second:?}");
    eventually("it runs", crate::support::SOON, async || {
        let seen = other.claims.get(&target)?;
        anyhow::ensure!(resume_mark(&seen).is_none() && seen.spec.paused.is_none(), "{seen:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn q6_a_resume_whose_process_has_ended_is_completed_by_the_next_connect() {
    let runtime = Runtime::start().await;
    let lab = Lab::with_runtime(&runtime, 1).await;
    let claims = &lab.replica.claims;
    let target = claimed_with_runtime(&lab).await;
    claims.pause(&target, LIMIT).await.unwrap();
    // What the first write of a resume leaves, if nothing follows.
    let name = claims.get(&target).unwrap().name_any();
    let api: Api<Sandbox> = Api::namespaced(lab.server.client_without_faults(), NAMESPACE);
    let begun = json!({"metadata": {"annotations": {"agents.kruise.io/runtime-init-pending": "r"}}, "spec": {"paused": null, "shutdownTime": (Timestamp::now() + MINUTE).to_string()}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(begun)).await.unwrap();
    eventually("the sandbox runs", crate::support::SOON, async || {
        let seen = claims.get(&target)?;
        anyhow::ensure!(seen.phase() == Some(&SandboxPhase::Running) && seen.is_ready(), "{:?}", seen.status);
        Ok(())
    })
    .await;
    assert_conflict(claims.pause(&target, LIMIT).await, ConflictReason::Resuming);
    claims.set_timeout(&target, TimeoutChange::Set(2 * MINUTE)).await.unwrap();
    assert_eq!(runtime.requests().len(), 0);

    let other = Replica::start(&lab.server).await;
    let connected = other.claims.connect(&target, 10 * MINUTE, LIMIT).await.unwrap();
    assert!(connected.resumed);
    assert_eq!((runtime.requests().len(), resume_mark(&connected.sandbox)), (1, None));
    assert_left(&connected.sandbox, 600);
    let again = other.claims.connect(&target, MINUTE, LIMIT).await.unwrap();
    assert!(!again.resumed && runtime.requests().len() == 1);
}

#[tokio::test]
async fn q4_resumes_at_once_share_one_write_and_the_latest_end_wins() {
    let lab = Lab::start(1).await;
    let claims = &lab.replica.claims;
    let target = claimed(&lab).await;
    claims.pause(&target, LIMIT).await.unwrap();
    lab.replica.cache.wait_until_synced().await;
    let since = writes(&lab.server).len();
    let resumes = [1, 30, 5, 2].map(|minutes| claims.connect(&target, minutes * MINUTE, LIMIT));
    for connected in join_all(resumes).await {
        let connected = connected.unwrap();
        assert!(connected.resumed && connected.sandbox.is_ready() && connected.sandbox.spec.paused.is_none());
        assert_left(&connected.sandbox, 1800);
    }
    // The resume, the end after waking, and the finalizer of the controller.
    assert!(own_writes(&lab, since) <= 3, "{:#?}", &writes(&lab.server)[since..]);
    assert_left(&claims.get(&target).unwrap(), 1800);
}

#[tokio::test]
async fn q4_connect_waits_for_a_pause_that_is_under_way_and_then_resumes() {
    let lab = Lab::start(1).await;
    let claims = &lab.replica.claims;
    let target = claimed(&lab).await;
    let pause = tokio::spawn({
        let (claims, target) = (claims.clone(), target.clone());
        async move { claims.pause(&target, LIMIT).await }
    });
    eventually("a pause that is wanted", crate::support::SOON, async || {
        anyhow::ensure!(claims.get(&target).is_ok_and(|sandbox| sandbox.spec.paused == Some(true)));
        Ok(())
    })
    .await;
    let connected = claims.connect(&target, MINUTE, LIMIT).await.unwrap();
    assert!(connected.resumed && connected.sandbox.is_ready());
    assert_left(&connected.sandbox, 60);
    // The pause was complete before the resume began.
    let _ = pause.await.unwrap();
}

#[tokio::test]
async fn q4_a_pause_that_takes_too_long_stays_wanted() {
    let lab = Lab::start(1).await;
    let claims = &lab.replica.claims;
    let target = claimed(&lab).await;
    let late = claims.pause(&target, Duration::ZERO).await.unwrap_err();
    assert!(matches!(late, ClaimError::Timeout { .. }), "{late:?}");
    assert_eq!(claims.get(&target).unwrap().spec.paused, Some(true));
}

#[tokio::test]
async fn q4_a_change_that_meets_another_one_is_decided_again() {
    let lab = Lab::start(1).await;
    let claims = &lab.replica.claims;
    let target = claimed(&lab).await;
    let on_patch = |then| FaultPlan::request(On::request(Verb::Patch, "sandboxes"), Times::First(1), then);
    for fault in
        [RequestFault::Answer { code: 409, retry_after: None }, RequestFault::DropAnswer, RequestFault::Drop]
    {
        lab.server.inject(&on_patch(fault));
        let set = claims.set_timeout(&target, TimeoutChange::Set(20 * MINUTE)).await.unwrap();
        assert_left(&set, 1200);
        claims.set_timeout(&target, TimeoutChange::Set(MINUTE)).await.unwrap();
    }
    lab.server.clear_faults();
    let on_delete =
        FaultPlan::request(On::request(Verb::Delete, "sandboxes"), Times::First(1), RequestFault::DropAnswer);
    lab.server.inject(&on_delete);
    claims.release(&target).await.unwrap();
}

#[tokio::test]
async fn q4_a_sandbox_whose_time_is_over_or_that_has_failed_is_not_found_and_can_be_released() {
    let lab = Lab::start(2).await;
    let claims = &lab.replica.claims;
    let target = claimed(&lab).await;
    let name = target.id().split_once("--").unwrap().1.to_owned();
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> =
        kube::Api::namespaced(lab.server.client_without_faults(), super::NAMESPACE);
    pods.delete(&name, &kube::api::DeleteParams::default()).await.unwrap();
    eventually("a failed sandbox", crate::support::SOON, async || {
        anyhow::ensure!(claims.get(&target).is_err());
        Ok(())
    })
    .await;
    assert_not_found(claims.connect(&target, MINUTE, LIMIT).await);
    assert_not_found(claims.pause(&target, LIMIT).await);
    claims.release(&target).await.unwrap();
}
