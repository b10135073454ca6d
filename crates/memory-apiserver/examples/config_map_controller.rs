//! Tests a controller of `ConfigMap`s, written with plain kube-rs, without a cluster.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::{wait::await_condition, watcher};
use kube::{Api, Client, ResourceExt as _};
use memory_apiserver::{ApiServer, FaultPlan, On, RequestFault, Times, Verb};
use serde_json::json;

/// The controller under test: it writes into an annotation how many keys a `ConfigMap` has.
async fn reconcile(map: Arc<ConfigMap>, client: Arc<Client>) -> kube::Result<Action> {
    let keys = map.data.iter().flatten().count().to_string();
    let maps: Api<ConfigMap> = Api::namespaced((*client).clone(), &map.namespace().unwrap_or_default());
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"example.com/keys": keys}}}));
    maps.patch(&map.name_any(), &PatchParams::default(), &patch).await?;
    Ok(Action::await_change())
}

async fn run(client: Client) {
    let retry = |_, _: &kube::Error, _| Action::requeue(Duration::from_millis(10));
    Controller::new(Api::<ConfigMap>::all(client.clone()), watcher::Config::default())
        .run(reconcile, retry, Arc::new(client))
        .for_each(|_| async {})
        .await;
}

#[tokio::main]
pub(crate) async fn main() -> anyhow::Result<()> {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    // The first patch fails, so that the test sees the controller try again.
    let unavailable = RequestFault::Answer { code: 503, retry_after: None };
    let plan = FaultPlan::request(On::request(Verb::Patch, "configmaps"), Times::First(1), unavailable);
    let server = ApiServer::builder().objects([map]).faults(plan).start()?;
    tokio::spawn(run(server.client()));
    let keys = |map: &ConfigMap| map.annotations().get("example.com/keys").cloned();
    let is_counted = |map: Option<&ConfigMap>| map.and_then(keys).is_some_and(|keys| keys == "1");
    let counted = await_condition(Api::default_namespaced(server.client()), "a", is_counted);
    tokio::time::timeout(Duration::from_secs(30), counted).await??;
    let requests = server.requests();
    let patches: Vec<_> = requests.iter().filter(|request| request.verb == Verb::Patch).collect();
    assert_eq!((patches[0].status, patches[1].status), (Some(503), Some(200)));
    assert_eq!(patches[0].name.as_deref(), Some("a"));
    Ok(())
}
