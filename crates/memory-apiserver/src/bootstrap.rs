//! What is there from the first moment on: the namespaces that every cluster has, and the Service of the server.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::builtin::FIRST_ADDRESS;
use super::metadata::whole_seconds;
use super::server::Server;
use super::store::{Key, NAMESPACES};

const FIRST_NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Creates what every cluster has.
pub(crate) fn fill(server: &Server) {
    for name in FIRST_NAMESPACES {
        let labels = json!({"kubernetes.io/metadata.name": name});
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": metadata(name, &labels),
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        put(server, NAMESPACES, &Key::new("", name), namespace);
    }
    let mut metadata = metadata("kubernetes", &json!({"component": "apiserver", "provider": "kubernetes"}));
    metadata["namespace"] = json!("default");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {
            "clusterIP": FIRST_ADDRESS, "clusterIPs": [FIRST_ADDRESS], "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 443}],
            "sessionAffinity": "None", "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    });
    put(server, "services", &Key::new("default", "kubernetes"), service);
}

fn metadata(name: &str, labels: &Value) -> Value {
    json!({
        "name": name, "uid": uuid::Uuid::new_v4().to_string(), "labels": labels,
        "creationTimestamp": whole_seconds(Timestamp::now()),
    })
}

fn put(server: &Server, storage: &str, key: &Key, object: Value) {
    server.store.force(&Arc::from(storage), key, object);
}
