//! Shared by the tests of this binary.

pub(crate) mod tls_server;

use std::path::Path;

use controller_manager::{ClientError, ClusterAccess, Connector, ConnectorOptions, Metrics};
use kube::Client;
use serde_json::Value;

/// Writes a kubeconfig and returns a client for it.
pub(crate) fn client(folder: &Path, cluster: &Value, user: &Value) -> Client {
    try_client(folder, cluster, user).unwrap_or_else(|error| panic!("{error}"))
}

/// Writes a kubeconfig and creates a client for it.
pub(crate) fn try_client(folder: &Path, cluster: &Value, user: &Value) -> Result<Client, ClientError> {
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    });
    let path = folder.join("config");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    let access = ClusterAccess { kubeconfig: Some(path), context: None };
    let connector = Connector::load(&access, &ConnectorOptions::default(), &Metrics::new().unwrap());
    connector.and_then(|connector| connector.client())
}
