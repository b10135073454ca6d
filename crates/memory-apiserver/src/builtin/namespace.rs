//! Namespaces: the label with their name, and the finalizer that keeps them until they are empty.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::{metadata_mut, name};

/// Sets the label with the name, for selectors.
pub(super) fn default(namespace: &mut Value) {
    let own = name(namespace).to_owned();
    // `prepare` sets the label again when the name is generated.
    if own.is_empty() {
        return;
    }
    let labels = metadata_mut(namespace).entry("labels").or_insert_with(|| json!({}));
    if let Some(labels) = labels.as_object_mut() {
        labels.insert("kubernetes.io/metadata.name".to_owned(), json!(own));
    }
}

pub(super) fn prepare(namespace: &mut Value, live: Option<&Value>, _: Timestamp) {
    default(namespace);
    match live {
        None => {
            namespace["spec"] = json!({"finalizers": ["kubernetes"]});
            namespace["status"] = json!({"phase": "Active"});
        }
        // Only the `finalize` subresource changes the spec.
        Some(live) => namespace["spec"] = live["spec"].clone(),
    }
}
