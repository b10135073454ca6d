//! [`Lifecycle`]: the writes that follow from a write, and which tasks each of them adds.

use std::sync::Arc;

use serde_json::Value;

use super::owners::{Hold, owner, owner_references};
use super::tasks::{Task, Tasks};
use crate::deletion::{PODS, grace, has_ended, mark_deleted, may_go};
use crate::object::{FOREGROUND, ORPHAN, finalizers, uid};
use crate::state::ServerState;
use crate::store::{Change, DEFINITIONS, Expect, Key, Location, NAMESPACES, Stored};

/// The tasks that follow from one write of a client, until none is left.
pub(super) struct Lifecycle<'s> {
    pub(super) state: &'s ServerState,
    pub(super) tasks: Tasks,
}

impl<'s> Lifecycle<'s> {
    pub(super) fn new(state: &'s ServerState) -> Self {
        Self { state, tasks: Tasks::default() }
    }

    /// Adds the tasks that follow from a write of an object that was `old` before; `gone`: the object was removed.
    pub(super) fn follow_up(&mut self, storage: &Arc<str>, old: Option<&Stored>, new: &Stored, gone: bool) {
        if &**storage == DEFINITIONS {
            let name = Arc::clone(&new.key.name);
            self.tasks.push(if gone { Task::Undefine(name) } else { Task::Define(new.key.clone()) });
        }
        if &**storage == NAMESPACES && new.deleting && !gone {
            self.tasks.push(Task::Drain(Arc::clone(&new.key.name), None));
        }
        if let Some(old) = old.filter(|old| !old.owners.is_empty()) {
            self.tell_owners(&old.value(), new, gone);
        }
        if gone {
            self.tasks.push(Task::Release(uid(&new.value()).into()));
            if self.is_deleting(NAMESPACES, &new.key.namespace) {
                self.tasks.push(Task::FinishNamespace(Arc::clone(&new.key.namespace)));
            }
            if self.is_deleting(DEFINITIONS, storage) {
                self.tasks.push(Task::FinishDefinition(Arc::clone(storage)));
            }
        } else if new.deleting {
            let location = || Location { storage: Arc::clone(storage), key: new.key.clone() };
            let object = new.value();
            if finalizers(&object).contains(&FOREGROUND) {
                self.tasks.push(Task::Foreground(location()));
            }
            if finalizers(&object).contains(&ORPHAN) {
                self.tasks.push(Task::Orphan(location()));
            }
        }
    }

    /// Looks again at the owners that wait for this dependent, which may no longer block them.
    fn tell_owners(&mut self, old: &Value, new: &Stored, gone: bool) {
        let owners = owner_references(old);
        if !gone && owners == owner_references(&new.value()) {
            return;
        }
        for reference in owners {
            if let (Hold::Waiting, Some(location)) = owner(self.state, reference, &new.key) {
                self.tasks.push(Task::Foreground(location));
            }
        }
    }

    /// Whether a namespace or a definition of this name is there and being deleted.
    fn is_deleting(&self, storage: &str, name: &str) -> bool {
        let found = || self.state.store.get(storage, &Key::new("", name));
        !name.is_empty() && found().is_some_and(|found| found.deleting)
    }

    /// Changes an object as it is now, if it is there, and again if it changed meanwhile. Removes the object if
    /// nothing keeps it from going any more.
    pub(super) fn edit(&mut self, location: &Location, change: impl Fn(&mut Value)) {
        while let Some(stored) = self.state.store.get(&location.storage, &location.key) {
            if self.edit_judged(location, &stored, &change) {
                return;
            }
        }
    }

    /// As [`Self::edit`], but adds no tasks: for changes that call for none.
    pub(super) fn edit_quietly(&mut self, location: &Location, change: impl Fn(&mut Value)) {
        let mut quiet = Self::new(self.state);
        quiet.edit(location, change);
    }

    /// Changes an object that is still `stored`. Returns false, and does nothing, if the object is not.
    pub(super) fn edit_judged(
        &mut self,
        location: &Location,
        stored: &Arc<Stored>,
        change: impl Fn(&mut Value),
    ) -> bool {
        let before = stored.value();
        let mut object = before.clone();
        change(&mut object);
        if object == before {
            return true;
        }
        let gone = has_ended(&location.storage, &object);
        let change = if gone { Change::Remove(object) } else { Change::Put(object) };
        self.write_judged(location, stored, change, gone)
    }

    pub(super) fn write_judged(
        &mut self,
        location: &Location,
        stored: &Arc<Stored>,
        change: Change,
        gone: bool,
    ) -> bool {
        let Location { storage, key } = location;
        let written = self.state.store.write(storage, key, Expect::Revision(stored.revision), change);
        written.is_ok_and(|written| {
            self.follow_up(storage, Some(stored), &written, gone);
            true
        })
    }

    /// Deletes an object, at once unless a finalizer or a grace period keeps it.
    pub(super) fn remove(&mut self, location: &Location) {
        while let Some(stored) = self.state.store.get(&location.storage, &location.key) {
            if self.collect_judged(location, &stored) {
                return;
            }
        }
    }

    /// As [`Self::remove`], of an object that is still `stored`. Returns false, and does nothing, if it is not.
    pub(super) fn collect_judged(&mut self, location: &Location, stored: &Arc<Stored>) -> bool {
        // Without a kubelet, nobody would end a Pod whose grace period has begun.
        let is_ended = self.state.controllers.ends_pods && &*location.storage == PODS;
        let grace = if is_ended { grace(PODS, &stored.value(), None) } else { 0 };
        self.remove_judged(location, stored, grace)
    }

    /// As [`Self::collect_judged`], with a grace period in seconds.
    pub(super) fn remove_judged(&mut self, location: &Location, stored: &Arc<Stored>, grace: i64) -> bool {
        let object = stored.value();
        if grace == 0 && may_go(&location.storage, &object) {
            return self.write_judged(location, stored, Change::Remove(object), true);
        }
        let now = self.state.clock.now();
        self.edit_judged(location, stored, |object| mark_deleted(&location.storage, object, grace, now))
    }
}
