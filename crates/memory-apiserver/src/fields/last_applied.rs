//! The annotation in which `kubectl apply` keeps its configuration, for the change to `kubectl apply --server-side`.
//!
//! This concerns only the manager `kubectl`. Fields that still have their values of the annotation are no conflicts,
//! whatever their owner. An apply renews an existing annotation, so that users can change back.

use serde_json::{Value, json};

use super::compare::compare;
use super::conflict::Conflict;
use super::content::fields_of;
use super::path::escaped;
use super::set::FieldSet;
use super::{Endpoint, Manager};
use crate::object::child_mut;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Maximum bytes of all annotations of an object.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Removes the conflicts with earlier applies of kubectl itself.
pub(super) fn without_own<'a>(
    endpoint: &Endpoint<'_>,
    manager: &Manager<'_>,
    live: Option<&Value>,
    mut conflicts: Vec<Conflict<'a>>,
) -> Vec<Conflict<'a>> {
    let Some(live) = live.filter(|_| is_kubectl(manager)) else { return conflicts };
    let last = text(live).and_then(|text| serde_json::from_str::<Value>(text).ok());
    if let Some(last) = last.filter(|last| last["apiVersion"] == endpoint.api_version)
        && let Some(own) = still_so(endpoint, &last, live)
    {
        conflicts.retain(|conflict| !own.has(&conflict.path));
    }
    conflicts
}

fn is_kubectl(manager: &Manager<'_>) -> bool {
    manager.name == "kubectl"
}

/// The fields of an earlier configuration that still have their values.
fn still_so<'a>(endpoint: &Endpoint<'a>, last: &'a Value, live: &Value) -> Option<FieldSet<'a>> {
    let changes = compare(endpoint.shape(), Some(last), Some(live)).ok()?;
    let mut fields = fields_of(endpoint.shape(), last);
    for set in [&changes.added, &changes.modified, &changes.removed] {
        fields.remove(set);
    }
    Some(fields)
}

fn text(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][ANNOTATION].as_str().filter(|text| !text.is_empty())
}

/// Renews the annotation of an object to which kubectl has applied a configuration.
pub(super) fn renew(manager: &Manager<'_>, applied: &Value, object: &mut Value) {
    if !is_kubectl(manager) || text(object).is_none() {
        return;
    }
    let mut applied = applied.clone();
    if let Some(annotations) = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    let Some(metadata) = object.get_mut("metadata") else { return };
    let annotations = child_mut(metadata, "annotations");
    annotations.insert(ANNOTATION.to_owned(), json!(format!("{}\n", escaped(&applied))));
    let size = |(name, value): (&String, &Value)| name.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(size).sum::<usize>() > MAX_ANNOTATIONS {
        annotations.remove(ANNOTATION);
    }
}
