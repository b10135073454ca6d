//! A real etcd and kube-apiserver for tests, on loopback and on free ports.
//!
//! [`ControlPlane::shared`] is one for the whole test run, to be used by tests that leave it running;
//! [`ControlPlane::start`] is one for a test that stops, kills or pauses it. Only addresses and credentials are
//! kept here: each test has a runtime of its own, and a client belongs to the runtime that it was made on.
//! There are no controllers in it: a namespace never finishes terminating, owners' deletions do not cascade.
//!
//! [`ControlPlane::shared_with_nodes`] and [`Setup::nodes`] add kube-controller-manager, kube-scheduler and nodes that
//! kwok plays: pods become ready, volume claims are bound, and objects without an owner are collected.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::Mutex;
use rand::Rng;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::audit::{self, AuditedRequest};
use super::repository_file;
use super::setup::{create_namespace, install_crds};
use super::supervisor::Supervisor;

/// The user who may do everything (group `system:masters`).
pub(crate) const ADMIN: &str = "admin";

/// A user with a token of its own and no permission that is not granted to it.
pub(crate) const LIMITED: &str = "limited";

/// How often a start is tried: between choosing a free port and listening on it, another program may take it.
const START_ATTEMPTS: usize = 3;

/// Number of nodes of the control planes that have any.
const NODES: u16 = 4;

/// File in the data directory with a line for each request of an audited control plane.
const AUDIT_LOG: &str = "audit.log";

static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();

static SHARED_WITH_NODES: OnceCell<ControlPlane> = OnceCell::const_new();

/// What a control plane has besides etcd and kube-apiserver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    nodes: u16,
    audit: bool,
    flags: Vec<String>,
}

impl Setup {
    /// Adds controllers, a scheduler and nodes.
    pub(crate) fn nodes(self) -> Self {
        Self { nodes: NODES, ..self }
    }

    /// Notes all requests, for [`ControlPlane::requests`].
    pub(crate) fn audit(self) -> Self {
        Self { audit: true, ..self }
    }

    /// Adds flags of kube-apiserver.
    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().copied().map(String::from));
        self
    }

    fn all_flags(&self, data_dir: &Path) -> Vec<String> {
        let mut flags = self.flags.clone();
        if self.audit {
            let policy = repository_file("tests/controlplane/audit-policy.yaml");
            flags.push(format!("--audit-policy-file={}", policy.display()));
            flags.push(format!("--audit-log-path={}", data_dir.join(AUDIT_LOG).display()));
        }
        flags
    }
}

/// A running control plane. Dropping it ends its programs and removes their data.
pub(crate) struct ControlPlane {
    /// The lock is held while a command is carried out, on a thread that may block.
    supervisor: Arc<Mutex<Supervisor>>,
    data_dir: PathBuf,
    url: String,
}

