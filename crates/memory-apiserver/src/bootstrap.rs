//! The objects that every cluster has: four namespaces, and the Service of the API server.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::builtin::FIRST_ADDRESS;
use super::clock::whole_seconds;
use super::store::{Key, NAMESPACES, Store};

const FIRST_NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Creates the objects that every cluster has.
pub(crate) fn fill(store: &Store, now: Timestamp) {
    let put = |storage: &str, key: &Key, object: Value| {
        store.force(&Arc::from(storage), key, object);
    };
    for name in FIRST_NAMESPACES {
        let labels = json!({"kubernetes.io/metadata.name": name});
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": metadata(name, &labels, now),
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        put(NAMESPACES, &Key::new("", name), namespace);
    }
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let mut metadata = metadata("kubernetes", &labels, now);
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
    put("services", &Key::new("default", "kubernetes"), service);
}

fn metadata(name: &str, labels: &Value, now: Timestamp) -> Value {
    json!({
        "name": name, "uid": uuid::Uuid::new_v4().to_string(), "labels": labels,
        "creationTimestamp": whole_seconds(now),
    })
}
