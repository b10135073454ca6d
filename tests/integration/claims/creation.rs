//! Claims that find no stock, and what becomes of a sandbox that fails after its lock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use kube::ResourceExt as _;
use memory_apiserver::{FaultPlan, On, PodOutcome, Pods, RequestFault, Times, Verb};
use sandbox_manager::claims::{ANNOTATION_CLAIM_UNFINISHED_UNTIL, ClaimError, ClaimRequest, LockType, Step};
use sandbox_manager::controller_manager::{CancellationToken, Runnable as _};
use serde_json::json;

use super::{Lab, NAMESPACE, Replica, locked, member, names, request, sandboxes, stocked, until_locked};
use crate::support::eventually;

fn creating() -> ClaimRequest {
    request("key").create_on_no_stock(true)
}

#[tokio::test]
async fn q3_without_stock_a_sandbox_is_created_already_claimed_and_given_when_it_is_ready() {
    let lab = Lab::start(0).await;
    let claimed = lab.replica.claims.claim(creating()).await.unwrap();
    assert_eq!(claimed.lock_type, LockType::Create);
    assert!(claimed.is_ready() && claimed.is_claimed() && claimed.metadata.owner_references.is_none());
    assert_eq!(claimed.annotations()["agents.kruise.io/sandbox-priority"], "100");
    assert_eq!(claimed.labels()["agents.kruise.io/sandbox-pool"], super::POOL);
    assert!(!claimed.annotations().contains_key(ANNOTATION_CLAIM_UNFINISHED_UNTIL), "the claim is complete");
    let stored = &sandboxes(&lab.server).await[0];
    assert!(!stored.annotations().contains_key(ANNOTATION_CLAIM_UNFINISHED_UNTIL));
    lab.replica.claims.get(&super::target(&claimed)).unwrap();
}

#[tokio::test]
async fn q3_a_claim_may_return_when_it_is_locked_and_then_takes_one_write() {
    let lab = Lab::start(0).await;
    lab.kubelet.rule(Pods::all(), PodOutcome::Unready);
    let claimed = lab.replica.claims.claim(creating().return_when_locked()).await.unwrap();
    assert!(!claimed.is_ready());
    assert!(
        !claimed.annotations().contains_key(ANNOTATION_CLAIM_UNFINISHED_UNTIL),
        "nobody else answers for it"
    );
}

#[tokio::test]
async fn q3_a_creation_whose_answer_is_lost_makes_no_second_sandbox() {
    let lab = Lab::start(0).await;
    let on = || On::request(Verb::Create, "sandboxes");
    lab.server.inject(
        &FaultPlan::request(on(), Times::Every(2), RequestFault::DropAnswer).and(FaultPlan::request(
            on(),
            Times::Every(3),
            RequestFault::Drop,
        )),
    );
    let claimed = join_all((0..8).map(|_| lab.replica.claims.claim(creating()))).await;
    let claimed: Vec<_> = claimed.into_iter().map(Result::unwrap).collect();
    lab.server.clear_faults();
    assert_eq!(names(&claimed).len(), 8);
    until_locked(&lab.server, &names(&claimed)).await;
}