impl ControlPlane {
    /// The one that all tests of this run share; started by whoever asks first.
    ///
    /// # Panics
    ///
    /// When it does not start, as [`Self::start`].
    pub(crate) async fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start).await
    }

    /// As [`Self::shared`], with nodes and an audit log.
    pub(crate) async fn shared_with_nodes() -> &'static Self {
        SHARED_WITH_NODES.get_or_init(|| Self::start_as(Setup::default().nodes().audit())).await
    }

    /// Starts a private one and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it does not start. The end of both logs is then on standard error.
    pub(crate) async fn start() -> Self {
        Self::start_as(Setup::default()).await
    }

    /// As [`Self::start`], with further flags for kube-apiserver.
    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        Self::start_as(Setup::default().flags(flags)).await
    }

    /// As [`Self::start`], with what the setup adds.
    pub(crate) async fn start_as(setup: Setup) -> Self {
        spawn_blocking(move || {
            let mut attempts = 1;
            loop {
                match Self::try_start(&setup) {
                    Ok(started) => return started,
                    Err(error) if attempts == START_ATTEMPTS => {
                        panic!("the control plane does not start: {error:#}")
                    }
                    Err(error) => eprintln!("starting the control plane, attempt {attempts}: {error:#}"),
                }
                attempts += 1;
            }
        })
        .await
        .unwrap()
    }

    fn try_start(setup: &Setup) -> Result<Self> {
        let data_dir = tempfile::Builder::new().prefix("controlplane.").tempdir()?.keep();
        let (etcd_port, apiserver_port) = (free_port(), free_port());
        let flags = setup.all_flags(&data_dir);
        let mut supervisor = Supervisor::spawn(&data_dir, etcd_port, apiserver_port, setup.nodes, &flags)?;
        supervisor.wait_ready()?;
        Ok(Self {
            supervisor: Arc::new(Mutex::new(supervisor)),
            data_dir,
            url: format!("https://127.0.0.1:{apiserver_port}"),
        })
    }

    /// The address of the API server. It stays the same over restarts.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where the control plane keeps its data and logs, and where `write_kubeconfig` writes.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A client of [`ADMIN`] for the current runtime.
    pub(crate) async fn client(&self) -> Client {
        self.client_for(ADMIN).await
    }

    /// A client of a user (see [`Self::kubeconfig`]) for the current runtime.
    pub(crate) async fn client_for(&self, user: &str) -> Client {
        Client::try_from(self.config_for(user).await).expect("a client from a generated kubeconfig")
    }

    /// The client configuration of a user (see [`Self::kubeconfig`]).
    pub(crate) async fn config_for(&self, user: &str) -> Config {
        Config::from_custom_kubeconfig(self.kubeconfig(user), &KubeConfigOptions::default())
            .await
            .expect("a generated kubeconfig")
    }

    /// The kubeconfig of a user: [`ADMIN`] and [`LIMITED`] have tokens; any other name is impersonated by the
    /// administrator, is in no group and may do what is granted to that name, so that a test can have a user that
    /// no other test grants anything to.
    pub(crate) fn kubeconfig(&self, user: &str) -> Kubeconfig {
        let known = user == ADMIN || user == LIMITED;
        let file = if known { user } else { ADMIN };
        let mut kubeconfig = Kubeconfig::read_from(self.data_dir.join(format!("{file}.kubeconfig")))
            .expect("the kubeconfig that run.sh writes");
        if !known {
            for auth in &mut kubeconfig.auth_infos {
                auth.auth_info.get_or_insert_default().impersonate = Some(user.to_owned());
            }
        }
        kubeconfig
    }

    /// Writes the kubeconfig of a user for other programs. It goes with the control plane.
    pub(crate) fn write_kubeconfig(&self, user: &str) -> PathBuf {
        let path = self.data_dir.join(format!("{user}.written.kubeconfig"));
        let yaml = serde_yaml::to_string(&self.kubeconfig(user)).expect("a kubeconfig as YAML");
        std::fs::write(&path, yaml).expect("writing into the data directory");
        path
    }

    /// The requests of a user so far, in the order in which they came. Only a control plane with [`Setup::audit`] notes
    /// requests.
    ///
    /// # Panics
    ///
    /// If there is no log.
    pub(crate) fn requests(&self, user: &str) -> Vec<AuditedRequest> {
        audit::read(&self.data_dir.join(AUDIT_LOG), user)
    }

    /// Creates a namespace that no other test has and returns its name, which starts with `prefix`.
    pub(crate) async fn namespace(&self, prefix: &str) -> String {
        create_namespace(self.client().await, prefix).await
    }

    /// Applies CRDs and returns once the API server serves every version of each.
    pub(crate) async fn install_crds(&self, crds: impl IntoIterator<Item = CustomResourceDefinition>) {
        install_crds(self.client().await, crds).await;
    }

    /// Ends kube-apiserver by SIGTERM and waits for its end. What it stored stays.
    pub(crate) async fn stop_api_server(&self) {
        self.command("stop apiserver").await;
    }

    /// Ends kube-apiserver by SIGKILL: connections break as they are. What it stored stays.
    pub(crate) async fn kill_api_server(&self) {
        self.command("kill apiserver").await;
    }

    /// Starts kube-apiserver again after a stop or kill, on the same port, and waits until it is ready.
    pub(crate) async fn start_api_server(&self) {
        self.command("start apiserver").await;
    }

    /// Stops kube-apiserver in its tracks: connections stay, nothing answers.
    pub(crate) async fn pause_api_server(&self) {
        self.command("pause apiserver").await;
    }

    /// Lets a paused kube-apiserver go on.
    pub(crate) async fn resume_api_server(&self) {
        self.command("resume apiserver").await;
    }

    /// Copies what etcd stores. Both programs are stopped meanwhile, and run again at the end.
    pub(crate) async fn back_up(&self) -> TempDir {
        let copy = tempfile::tempdir().expect("a temporary folder");
        self.stop_both().await;
        copy_folder(&self.etcd_folder(), copy.path());
        self.start_both().await;
        copy
    }

    /// Replaces what etcd stores by a copy, as an administrator restores a backup. Connections break.
    pub(crate) async fn restore(&self, backup: &TempDir) {
        self.stop_both().await;
        std::fs::remove_dir_all(self.etcd_folder()).expect("removing the folder of etcd");
        copy_folder(backup.path(), &self.etcd_folder());
        self.start_both().await;
    }

    fn etcd_folder(&self) -> PathBuf {
        self.data_dir.join("etcd")
    }

    async fn stop_both(&self) {
        self.command("kill apiserver").await;
        self.command("stop etcd").await;
    }

    async fn start_both(&self) {
        self.command("start etcd").await;
        self.start_api_server().await;
    }

    async fn command(&self, command: &'static str) {
        let supervisor = Arc::clone(&self.supervisor);
        let outcome = spawn_blocking(move || {
            let mut supervisor = supervisor.lock();
            supervisor.command(command)?;
            if command == "start apiserver" { supervisor.wait_ready() } else { Ok(()) }
        });
        outcome.await.unwrap().unwrap();
    }
}

/// Copies a folder with all that is in it.
fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("creating a folder");
    for entry in std::fs::read_dir(from).expect("reading a folder") {
        let entry = entry.expect("reading a folder");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("the type of a file").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copying a file");
        }
    }
}

/// A port that nobody listens on, from below the range that the kernel gives to outgoing connections: so it is
/// still free when the API server comes back to it.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = rand::rng().random_range(20_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
