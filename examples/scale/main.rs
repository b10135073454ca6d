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
//! `fill` measures the lifecycle controllers: how fast they fill a pool.

mod bare_list;
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
mod process;
mod raw_watch;
mod relist;
mod report;
mod scraper;
mod updates;

use std::path::PathBuf;

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

#[derive(Args)]
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
    #[command(after_long_help = keys::help())]
    Measure(measure::MeasureArguments),
    /// Fill a pool by the lifecycle controllers, scale it down, and print how long it took.
    #[command(after_long_help = fill::HELP)]
    Fill(fill::FillArguments),
    /// Serve an API server in memory with a kubelet, until standard input ends. `fill --in-memory` starts it.
    #[command(hide = true)]
    Serve(memory_server::ServeArguments),
}

fn main() -> anyhow::Result<()> {
    let Arguments { cluster, command } = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Load(arguments) => load::run(&cluster.connector()?, &arguments).await,
            Command::Measure(arguments) => measure::run(&cluster.connector()?, &arguments).await,
            Command::Fill(arguments) => fill::run(&cluster, &arguments).await,
            Command::Serve(arguments) => memory_server::serve(&arguments).await,
        }
    })
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
