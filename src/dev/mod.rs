//! `sandbox-manager dev`: everything on one machine without a cluster. An API server in this process, the CRDs, a
//! sample fleet, and the manager on it.
//!
//! The manager reaches the API server as it would reach any other: over TCP, with the kubeconfig that is written for
//! kubectl.

pub mod sample;
pub mod workload;

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kube::config::KubeConfigOptions;
use memory_apiserver::{ApiServer, LoadError, Serving};
use tokio_util::sync::CancellationToken;

use crate::api::v1alpha1::{Sandbox, crds};
use crate::cache::Cache;
use crate::client::{ClientError, Connector};
use crate::manager::{Manager, ManagerError};
use crate::metrics::{Metrics, MetricsError};
use crate::options::{BindAddress, LogFormat, SandboxManagerOptions};

/// How often the progress of loading is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Objects that are loaded before others get a turn.
const BATCH: usize = 256;

/// What `dev` is asked to do.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// Where the API server listens.
    pub listen: SocketAddr,
    /// Where the kubeconfig is written; `None`: into a temporary folder. Removed at the end.
    pub kubeconfig: Option<PathBuf>,
    /// Sandboxes of the [`workload`] beside the sample.
    pub sandboxes: usize,
    /// The manager's own.
    pub manager: SandboxManagerOptions,
}

impl DevOptions {
    /// What the manager's options are unless told otherwise: listeners on loopback, logs for a person.
    #[must_use]
    pub fn manager_defaults() -> SandboxManagerOptions {
        Self::manager_defaults_at(8080, 8081)
    }

    /// As [`Self::manager_defaults`], with any free port in place of one that somebody has.
    #[must_use]
    pub fn free_manager_defaults() -> SandboxManagerOptions {
        Self::manager_defaults_at(free_port(8080), free_port(8081))
    }

    fn manager_defaults_at(metrics: u16, health: u16) -> SandboxManagerOptions {
        let mut options = SandboxManagerOptions::default();
        options.metrics.bind_address = BindAddress::listen("127.0.0.1", metrics);
        options.health.bind_address = BindAddress::listen("127.0.0.1", health);
        options.log.format = LogFormat::Text;
        options
    }
}

/// This port if nobody has it, else 0 for any.
fn free_port(wanted: u16) -> u16 {
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).is_ok();
    if free { wanted } else { 0 }
}

/// Why `dev` does not start, or ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The API server can't listen.
    #[error(
        "--listen: cannot listen on {address}: {source}; stop what holds this address, or choose another one (port 0 takes a free port)"
    )]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The kubeconfig can't be written.
    #[error("--kubeconfig: cannot write {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// An object of the sample or the workload is refused.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No client can be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Metrics can't be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The manager can't start, or did not end in order.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// What runs where can't be told.
    #[error("cannot write standard output: {0}")]
    Output(#[source] io::Error),
}

/// Runs all of it until `stop` is cancelled. Progress goes to standard error; what runs where, and what to try, to
/// standard output once everything is ready.
///
/// # Errors
///
/// When an address or the kubeconfig's file can't be had, and as [`Manager::run`].
pub async fn run(options: DevOptions, stop: CancellationToken) -> Result<(), DevError> {
    let api = ApiServer::new();
    let serving = api.serve(options.listen).await;
    let serving = serving.map_err(|source| DevError::Listen { address: options.listen, source })?;
    let file = KubeconfigFile::write(&serving, options.kubeconfig.as_deref())?;
    let loaded = stop.run_until_cancelled(load(&api, options.sandboxes)).await;
    let Some(loaded) = loaded else { return Ok(()) };
    loaded?;

    let metrics = Metrics::new()?;
    let defaults = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(serving.kubeconfig(), &defaults).await;
    let config = config.map_err(|error| ClientError::of_generated(&error))?;
    let connector = Connector::new(config, &options.manager.client, &metrics);
    let mut manager = Manager::builder(options.manager).connector(&connector)?.metrics(metrics).build()?;
    manager.add_fleet_metrics()?;
    let manager = manager.bind().await?;
    let tell = tell_when_ready(
        manager.cache().clone(),
        Places {
            api: serving.url(),
            health: manager.health_address(),
            metrics: manager.metrics_address(),
            kubeconfig: file.path.clone(),
        },
    );
    let run = manager.run(stop.clone());
    tokio::pin!(run);
    tokio::select! {
        ended = &mut run => return Ok(ended?),
        told = tell => told?,
    }
    run.await?;
    Ok(())
}

