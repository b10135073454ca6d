//! Definitions of custom kinds: their defaults, their rules, and their conditions.

mod accept;
mod validate;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::object::child_mut;

pub(crate) use accept::{accept, names_are_accepted, terminate, terminating};
pub(crate) use validate::validate;

/// The finalizer that keeps a deleted definition until its objects are gone.
pub(crate) const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Sets the defaults of a definition.
pub(crate) fn default(definition: &mut Value) {
    let kind = text(&definition["spec"]["names"]["kind"]).to_owned();
    let names = child_mut(&mut definition["spec"], "names");
    for (field, name) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
        let is_empty = names.get(field).is_none_or(|name| text(name).is_empty());
        if is_empty && !kind.is_empty() {
            names.insert(field.to_owned(), json!(name));
        }
    }
    child_mut(definition, "spec").entry("conversion").or_insert_with(|| json!({"strategy": "None"}));
}

/// Sets the status of a new definition, and records each version in which objects are stored.
pub(crate) fn prepare(definition: &mut Value, live: Option<&Value>, _: Timestamp) {
    if live.is_none() {
        definition["status"] = json!({
            "conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": [],
        });
    }
    let Some(stored) = stored_version(&definition["spec"]).map(|version| version["name"].clone()) else {
        return;
    };
    let all = child_mut(definition, "status").entry("storedVersions").or_insert_with(|| json!([]));
    if let Some(all) = all.as_array_mut()
        && !all.contains(&stored)
    {
        all.push(stored);
    }
}

pub(crate) fn versions(spec: &Value) -> &[Value] {
    spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The version in which objects are stored.
pub(crate) fn stored_version(spec: &Value) -> Option<&Value> {
    versions(spec).iter().find(|version| version["storage"] == true)
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether the kind of a definition is served.
pub(crate) fn is_established(definition: &Value) -> bool {
    has_condition(definition, "Established")
}

fn has_condition(definition: &Value, kind: &str) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}
