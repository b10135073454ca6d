//! Counts the Pods of a cluster with a controller. Compiled in CI, never run.

use controller_manager::{Action, Manager, ManagerOptions, Observed, signals};
use k8s_openapi::api::core::v1::Pod;
use shared_cache::{SharedCache, Watch};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = match std::env::args().nth(1).as_deref() {
        Some("--in-memory") => memory_apiserver::ApiServer::new().client(),
        _ => kube::Client::try_default().await?,
    };
    let cache = SharedCache::builder(client).kind::<Pod>(Watch::all()).build()?;
    let reader = cache.reader::<Pod>();
    let mut manager = Manager::builder(cache, ManagerOptions::default()).build()?;
    manager.controller::<Pod>("count").handler(move |observed: Observed<Pod>| {
        let reader = reader.clone();
        async move {
            println!("{}: {} pods", observed.key(), reader.len()?);
            Ok(Action::await_change())
        }
    });
    manager.run(signals()?).await?;
    Ok(())
}
