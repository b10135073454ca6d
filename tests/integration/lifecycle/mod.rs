//! Tests the lifecycle controllers on the in-memory API server with its fake kubelet.
//!
//! Most tests run under paused time, so that back-offs cost nothing. Timers of a spec follow the wall clock.

mod checkpoint;
mod claim;
pub(crate) mod pool_rig;
pub(crate) mod proof;
mod sandbox;
mod sandbox_set;
mod sandbox_update;
mod take_over;
mod world;

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{bail, ensure};
use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, Resource};
use memory_apiserver::{ApiServer, Kubelet, SeenRequest, Verb};
use prometheus::{Registry, TextEncoder};
use sandbox_manager::api::v1alpha1::crds;
use sandbox_manager::manager::{Manager, ManagerError};
use sandbox_manager::options::{BindAddress, SandboxManagerOptions};
use sandbox_manager::{claims, lifecycle};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::eventually;

/// How long a pod takes to become ready.
const START: Duration = Duration::from_millis(50);

/// How long to wait for what comes after any back-off. Most tests run under paused time, where waiting costs nothing.
const DEADLINE: Duration = Duration::from_mins(30);

/// An API server with a kubelet, and a manager that can be killed and started again.
pub(crate) struct Lab {
    pub(crate) server: ApiServer,
    pub(crate) kubelet: Kubelet,
    manager: Option<RunningManager>,
}

struct RunningManager {
    task: JoinHandle<Result<(), ManagerError>>,
    metrics: Registry,
    /// Keeps the manager running until the end of the test.
    _stop: CancellationToken,
}

impl Drop for RunningManager {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lab {
    /// A server that starts pods, and a running manager.
    pub(crate) fn start() -> Self {
        let mut lab = Self::without_manager(Kubelet::ready_after(START));
        lab.start_manager();
        lab
    }

    pub(crate) fn without_manager(kubelet: Kubelet) -> Self {
        let server = ApiServer::builder().objects(crds()).kubelet(&kubelet).start().unwrap();
        Self { server, kubelet, manager: None }
    }

    /// A server that starts no pods.
    pub(crate) fn without_kubelet() -> Self {
        let server = ApiServer::builder().objects(crds()).start().unwrap();
        Self { server, kubelet: Kubelet::ready_after(START), manager: None }
    }

    pub(crate) fn start_manager(&mut self) {
        self.start_manager_with(self.server.client());
    }

    /// Starts a manager that sends its requests by this client.
    pub(crate) fn start_manager_with(&mut self, client: Client) {
        let mut options = SandboxManagerOptions::default();
        options.metrics.bind_address = BindAddress::Off;
        options.health.bind_address = BindAddress::Off;
        let (controllers, lifecycle) = (options.controllers.clone(), options.lifecycle.clone());
        let mut manager = Manager::builder(options).client(client).lifecycle(true).build().unwrap();
        let claims = claims::add(&mut manager).unwrap();
        lifecycle::add(&mut manager, &controllers, &lifecycle, &claims).unwrap();
        let (metrics, stop) = (manager.metrics().registry().clone(), CancellationToken::new());
        let task = tokio::spawn(manager.run(stop.clone()));
        self.manager = Some(RunningManager { task, metrics, _stop: stop });
    }

    /// Ends the manager at the point that it has reached.
    pub(crate) async fn kill_manager(&mut self) {
        let mut manager = self.manager.take().expect("a running manager");
        manager.task.abort();
        let ended = (&mut manager.task).await;
        assert!(ended.is_err_and(|error| error.is_cancelled()), "the manager has ended by itself");
    }

    /// A client of the test, whose requests no fault strikes and nobody counts.
    pub(crate) fn client(&self) -> Client {
        self.server.client_without_faults()
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::default_namespaced(self.client())
    }

    /// Creates an object from its JSON.
    pub(crate) async fn create<K>(&self, object: serde_json::Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let object = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    pub(crate) async fn delete<K>(&self, name: &str)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        self.api::<K>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits until an object passes a check, and returns it. It asks again and again, since faults of events strike every
    /// watch.
    pub(crate) async fn until<K>(&self, name: &str, check: impl Fn(&K) -> bool) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api = self.api::<K>();
        eventually(name, DEADLINE, async || match api.get_opt(name).await? {
            Some(object) if check(&object) => Ok(object),
            other => bail!("{other:?}\nwrites: {:#?}", self.writes()),
        })
        .await
    }

    /// Waits until an object does not exist.
    pub(crate) async fn until_gone<K>(&self, name: &str)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api = self.api::<K>();
        eventually(name, DEADLINE, async || {
            let found = api.get_opt(name).await?;
            ensure!(found.is_none(), "{found:?}");
            Ok(())
        })
        .await;
    }

    /// The writes of the manager so far, without those of events.
    pub(crate) fn writes(&self) -> Vec<String> {
        let writes = self.server.requests().into_iter().filter(|request| {
            !matches!(request.verb, Verb::Get | Verb::List | Verb::Watch) && request.resource != "events"
        });
        writes.map(|request| describe(&request)).collect()
    }

    /// The live reads of the manager so far.
    pub(crate) fn reads(&self) -> Vec<String> {
        let reads = self.server.requests().into_iter().filter(|request| request.verb == Verb::Get);
        reads.map(|request| describe(&request)).collect()
    }

    /// The value of a metric of the manager; 0 if there is none with these labels.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.manager.as_ref().expect("a running manager").metrics.gather();
        let text = TextEncoder::new().encode_to_string(&families).unwrap();
        let is_it = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")))
        };
        let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
        text.lines().filter(is_it).filter_map(value).sum()
    }
}

/// Writes a request as `create pods`, `patch sandboxes/status a`.
fn describe(request: &SeenRequest) -> String {
    let verb = format!("{:?}", request.verb).to_lowercase();
    let subresource = request.subresource.as_ref().map_or(String::new(), |name| format!("/{name}"));
    let name = request.name.as_ref().map_or(String::new(), |name| format!(" {name}"));
    format!("{verb} {}{subresource}{name}", request.resource)
}
