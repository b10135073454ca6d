//! `sandbox-manager dev`: runs an API server with nodes, the CRDs, a sample and the manager in one process.
//!
//! No cluster is needed. The manager connects to the API server like to any other: over TCP, with the
//! kubeconfig that is written for kubectl. The lifecycle controllers run in it, and the API server plays the kubelet
//! of its nodes: each pod becomes ready without a container.
//!
//! The sandboxes of a [`workload`] have a status from the beginning and no pods. The lifecycle controllers leave them as
//! they are.

pub mod sample;
pub mod workload;

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use controller_manager::{BindAddress, ClientError, Connector, Metrics, MetricsError};
use memory_apiserver::{ApiServer, BuildError, Kubelet, LoadError, Serving};
use secrecy::{ExposeSecret, SecretString};
use shared_cache::Event;
use tokio_util::sync::CancellationToken;

use crate::api::v1alpha1::{Sandbox, SandboxClaim, SandboxClaimPhase, SandboxSet, crds};
use crate::cache::Cache;
use crate::claims;
use crate::e2b::{self, E2bError, KeyStore, KeyStoreError, NewEntry};
use crate::lifecycle::{self, LifecycleError, SANDBOX_CONTROLLER};
use crate::manager::{Manager, ManagerError};
use crate::options::{E2bAuth, LogFormat, SandboxManagerOptions};

/// Time between two reports of the loading progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How long a pod takes to become ready.
const POD_START: Duration = Duration::from_millis(200);

/// How long the containers of a deleted pod take to end.
const POD_END: Duration = Duration::from_millis(200);

/// How long to wait for the members of the sample before the commands are printed.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Namespace of the Secret with the API key.
const SYSTEM_NAMESPACE: &str = "sandbox-system";

/// Number of objects that are loaded before other tasks run.
const BATCH: usize = 256;

/// An error of the program that contains `dev`.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Options of `dev`.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// Address on which the API server listens.
    pub listen: SocketAddr,
    /// Path of the kubeconfig. `None`: a file in a temporary folder. Removed at the end.
    pub kubeconfig: Option<PathBuf>,
    /// Number of sandboxes of the [`workload`] in addition to the sample.
    pub sandboxes: usize,
    /// Options of the manager.
    pub manager: SandboxManagerOptions,
}

impl DevOptions {
    /// Returns the manager's default options in `dev`: listeners on loopback, logs as text, the lifecycle controllers and
    /// the E2B API enabled.
    #[must_use]
    pub fn manager_defaults() -> SandboxManagerOptions {
        Self::manager_defaults_at(8080, 8081, 3000)
    }

    /// Returns [`Self::manager_defaults`], with any free port in place of each port that is in use.
    #[must_use]
    pub fn free_manager_defaults() -> SandboxManagerOptions {
        Self::manager_defaults_at(free_port(8080), free_port(8081), free_port(3000))
    }

    fn manager_defaults_at(metrics: u16, health: u16, e2b: u16) -> SandboxManagerOptions {
        let mut options = SandboxManagerOptions::default();
        options.metrics.bind_address = BindAddress::listen("127.0.0.1", metrics);
        options.health.bind_address = BindAddress::listen("127.0.0.1", health);
        options.log.format = LogFormat::Text;
        options.lifecycle.enabled = true;
        SYSTEM_NAMESPACE.clone_into(&mut options.system_namespace);
        options.e2b.enabled = true;
        options.e2b.bind_address = BindAddress::listen("127.0.0.1", e2b);
        // No program runs in the pods.
        (options.lifecycle.init_runtime, options.e2b.init_runtime) = (false, false);
        options
    }
}

/// Returns this port if it is free, otherwise 0 for any port.
fn free_port(wanted: u16) -> u16 {
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).is_ok();
    if free { wanted } else { 0 }
}

