//! What is there from the first moment on: the namespaces that every cluster has.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::metadata::whole_seconds;
use super::server::Server;
use super::store::{Key, NAMESPACES};

const FIRST_NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Creates the namespaces.
pub(crate) fn fill(server: &Server) {
    let storage: Arc<str> = NAMESPACES.into();
    for name in FIRST_NAMESPACES {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {
                "name": name, "uid": uuid::Uuid::new_v4().to_string(),
                "creationTimestamp": whole_seconds(Timestamp::now()),
                "labels": {"kubernetes.io/metadata.name": name},
            },
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        server.store.force(&storage, &Key::new("", name), namespace);
    }
}
