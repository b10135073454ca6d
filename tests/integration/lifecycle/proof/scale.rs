//! A pool follows its number of replicas and its template, and refills after claims.

use std::collections::BTreeSet;

use anyhow::ensure;
use sandbox_manager::api::v1alpha1::{
    LABEL_TEMPLATE_HASH, Sandbox, SandboxClaim, SandboxClaimPhase, SandboxSet,
};
use serde_json::json;

use super::super::pool_rig::{POOL, spec};
use super::pool::{DEADLINE, Pool};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn lp2_a_pool_of_50_is_filled_shrinks_to_10_and_grows_to_30() {
    let pool = Pool::shared().await;
    let manager = pool.start_manager("").await;
    pool.create_set(spec(50, "first")).await;
    pool.is_full(50).await;
    assert_eq!(pool.observer.take_most(), 50, "the most members at one time");
    let first = pool.names().await;

    pool.scale(10).await;
    pool.is_full(10).await;
    let kept = pool.names().await;
    assert!(kept.is_subset(&first), "a member was replaced: {kept:?}");
    pool.observer.take_most();

    pool.scale(30).await;
    pool.is_full(30).await;
    assert_eq!(pool.observer.take_most(), 30);
    assert!(kept.is_subset(&pool.names().await), "a member was replaced");
    drop(manager);
}

#[tokio::test(flavor = "multi_thread")]
async fn lp5_a_changed_template_replaces_every_member_within_its_limit() {
    let pool = Pool::shared().await;
    let manager = pool.start_manager("").await;
    pool.create_set(spec(20, "first")).await;
    pool.is_full(20).await;
    let old = pool.names().await;
    pool.observer.take_most();
    pool.observer.take_least_available();

    pool.merge::<SandboxSet>(POOL, json!({ "spec": spec(20, "second") })).await;
    pool.is_full(20).await;
    assert!(old.is_disjoint(&pool.names().await));
    assert_eq!(pool.observer.take_most(), 20, "no member is created before one goes");
    let least = pool.observer.take_least_available();
    assert!(least >= 16, "20 % of 20 may be unavailable, and {} were", 20 - least);
    let set = pool
        .until::<SandboxSet>(POOL, |set| {
            set.condition("Progressing").is_some_and(|condition| &*condition.reason == "RolloutComplete")
        })
        .await;
    let revision = set.status.unwrap().update_revision.unwrap();
    for member in pool.list::<Sandbox>().await.unwrap() {
        assert_eq!(member.metadata.labels.unwrap()[LABEL_TEMPLATE_HASH], revision);
        assert!(member.spec.template.unwrap().to_json().contains("\"second\""));
    }
    drop(manager);
}

#[tokio::test(flavor = "multi_thread")]
async fn lp7_lk1_a_burst_of_claims_empties_the_pool_which_refills_without_over_creation() {
    let pool = Pool::shared().await;
    let manager = pool.start_manager("").await;
    let mut limited = spec(20, "first");
    limited["scaleStrategy"] = json!({ "maxUnavailable": 5 });
    pool.create_set(limited).await;
    pool.is_full(20).await;
    let stock = pool.names().await;
    pool.observer.take_most();

    for number in 0..5 {
        let spec =
            json!({ "templateName": POOL, "replicas": 4, "createOnNoStock": false, "claimTimeout": "4m" });
        pool.create::<SandboxClaim>(
            json!({ "metadata": { "name": format!("claim-{number}") }, "spec": spec }),
        )
        .await;
    }
    eventually("every claim is served", DEADLINE, async || {
        let claims = pool.list::<SandboxClaim>().await?;
        let served = claims.iter().filter(|claim| {
            claim.phase() == Some(&SandboxClaimPhase::Completed)
                && claim.status.as_ref().and_then(|status| status.claimed_replicas) == Some(4)
        });
        let served = served.count();
        ensure!(served == 5, "{served} of {claims:?}");
        Ok(())
    })
    .await;
    pool.holds(20, 20).await;
    assert_eq!(pool.observer.take_most(), 20, "the most members at one time");
    pool.observer.assert_no_claimed_was_deleted();
    let taken = pool.list::<Sandbox>().await.unwrap();
    let taken: BTreeSet<_> =
        taken.iter().filter(|sandbox| sandbox.is_claimed()).map(kube::ResourceExt::name_any).collect();
    assert_eq!(taken, stock, "the claims have taken the whole stock, and nothing else");
    drop(manager);
}