/// Installs the CRDs and fills the server.
async fn load(api: &ApiServer, sandboxes: usize) -> Result<(), LoadError> {
    for definition in crds() {
        api.load(&serde_json::to_value(definition).unwrap_or_default())?;
    }
    api.load(&sample::template())?;
    let set = api.load(&sample::set())?;
    for object in sample::members(set["metadata"]["uid"].as_str().unwrap_or_default()) {
        api.load(&object)?;
    }
    let (started, mut told) = (Instant::now(), Instant::now());
    for i in 0..sandboxes {
        api.load(&workload::sandbox_with_status(i))?;
        if i % BATCH == BATCH - 1 {
            tokio::task::yield_now().await;
        }
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            progress(i + 1, sandboxes, started);
        }
    }
    if sandboxes > 0 {
        progress(sandboxes, sandboxes, started);
    }
    Ok(())
}

fn progress(done: usize, all: usize, started: Instant) {
    let per_second = done as u128 * 1000 / started.elapsed().as_millis().max(1);
    tracing::info!(done, all, per_second, "loading sandboxes");
}

/// A kubeconfig on disk, readable by its owner alone. Removed when dropped.
struct KubeconfigFile {
    path: PathBuf,
    /// The folder that was made for it.
    folder: Option<PathBuf>,
}

impl KubeconfigFile {
    fn write(serving: &Serving, wanted: Option<&Path>) -> Result<Self, DevError> {
        let (path, folder) = if let Some(path) = wanted {
            // It is told to other terminals, which may be elsewhere.
            let absolute = std::path::absolute(path);
            (absolute.map_err(|source| DevError::Kubeconfig { path: path.to_owned(), source })?, None)
        } else {
            let folder = std::env::temp_dir().join(format!("sandbox-manager-dev-{}", std::process::id()));
            (folder.join("kubeconfig"), Some(folder))
        };
        let yaml = serde_yaml::to_string(&serving.kubeconfig()).map_err(io::Error::other);
        // By the name that it was asked for.
        let asked = wanted.unwrap_or(&path).to_owned();
        let failed = |source| DevError::Kubeconfig { path: asked, source };
        let written = yaml.and_then(|yaml| {
            if let Some(folder) = &folder {
                // One that is there already may be anybody's, who could then exchange what is in it.
                std::fs::DirBuilder::new().mode(0o700).create(folder)?;
            }
            // A file of somebody else's is not overwritten.
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(yaml.as_bytes())
        });
        written.map_err(failed)?;
        Ok(Self { path, folder })
    }
}

impl Drop for KubeconfigFile {
    fn drop(&mut self) {
        // Nothing is lost with what can't be removed: its token dies with the process.
        let _ = std::fs::remove_file(&self.path);
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// What runs where.
struct Places {
    api: String,
    health: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    kubeconfig: PathBuf,
}

/// Tells what runs where once the cache has synced.
async fn tell_when_ready(cache: Cache, places: Places) -> Result<(), DevError> {
    cache.wait_for_cache_sync().await;
    let text = places.text(cache.reader::<Sandbox>().len().unwrap_or_default());
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(DevError::Output)
}

impl Places {
    fn text(&self, sandboxes: usize) -> String {
        let at = |address: Option<SocketAddr>| address.map(|address| format!("http://{address}"));
        let (health, metrics) = (at(self.health), at(self.metrics));
        let off = || "off".to_owned();
        let path = |base: &Option<String>, path: &str| {
            base.as_ref().map_or_else(off, |base| format!("{base}{path}"))
        };
        format!(
            "\nEverything runs in this process until Ctrl-C:\n\n  \
             API server  {} (in memory, {sandboxes} sandboxes)\n  \
             health      {}\n  \
             metrics     {}\n\n\
             In another terminal:\n\n  export KUBECONFIG={}\n\nThen try:\n\n  {}\n\n",
            self.api,
            path(&health, "/readyz"),
            path(&metrics, "/metrics"),
            self.kubeconfig.display(),
            commands(health.as_deref(), metrics.as_deref()).join("\n  "),
        )
    }
}

/// What is worth trying on what runs.
fn commands(health: Option<&str>, metrics: Option<&str>) -> Vec<String> {
    let pool = sample::POOL;
    let paused = r#"'{"status":{"phase":"Paused"}}'"#;
    let mut commands = vec![
        "kubectl get sandboxes".to_owned(),
        format!("kubectl patch sandbox {pool}-running --subresource=status --type=merge -p {paused}"),
    ];
    commands.extend(metrics.map(|base| format!("curl -s {base}/metrics | grep '^sandboxes{{.*{pool}'")));
    commands.extend(health.map(|base| format!("curl -s '{base}/readyz?verbose'")));
    commands
}
