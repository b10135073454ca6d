//! What follows from a write: definitions are served, owners take their dependents along, namespaces drain.
//!
//! In a cluster several controllers do this, some time later. Here it is done before the write is answered, so that
//! nobody has to wait for it. What is to be done is queued and done one thing after another, however long a chain
//! of owners is.

mod definitions;
mod garbage;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::metadata::whole_seconds;
use super::object::{self, finalizers, metadata_mut};
use super::server::Server;
use super::store::{Change, DEFINITIONS, Expect, Key, Location, NAMESPACES, Range, Stored};

/// The finalizers that stand for a way of deleting.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
pub(crate) const ORPHAN: &str = "orphan";

/// The only objects that are given time to end.
pub(crate) const PODS: &str = "pods";

/// Work that follows from a write.
enum Task {
    /// A definition is new or has changed, or may have lost its last object.
    Define(Key),
    /// A definition is gone, and its kind with it.
    Undefine(Arc<str>),
    /// An object is gone, and its dependents have one owner less.
    Release(Value),
    /// An object goes once those that it owns are gone.
    Foreground(Location),
    /// An object goes and leaves behind those that it owns.
    Orphan(Location),
    /// A namespace goes once it is empty.
    Drain(Arc<str>),
}

type Tasks = VecDeque<Task>;

impl Server {
    /// Does all that follows from a write of an object that was `old` before; `gone`: it was removed.
    pub(crate) fn after_write(&self, storage: &Arc<str>, old: Option<&Stored>, new: &Stored, gone: bool) {
        let mut tasks = Tasks::new();
        self.follow_up(storage, old, new, gone, &mut tasks);
        while let Some(task) = tasks.pop_front() {
            self.carry_out(task, &mut tasks);
        }
    }

    fn follow_up(
        &self,
        storage: &Arc<str>,
        old: Option<&Stored>,
        new: &Stored,
        gone: bool,
        tasks: &mut Tasks,
    ) {
        if &**storage == DEFINITIONS {
            let name = Arc::clone(&new.key.name);
            tasks.push_back(if gone { Task::Undefine(name) } else { Task::Define(new.key.clone()) });
        }
        if &**storage == NAMESPACES && new.deleting && !gone {
            tasks.push_back(Task::Drain(Arc::clone(&new.key.name)));
        }
        if let Some(old) = old.filter(|old| !old.owners.is_empty()) {
            self.tell_owners(&old.value(), new, gone, tasks);
        }
        if gone {
            tasks.push_back(Task::Release(new.value()));
            if self.is_deleting(NAMESPACES, &new.key.namespace) {
                tasks.push_back(Task::Drain(Arc::clone(&new.key.namespace)));
            }
            if self.is_deleting(DEFINITIONS, storage) {
                tasks.push_back(Task::Define(Key::new("", storage)));
            }
        } else if new.deleting {
            let location = || Location { storage: Arc::clone(storage), key: new.key.clone() };
            let object = new.value();
            if finalizers(&object).contains(&FOREGROUND) {
                tasks.push_back(Task::Foreground(location()));
            }
            if finalizers(&object).contains(&ORPHAN) {
                tasks.push_back(Task::Orphan(location()));
            }
        }
    }

    fn carry_out(&self, task: Task, tasks: &mut Tasks) {
        match task {
            Task::Define(key) => self.define(&key, tasks),
            Task::Undefine(name) => self.undefine(&name, tasks),
            Task::Release(object) => self.release(&object, tasks),
            Task::Foreground(location) => self.delete_in_foreground(&location, tasks),
            Task::Orphan(location) => self.orphan(&location, tasks),
            Task::Drain(namespace) => self.drain(&namespace, tasks),
        }
    }

    /// Whether something of the whole cluster is there and on its way out.
    fn is_deleting(&self, storage: &str, name: &str) -> bool {
        !name.is_empty() && self.store.get(storage, &Key::new("", name)).is_some_and(|found| found.deleting)
    }

    /// Changes an object as it is now, if it is there; again if it changes meanwhile. An object that deletion
    /// waits for no longer is removed.
    fn edit(&self, location: &Location, tasks: &mut Tasks, change: impl Fn(&mut Value)) {
        while let Some(stored) = self.store.get(&location.storage, &location.key) {
            if self.edit_judged(location, &stored, tasks, &change) {
                return;
            }
        }
    }

