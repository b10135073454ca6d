//! A manager of ConfigMaps, with Secrets as an optional kind.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use memory_apiserver::{ApiServer, FaultPlan, On, RequestFault, Times};
use serde_json::json;
use shared_cache::{SharedCache, Watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Manager, ManagerError, ManagerOptions};

pub(super) fn cache(server: &ApiServer) -> SharedCache {
    SharedCache::builder(server.client())
        .kind::<ConfigMap>(Watch::all())
        .kind::<Secret>(Watch::all().optional())
        .build()
        .unwrap()
}

pub(super) fn manager(server: &ApiServer) -> Manager {
    Manager::builder(cache(server), ManagerOptions::default()).build().unwrap()
}

pub(super) fn load(server: &ApiServer, name: &str) {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": name},
    });
    server.load(&map).unwrap();
}

/// Lets every request for a kind fail.
pub(super) fn break_kind(server: &ApiServer, plural: &str) {
    server.inject(&FaultPlan::request(On::kind(plural), Times::Always, RequestFault::Drop));
    server.cut();
}

pub(super) struct Running {
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<Result<(), ManagerError>>,
}

impl Running {
    pub(super) fn start(manager: Manager) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(manager.run(stop.clone()));
        Self { stop, task }
    }

    pub(super) async fn stop(self) -> Result<(), ManagerError> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}
