//! What follows from a write: definitions are served, owners take their dependents along, namespaces drain.
//!
//! In a cluster several controllers do this, some time later. Here it is done before the write is answered, so that
//! nobody has to wait for it.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::builtin::DEFINITIONS;
use super::crds;
use super::metadata::whole_seconds;
use super::object::{self, finalizers, metadata_mut};
use super::resource::Resource;
use super::server::Server;
use super::store::{Change, Expect, Key, Location, NAMESPACES, Range, Stored};

/// The finalizers that stand for a way of deleting.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
pub(crate) const ORPHAN: &str = "orphan";

/// Work that follows from a write.
enum Task {
    /// A definition is new or has changed.
    Define(Key),
    /// A definition is gone, and its kind with it.
    Undefine(Arc<str>),
    /// An object is gone.
    Release(Value),
    /// An object goes once those that it owns are gone.
    Foreground(Location),
    /// An object goes and leaves behind those that it owns.
    Orphan(Location),
    /// A namespace goes once it is empty.
    Drain(Arc<str>),
}

impl Server {
    /// Does all that follows from a write.
    pub(crate) fn after_write(&self, storage: &Arc<str>, stored: &Stored, gone: bool) {
        let mut tasks = VecDeque::new();
        self.follow_up(storage, stored, gone, &mut tasks);
        while let Some(task) = tasks.pop_front() {
            self.carry_out(task, &mut tasks);
        }
    }

    fn follow_up(&self, storage: &Arc<str>, stored: &Stored, gone: bool, tasks: &mut VecDeque<Task>) {
        let location = || Location { storage: Arc::clone(storage), key: stored.key.clone() };
        if &**storage == DEFINITIONS {
            tasks.push_back(if gone {
                Task::Undefine(Arc::clone(&stored.key.name))
            } else {
                Task::Define(stored.key.clone())
            });
        }
        if &**storage == NAMESPACES && stored.deleting && !gone {
            tasks.push_back(Task::Drain(Arc::clone(&stored.key.name)));
        }
        if gone {
            tasks.push_back(Task::Release(stored.value()));
            if self.namespace_is_deleting(&stored.key.namespace) {
                tasks.push_back(Task::Drain(Arc::clone(&stored.key.namespace)));
            }
        } else if stored.deleting {
            let object = stored.value();
            if finalizers(&object).contains(&FOREGROUND) {
                tasks.push_back(Task::Foreground(location()));
            }
            if finalizers(&object).contains(&ORPHAN) {
                tasks.push_back(Task::Orphan(location()));
            }
        }
    }

    fn carry_out(&self, task: Task, tasks: &mut VecDeque<Task>) {
        match task {
            Task::Define(key) => self.define(&key, tasks),
            Task::Undefine(name) => {
                self.refresh_registry();
                self.store.close(&name);
            }
            Task::Release(object) => self.release(&object, tasks),
            Task::Foreground(location) => self.delete_in_foreground(&location, tasks),
            Task::Orphan(location) => self.orphan(&location, tasks),
            Task::Drain(namespace) => self.drain(&namespace, tasks),
        }
    }

    fn namespace_is_deleting(&self, namespace: &str) -> bool {
        !namespace.is_empty()
            && self
                .store
                .get(NAMESPACES, &Key::new("", namespace))
                .is_some_and(|namespace| namespace.deleting)
    }

    /// Changes an object as it is now, if it is there; again if it changes meanwhile. An object that deletion
    /// waits for no longer is removed.
    fn edit(&self, location: &Location, tasks: &mut VecDeque<Task>, change: impl Fn(&mut Value)) {
        let Location { storage, key } = location;
        while let Some(stored) = self.store.get(storage, key) {
            let before = stored.value();
            let mut object = before.clone();
            change(&mut object);
            if object == before {
                return;
            }
            let gone = object::is_deleting(&object) && may_go(storage, &object);
            let change = if gone { Change::Remove(object) } else { Change::Put(object) };
            if let Ok(written) = self.store.write(storage, key, Expect::Revision(stored.revision), change) {
                return self.follow_up(storage, &written, gone, tasks);
            }
        }
    }

