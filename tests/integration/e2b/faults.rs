//! Outages and lost answers: reads go on from memory, and a repetition is asked for only if nothing was done.

use memory_apiserver::{FaultPlan, On, RequestFault, Times, Verb};
use serde_json::json;

use super::{POOL, Rig};
use crate::support::{SOON, eventually};

fn on_patches(times: Times, then: RequestFault) -> FaultPlan {
    FaultPlan::request(On::request(Verb::Patch, "sandboxes"), times, then)
}

#[tokio::test]
async fn q2_a_lost_race_takes_the_next_candidate() {
    let rig = Rig::with_pool(2).await;
    rig.server.inject(&on_patches(Times::First(1), RequestFault::Answer { code: 409, retry_after: None }));
    rig.create(json!({})).await;
    assert_eq!(rig.claimed().await.len(), 1);
}

#[tokio::test]
async fn q2_a_lock_whose_answer_is_lost_is_found_again() {
    let rig = Rig::with_pool(3).await;
    rig.server.inject(&on_patches(Times::First(1), RequestFault::DropAnswer));
    let id = rig.create(json!({})).await;
    let claimed = rig.claimed().await;
    assert_eq!(claimed.iter().map(|sandbox| sandbox.sandbox_id()).collect::<Vec<_>>(), [id.as_str()]);
}

#[tokio::test]
async fn during_an_outage_reads_go_on_and_writes_say_whether_to_repeat_them() {
    let rig = Rig::with_pool(2).await;
    let id = rig.create(json!({})).await;
    rig.server.inject(&FaultPlan::request(
        On::default(),
        Times::Always,
        RequestFault::Answer { code: 503, retry_after: None },
    ));
    assert_eq!(rig.detail(&id).await["state"], "running");
    let answer = rig.post("/v2/sandboxes", json!({"templateID": POOL})).await;
    answer.error(503);
    assert!(answer.header("should-retry").is_some(), "{answer:?}");
    rig.server.clear_faults();
    eventually("it works again", SOON, async || {
        let answer = rig.post("/v2/sandboxes", json!({"templateID": POOL})).await;
        anyhow::ensure!(answer.status == 201, "{answer:?}");
        Ok(())
    })
    .await;
}
