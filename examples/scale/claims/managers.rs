//! [`Managers`]: replicas of `sandbox-manager`, each a process of its own.

use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{iter, thread};

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::e2b_client::E2bClient;
use crate::ClusterArguments;
use crate::child::{ChildProcess, wait_for_end_of_input};
use crate::pool::{Pool, TIMEOUT};
use crate::process::{self, Memory};

/// Name of the lease of several managers.
pub(super) const LEASE: &str = "scale-claims";

/// How long a manager may take until it is ready.
const START: Duration = Duration::from_mins(1);

/// Time between two looks at a manager.
const INTERVAL: Duration = Duration::from_millis(100);

/// The last bytes of a log that are shown after an error.
const LOG_END: usize = 4000;

#[derive(Args)]
pub(crate) struct ManageArguments {
    /// Arguments of `sandbox-manager`.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Runs as `sandbox-manager` until standard input ends, without a grace period: nothing is measured any more.
pub(crate) fn manage(arguments: ManageArguments) -> ExitCode {
    let (sender, ended) = mpsc::channel();
    let input = sender.clone();
    thread::spawn(move || {
        let is_read = wait_for_end_of_input().is_ok();
        let _ = input.send(if is_read { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    });
    thread::spawn(move || {
        let program = OsString::from("sandbox-manager");
        let code = sandbox_manager::cli::run(iter::once(program).chain(arguments.arguments), |_| ());
        let _ = sender.send(code);
    });
    // The end of this thread ends the process.
    ended.recv().unwrap_or(ExitCode::FAILURE)
}

/// The replicas.
pub(super) struct Managers(Vec<Replica>);

struct Replica {
    process: ChildProcess,
    log: PathBuf,
    e2b: SocketAddr,
    health: SocketAddr,
    metrics: SocketAddr,
}

impl Managers {
    /// Starts replicas that serve the API on loopback, and run the lifecycle controllers.
    pub(super) fn start(
        count: u16,
        namespace: &str,
        cluster: &ClusterArguments,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let start = |number| Replica::start(number, count > 1, namespace, cluster, folder);
        (0..count).map(start).collect::<anyhow::Result<_>>().map(Self)
    }

    pub(super) fn e2b(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|replica| replica.e2b).collect()
    }

    pub(super) async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + START;
        for replica in &mut self.0 {
            while let Err(error) = get(replica.health, "/readyz").await {
                if let Some(status) = replica.process.ended()? {
                    bail!("a manager has ended: {status}");
                }
                ensure!(Instant::now() < end, "a manager is not ready: {error:#}");
                tokio::time::sleep(INTERVAL).await;
            }
        }
        Ok(())
    }

    /// Waits until every replica could claim exactly this number of members.
    pub(super) async fn wait_for_members(&self, pool: &Pool, count: u32) -> anyhow::Result<()> {
        let end = Instant::now() + TIMEOUT;
        for replica in &self.0 {
            while replica.ready_members(pool).await? != count {
                ensure!(Instant::now() < end, "a manager does not know {count} ready members");
                tokio::time::sleep(INTERVAL).await;
            }
        }
        Ok(())
    }

    /// Returns the smallest number of members that a replica could claim.
    pub(super) async fn ready_members(&self, pool: &Pool) -> anyhow::Result<u32> {
        let mut least = u32::MAX;
        for replica in &self.0 {
            least = least.min(replica.ready_members(pool).await?);
        }
        Ok(least)
    }

    /// Returns the CPU time of all replicas.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        self.0.iter().map(|replica| process::cpu_of(replica.process.id())).sum()
    }

    /// Returns the memory of all replicas together.
    pub(super) fn memory(&self) -> anyhow::Result<Memory> {
        let mut sum = Memory::default();
        for replica in &self.0 {
            let memory = process::memory_of(replica.process.id())?;
            sum.resident += memory.resident;
            sum.peak += memory.peak;
        }
        Ok(sum)
    }

    /// Shows the ends of the logs after an error, which it returns.
    pub(super) fn explain<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        if result.is_err() {
            for Replica { log, .. } in &self.0 {
                let log = std::fs::read(log)?;
                eprintln!("{}", String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_END)..]));
            }
        }
        result
    }
}

impl Replica {
    fn start(
        number: u16,
        has_others: bool,
        namespace: &str,
        cluster: &ClusterArguments,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let [e2b, health, metrics] = free_addresses()?;
        let log = folder.join(format!("manager-{number}.log"));
        let output = File::create(&log)?;
        let errors = output.try_clone()?;
        let process = ChildProcess::start(|command| {
            command.args(["manage", "--", "--lifecycle-enabled", "--e2b-enabled"]);
            // The pods run no program, and a create would hide that the pool is empty.
            command.args(["--e2b-init-runtime=false", "--e2b-create-on-no-stock=false"]);
            command.args(["--kube-api-qps", "0"]);
            command.args(["--sandbox-namespace", namespace, "--system-namespace", namespace]);
            command.args(["--e2b-bind-address", &e2b.to_string()]);
            command.args(["--health-probe-bind-address", &health.to_string()]);
            command.args(["--metrics-bind-address", &metrics.to_string()]);
            if has_others {
                command.args(["--leader-elect", "--leader-elect-resource-name", LEASE]);
                command.args(["--leader-elect-resource-namespace", namespace]);
                command.env("POD_NAME", format!("manager-{number}"));
            }
            if let Some(kubeconfig) = &cluster.kubeconfig {
                command.arg("--kubeconfig").arg(kubeconfig);
            }
            if let Some(context) = &cluster.context {
                command.args(["--context", context]);
            }
            command.stdout(output).stderr(errors);
        })?;
        Ok(Self { process, log, e2b, health, metrics })
    }

    /// Returns the number of members that this replica could claim. 0 if it does not know the pool.
    async fn ready_members(&self, pool: &Pool) -> anyhow::Result<u32> {
        let metrics = get(self.metrics, "/metrics").await?;
        let series =
            format!("sandbox_manager_pool_ready{{namespace=\"{}\",pool=\"{}\"}} ", pool.namespace, pool.name);
        let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
        value.map_or(Ok(0), |value| value.parse().context("the length of the ready queue"))
    }
}

async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    E2bClient::connect(address, "").await?.get(path).await
}

/// Returns addresses on loopback that nobody uses.
fn free_addresses<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    // All are bound at the same time, so that they differ.
    let mut listeners = Vec::new();
    for _ in 0..N {
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    addresses.try_into().ok().context("as many addresses as listeners")
}
