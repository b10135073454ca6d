//! The life of a definition: its names are judged, its kinds are served, and with it go all their objects.

use std::sync::Arc;

use super::{Task, Tasks, drop_finalizer};
use crate::crds;
use crate::server::Server;
use crate::store::{DEFINITIONS, Key, Location};

impl Server {
    /// Serves the kinds of a definition, or takes them back with all their objects.
    pub(super) fn define(&self, key: &Key, tasks: &mut Tasks) {
        let location = Location { storage: DEFINITIONS.into(), key: key.clone() };
        match self.store.get(DEFINITIONS, key) {
            None => {}
            Some(definition) if definition.deleting => self.clean_up(&location, tasks),
            Some(_) => {
                self.judge(&location, tasks);
                self.refresh_registry();
            }
        }
    }

    /// Gives a definition the names that are free. Others of its group may have waited for those that it had.
    fn judge(&self, location: &Location, tasks: &mut Tasks) {
        // Of two that want the same name at the same time, one has to come first.
        let _one_at_a_time = self.naming.lock();
        let others: Vec<_> = self.all(DEFINITIONS).iter().map(|other| other.value()).collect();
        let before = self.store.get(DEFINITIONS, &location.key).map(|stored| stored.revision);
        // That this is a change of the definition, too, is no reason to judge it again.
        self.edit(location, &mut Tasks::new(), |definition| {
            *definition = crds::accept(definition.take(), &others);
        });
        if self.store.get(DEFINITIONS, &location.key).map(|stored| stored.revision) != before {
            self.judge_group_of(&location.key.name, tasks);
        }
    }

    /// Looks again at the other definitions of a group that did not get the names that they want.
    fn judge_group_of(&self, name: &str, tasks: &mut Tasks) {
        let group = name.split_once('.').map(|(_, group)| group);
        for other in self.all(DEFINITIONS) {
            let same = other.key.name.split_once('.').map(|(_, group)| group) == group;
            if same && *other.key.name != *name && !crds::names_are_accepted(&other.value()) {
                tasks.push_back(Task::Define(other.key.clone()));
            }
        }
    }

    /// Deletes the objects of a definition that is to go, and lets it go with the last one.
    fn clean_up(&self, location: &Location, tasks: &mut Tasks) {
        let storage: Arc<str> = Arc::clone(&location.key.name);
        for object in self.all(&storage).iter().filter(|object| !object.deleting) {
            self.remove(&Location { storage: Arc::clone(&storage), key: object.key.clone() }, tasks);
        }
        if self.store.len(&storage) == 0 {
            self.edit(location, tasks, |definition| drop_finalizer(definition, crds::CLEANUP_FINALIZER));
        } else {
            self.edit(location, &mut Tasks::new(), crds::terminating);
        }
    }

    /// Serves the kinds of a definition no more, and frees its names.
    pub(super) fn undefine(&self, name: &str, tasks: &mut Tasks) {
        self.refresh_registry();
        self.store.close(name);
        self.judge_group_of(name, tasks);
    }
}
