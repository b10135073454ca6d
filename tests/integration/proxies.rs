//! Proxies between the process and the API server, by the variables of the environment and by the kubeconfig.

use anyhow::ensure;
use kube::config::Kubeconfig;
use sandbox_manager::api::v1alpha1::crds;
use tempfile::TempDir;

use crate::support::connect_proxy::ConnectProxy;
use crate::support::{ADMIN, Cluster, Process, SOON, eventually};

/// A server that only the proxy can reach: nobody else resolves its name.
const SERVER: &str = "api.test:6443";

async fn kubeconfig(cluster: &Cluster, proxy_url: Option<&str>) -> Kubeconfig {
    let mut kubeconfig = cluster.kubeconfig(ADMIN).await;
    let named = kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut());
    for cluster in named {
        cluster.server = Some(format!("https://{SERVER}"));
        cluster.tls_server_name = Some("127.0.0.1".to_owned());
        cluster.proxy_url = proxy_url.map(str::to_owned);
    }
    kubeconfig
}

async fn start(kubeconfig: &Kubeconfig, variables: &[(&str, &str)]) -> Process {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, serde_yaml::to_string(kubeconfig).expect("a kubeconfig as YAML")).expect("a file");
    let arguments = [
        "--metrics-bind-address=127.0.0.1:0".to_owned(),
        "--health-probe-bind-address=127.0.0.1:0".to_owned(),
        format!("--kubeconfig={}", path.display()),
    ];
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Process::start_with(&arguments, &variables, folder).await
}

#[tokio::test]
async fn y1_every_connection_goes_through_the_proxy_of_the_environment() {
    let cluster = Cluster::shared().await;
    cluster.install_crds(crds()).await;
    let proxy = ConnectProxy::to(&cluster).await;
    let kubeconfig = kubeconfig(&cluster, None).await;
    let variables = [("https_proxy", proxy.url()), ("NO_PROXY", "other.test,10.0.0.0/8".to_owned())];
    let process =
        start(&kubeconfig, &variables.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    process.becomes_ready().await;
    let tunnels = proxy.tunnels();
    assert!(!tunnels.is_empty() && tunnels.iter().all(|server| server == SERVER), "{tunnels:?}");
}

#[tokio::test]
async fn y1_the_proxy_of_the_kubeconfig_goes_before_the_environment() {
    let cluster = Cluster::shared().await;
    cluster.install_crds(crds()).await;
    let proxy = ConnectProxy::to(&cluster).await;
    let kubeconfig = kubeconfig(&cluster, Some(&proxy.url())).await;
    let variables = [("HTTPS_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "*")];
    start(&kubeconfig, &variables).await.becomes_ready().await;
    assert!(!proxy.tunnels().is_empty());
}

#[tokio::test]
async fn y1_a_server_of_no_proxy_is_connected_to_directly() {
    let cluster = Cluster::shared().await;
    let proxy = ConnectProxy::to(&cluster).await;
    let kubeconfig = kubeconfig(&cluster, None).await;
    // An empty entry, as lists put together by scripts have it.
    let variables = [("HTTPS_PROXY", proxy.url()), ("NO_PROXY", "a.test,,.test".to_owned())];
    let process =
        start(&kubeconfig, &variables.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    eventually("the name of the server is not known", SOON, async || {
        let answer = process.get("/readyz?verbose").await?;
        ensure!(answer.body.contains("dns error"), "{}", answer.body);
        Ok(())
    })
    .await;
    assert!(proxy.tunnels().is_empty());
}
