//! The garbage collector takes what belongs to a set that is deleted.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use sandbox_manager::api::v1alpha1::SandboxSet;

use super::super::pool_rig::{POOL, spec};
use super::pool::{Pool, volume_claim_templates};

async fn full_set_with_volumes(pool: &Pool) {
    let mut spec = spec(5, "first");
    spec["volumeClaimTemplates"] = volume_claim_templates();
    pool.create_set(spec).await;
    pool.is_full(5).await;
    assert_eq!(pool.list::<PersistentVolumeClaim>().await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn ls3_ls6_lp3_nothing_is_left_of_a_deleted_set_whether_a_manager_runs_or_not() {
    let pool = Pool::shared().await;
    let mut manager = pool.start_manager("").await;
    full_set_with_volumes(&pool).await;
    pool.delete::<SandboxSet>(POOL).await;
    pool.is_empty().await;

    full_set_with_volumes(&pool).await;
    manager.signal("KILL").await;
    manager.ended().await;
    pool.delete::<SandboxSet>(POOL).await;
    pool.is_empty().await;
}
