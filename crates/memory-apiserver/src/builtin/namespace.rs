//! Namespaces: a label that names them, and a finalizer of their own that goes when they are empty.

use serde_json::{Value, json};

use crate::object::{metadata_mut, name};

/// The label that selectors know a namespace by.
pub(super) fn default(namespace: &mut Value) {
    let own = name(namespace).to_owned();
    // One that is yet to be generated is told by `prepare`.
    if own.is_empty() {
        return;
    }
    let labels = metadata_mut(namespace).entry("labels").or_insert_with(|| json!({}));
    if let Some(labels) = labels.as_object_mut() {
        labels.insert("kubernetes.io/metadata.name".to_owned(), json!(own));
    }
}

pub(super) fn prepare(namespace: &mut Value, live: Option<&Value>) {
    default(namespace);
    match live {
        None => {
            namespace["spec"] = json!({"finalizers": ["kubernetes"]});
            namespace["status"] = json!({"phase": "Active"});
        }
        // Only the `finalize` subresource changes it.
        Some(live) => namespace["spec"] = live["spec"].clone(),
    }
}