#[tokio::test]
async fn q4_a_created_sandbox_that_does_not_become_ready_is_removed_or_kept_for_inspection() {
    let lab = Lab::start(0).await;
    lab.kubelet.rule(Pods::all(), PodOutcome::Unready);
    let request = || creating().wait_ready_timeout(Duration::from_millis(300));
    let late = lab.replica.claims.claim(request()).await.unwrap_err();
    assert!(matches!(late, ClaimError::Timeout { step: Step::WaitReady, .. }), "{late:?}");
    assert!(!late.is_nothing_done());
    until_locked(&lab.server, &BTreeSet::new()).await;
    lab.replica.claims.claim(request().reserve_failed(true)).await.unwrap_err();
    eventually("a reserved sandbox", crate::support::SOON, async || {
        let all = sandboxes(&lab.server).await;
        let kept: Vec<_> = all.iter().filter(|sandbox| sandbox.is_reserved_failed()).collect();
        anyhow::ensure!(kept.len() == 1, "{all:?}");
        anyhow::ensure!(!kept[0].annotations().contains_key(ANNOTATION_CLAIM_UNFINISHED_UNTIL));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn q4_a_caller_that_leaves_while_its_sandbox_starts_leaves_nothing() {
    let lab = Lab::start(0).await;
    lab.kubelet.rule(Pods::all(), PodOutcome::Unready);
    let claims = lab.replica.claims.clone();
    // Longer than this test waits: only the caller's leaving ends the claim.
    let request = creating().claim_timeout(Duration::from_mins(30));
    let caller = tokio::spawn(async move { claims.claim(request).await });
    eventually("a sandbox that is not ready", crate::support::SOON, async || {
        anyhow::ensure!(locked(&lab.server).await.len() == 1);
        Ok(())
    })
    .await;
    caller.abort();
    until_locked(&lab.server, &BTreeSet::new()).await;
}

#[tokio::test]
async fn q4_a_claim_holds_what_its_caller_has_left_until_it_has_ended() {
    let lab = Lab::start(1).await;
    let slow = RequestFault::Delay(Duration::from_secs(2));
    lab.server.inject(&FaultPlan::request(On::request(Verb::Patch, "sandboxes"), Times::Always, slow));
    let place = Arc::new(());
    let held = Arc::downgrade(&place);
    let claims = lab.replica.claims.clone();
    let request = request("key").hold(place);
    let caller = tokio::spawn(async move { claims.claim(request).await });
    eventually("a lock on its way", crate::support::SOON, async || {
        anyhow::ensure!(lab.server.faults_fired()[0].1 == 1);
        Ok(())
    })
    .await;
    caller.abort();
    caller.await.unwrap_err();
    assert!(held.upgrade().is_some(), "the lock may still be made");
    eventually("the end of the claim", crate::support::SOON, async || {
        anyhow::ensure!(held.upgrade().is_none());
        Ok(())
    })
    .await;
    until_locked(&lab.server, &BTreeSet::new()).await;
}

#[tokio::test]
async fn q6_a_runtime_that_cannot_be_initialised_fails_the_claim() {
    let server = stocked(0);
    let mut with_runtime = member(0, "new");
    with_runtime["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 49983}]);
    // No pod has this address, so nothing is sent.
    with_runtime["status"]["podInfo"]["podIP"] = json!("127.0.0.1");
    server.force("sandboxes.agents.kruise.io", with_runtime);
    let replica = Replica::start(&server).await;
    let variables = std::collections::BTreeMap::from([("A".to_owned(), "1".to_owned())]);
    let init = sandbox_manager::claims::RuntimeInit::WithEnvVars(variables);
    let failed = replica.claims.claim(request("key").init(init.clone())).await.unwrap_err();
    assert!(
        matches!(&failed, ClaimError::Failed { reason, .. } if reason.contains("127.0.0.1")),
        "{failed:?}"
    );
    until_locked(&server, &BTreeSet::new()).await;
    // Without the port there is no runtime, and no token.
    server.force("sandboxes.agents.kruise.io", member(1, "new"));
    replica.cache.wait_until_synced().await;
    let claimed = replica.claims.claim(request("key").init(init)).await.unwrap();
    assert_eq!(claimed.access_token(), None);
}

#[tokio::test]
async fn q4_the_sweep_removes_what_nobody_answers_for_and_nothing_else() {
    let server = stocked(0);
    let now = Timestamp::now();
    for (number, seconds, claimed) in [(0, -1, "true"), (1, 60, "true"), (2, -1, "false")] {
        let mut sandbox = member(number, "new");
        let until = Timestamp::from_second(now.as_second() + seconds).unwrap();
        sandbox["metadata"]["annotations"] = json!({ANNOTATION_CLAIM_UNFINISHED_UNTIL: until.to_string()});
        sandbox["metadata"]["labels"]["agents.kruise.io/sandbox-claimed"] = json!(claimed);
        sandbox["metadata"].as_object_mut().unwrap().remove("ownerReferences");
        server.force("sandboxes.agents.kruise.io", sandbox);
    }
    let mut complete = member(3, "new");
    complete["metadata"]["labels"]["agents.kruise.io/sandbox-claimed"] = json!("true");
    server.force("sandboxes.agents.kruise.io", complete);
    let replica = Replica::start(&server).await;
    let stop = CancellationToken::new();
    let sweep =
        tokio::spawn(replica.claims.sweeper(replica.cache.cache().shared().clone()).run(stop.clone()));
    eventually("the abandoned one is gone", crate::support::SOON, async || {
        let left: BTreeSet<_> = sandboxes(&server).await.iter().map(kube::ResourceExt::name_any).collect();
        anyhow::ensure!(
            left == BTreeSet::from(["pool-1", "pool-2", "pool-3"].map(str::to_owned)),
            "{left:?}"
        );
        Ok(())
    })
    .await;
    stop.cancel();
    sweep.await.unwrap().unwrap();
    let unfinished = sandbox_manager::claims::Target::new(format!("{NAMESPACE}--pool-1"));
    assert!(replica.claims.get(&unfinished).is_err(), "nobody sees a claim that is not complete");
}

#[tokio::test]
async fn q4_a_process_that_dies_in_the_middle_of_a_creation_leaves_it_to_the_sweep() {
    let lab = Lab::start(0).await;
    lab.kubelet.rule(Pods::all(), PodOutcome::Unready);
    let other = Replica::start(&lab.server).await;
    let claims = other.claims.clone();
    let claim = tokio::spawn(async move { claims.claim(creating()).await });
    eventually("a created sandbox", crate::support::SOON, async || {
        let all = sandboxes(&lab.server).await;
        anyhow::ensure!(all.len() == 1, "{all:?}");
        Ok(())
    })
    .await;
    let until = sandboxes(&lab.server).await[0].annotations()[ANNOTATION_CLAIM_UNFINISHED_UNTIL].clone();
    let until: Timestamp = until.parse().unwrap();
    let left = until.duration_since(Timestamp::now()).as_secs();
    assert!((5..=26).contains(&left), "{left}");
    eventually("the mark is renewed while the claim goes on", crate::support::SOON, async || {
        let all = sandboxes(&lab.server).await;
        let renewed: Timestamp = all[0].annotations()[ANNOTATION_CLAIM_UNFINISHED_UNTIL].parse()?;
        anyhow::ensure!(renewed > until, "{renewed}");
        Ok(())
    })
    .await;
    claim.abort();
}
