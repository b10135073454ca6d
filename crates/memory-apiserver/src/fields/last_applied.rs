//! From `kubectl apply` to `kubectl apply --server-side`: the annotation in which the former keeps what it applied.
//!
//! Only the manager `kubectl` is concerned. What the annotation says was applied, and is so still, is no conflict,
//! whoever owns it; and where an object has the annotation, applying renews it, so that one may go back.

use serde_json::{Value, json};

use super::apply::Conflict;
use super::compare::compare;
use super::content::fields_of;
use super::path::escaped;
use super::set::FieldSet;
use super::{Endpoint, Manager};
use crate::object::child_mut;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The bytes that all annotations of an object may have.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// The conflicts without those that are with kubectl's own earlier self.
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

/// What an earlier configuration speaks of and what is still as it says.
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