    /// Changes an object that is still what it was; otherwise `false`, and nothing has happened.
    fn edit_judged(
        &self,
        location: &Location,
        stored: &Arc<Stored>,
        tasks: &mut Tasks,
        change: impl Fn(&mut Value),
    ) -> bool {
        let storage = &location.storage;
        let before = stored.value();
        let mut object = before.clone();
        change(&mut object);
        if object == before {
            return true;
        }
        let gone = has_ended(storage, &object);
        let change = if gone { Change::Remove(object) } else { Change::Put(object) };
        self.write_judged(location, stored, change, gone, tasks)
    }

    fn write_judged(
        &self,
        location: &Location,
        stored: &Arc<Stored>,
        change: Change,
        gone: bool,
        tasks: &mut Tasks,
    ) -> bool {
        let Location { storage, key } = location;
        let written = self.store.write(storage, key, Expect::Revision(stored.revision), change);
        written.is_ok_and(|written| {
            self.follow_up(storage, Some(stored), &written, gone, tasks);
            true
        })
    }

    /// Deletes an object, at once unless a finalizer keeps it.
    fn remove(&self, location: &Location, tasks: &mut Tasks) {
        while let Some(stored) = self.store.get(&location.storage, &location.key) {
            if self.remove_judged(location, &stored, tasks) {
                return;
            }
        }
    }

    /// As [`Self::remove`], of an object that is still what it was; otherwise `false`.
    fn remove_judged(&self, location: &Location, stored: &Arc<Stored>, tasks: &mut Tasks) -> bool {
        let object = stored.value();
        if may_go(&location.storage, &object) {
            return self.write_judged(location, stored, Change::Remove(object), true, tasks);
        }
        self.edit_judged(location, stored, tasks, |object| mark_deleted(&location.storage, object, 0))
    }

    fn all(&self, storage: &str) -> Vec<Arc<Stored>> {
        self.store.list(storage, &Range::default(), None, 0).map(|all| all.objects).unwrap_or_default()
    }

    /// Deletes all that is in a namespace, and the namespace once nothing is.
    fn drain(&self, namespace: &str, tasks: &mut Tasks) {
        let range = Range { namespace: Some(namespace), after: None };
        let mut left = false;
        for storage in self.store.storages() {
            let objects =
                self.store.list(&storage, &range, None, 0).map(|all| all.objects).unwrap_or_default();
            for object in objects {
                let location = Location { storage: Arc::clone(&storage), key: object.key.clone() };
                // Nobody ends Pods here, so that those that were given time have had enough of it.
                if !object.deleting || &*storage == PODS {
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

/// Whether deletion of an object has begun and waits for nothing any more.
pub(crate) fn has_ended(storage: &str, object: &Value) -> bool {
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
    object::is_deleting(object) && may_go(storage, object) && grace <= 0
}

/// Notes that deletion has begun, and how many seconds the object is given. A time that it was given before can
/// only be shortened.
pub(crate) fn mark_deleted(storage: &str, object: &mut Value, grace: i64) {
    if object::is_deleting(object) {
        return shorten(object, grace);
    }
    let until = after(Timestamp::now(), grace);
    metadata_mut(object).insert("deletionTimestamp".to_owned(), json!(whole_seconds(until)));
    // As kube-apiserver has it: for these two kinds, deletion is an update of their own making.
    if matches!(storage, NAMESPACES | DEFINITIONS) {
        return;
    }
    let generation = object["metadata"]["generation"].as_i64();
    let metadata = metadata_mut(object);
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
    if let Some(generation) = generation {
        metadata.insert("generation".to_owned(), json!(generation.saturating_add(1)));
    }
}

fn shorten(object: &mut Value, grace: i64) {
    let before = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let Some(before) = before.filter(|before| grace < *before) else { return };
    let until = object::meta_text(object, "deletionTimestamp").parse::<Timestamp>();
    let metadata = metadata_mut(object);
    if let Ok(until) = until {
        let earlier = after(until, grace.saturating_sub(before));
        metadata.insert("deletionTimestamp".to_owned(), json!(whole_seconds(earlier)));
    }
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
}

/// A time so many seconds later, as far as there are times.
fn after(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

fn drop_finalizer(object: &mut Value, finalizer: &str) {
    drop_from(object, "finalizers", |found| found == finalizer);
}

/// Takes items out of a list of the metadata, and the list away with the last one.
fn drop_from(object: &mut Value, field: &str, is_it: impl Fn(&Value) -> bool) {
    let metadata = metadata_mut(object);
    let Some(list) = metadata.get_mut(field).and_then(Value::as_array_mut) else { return };
    list.retain(|item| !is_it(item));
    if list.is_empty() {
        metadata.remove(field);
    }
}
