//! Definitions of custom kinds: their rules, their conditions, and the kinds that follow from them.

mod accept;
mod resources;
mod validate;

use serde_json::{Value, json};

use super::object::{self, child_mut};

pub(crate) use accept::{accept, names_are_accepted, terminate, terminating};
pub(crate) use resources::resources;
pub(crate) use validate::validate;

/// Keeps a deleted definition until its objects are gone.
pub(crate) const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Which state of which definition a kind was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    uid: String,
    generation: i64,
    /// The names that it is served by.
    names: Value,
}

impl Origin {
    pub(crate) fn of(definition: &Value) -> Self {
        let generation = definition["metadata"]["generation"].as_i64().unwrap_or_default();
        let names = definition["status"]["acceptedNames"].clone();
        Self { uid: object::uid(definition).to_owned(), generation, names }
    }

    /// Whether the definition was another one once, so that objects may be stored that were made to its measure.
    pub(crate) fn has_changed(&self) -> bool {
        self.generation > 1
    }
}

/// Sets what a definition leaves out.
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

/// Begins the status of a new definition, and notes each version that objects are stored in.
pub(crate) fn prepare(definition: &mut Value, live: Option<&Value>) {
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

fn versions(spec: &Value) -> &[Value] {
    spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The version that objects are stored in.
fn stored_version(spec: &Value) -> Option<&Value> {
    versions(spec).iter().find(|version| version["storage"] == true)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether the kinds of a definition are served.
pub(crate) fn is_established(definition: &Value) -> bool {
    has_condition(definition, "Established")
}

fn has_condition(definition: &Value, kind: &str) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}
