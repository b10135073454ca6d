//! A soak: thousands of objects change while faults happen at random. At the end the cache shows the objects of the
//! server, handlers were told of every deletion, all waits have ended, and memory has not grown.
//!
//! CI runs it for a minute on each API server. By hand it runs for longer, with more objects:
//!
//! ```text
//! TEST_SOAK_MINUTES=20 tests/e2e.sh soak --nocapture           # or cargo test --test integration soak
//! TEST_FAULT_SEED=7 TEST_SOAK_MINUTES=20 tests/e2e.sh soak     # the faults of one seed again
//! ```
//!
//! The faults and the changes follow from the seed, but their exact order does not, because real programs run.

mod interceptor;
mod load;
mod recorder;
mod world;
mod writers;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sandbox_manager::Cache;
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::controller_manager::ClientError;
use sandbox_manager::manager::{Manager, ManagerError};
use sandbox_manager::options::{BindAddress, SandboxManagerOptions};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::faults::oracle::Oracle;
use crate::support::{SOON, eventually};
use load::Load;
use recorder::Recorder;
use world::World;

/// Time in which everything must be right after the last fault: the longest allowed silence, and retries.
const PATIENCE: Duration = Duration::from_mins(4);

/// Memory that the test itself and the allocator may take in addition, in MiB.
const SLACK_MIB: f64 = 48.0;

/// What the environment asks for.
struct Length {
    time: Duration,
    objects: usize,
    seed: u64,
}

