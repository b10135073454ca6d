//! [`Fleet`]: replicas of the binary behind one gate, which end and are started again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use parking_lot::Mutex;
use rand::seq::IndexedRandom as _;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::{Gate, Process, SOON, eventually};

/// The beginning of the ids of requests whose clients hang up.
pub(super) const HUNG_UP: &str = "hung-up-";

/// One run of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run(usize);

/// Where a replica answers now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) run: Run,
}

/// How a replica ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// SIGKILL.
    Killed,
    /// SIGTERM, with its grace period.
    Stopped,
}

#[derive(Default)]
struct Known {
    targets: BTreeMap<usize, Target>,
    next_run: usize,
    /// The runs that did not end in order.
    broken: BTreeSet<Run>,
    /// The requests of [`HUNG_UP`] that ended runs have answered, as their logs say.
    answered: BTreeSet<String>,
}

pub(super) struct Fleet {
    gate: Gate,
    config: String,
    processes: Vec<tokio::sync::Mutex<Process>>,
    known: Mutex<Known>,
}

impl Fleet {
    pub(super) async fn start(gate: Gate, config: String, replicas: usize) -> Self {
        let mut fleet = Self { gate, config, processes: Vec::new(), known: Mutex::default() };
        for place in 0..replicas {
            let process = fleet.begin(place).await;
            fleet.processes.push(tokio::sync::Mutex::new(process));
        }
        fleet
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Starts a replica. Clients find it when it is ready.
    async fn begin(&self, place: usize) -> Process {
        let process = Process::start(&self.gate.kubeconfig(), &self.config).await;
        process.becomes_ready().await;
        let address = process.listener("e2b").expect("it listens").parse().expect("an address");
        let mut known = self.known.lock();
        let run = Run(known.next_run);
        known.next_run += 1;
        known.targets.insert(place, Target { address, run });
        process
    }

    /// Returns a replica that is up, as a Service chooses one. Waits while there is none.
    pub(super) async fn any(&self) -> Target {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(target) = self.up().choose(&mut rand::rng()) {
                return *target;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("no replica is up");
    }

    /// Returns the replicas that are up.
    pub(super) fn up(&self) -> Vec<Target> {
        self.known.lock().targets.values().copied().collect()
    }

    /// Ends a replica and starts it again, as a Deployment does.
    pub(super) async fn restart(&self, place: usize, end: End) {
        let mut process = self.processes[place].lock().await;
        match end {
            End::Killed => {
                process.signal("KILL").await;
                process.ended().await;
            }
            End::Stopped => {
                // A Service sends nothing new to a pod that is stopping, after a moment.
                process.signal("TERM").await;
                self.known.lock().targets.remove(&place);
                eventually("it has stopped", 4 * SOON, async || {
                    ensure!(process.has_ended(), "it runs");
                    Ok(())
                })
                .await;
            }
        }
        self.replace(place, &mut process, end == End::Stopped).await;
    }

    /// Starts those replicas again that have ended by themselves: because they have lost the lease.
    pub(super) async fn mend(&self) {
        for (place, process) in self.processes.iter().enumerate() {
            let mut process = process.lock().await;
            if process.has_ended() {
                self.replace(place, &mut process, false).await;
            }
        }
    }

    async fn replace(&self, place: usize, process: &mut Process, in_order: bool) {
        {
            let mut known = self.known.lock();
            let run = known.targets.remove(&place).map_or(Run(usize::MAX), |target| target.run);
            if !in_order {
                known.broken.insert(run);
            }
            known.answered.extend(answered(&process.log()));
        }
        *process = self.begin(place).await;
    }

    /// True if this run did not end in order: what it had under way was not undone.
    pub(super) fn is_broken(&self, run: Run) -> bool {
        self.known.lock().broken.contains(&run)
    }

    /// The requests of [`HUNG_UP`] whose answers were on their way when their clients hung up.
    pub(super) async fn answered_in_vain(&self) -> BTreeSet<String> {
        let mut all = self.known.lock().answered.clone();
        for process in &self.processes {
            all.extend(answered(&process.lock().await.log()));
        }
        all
    }
}

/// The ids of the requests of [`HUNG_UP`] that were answered with a sandbox.
fn answered(log: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| line.contains(HUNG_UP));
    let requests = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answered = requests.filter(|request| request["message"] == "request" && request["status"] == 201);
    answered.filter_map(|request| Some(request["request_id"].as_str()?.to_owned())).collect()
}

/// How long one client tries, at most. Only a test that fails reaches it.
pub(super) const PATIENCE: Duration = Duration::from_mins(4);
