//! Caches Pods and Nodes with an index by node name, and waits until every node runs a pod.
//!
//! With `KUBECONFIG` set it uses that cluster, otherwise an API server in memory that it fills itself.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use memory_apiserver::ApiServer;
use serde_json::json;
use shared_cache::{Index, Reader, SharedCache, Watch};

const NODE_NAME: Index<Pod> = Index::new("nodeName");

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = match std::env::var_os("KUBECONFIG") {
        Some(_) => kube::Client::try_default().await?,
        None => in_memory()?,
    };
    let cache = SharedCache::builder(client)
        .kind::<Node>(Watch::all())
        .kind::<Pod>(Watch::all().fields("status.phase!=Succeeded"))
        .index(NODE_NAME, |pod: &Pod, keys| {
            keys.extend(pod.spec.as_ref().and_then(|s| s.node_name.as_deref()));
        })
        .build()?;
    cache.start().await?;
    let nodes = cache.reader::<Node>().list(None)?;
    let every_node_runs_a_pod = cache.wait_until(move |pods: &Reader<Pod>| {
        let names = || nodes.iter().filter_map(|node| node.metadata.name.as_deref());
        let counts = names().map(|name| Some((name.to_owned(), pods.by_index(NODE_NAME, name).ok()?.len())));
        counts.collect::<Option<Vec<_>>>().filter(|counts| counts.iter().all(|(_, pods)| *pods > 0))
    });
    for (node, pods) in every_node_runs_a_pod.timeout(Duration::from_secs(30)).await? {
        println!("{node}: {pods} pods");
    }
    cache.stop().await;
    Ok(())
}

fn in_memory() -> anyhow::Result<kube::Client> {
    let server = ApiServer::new();
    for name in ["node-1", "node-2"] {
        server.load(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}))?;
        let spec = json!({"nodeName": name, "containers": [{"name": "a", "image": "busybox"}]});
        let metadata = json!({"name": format!("on-{name}"), "namespace": "default"});
        server.load(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))?;
    }
    Ok(server.client())
}
