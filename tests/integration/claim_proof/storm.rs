//! The storm: many clients on three replicas, while requests fail and replicas are killed, stopped and started again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use http::Method;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use super::crowd::Crowd;
use super::fleet::{End, Fleet};
use super::history::History;
use super::{Ground, LEFT};
use crate::support::{Cluster, Fate, Gate, Passing, eventually};

const REPLICAS: usize = 3;

/// Members of the pool.
const MEMBERS: i32 = 40;

/// API keys of the clients.
const KEYS: usize = 6;

/// Longer than the five seconds that a replica gives a request.
const LATE: Duration = Duration::from_secs(6);

/// The lease is short, because the pool is not refilled while there is no leader.
const ELECTION: &str = "leaseDuration: 6s, renewDeadline: 4s, retryPeriod: 1s";

/// What the environment asks for.
struct Plan {
    claims: usize,
    seed: u64,
}

impl Plan {
    fn from_env() -> Self {
        let number = |name: &str| Some(std::env::var(name).ok()?.parse::<u64>().expect("a number"));
        let claims = number("TEST_CLAIMS").map_or(400, |claims| claims.try_into().expect("a number"));
        let seed = number("TEST_FAULT_SEED").unwrap_or_else(|| rand::random::<u32>().into());
        Self { claims, seed }
    }

    /// Ends of replicas during the run.
    fn ends(&self) -> usize {
        (self.claims / 2_500).max(2)
    }
}

/// Chooses faults of requests for sandboxes, and counts them.
#[derive(Clone)]
struct Weather(Arc<Mutex<(StdRng, BTreeMap<String, usize>)>>);

impl Weather {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new((StdRng::seed_from_u64(seed), BTreeMap::new()))))
    }

    /// Lists are left alone: they are as long as the storm is heavy, and the tests of faults of the cache have them.
    fn choose(&self, request: &Passing) -> Fate {
        let is_single = request.path.contains("/sandboxes/") || request.method != Method::GET;
        if !request.path.contains("/sandboxes") || !is_single {
            return Fate::Pass;
        }
        let (chance, counts) = &mut *self.0.lock();
        let fate = match chance.random_range(0..1000) {
            0..20 if request.method == Method::PATCH => Fate::Answer(409),
            20..28 => Fate::Answer(500),
            28..32 => Fate::Answer(503),
            32..40 => Fate::Drop,
            40..50 => Fate::DropAnswer,
            50..51 => Fate::Delay(LATE),
            51..60 => Fate::Delay(Duration::from_millis(chance.random_range(1..200))),
            _ => return Fate::Pass,
        };
        let name = match &fate {
            Fate::Delay(time) if *time >= LATE => "Late".to_owned(),
            Fate::Delay(_) => "Delay".to_owned(),
            fate => format!("{fate:?}"),
        };
        *counts.entry(format!("{} {name}", request.method)).or_default() += 1;
        fate
    }

    fn counts(&self) -> BTreeMap<String, usize> {
        self.0.lock().1.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q8_three_replicas_give_nothing_twice_and_leave_nothing_locked_whatever_fails() {
    let plan = Plan::from_env();
    say(&format!("{} claims, TEST_FAULT_SEED={}", plan.claims, plan.seed));
    let started = Instant::now();
    let cluster = Cluster::start_with_nodes().await;
    let ground = Ground::on(&cluster, KEYS).await;
    let history = History::start(ground.sandboxes()).await;
    let election =
        format!("leaderElection: {{ enabled: true, namespace: {}, {ELECTION} }}", ground.namespace);
    let gate = Gate::to(ground.client.clone()).await;
    let fleet = Arc::new(Fleet::start(gate, ground.config(&election), REPLICAS).await);
    ground.pool(MEMBERS).await;

    let weather = Weather::new(plan.seed);
    let chooser = weather.clone();
    fleet.gate().choose(move |request| chooser.choose(request));
    let crowd = Crowd::new(&fleet, history.ledger(), ground.keys.clone(), plan.claims);
    let claims_began = Instant::now();
    let ends = tokio::select! {
        // Clients that have ended end the storm; the last replica to come back is waited for.
        (ends, ()) = async { tokio::join!(strike(&plan, &fleet, &crowd), crowd.run()) } => ends,
        () = mend(&fleet) => unreachable!("it never ends"),
        () = tell(&crowd) => unreachable!("it never ends"),
    };
    let claims_took = claims_began.elapsed();
    fleet.gate().open();
    let last_fault = Instant::now();

    crowd.tell_lost().await;
    let done = async || {
        history.ensure_complete().await?;
        let left = history.ledger().lock().left();
        ensure!(left.is_empty(), "left locked: {left:?}");
        Ok(())
    };
    tokio::select! {
        () = eventually("nothing is left locked", LEFT, done) => {}
        () = mend(&fleet) => unreachable!("it never ends"),
    }
    let cleared = last_fault.elapsed();
    let orphans = history.ledger().lock().orphans();
    eventually("owners see what their connections have lost", LEFT, async || crowd.see(&orphans).await).await;

    let (faults, summary) = {
        let ledger = history.ledger().lock();
        (ledger.faults(), ledger.summary())
    };
    say(&format!("{summary:?}"));
    say(&format!("answers: {:?}", crowd.counts()));
    say(&format!("faults of requests: {:?}", weather.counts()));
    say(&format!("ends of replicas: {ends:?}"));
    say(&format!(
        "{:.0} s for the claims, nothing left {:.1} s after the last fault, {:.0} s in all",
        claims_took.as_secs_f64(),
        cleared.as_secs_f64(),
        started.elapsed().as_secs_f64()
    ));
    let first: Vec<_> = faults.iter().take(20).collect();
    assert!(faults.is_empty(), "TEST_FAULT_SEED={}: {} faults: {first:#?}", plan.seed, faults.len());
    assert!(summary.answered > plan.claims / 2, "too few were answered: {summary:?}");
    assert!(summary.kept > 0, "the end shows no kept sandbox: {summary:?}");
}

/// Kills and stops replicas in turn, evenly over the claims. Returns how they have ended.
async fn strike(plan: &Plan, fleet: &Fleet, crowd: &Crowd) -> BTreeMap<String, usize> {
    let mut ends = BTreeMap::new();
    for number in 0..plan.ends() {
        let due = plan.claims * (number + 1) / (plan.ends() + 1);
        while crowd.done() < due {
            sleep(Duration::from_millis(20)).await;
        }
        let end = if number % 2 == 0 { End::Killed } else { End::Stopped };
        fleet.restart(number % REPLICAS, end).await;
        *ends.entry(format!("{end:?}")).or_default() += 1;
    }
    ends
}

/// Starts replicas again that end because they have lost the lease. Never returns.
async fn mend(fleet: &Fleet) {
    loop {
        fleet.mend().await;
        sleep(Duration::from_millis(200)).await;
    }
}

/// Tells how far a long storm is. Never returns.
async fn tell(crowd: &Crowd) {
    loop {
        sleep(Duration::from_secs(20)).await;
        say(&format!("{} clients have ended: {:?}", crowd.done(), crowd.counts()));
    }
}

fn say(text: &str) {
    eprintln!("claims: {text}");
}
