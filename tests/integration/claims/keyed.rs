//! Claims with a key: every replica gives the same sandbox for it, whatever it has seen.

use std::time::Duration;

use anyhow::ensure;
use memory_apiserver::{FaultPlan, On, Times, WatchFault};
use sandbox_manager::claims::{ANNOTATION_IDEMPOTENCY_KEY, ClaimError};
use serde_json::json;

use super::{Replica, locked, member, request, stocked, until_locked};
use crate::support::{SOON, eventually};

const OWNER: &str = "key";
const KEY: &str = "again";

/// The claim of another replica is older, and the watch does not show it yet.
#[tokio::test(start_paused = true)]
async fn e2b_1_an_own_lock_that_the_watch_does_not_show_is_no_answer_to_a_repetition() {
    let server = stocked(2);
    let replica = Replica::start(&server).await;
    let late =
        FaultPlan::event(On::kind("sandboxes"), Times::First(1), WatchFault::Hold(Duration::from_secs(2)));
    server.inject(&late);
    let mut older = member(7, "new");
    older["metadata"]["labels"]["agents.kruise.io/sandbox-claimed"] = json!("true");
    older["metadata"]["annotations"] = json!({
        "agents.kruise.io/lock": "l", "agents.kruise.io/owner": OWNER, ANNOTATION_IDEMPOTENCY_KEY: KEY,
    });
    server.force("sandboxes.agents.kruise.io", older);

    let claims = replica.claims.clone();
    let claim = tokio::spawn(async move { claims.claim(request(OWNER).idempotency_key(KEY)).await });
    eventually("both are locked", SOON, async || {
        let locked = locked(&server).await;
        ensure!(locked.len() == 2, "{locked:?}");
        Ok(())
    })
    .await;
    let found = replica.claims.of_key(OWNER, KEY).await.unwrap().expect("the older one");
    assert_eq!(found.metadata.name.as_deref(), Some("pool-7"));
    let younger = claim.await.unwrap();
    assert!(matches!(younger, Err(ClaimError::Repeated)), "{younger:?}");
    replica.claims.settled().await;
    until_locked(&server, &["pool-7".to_owned()].into()).await;
}