    /// Deletes an object, at once unless a finalizer keeps it.
    fn remove(&self, location: &Location, tasks: &mut VecDeque<Task>) {
        let Location { storage, key } = location;
        while let Some(stored) = self.store.get(storage, key) {
            let object = stored.value();
            if !may_go(storage, &object) {
                return self.edit(location, tasks, mark_deleted);
            }
            let write =
                self.store.write(storage, key, Expect::Revision(stored.revision), Change::Remove(object));
            if let Ok(written) = write {
                return self.follow_up(storage, &written, true, tasks);
            }
        }
    }

    /// Serves the kinds of a definition, or takes them back with all their objects.
    fn define(&self, key: &Key, tasks: &mut VecDeque<Task>) {
        let location = Location { storage: DEFINITIONS.into(), key: key.clone() };
        let Some(stored) = self.store.get(DEFINITIONS, key) else { return };
        if !stored.deleting {
            let others = self.all(DEFINITIONS).iter().map(|other| other.value()).collect::<Vec<_>>();
            self.edit(&location, &mut VecDeque::new(), |definition| {
                *definition = crds::accept(definition.take(), &others);
            });
            return self.refresh_registry();
        }
        let storage: Arc<str> = Arc::clone(&key.name);
        let objects = self.all(&storage);
        for object in &objects {
            self.remove(&Location { storage: Arc::clone(&storage), key: object.key.clone() }, tasks);
        }
        if self.store.len(&storage) == 0 {
            self.edit(&location, tasks, |definition| drop_finalizer(definition, crds::CLEANUP_FINALIZER));
        }
    }

    fn all(&self, storage: &str) -> Vec<Arc<Stored>> {
        self.store.list(storage, &Range::default(), None, 0).map(|all| all.objects).unwrap_or_default()
    }

    /// Deletes what no other owner holds, and looks after whoever waited for this end.
    fn release(&self, object: &Value, tasks: &mut VecDeque<Task>) {
        let uid = object::uid(object);
        for dependent in self.store.dependents(uid) {
            let Some(stored) = self.store.get(&dependent.storage, &dependent.key) else { continue };
            let owners = owner_references(&stored.value());
            let held =
                owners.iter().any(|owner| owner["uid"] != uid && self.owner(owner, &dependent.key).is_some());
            if held {
                self.edit(&dependent, tasks, |object| drop_owner(object, uid));
            } else {
                self.remove(&dependent, tasks);
            }
        }
        let key = Key::new(object::namespace(object), "");
        let waiting =
            owner_references(object).iter().filter_map(|owner| self.owner(owner, &key)).collect::<Vec<_>>();
        tasks.extend(
            waiting.into_iter().filter(|(_, owner)| owner.deleting).map(|(at, _)| Task::Foreground(at)),
        );
        self.end_definition(object, tasks);
    }

    /// A deleted definition goes with the last object of its kind.
    fn end_definition(&self, object: &Value, tasks: &mut VecDeque<Task>) {
        let (group, version) =
            object["apiVersion"].as_str().and_then(|text| text.split_once('/')).unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        let registry = self.registry();
        let of_kind =
            registry.of(group, version).find(|resource| resource.names.kind == kind && resource.is_custom());
        let Some(resource) = of_kind else { return };
        let key = Key::new("", &resource.storage);
        if self.store.get(DEFINITIONS, &key).is_some_and(|definition| definition.deleting)
            && self.store.len(&resource.storage) == 0
        {
            tasks.push_back(Task::Define(key));
        }
    }

    /// Where an owner is, if it still exists.
    fn owner(&self, reference: &Value, dependent: &Key) -> Option<(Location, Arc<Stored>)> {
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        let registry = self.registry();
        let resource: &Arc<Resource> =
            registry.of(group, version).find(|resource| resource.names.kind == text("kind"))?;
        let namespace = if resource.namespaced { &*dependent.namespace } else { "" };
        let key = Key::new(namespace, text("name"));
        let stored = self.store.get(&resource.storage, &key)?;
        let same = object::uid(&stored.value()) == text("uid");
        same.then(|| (Location { storage: Arc::clone(&resource.storage), key }, stored))
    }

