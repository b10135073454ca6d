//! [`Load`]: what happens in a soak besides the faults: writers change objects, and tasks wait for objects.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use rand::Rng;
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::shared_cache::WaitError;
use sandbox_manager::{Cache, Provider as _};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::PATIENCE;
use super::world::World;
use super::writers::{self, Journal, WRITERS, Writes};
use crate::support::{SOON, eventually};

/// Number of tasks that wait for sandboxes.
const WAITERS: usize = 32;

/// Timeout of one wait.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Counts how waits ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waits {
    pub(super) met: u64,
    gone: u64,
    timed_out: u64,
    failed: u64,
}

/// The writers and the waiters.
pub(super) struct Load {
    stop: CancellationToken,
    writers: Vec<JoinHandle<Result<Writes>>>,
    waiters: Vec<JoinHandle<Result<()>>>,
    waits: Arc<Mutex<Waits>>,
}

impl Load {
    pub(super) async fn start(
        world: &World,
        objects: usize,
        seed: u64,
        journal: &Journal,
        cache: &Cache,
    ) -> Self {
        let stop = CancellationToken::new();
        let mut writers = Vec::new();
        for number in 0..WRITERS {
            let client: Client = world.client().await;
            let write = writers::write(client, number, objects, seed, Arc::clone(journal), stop.clone());
            writers.push(tokio::spawn(write));
        }
        let waits = Arc::<Mutex<Waits>>::default();
        let wait = |_| tokio::spawn(wait_for_any(cache.clone(), objects, Arc::clone(&waits), stop.clone()));
        Self { waiters: (0..WAITERS).map(wait).collect(), writers, waits, stop }
    }

    /// Returns once a wait is met from now on. The first fault may have silenced the watch for the whole time, and then
    /// no wait was met before.
    pub(super) async fn until_a_wait_is_met(&self) {
        let before = self.waits.lock().met;
        eventually("a wait is met after the last fault", PATIENCE, async || {
            let waits = *self.waits.lock();
            ensure!(waits.met > before, "{waits:?}");
            Ok(())
        })
        .await;
    }

    /// Stops both, and returns once every write and every wait has ended.
    pub(super) async fn stop(self) -> Result<(Writes, Waits)> {
        self.stop.cancel();
        let mut writes = Writes::default();
        let ended = tokio::time::timeout(PATIENCE, join_all(self.writers)).await;
        for ended in ended.context("a write does not end")? {
            let ended = ended??;
            writes.done += ended.done;
            writes.failed += ended.failed;
        }
        let ended = tokio::time::timeout(2 * SOON, join_all(self.waiters)).await;
        for ended in ended.context("a wait does not end")? {
            ended??;
        }
        Ok((writes, *self.waits.lock()))
    }
}

/// Waits for one random claimed sandbox after the other until it is ready.
async fn wait_for_any(
    cache: Cache,
    objects: usize,
    waits: Arc<Mutex<Waits>>,
    stop: CancellationToken,
) -> Result<()> {
    while !stop.is_cancelled() {
        let name = writers::name(rand::rng().random_range(0..objects));
        let found = cache.reader::<Sandbox>().get("default", &name).ok().flatten();
        let Some(sandbox) = found.filter(|sandbox| sandbox.owner().is_some() && !sandbox.is_ready()) else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        match cache.sandbox_wait_ready_task(&sandbox).wait(WAIT_TIMEOUT).await {
            Ok(met) => {
                let version = |sandbox: &Sandbox| -> Result<u64> {
                    Ok(sandbox.resource_version().context("a version")?.parse()?)
                };
                ensure!(met.is_ready() && met.uid() == sandbox.uid(), "{name}: met by {met:?}");
                ensure!(version(&met)? > version(&sandbox)?, "{name}: met by an older version");
                waits.lock().met += 1;
            }
            Err(WaitError::Gone(_)) => waits.lock().gone += 1,
            Err(WaitError::NotSatisfied { .. }) => waits.lock().timed_out += 1,
            Err(_) => waits.lock().failed += 1,
        }
    }
    Ok(())
}
