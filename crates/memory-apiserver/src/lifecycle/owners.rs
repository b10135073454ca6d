//! Owners and dependents: which owner holds which dependent.
//!
//! Dependents name their owners by UID. An owner *holds* a dependent if an object of that UID is where the dependent
//! says, and does not itself wait for its dependents. An owner in another namespace is not where the dependent says.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::object::{self, FOREGROUND, drop_from, finalizers, metadata_mut};
use crate::state::ServerState;
use crate::store::{Key, Location};

/// The relation of an owner to a dependent that names it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Hold {
    /// The owner is there.
    Solid,
    /// The owner is deleted in the foreground: it waits for its dependents.
    Waiting,
    /// The owner is gone.
    Absent,
    /// Nobody can know: the kind of the owner is not served, or the owner has a namespace and the dependent has none.
    Unknown,
}

/// The relation of an owner to the dependent of this key, and the place of the owner if it is there.
pub(super) fn owner(state: &ServerState, reference: &Value, dependent: &Key) -> (Hold, Option<Location>) {
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    let registry = state.registry();
    let Some(resource) = registry.of(group, version).find(|resource| resource.names.kind == text("kind"))
    else {
        return (Hold::Unknown, None);
    };
    if resource.namespaced && dependent.namespace.is_empty() {
        return (Hold::Unknown, None);
    }
    let namespace = if resource.namespaced { &*dependent.namespace } else { "" };
    let key = Key::new(namespace, text("name"));
    let found = state.store.get(&resource.storage, &key).map(|stored| stored.value());
    let Some(owner) = found.filter(|owner| object::uid(owner) == text("uid")) else {
        return (Hold::Absent, None);
    };
    let hold = if is_waiting(&owner) { Hold::Waiting } else { Hold::Solid };
    (hold, Some(Location { storage: Arc::clone(&resource.storage), key }))
}

/// Whether the object is deleted in the foreground.
pub(super) fn is_waiting(object: &Value) -> bool {
    object::is_deleting(object) && finalizers(object).contains(&FOREGROUND)
}

pub(super) fn owner_references(object: &Value) -> &[Value] {
    object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn uid_of(owner: &Value) -> &str {
    owner["uid"].as_str().unwrap_or_default()
}

/// Removes the owners of these UIDs from a dependent.
pub(super) fn drop_owners(object: &mut Value, uids: &HashSet<&str>) {
    drop_from(object, "ownerReferences", |owner| uids.contains(uid_of(owner)));
}

/// Lets a dependent no longer block the deletion of its owners.
pub(super) fn unblock_owners(object: &mut Value) {
    let owners = metadata_mut(object).get_mut("ownerReferences").and_then(Value::as_array_mut);
    for owner in owners.into_iter().flatten().filter_map(Value::as_object_mut) {
        owner.insert("blockOwnerDeletion".to_owned(), json!(false));
    }
}

/// Adds the finalizer of a deletion in the foreground.
pub(super) fn add_foreground(object: &mut Value) {
    let list = metadata_mut(object).entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut()
        && !list.iter().any(|finalizer| finalizer == FOREGROUND)
    {
        list.push(json!(FOREGROUND));
    }
}
