//! The API server is killed while a pool grows.

use anyhow::ensure;
use sandbox_manager::api::v1alpha1::Sandbox;

use super::super::pool_rig::spec;
use super::pool::{DEADLINE, Pool};
use crate::support::{Cluster, eventually};

/// Slow enough that a test can strike in the middle: a member needs about five requests.
pub(super) const SLOW: &str = "client: { qps: 50, burst: 20 }";

/// Waits until the pool has begun to grow.
pub(super) async fn has_begun(pool: &Pool, members: usize) {
    eventually("the pool grows", DEADLINE, async || {
        let seen = pool.list::<Sandbox>().await?.len();
        ensure!(seen >= members, "{seen} members");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lc2_lp2_a_scale_up_ends_with_the_exact_number_when_the_api_server_is_killed_meanwhile() {
    let mut pool = Pool::on(Cluster::start_with_nodes().await).await;
    let mut manager = pool.start_manager(SLOW).await;
    pool.create_set(spec(100, "first")).await;
    has_begun(&pool, 20).await;
    pool.cluster.kill_api_server().await;
    pool.cluster.start_api_server().await;
    // Connections of the killed server do not work any more.
    pool.client = pool.cluster.client().await;
    let ready = pool.list::<Sandbox>().await.unwrap().iter().filter(|sandbox| sandbox.is_ready()).count();
    assert!(ready < 100, "the pool was full before the kill");

    pool.is_full(100).await;
    assert_eq!(pool.observer.take_most(), 100, "the most members at one time");
    manager.assert_running();
}
