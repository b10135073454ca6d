//! Measures the shared cache on a fleet of any size, on any API server.
//!
//! ```text
//! cargo run --release -- dev                                          # or any other cluster with the CRDs
//! cargo run --release --example scale -- load --count 20000
//! cargo run --release --example scale -- measure
//! ```
//!
//! `load` creates the same sandboxes on every server (`sandbox_manager::dev::workload`), so that other
//! implementations can be measured on them. `measure` runs the cache with both controllers on the existing
//! sandboxes and prints one `key value` per line, or JSON. `docs/performance.md` describes each key.
//!
//! ```text
//! cargo run --release --example scale -- fill --in-memory --count 1000
//! ```
//!
//! `fill` measures the lifecycle controllers: how fast they fill a pool. `claims` measures claims over HTTP, with
//! managers in processes of their own.

mod bare_list;
mod child;
mod claims;
mod expiry;
mod fill;
mod fleet;
mod keys;
mod latency;
mod load;
mod lookups;
mod measure;
mod memory_server;
#[path = "../../benches/support/playback.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "a part of the benchmarks, which end at the first error")]
mod playback;
mod pool;
mod process;
mod raw_watch;
mod relist;
mod report;
mod scraper;
mod updates;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use sandbox_manager::controller_manager::Metrics;
use sandbox_manager::controller_manager::{ClusterAccess, Connector};
use sandbox_manager::options::ClientOptions;

/// The same allocator as in the binary.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures the shared cache on a fleet of any size, on any API server.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Args)]
struct ClusterArguments {
    /// Kubeconfig to use [default: KUBECONFIG, then ~/.kube/config].
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use [default: its current one].
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Create the sandboxes of the workload, each with its status. Existing sandboxes get their status again.
    Load(load::LoadArguments),
    /// Run the cache and both controllers on the existing sandboxes, and print the measurements.
    #[command(after_long_help = keys::MEASURE.help())]
    Measure(measure::MeasureArguments),
    /// Fill a pool by the lifecycle controllers, scale it down, and print how long it took.
    #[command(after_long_help = fill::HELP)]
    Fill(fill::FillArguments),
    /// Claim sandboxes over HTTP from managers in processes of their own, and print how long it took.
    #[command(after_long_help = keys::CLAIMS.help())]
    Claims(claims::ClaimsArguments),
    /// Serve an API server in memory with a kubelet, until standard input ends. `--in-memory` starts it.
    #[command(hide = true)]
    Serve(memory_server::ServeArguments),
    /// Run as `sandbox-manager` until standard input ends. `claims` starts it.
    #[command(hide = true)]
    Manage(claims::ManageArguments),
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { cluster, command } = Arguments::parse();
    match command {
        Command::Load(arguments) => block_on(async { load::run(&cluster.connector()?, &arguments).await }),
        Command::Measure(arguments) => {
            block_on(async { measure::run(&cluster.connector()?, &arguments).await })
        }
        Command::Fill(arguments) => block_on(fill::run(&cluster, &arguments)),
        Command::Claims(arguments) => block_on(claims::run(&cluster, &arguments)),
        Command::Serve(arguments) => block_on(memory_server::serve(&arguments)),
        // It makes a runtime of its own.
        Command::Manage(arguments) => Ok(claims::manage(arguments)),
    }
}

fn block_on(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(command).map(|()| ExitCode::SUCCESS)
}

impl ClusterArguments {
    /// Creates a connector without a rate limit, because the cache is measured and not the limit.
    fn connector(&self) -> anyhow::Result<Connector> {
        self.connector_with(&Metrics::new()?)
    }

    /// The same, with metrics that count the requests.
    fn connector_with(&self, metrics: &Metrics) -> anyhow::Result<Connector> {
        let access = ClusterAccess { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() };
        let unlimited = ClientOptions { qps: 0, burst: 0 };
        Connector::load(&access, &(&unlimited).into(), metrics).context("which cluster?")
    }
}
