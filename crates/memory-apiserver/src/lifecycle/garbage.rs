//! The garbage collector: objects go with the last of their owners.
//!
//! Owners are found by the UID that dependents name. An owner *holds* a dependent if it is where the dependent says,
//! under that UID, and does not itself wait for its dependents to go. One in another namespace is not where the
//! dependent says. Nothing is collected for an owner that was never there: only the end of one is a reason to look.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{FOREGROUND, ORPHAN, Task, Tasks, drop_finalizer, drop_from, mark_deleted};
use crate::object::{self, finalizers, metadata_mut};
use crate::server::Server;
use crate::store::{Key, Location, Stored};

/// What an owner is to a dependent that names it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hold {
    /// It is there, or nobody can know because its kind is not served.
    Solid,
    /// It goes once its dependents are gone.
    Waiting,
    /// It is gone.
    Absent,
}

impl Server {
    /// Lets owners that wait for their dependents know that one of them may have ceased to block them.
    pub(super) fn tell_owners(&self, old: &Value, new: &Stored, gone: bool, tasks: &mut Tasks) {
        let owners = owner_references(old);
        if !gone && owners == owner_references(&new.value()) {
            return;
        }
        for owner in owners {
            if let (Hold::Waiting, Some(location)) = self.owner(owner, &new.key) {
                tasks.push_back(Task::Foreground(location));
            }
        }
    }

    /// Deletes what no other owner holds.
    pub(super) fn release(&self, object: &Value, tasks: &mut Tasks) {
        for dependent in self.store.dependents(object::uid(object)) {
            self.collect(&dependent, tasks);
        }
    }

    /// Deletes what an object owns, and lets the object go once nothing that blocks it is left.
    pub(super) fn delete_in_foreground(&self, location: &Location, tasks: &mut Tasks) {
        let Some(stored) = self.store.get(&location.storage, &location.key) else { return };
        let object = stored.value();
        if !is_waiting(&object) {
            return;
        }
        let uid = object::uid(&object);
        for dependent in self.store.dependents(uid) {
            self.collect(&dependent, tasks);
        }
        let blocks = |dependent: &Location| {
            let stored = self.store.get(&dependent.storage, &dependent.key);
            stored.is_some_and(|stored| {
                let object = stored.value();
                let mut owners = owner_references(&object).iter();
                owners.any(|owner| owner["uid"] == uid && owner["blockOwnerDeletion"] == true)
            })
        };
        if !self.store.dependents(uid).iter().any(blocks) {
            self.edit(location, tasks, |object| drop_finalizer(object, FOREGROUND));
        }
    }

    /// Makes what an object owns independent of it.
    pub(super) fn orphan(&self, location: &Location, tasks: &mut Tasks) {
        let Some(stored) = self.store.get(&location.storage, &location.key) else { return };
        let object = stored.value();
        let uid = object::uid(&object);
        for dependent in self.store.dependents(uid) {
            self.edit(&dependent, tasks, |object| drop_owners(object, &HashSet::from([uid])));
        }
        self.edit(location, tasks, |object| drop_finalizer(object, ORPHAN));
    }

    /// Deletes a dependent that no owner holds. One that is held forgets the owners that do not hold it. What is
    /// written is written to the object that was judged, or it is judged again.
    fn collect(&self, location: &Location, tasks: &mut Tasks) {
        while let Some(stored) = self.store.get(&location.storage, &location.key) {
            if stored.deleting || self.collected(location, &stored, tasks) {
                return;
            }
        }
    }

    /// `false` when it has changed meanwhile.
    fn collected(&self, location: &Location, stored: &Arc<Stored>, tasks: &mut Tasks) -> bool {
        let object = stored.value();
        let owners: Vec<_> = owner_references(&object)
            .iter()
            .map(|owner| (uid_of(owner), self.owner(owner, &location.key).0))
            .collect();
        let with = |hold: Hold| owners.iter().any(|(_, found)| *found == hold);
        if with(Hold::Solid) {
            let loose = owners.iter().filter(|(_, hold)| *hold != Hold::Solid).map(|(uid, _)| *uid);
            let loose: HashSet<_> = loose.collect();
            return self.edit_judged(location, stored, tasks, |object| drop_owners(object, &loose));
        }
        let dependents = self.store.dependents(object::uid(&object));
        if with(Hold::Waiting) && !dependents.is_empty() {
            self.collect_in_foreground(location, stored, &dependents, tasks)
        } else {
            self.remove_judged(location, stored, tasks)
        }
    }

    /// Deletes a dependent after its own dependents. Of a circle of owners, somebody has to go first.
    fn collect_in_foreground(
        &self,
        location: &Location,
        stored: &Arc<Stored>,
        dependents: &[Location],
        tasks: &mut Tasks,
    ) -> bool {
        let is_circle = dependents.iter().any(|dependent| {
            let found = self.store.get(&dependent.storage, &dependent.key);
            found.is_some_and(|found| found.deleting && is_waiting(&found.value()))
        });
        self.edit_judged(location, stored, tasks, |object| {
            if is_circle {
                unblock_owners(object);
            }
            if !finalizers(object).contains(&ORPHAN) {
                add_foreground(object);
            }
            mark_deleted(&location.storage, object, 0);
        })
    }

    /// What an owner is to a dependent of this key, and where it is, if it is there.
    fn owner(&self, reference: &Value, dependent: &Key) -> (Hold, Option<Location>) {
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        let registry = self.registry();
        let Some(resource) = registry.of(group, version).find(|resource| resource.names.kind == text("kind"))
        else {
            return (Hold::Solid, None);
        };
        let namespace = if resource.namespaced { &*dependent.namespace } else { "" };
        let key = Key::new(namespace, text("name"));
        let found = self.store.get(&resource.storage, &key).map(|stored| stored.value());
        let Some(owner) = found.filter(|owner| object::uid(owner) == text("uid")) else {
            return (Hold::Absent, None);
        };
        let hold = if is_waiting(&owner) { Hold::Waiting } else { Hold::Solid };
        (hold, Some(Location { storage: Arc::clone(&resource.storage), key }))
    }
}

/// Whether an object is to go after its dependents.
fn is_waiting(object: &Value) -> bool {
    object::is_deleting(object) && finalizers(object).contains(&FOREGROUND)
}

fn owner_references(object: &Value) -> &[Value] {
    object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn uid_of(owner: &Value) -> &str {
    owner["uid"].as_str().unwrap_or_default()
}

fn drop_owners(object: &mut Value, uids: &HashSet<&str>) {
    drop_from(object, "ownerReferences", |owner| uids.contains(uid_of(owner)));
}

fn unblock_owners(object: &mut Value) {
    let owners = metadata_mut(object).get_mut("ownerReferences").and_then(Value::as_array_mut);
    for owner in owners.into_iter().flatten().filter_map(Value::as_object_mut) {
        owner.insert("blockOwnerDeletion".to_owned(), json!(false));
    }
}

fn add_foreground(object: &mut Value) {
    let list = metadata_mut(object).entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut()
        && !list.iter().any(|finalizer| finalizer == FOREGROUND)
    {
        list.push(json!(FOREGROUND));
    }
}