impl Length {
    fn from_env() -> Self {
        let number = |name: &str| Some(std::env::var(name).ok()?.parse().expect("a number"));
        let seed = number("TEST_FAULT_SEED").unwrap_or_else(|| rand::random::<u32>().into());
        match number("TEST_SOAK_MINUTES") {
            Some(minutes) => Self { time: Duration::from_mins(minutes), objects: 5_000, seed },
            None => Self { time: Duration::from_mins(1), objects: 1_000, seed },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_random_faults_the_cache_is_right_and_nothing_is_lost() {
    let length = Length::from_env();
    say(&format!("seed {}, {:?}, {} objects", length.seed, length.time, length.objects));
    if let Err(error) = soak(&length).await {
        panic!("TEST_FAULT_SEED={}: {error:#}", length.seed);
    }
}

async fn soak(length: &Length) -> Result<()> {
    let world = World::start(length.seed).await;
    let client = world.client().await;
    let journal = writers::create_all(&client, length.objects).await;
    let recorder = Recorder::default();
    let running = Running::start(&world, recorder.clone()).await;
    let mut oracle = Oracle::of(&running.cache);

    let load = Load::start(&world, length.objects, length.seed, &journal, &running.cache).await;
    let Struck { warm, silences } = strike_for(&world, length, &mut oracle).await?;
    let last_fault = Instant::now();
    load.until_a_wait_is_met().await;
    let (writes, waits) = load.stop().await?;
    let truth =
        eventually("the journal is right", SOON, async || writers::truth(&client, &journal).await).await;
    converges(&running.cache, &mut oracle, &recorder, (&truth, silences)).await;
    let (calls, deletions) = recorder.counts();
    let memory = resident_mib();
    say(&format!("{writes:?}, {waits:?}, {calls} calls of the handler, {deletions} deletions told"));
    say(&format!("right {:.1} s after the last fault", last_fault.elapsed().as_secs_f64()));
    say(&format!("resident memory: {warm:.0} MiB after half of the time, {memory:.0} MiB at the end"));
    ensure!(memory < 1.5 * warm + SLACK_MIB, "memory grew from {warm:.0} to {memory:.0} MiB");
    ensure!(writes.done > 0 && waits.met > 0 && deletions > 0, "too little has happened");
    running.stop().await
}

/// What [`strike_for`] has done.
struct Struck {
    /// The resident memory after half of the time, in MiB.
    warm: f64,
    /// Number of faults that silenced watches.
    silences: u64,
}

/// Lets faults happen at random.
async fn strike_for(world: &World, length: &Length, oracle: &mut Oracle) -> Result<Struck> {
    let mut chance = StdRng::seed_from_u64(length.seed);
    let (started, mut warm, mut faults, mut silences) = (Instant::now(), None, Vec::new(), 0);
    while started.elapsed() < length.time {
        if faults.is_empty() {
            faults = world.shuffled_faults(&mut chance);
        }
        let fault = faults.pop().context("there are faults")?;
        let time = Duration::from_millis(chance.random_range(200..length.longest_fault_millis()));
        let (at, memory) = (started.elapsed().as_secs(), resident_mib());
        say(&format!("{at:4} s, {memory:.0} MiB: {fault:?} for {:.1} s", time.as_secs_f64()));
        silences += u64::from(fault.silences_watches());
        world.strike(&fault, time).await;
        tokio::time::sleep(Duration::from_millis(chance.random_range(200..4_000))).await;
        oracle.check()?;
        if warm.is_none() && started.elapsed() > length.time / 2 {
            warm = Some(resident_mib());
        }
    }
    Ok(Struck { warm: warm.unwrap_or_else(resident_mib), silences })
}

impl Length {
    /// Longer faults exist only in a long soak, so that a short one has several.
    fn longest_fault_millis(&self) -> u64 {
        if self.time > Duration::from_mins(5) { 40_000 } else { 8_000 }
    }
}

/// Waits until cache, events and handlers agree with the server. Only what a silent watch has held back may have been
/// repaired by a check; a watch that lives loses nothing.
async fn converges(
    cache: &Cache,
    oracle: &mut Oracle,
    recorder: &Recorder,
    (truth, silences): (&BTreeMap<String, (String, u64)>, u64),
) {
    let by_uid: BTreeMap<_, _> = truth.values().map(|(uid, version)| (uid.as_str(), *version)).collect();
    eventually("everything is right after the last fault", PATIENCE, async || {
        for kind in cache.kinds() {
            let report = kind.report();
            ensure!(report.synced && report.stale_for.is_none(), "{}: {report:?}", kind.plural());
            ensure!(report.inconsistencies <= silences, "{} was repaired: {report:?}", kind.plural());
            ensure!(kind.waits() == 0, "{} waits for {}", kind.waits(), kind.plural());
        }
        oracle.is_right(truth)?;
        let mut cached = BTreeMap::new();
        for object in cache.reader::<Sandbox>().list(None)? {
            let version = object.resource_version().context("a version")?.parse()?;
            cached.insert(object.name_any(), (object.uid().context("a UID")?, version));
        }
        ensure!(cached == *truth, "the cache differs: {}", difference(&cached, truth));
        recorder.check(&by_uid)
    })
    .await;
}

/// Returns the first difference of two maps.
fn difference<K: Ord + Debug, V: PartialEq + Debug>(
    shown: &BTreeMap<K, V>,
    truth: &BTreeMap<K, V>,
) -> String {
    let mut keys = shown.keys().chain(truth.keys());
    let differs = keys.find(|key| shown.get(key) != truth.get(key));
    differs.map_or_else(String::new, |key| format!("{key:?}: {:?}, not {:?}", shown.get(key), truth.get(key)))
}

/// The manager under test.
struct Running {
    cache: Cache,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ManagerError>>,
}

impl Running {
    /// Returns once every kind is synced.
    async fn start(world: &World, recorder: Recorder) -> Self {
        let mut options = SandboxManagerOptions::default();
        options.metrics.bind_address = BindAddress::Off;
        options.health.bind_address = BindAddress::Off;
        let watches = world.faulty_client().await;
        let builder = Manager::builder(options).client(world.faulty_client().await);
        let builder = builder.watch_thread(|| Ok::<_, ClientError>(watches)).expect("a thread");
        let mut manager = builder.build().expect("valid options");
        manager.sandbox_controller().add_reconcile_handler(recorder);
        let (cache, stop) = (manager.cache().clone(), CancellationToken::new());
        let task = tokio::spawn(manager.run(stop.clone()));
        tokio::time::timeout(2 * SOON, cache.wait_for_cache_sync()).await.expect("the first sync");
        Self { cache, stop, task }
    }

    async fn stop(self) -> Result<()> {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.task).await.context("its end")??.context("a clean end")
    }
}

/// Returns the resident memory of this process, in MiB.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the resident memory");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024.0
}

/// Prints a line, which the test harness shows with `--nocapture` or if the test fails.
fn say(text: &str) {
    println!("soak: {text}");
}
