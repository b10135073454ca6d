//! The life of a definition: its names are accepted, its kind is served, and its objects are deleted with it.

use std::sync::Arc;

use super::PAGE;
use super::tasks::Task;
use super::writes::Lifecycle;
use crate::crds;
use crate::object::drop_finalizer;
use crate::store::{DEFINITIONS, Key, Location, Range, Stored};

impl Lifecycle<'_> {
    /// Serves the kind of a definition, or begins to delete its objects if the definition is being deleted.
    pub(super) fn define(&mut self, key: &Key) {
        match self.state.store.get(DEFINITIONS, key) {
            None => {}
            Some(definition) if definition.deleting => {
                self.tasks.push(Task::DeleteObjects(Arc::clone(&key.name), None));
            }
            Some(_) => {
                self.accept_names(&location_of(&key.name));
                self.state.refresh_registry();
            }
        }
    }

    /// Gives a definition the names that are free. Others of its group may have waited for the names that it had.
    fn accept_names(&mut self, location: &Location) {
        let state = self.state;
        // Of two definitions that want the same name at the same time, one comes first.
        let _one_at_a_time = state.naming.lock();
        let others: Vec<_> = self.definitions().iter().map(|other| other.value()).collect();
        let revision = || state.store.get(DEFINITIONS, &location.key).map(|stored| stored.revision);
        let (before, now) = (revision(), state.clock.now());
        // The change of the status is no reason to look at the definition again.
        self.edit_quietly(location, |definition| {
            *definition = crds::accept(definition.take(), &others, now);
        });
        if revision() != before {
            self.define_group_of(&location.key.name);
        }
    }

    /// Looks again at the other definitions of a group that did not get the names that they want.
    fn define_group_of(&mut self, name: &str) {
        let group = name.split_once('.').map(|(_, group)| group);
        for other in self.definitions() {
            let same = other.key.name.split_once('.').map(|(_, group)| group) == group;
            if same && *other.key.name != *name && !crds::names_are_accepted(&other.value()) {
                self.tasks.push(Task::Define(other.key.clone()));
            }
        }
    }

    /// Deletes the next page of the objects of a definition that is being deleted.
    pub(super) fn delete_objects(&mut self, storage: &Arc<str>, after: Option<&Key>) {
        let range = Range { namespace: None, after };
        let page = self.state.store.page(storage, &range, PAGE);
        for object in page.iter().filter(|object| !object.deleting) {
            self.remove(&Location { storage: Arc::clone(storage), key: object.key.clone() });
        }
        self.tasks.push(match page.last() {
            Some(last) => Task::DeleteObjects(Arc::clone(storage), Some(last.key.clone())),
            None => Task::FinishDefinition(Arc::clone(storage)),
        });
    }

    /// Lets a definition go that has no objects. Otherwise its status says that they are being deleted.
    pub(super) fn finish_definition(&mut self, name: &Arc<str>) {
        let location = location_of(name);
        if self.state.store.len(name) == 0 {
            self.edit(&location, |definition| drop_finalizer(definition, crds::CLEANUP_FINALIZER));
        } else {
            let now = self.state.clock.now();
            self.edit_quietly(&location, |definition| crds::terminating(definition, now));
        }
    }

    /// Stops to serve the kind of a definition, frees its names, and forgets its events once no watch needs them.
    pub(super) fn undefine(&mut self, name: &str) {
        self.state.refresh_registry();
        self.state.store.end(name);
        self.define_group_of(name);
    }

    fn definitions(&self) -> Vec<Arc<Stored>> {
        self.state.store.page(DEFINITIONS, &Range::default(), usize::MAX)
    }
}

fn location_of(name: &Arc<str>) -> Location {
    Location { storage: DEFINITIONS.into(), key: Key { namespace: "".into(), name: Arc::clone(name) } }
}