/// The reason why `dev` did not start, or ended without a request to stop.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The API server cannot listen on its address.
    #[error(
        "--listen: cannot listen on {address}: {source}; stop the process that uses this address, or choose another address (port 0 takes a free port)"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The kubeconfig cannot be written.
    #[error("--kubeconfig: cannot write {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The API server cannot start.
    #[error(transparent)]
    Server(#[from] BuildError),
    /// The server rejected an object of the sample or the workload.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The client cannot be created.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The metrics cannot be created.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The lifecycle controllers cannot be added.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// The E2B API cannot be added.
    #[error(transparent)]
    E2b(#[from] E2bError),
    /// The API key cannot be stored.
    #[error(transparent)]
    Key(#[from] KeyStoreError),
    /// The program's own setup of the manager failed.
    #[error("cannot set up the manager: {0}")]
    Setup(#[source] BoxError),
    /// The manager cannot start, or did not stop in order.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// The addresses and commands cannot be printed.
    #[error("cannot write standard output: {0}")]
    Output(#[source] io::Error),
}

/// Runs everything until `stop` is cancelled. Progress is written to standard error. Once everything is
/// ready, the addresses and commands to try are written to standard output. `setup` adds handlers to the
/// manager before it starts.
///
/// # Errors
///
/// If an address is in use or the kubeconfig cannot be written, and the errors of [`Manager::run`].
pub async fn run(
    options: DevOptions,
    stop: CancellationToken,
    setup: impl FnOnce(&mut Manager) -> Result<(), BoxError>,
) -> Result<(), DevError> {
    let kubelet = Kubelet::ready_after(POD_START).ending_after(POD_END).nodes(["node-1", "node-2"]);
    let api = ApiServer::builder().kubelet(&kubelet).strict_owners().start()?;
    let serving = api.listen(options.listen).await;
    let serving = serving.map_err(|source| DevError::Listen { address: options.listen, source })?;
    let file = KubeconfigFile::write(&serving, options.kubeconfig.as_deref())?;
    let system_namespace = options.manager.system_namespace.clone();
    let loaded = stop.run_until_cancelled(load(&api, options.sandboxes, &system_namespace)).await;
    let Some(loaded) = loaded else { return Ok(()) };
    loaded?;
    let e2b_options = options.manager.e2b.clone();
    let key = match e2b_options.auth {
        E2bAuth::Secret if e2b_options.enabled => {
            let store = KeyStore::new(api.client(), &system_namespace);
            Some(store.add(NewEntry::new("dev", workload::NAMESPACE)).await?.key)
        }
        _ => None,
    };

    let metrics = Metrics::new()?;
    let client = (&options.manager.client).into();
    let lifecycle = options.manager.lifecycle.clone();
    let controllers = options.manager.controllers.clone();
    let connector = Connector::without_proxy(&serving.kubeconfig(), &client, &metrics)?;
    let mut manager = Manager::builder(options.manager).connector(&connector)?.metrics(metrics).build()?;
    manager.add_fleet_metrics()?;
    let claims = claims::add(&mut manager)?;
    if lifecycle.enabled {
        lifecycle::add(&mut manager, &controllers, &lifecycle, &claims)?;
        manager.controller::<Sandbox>(SANDBOX_CONTROLLER).predicate(is_of_no_workload);
    }
    if e2b_options.enabled {
        e2b::add(&mut manager, &e2b_options, &system_namespace, &claims)?;
    }
    setup(&mut manager).map_err(DevError::Setup)?;
    let manager = manager.bind().await?;
    let print = print_when_ready(
        manager.cache().clone(),
        Endpoints {
            api: serving.url(),
            health: manager.health_address(),
            metrics: manager.metrics_address(),
            e2b: manager.address(e2b::LISTENER),
            key,
            kubeconfig: file.path.clone(),
        },
        lifecycle.enabled,
    );
    let run = manager.run(stop.clone());
    tokio::pin!(run);
    tokio::select! {
        ended = &mut run => return Ok(ended?),
        printed = print => printed?,
    }
    run.await?;
    Ok(())
}

/// Rejects the changes of sandboxes that have a status without a pod.
fn is_of_no_workload(event: &Event<Sandbox>) -> bool {
    !event.object().is_some_and(|sandbox| workload::is_static(sandbox))
}

/// Installs the CRDs and loads the objects.
async fn load(api: &ApiServer, sandboxes: usize, system_namespace: &str) -> Result<(), LoadError> {
    for definition in crds() {
        api.load(&serde_json::to_value(definition).unwrap_or_default())?;
    }
    if !system_namespace.is_empty() {
        api.load(&sample::namespace(system_namespace))?;
    }
    for object in sample::objects() {
        api.load(&object)?;
    }
    let (started, mut reported) = (Instant::now(), Instant::now());
    for i in 0..sandboxes {
        api.load(&workload::sandbox_with_status(i))?;
        if i % BATCH == BATCH - 1 {
            tokio::task::yield_now().await;
        }
        if reported.elapsed() >= PROGRESS_INTERVAL {
            reported = Instant::now();
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

/// A kubeconfig file that only its owner can read. Removed when dropped.
struct KubeconfigFile {
    path: PathBuf,
    /// The folder that was created for the file.
    folder: Option<PathBuf>,
}

impl KubeconfigFile {
    fn write(serving: &Serving, wanted: Option<&Path>) -> Result<Self, DevError> {
        let (path, folder) = if let Some(path) = wanted {
            // The path is printed for other terminals, which may be in another folder.
            let absolute = std::path::absolute(path);
            (absolute.map_err(|source| DevError::Kubeconfig { path: path.to_owned(), source })?, None)
        } else {
            let folder = std::env::temp_dir().join(format!("sandbox-manager-dev-{}", std::process::id()));
            (folder.join("kubeconfig"), Some(folder))
        };
        let yaml = serde_yaml::to_string(&serving.kubeconfig()).map_err(io::Error::other);
        // Errors name the path as the user wrote it.
        let asked = wanted.unwrap_or(&path).to_owned();
        let failed = |source| DevError::Kubeconfig { path: asked, source };
        let written = yaml.and_then(|yaml| {
            if let Some(folder) = &folder {
                // An existing folder may belong to another user, who could then replace the file.
                std::fs::DirBuilder::new().mode(0o700).create(folder)?;
            }
            // An existing file is not overwritten.
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
        // A file that cannot be removed is harmless: its token is invalid once the process ends.
        let _ = std::fs::remove_file(&self.path);
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// The addresses and paths that are printed.
struct Endpoints {
    api: String,
    health: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    e2b: Option<SocketAddr>,
    /// The API key of the E2B API, if it asks for one.
    key: Option<SecretString>,
    kubeconfig: PathBuf,
}

/// Prints the addresses and commands once the cache has synced, and once the controllers have filled the sample.
async fn print_when_ready(cache: Cache, endpoints: Endpoints, has_lifecycle: bool) -> Result<(), DevError> {
    cache.wait_for_cache_sync().await;
    if has_lifecycle {
        // The commands work as well on a pool that is being filled, so the end of this wait is no error.
        let _ = tokio::time::timeout(SAMPLE_TIMEOUT, sample_is_there(&cache)).await;
    }
    let text = endpoints.text(cache.reader::<Sandbox>().len().unwrap_or_default());
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(DevError::Output)
}

/// Resolves once the claim of the sample has its sandbox and the pool is full again.
async fn sample_is_there(cache: &Cache) {
    let is_complete = |claim: Option<&SandboxClaim>| {
        claim.is_some_and(|claim| claim.phase() == Some(&SandboxClaimPhase::Completed))
    };
    let is_full = |set: Option<&SandboxSet>| {
        let status = set.and_then(|set| set.status.as_ref());
        status.is_some_and(|status| status.available_replicas >= sample::REPLICAS)
    };
    let (namespace, pool) = (workload::NAMESPACE, sample::POOL);
    let _ = cache.wait_for((namespace, sample::CLAIM), is_complete).timeout(SAMPLE_TIMEOUT).await;
    let _ = cache.wait_for((namespace, pool), is_full).timeout(SAMPLE_TIMEOUT).await;
}

impl Endpoints {
    fn text(&self, sandboxes: usize) -> String {
        let at = |address: Option<SocketAddr>| address.map(|address| format!("http://{address}"));
        let (health, metrics, e2b) = (at(self.health), at(self.metrics), at(self.e2b));
        let off = || "off".to_owned();
        let path = |base: &Option<String>, path: &str| {
            base.as_ref().map_or_else(off, |base| format!("{base}{path}"))
        };
        format!(
            "\nEverything runs in this process until Ctrl-C:\n\n  \
             API server  {} (in memory, {sandboxes} sandboxes)\n  \
             health      {}\n  \
             metrics     {}\n  \
             E2B API     {}\n\n\
             In another terminal:\n\n  export KUBECONFIG={}\n{}\nThen try:\n\n  {}\n\n",
            self.api,
            path(&health, "/readyz"),
            path(&metrics, "/metrics"),
            path(&e2b, ""),
            self.kubeconfig.display(),
            self.e2b_variables(e2b.as_deref()),
            commands(health.as_deref(), metrics.as_deref()).join("\n  "),
        )
    }
}

impl Endpoints {
    /// Returns the variables of the E2B SDKs, a line each. Nobody answers at the domain: the pods run no program.
    fn e2b_variables(&self, url: Option<&str>) -> String {
        let Some(url) = url else { return String::new() };
        let key = self.key.as_ref().map_or("e2b_00", ExposeSecret::expose_secret);
        format!("  export E2B_API_URL={url}\n  export E2B_API_KEY={key}\n")
    }
}

/// Returns commands that a user can try.
fn commands(health: Option<&str>, metrics: Option<&str>) -> Vec<String> {
    let (pool, sandbox) = (sample::POOL, sample::SANDBOX);
    let paused = r#"'{"spec":{"paused":true}}'"#;
    let mut commands = vec![
        "kubectl get sandboxsets,sandboxes,sandboxclaims,pods".to_owned(),
        format!("kubectl scale sbs {pool} --replicas=20"),
        format!("kubectl patch sandbox {sandbox} --type=merge -p {paused}"),
    ];
    commands
        .extend(metrics.map(|base| format!("curl -s {base}/metrics | grep 'manager_sandboxes{{.*{pool}'")));
    commands.extend(health.map(|base| format!("curl -s '{base}/readyz?verbose'")));
    commands
}
