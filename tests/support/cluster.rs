//! [`Cluster`]: the API server that a test runs on. In memory by default; a real etcd and kube-apiserver when
//! `TEST_API_SERVER=real`, as `tests/e2e.sh` sets it. The tests are the same.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use memory_apiserver::{ApiServer, Kubelet, Serving};
use tokio::sync::Mutex;

use super::audit::{self, AuditedRequest};
use super::setup::{create_namespace, install_crds};
use super::{ADMIN, ControlPlane, Setup};

/// Names the server that tests run on.
const SERVER: &str = "TEST_API_SERVER";

/// How long a pod takes to become ready on the nodes of a server in memory.
const POD_START: Duration = Duration::from_millis(50);

/// An API server with nothing of this project's in it.
pub(crate) enum Cluster {
    Memory(MemoryServer),
    Real(RealServer),
}

/// One in memory that also listens, so that other processes can use it.
pub(crate) struct MemoryServer {
    api: ApiServer,
    address: std::net::SocketAddr,
    /// `None` while it is killed.
    serving: Mutex<Option<Serving>>,
    kubeconfigs: Arc<parking_lot::Mutex<std::collections::BTreeMap<String, Kubeconfig>>>,
}

/// A real one, shared by all tests of the run or this test's own.
pub(crate) enum RealServer {
    Shared(&'static ControlPlane),
    Own(ControlPlane),
}

impl std::ops::Deref for RealServer {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        match self {
            Self::Shared(shared) => shared,
            Self::Own(own) => own,
        }
    }
}

/// Whether tests run on the real server.
pub(crate) fn is_real() -> bool {
    match std::env::var(SERVER).as_deref() {
        Ok("real") => true,
        Ok("memory" | "") | Err(_) => false,
        Ok(other) => panic!("{SERVER}={other}: expected memory or real"),
    }
}

impl Cluster {
    /// One that others may use, too: to be left running as it is.
    pub(crate) async fn shared() -> Self {
        if is_real() { Self::of(ControlPlane::shared().await) } else { Self::memory(ApiServer::new()).await }
    }

    /// As [`Self::shared`], with nodes, on which pods become ready, and a garbage collector.
    pub(crate) async fn shared_with_nodes() -> Self {
        if is_real() {
            Self::of(ControlPlane::shared_with_nodes().await)
        } else {
            Self::memory(memory_with_nodes()).await
        }
    }

    /// One of the test's own, which it may kill.
    pub(crate) async fn start() -> Self {
        if is_real() {
            Self::Real(RealServer::Own(ControlPlane::start().await))
        } else {
            Self::memory(ApiServer::new()).await
        }
    }

    /// As [`Self::start`], with nodes and a garbage collector.
    pub(crate) async fn start_with_nodes() -> Self {
        if is_real() {
            Self::Real(RealServer::Own(ControlPlane::start_as(Setup::default().nodes()).await))
        } else {
            Self::memory(memory_with_nodes()).await
        }
    }

    /// A control plane that other tests use, too.
    pub(crate) fn of(control_plane: &'static ControlPlane) -> Self {
        Self::Real(RealServer::Shared(control_plane))
    }

    async fn memory(api: ApiServer) -> Self {
        let serving = api.listen(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        Self::Memory(MemoryServer {
            api,
            address: serving.address(),
            serving: Mutex::new(Some(serving)),
            kubeconfigs: Arc::default(),
        })
    }

    /// The address of the API server. It stays the same over restarts.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Memory(server) => format!("https://{}", server.address),
            Self::Real(server) => server.url().to_owned(),
        }
    }

    /// A client of [`ADMIN`] for the current runtime.
    pub(crate) async fn client(&self) -> Client {
        match self {
            Self::Memory(server) => server.api.client(),
            Self::Real(server) => server.client().await,
        }
    }

    /// A client of a user who may do what is granted to that name.
    pub(crate) async fn client_for(&self, user: &str) -> Client {
        match self {
            Self::Memory(server) => server.api.client_as(user),
            Self::Real(server) => server.client_for(user).await,
        }
    }

    /// The kubeconfig of [`ADMIN`], or of a user who may do what is granted to that name.
    pub(crate) async fn kubeconfig(&self, user: &str) -> Kubeconfig {
        match self {
            Self::Memory(server) => server.kubeconfig(user).await,
            Self::Real(server) => server.kubeconfig(user),
        }
    }

    /// The latest requests of a user, in the order in which they came. A real server must be one with nodes that tests
    /// share.
    pub(crate) fn requests(&self, user: &str) -> Vec<AuditedRequest> {
        match self {
            Self::Memory(server) => audit::seen(&server.api.requests(), user),
            Self::Real(server) => server.requests(user),
        }
    }

    /// A client that is configured by a kubeconfig, over the network.
    pub(crate) async fn connect(kubeconfig: Kubeconfig) -> Client {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Client::try_from(config.expect("a generated kubeconfig")).expect("a client of it")
    }

    /// Creates a namespace that no other test has and returns its name, which starts with `prefix`.
    pub(crate) async fn namespace(&self, prefix: &str) -> String {
        create_namespace(self.client().await, prefix).await
    }

    /// Applies CRDs and returns once the API server serves every version of each. Tests may do so concurrently.
    pub(crate) async fn install_crds(&self, crds: impl IntoIterator<Item = CustomResourceDefinition>) {
        install_crds(self.client().await, crds).await;
    }

    /// Ends the API server: connections break as they are. What it stored stays, its history does not.
    pub(crate) async fn kill_api_server(&self) {
        match self {
            Self::Memory(server) => {
                let serving = server.serving.lock().await.take();
                serving.expect("it runs").stop().await;
                server.api.restart();
            }
            Self::Real(server) => server.kill_api_server().await,
        }
    }

    /// Starts the API server again after it was killed, on the same port, and waits until it is ready.
    pub(crate) async fn start_api_server(&self) {
        match self {
            Self::Memory(server) => {
                let serving = server.api.listen(server.address).await.expect("the port that it had");
                *server.serving.lock().await = Some(serving);
            }
            Self::Real(server) => server.start_api_server().await,
        }
    }
}

fn memory_with_nodes() -> ApiServer {
    let kubelet = Kubelet::ready_after(POD_START);
    ApiServer::builder().strict_owners().kubelet(&kubelet).start().expect("a server with a kubelet")
}

impl MemoryServer {
    async fn kubeconfig(&self, user: &str) -> Kubeconfig {
        if let Some(known) = self.kubeconfigs.lock().get(user) {
            return known.clone();
        }
        let serving = self.serving.lock().await;
        let serving = serving.as_ref().expect("it runs");
        let new = if user == ADMIN { serving.kubeconfig() } else { serving.kubeconfig_as(user) };
        self.kubeconfigs.lock().insert(user.to_owned(), new.clone());
        new
    }
}
