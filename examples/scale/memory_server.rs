//! `serve`: an API server in memory with a kubelet, as a process of its own, so that its CPU time and memory are not
//! those of the measured process.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use memory_apiserver::{ApiServer, Kubelet};
use sandbox_manager::api::v1alpha1::crds;

use crate::child::{ChildProcess, wait_for_end_of_input};

#[derive(Args)]
pub(crate) struct ServeArguments {
    /// File to which the kubeconfig is written.
    kubeconfig: PathBuf,
    /// Time after which a pod is ready, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 20)]
    ready_after: u64,
}

/// The line that says that the server is ready.
const READY: &str = "ready";

/// Serves until standard input ends.
pub(crate) async fn serve(arguments: &ServeArguments) -> anyhow::Result<()> {
    let kubelet = Kubelet::ready_after(Duration::from_millis(arguments.ready_after));
    let nodes = ["node-0", "node-1", "node-2", "node-3"];
    let server =
        ApiServer::builder().objects(crds()).kubelet(&kubelet.nodes(nodes)).strict_owners().start()?;
    let serving = server.listen(([127, 0, 0, 1], 0).into()).await?;
    std::fs::write(&arguments.kubeconfig, serde_yaml::to_string(&serving.kubeconfig())?)?;
    println!("{READY}");
    std::io::stdout().flush()?;
    tokio::task::spawn_blocking(wait_for_end_of_input).await??;
    serving.stop().await;
    Ok(())
}

/// A running server. Dropping it ends the process.
pub(crate) struct MemoryServer {
    _process: ChildProcess,
}

impl MemoryServer {
    /// Starts a server, and returns when it has written its kubeconfig.
    pub(crate) fn start(kubeconfig: &Path) -> anyhow::Result<Self> {
        let mut process = ChildProcess::start(|command| {
            command.arg("serve").arg(kubeconfig).stdout(Stdio::piped());
        })?;
        let mut line = String::new();
        BufReader::new(process.output()?).read_line(&mut line)?;
        ensure!(line.trim() == READY, "the API server did not start: {line:?}");
        Ok(Self { _process: process })
    }
}
