//! `serve`: an API server in memory with a kubelet, as a process of its own, so that its CPU time and memory are not
//! those of the measured process.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use memory_apiserver::{ApiServer, Kubelet};
use sandbox_manager::api::v1alpha1::crds;

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
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    serving.stop().await;
    Ok(())
}

/// A running server. Dropping it ends the process.
pub(crate) struct MemoryServer {
    child: Child,
}

impl MemoryServer {
    /// Starts a server, and returns when it has written its kubeconfig.
    pub(crate) fn start(kubeconfig: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg(kubeconfig).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting an API server")?;
        let output = child.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let server = Self { child };
        ensure!(line.trim() == READY, "the API server did not start: {line:?}");
        Ok(server)
    }
}

impl Drop for MemoryServer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("the API server in memory did not end: {error}");
        }
    }
}