    /// Deletes what an object owns, and lets the object go once nothing that blocks it is left.
    fn delete_in_foreground(&self, location: &Location, tasks: &mut VecDeque<Task>) {
        let Some(stored) = self.store.get(&location.storage, &location.key) else { return };
        let object = stored.value();
        if !finalizers(&object).contains(&FOREGROUND) {
            return;
        }
        let uid = object::uid(&object);
        for dependent in self.store.dependents(uid) {
            self.remove(&dependent, tasks);
        }
        let blocks = |dependent: &Location| {
            let stored = self.store.get(&dependent.storage, &dependent.key);
            stored.is_some_and(|stored| {
                let owners = owner_references(&stored.value());
                owners.iter().any(|owner| owner["uid"] == uid && owner["blockOwnerDeletion"] == true)
            })
        };
        if !self.store.dependents(uid).iter().any(blocks) {
            self.edit(location, tasks, |object| drop_finalizer(object, FOREGROUND));
        }
    }

    /// Makes what an object owns independent of it.
    fn orphan(&self, location: &Location, tasks: &mut VecDeque<Task>) {
        let Some(stored) = self.store.get(&location.storage, &location.key) else { return };
        let object = stored.value();
        let uid = object::uid(&object);
        for dependent in self.store.dependents(uid) {
            self.edit(&dependent, tasks, |object| drop_owner(object, uid));
        }
        self.edit(location, tasks, |object| drop_finalizer(object, ORPHAN));
    }

    /// Deletes all that is in a namespace, and the namespace once nothing is.
    fn drain(&self, namespace: &str, tasks: &mut VecDeque<Task>) {
        let range = Range { namespace: Some(namespace), after: None };
        let mut left = false;
        for storage in self.store.storages() {
            let objects =
                self.store.list(&storage, &range, None, 0).map(|all| all.objects).unwrap_or_default();
            for object in objects {
                let location = Location { storage: Arc::clone(&storage), key: object.key.clone() };
                if !object.deleting {
                    self.remove(&location, tasks);
                }
                left |= self.store.get(&storage, &object.key).is_some();
            }
        }
        if !left {
            let location = Location { storage: NAMESPACES.into(), key: Key::new("", namespace) };
            self.edit(&location, tasks, |namespace| namespace["spec"]["finalizers"] = json!([]));
        }
    }
}

/// Whether nothing keeps an object that is to be deleted.
pub(crate) fn may_go(storage: &str, object: &Value) -> bool {
    let drained = || object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    finalizers(object).is_empty() && (storage != NAMESPACES || drained())
}

/// Notes that deletion has begun.
pub(crate) fn mark_deleted(object: &mut Value) {
    if object::is_deleting(object) {
        return;
    }
    let generation = object["metadata"]["generation"].as_i64();
    let metadata = metadata_mut(object);
    metadata.insert("deletionTimestamp".to_owned(), json!(whole_seconds(Timestamp::now())));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(0));
    if let Some(generation) = generation {
        metadata.insert("generation".to_owned(), json!(generation + 1));
    }
}

fn owner_references(object: &Value) -> Vec<Value> {
    object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default()
}

fn drop_owner(object: &mut Value, uid: &str) {
    drop_from(object, "ownerReferences", |owner| owner["uid"] == uid);
}

fn drop_finalizer(object: &mut Value, finalizer: &str) {
    drop_from(object, "finalizers", |found| found == finalizer);
}

fn drop_from(object: &mut Value, field: &str, is_it: impl Fn(&Value) -> bool) {
    let metadata = metadata_mut(object);
    let Some(list) = metadata.get_mut(field).and_then(Value::as_array_mut) else { return };
    list.retain(|item| !is_it(item));
    if list.is_empty() {
        metadata.remove(field);
    }
}
