//! Runs random fault plans on a fleet that changes. Afterwards the cache shows the objects of the server, and
//! the events are consistent.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use memory_apiserver::FaultPlan;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::testing::TestCache;
use sandbox_manager::testing::fixtures::TestObject;
use serde_json::json;

use super::oracle::Oracle;
use super::{SANDBOXES, api, no_streaming_lists};

/// Number of plans in one run.
const PLANS: u64 = 150;

/// Number of changes under each plan.
const CHANGES: usize = 60;

/// Time in which the cache must recover after the last fault: the longest allowed silence plus the retries.
const PATIENCE: Duration = Duration::from_mins(10);

#[tokio::test(start_paused = true)]
async fn the_cache_comes_to_show_the_truth_whatever_went_wrong() {
    let seeds = match std::env::var("TEST_FAULT_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("a number in TEST_FAULT_SEED");
            seed..seed + 1
        }
        Err(_) => 0..PLANS,
    };
    for seed in seeds {
        let plan = FaultPlan::random(seed, SANDBOXES);
        // Every third run uses paged lists, which can fail separately.
        let plan = if seed % 3 == 0 { no_streaming_lists().and(plan) } else { plan };
        if let Err(error) = run(seed, &plan).await {
            panic!("{plan:#?}\n{error:#}");
        }
    }
}

async fn run(seed: u64, plan: &FaultPlan) -> Result<()> {
    let mut chance = StdRng::seed_from_u64(seed);
    let objects = (0..4).map(|i| Sandbox::test(&format!("s{i}")));
    let mut options = sandbox_manager::SandboxManagerOptions::default();
    options.cache.page_size = chance.random_range(1..=5);
    let mut builder = TestCache::builder().options(options).objects(objects);
    let at_once = chance.random_bool(0.5);
    if at_once {
        builder = builder.faults(plan.clone());
    }
    let test = tokio::time::timeout(PATIENCE, builder.build()).await.context("it never synced")??;
    let mut oracle = Oracle::new(&test);
    if !at_once {
        test.server().inject(plan);
    }
    for _ in 0..CHANGES {
        change(&test, &mut chance).await?;
        if chance.random_bool(0.3) {
            tokio::time::sleep(Duration::from_millis(chance.random_range(1..3000))).await;
        }
        if chance.random_bool(0.02) {
            test.server().compact();
        }
        oracle.check()?;
    }
    // Pending faults are removed, and delayed events are released.
    test.server().clear_faults();
    tokio::time::timeout(PATIENCE, oracle.converged(&test))
        .await
        .context("it never came to show the truth")?
}

/// Creates, changes or deletes one of six sandboxes.
async fn change(test: &TestCache, chance: &mut StdRng) -> Result<()> {
    let sandboxes = api(test);
    let name = format!("s{}", chance.random_range(0..6));
    if sandboxes.get_opt(&name).await?.is_none() {
        sandboxes.create(&PostParams::default(), &Sandbox::test(&name)).await?;
    } else if chance.random_bool(0.3) {
        sandboxes.delete(&name, &DeleteParams::default()).await?;
    } else {
        let patch = json!({"metadata": {"annotations": {"n": chance.random::<u32>().to_string()}}});
        sandboxes.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    Ok(())
}
