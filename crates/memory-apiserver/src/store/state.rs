//! [`State`]: the collections under one revision, which one lock guards.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::collection::Collection;
use super::limits::Limits;
use super::stored::{Key, Stored};
use super::write::{Change, Expect, Refused};

/// The collection of namespaces. Objects can be created only in a namespace that exists and is not being deleted.
pub(crate) const NAMESPACES: &str = "namespaces";

/// The collection of definitions of custom kinds. The name of a definition is that of the collection of its objects.
pub(crate) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// A state that is not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unknown {
    /// It is older than the events that are kept.
    Expired { oldest: u64 },
    /// It is newer than the store.
    Future { current: u64 },
}

/// The place of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Location {
    pub(crate) storage: Arc<str>,
    pub(crate) key: Key,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) revision: u64,
    /// What happened up to this revision is forgotten, for collections that do not exist yet, too.
    pub(super) floor: u64,
    pub(super) collections: HashMap<Arc<str>, Collection>,
    /// The objects that name an owner, by the UID of the owner.
    pub(super) dependents: HashMap<Box<str>, BTreeSet<Location>>,
}

impl State {
    pub(super) fn collection(&mut self, storage: &Arc<str>) -> &mut Collection {
        let floor = self.floor;
        self.collections.entry(Arc::clone(storage)).or_insert_with(|| Collection::new(floor))
    }

    /// The collection, if there is one, and if its past is known from this revision on.
    pub(super) fn known_since(&self, storage: &str, revision: u64) -> Result<Option<&Collection>, Unknown> {
        let collection = self.collections.get(storage);
        let oldest = collection.map_or(self.floor, Collection::floor);
        if revision < oldest { Err(Unknown::Expired { oldest }) } else { Ok(collection) }
    }

    pub(super) fn get(&self, storage: &str, key: &Key) -> Option<&Arc<Stored>> {
        self.collections.get(storage)?.get(key)
    }

    pub(super) fn check(&self, storage: &str, key: &Key, expect: Expect) -> Result<(), Refused> {
        match (expect, self.get(storage, key)) {
            (Expect::Absent, None) => self.check_namespace(key),
            (Expect::AbsentAndDefined, None) => {
                self.check_definition(storage)?;
                self.check_namespace(key)
            }
            (Expect::Revision(revision), Some(found)) if found.revision == revision => Ok(()),
            _ => Err(Refused::Raced),
        }
    }

    /// Refuses new objects of a kind whose definition, of this name, is gone or being deleted.
    fn check_definition(&self, name: &str) -> Result<(), Refused> {
        match self.get(DEFINITIONS, &Key::new("", name)) {
            None => Err(Refused::NoDefinition),
            Some(definition) if definition.deleting => Err(Refused::DefinitionTerminating),
            Some(_) => Ok(()),
        }
    }

    /// Refuses a new object in a namespace that is gone or being deleted.
    fn check_namespace(&self, key: &Key) -> Result<(), Refused> {
        if key.namespace.is_empty() {
            return Ok(());
        }
        match self.get(NAMESPACES, &Key::new("", &key.namespace)) {
            None => Err(Refused::NoNamespace),
            Some(namespace) if namespace.deleting => Err(Refused::NamespaceTerminating),
            Some(_) => Ok(()),
        }
    }

    pub(super) fn put(
        &mut self,
        storage: &Arc<str>,
        key: &Key,
        change: Change,
        limits: &Limits,
    ) -> Arc<Stored> {
        self.revision += 1;
        let revision = self.revision;
        let location = Location { storage: Arc::clone(storage), key: key.clone() };
        if let Some(old) = self.get(storage, key) {
            let owners = old.owners.clone();
            self.forget_dependent(&owners, &location);
        }
        let stored = match change {
            Change::Put(object) => {
                let stored = Arc::new(Stored::new(key.clone(), object, revision));
                for owner in &stored.owners {
                    self.dependents.entry(owner.clone()).or_default().insert(location.clone());
                }
                self.collection(storage).put(Arc::clone(&stored));
                stored
            }
            Change::Remove(last) => {
                let last = Arc::new(Stored::new(key.clone(), last, revision));
                self.collection(storage).remove(Arc::clone(&last));
                last
            }
        };
        self.collection(storage).evict(limits);
        stored
    }

    fn forget_dependent(&mut self, owners: &[Box<str>], location: &Location) {
        for owner in owners {
            if let Some(all) = self.dependents.get_mut(owner) {
                all.remove(location);
                if all.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
    }

    pub(super) fn rebuild_dependents(&mut self) {
        self.dependents.clear();
        for (storage, collection) in &self.collections {
            for stored in collection.iter() {
                let location = Location { storage: Arc::clone(storage), key: stored.key.clone() };
                for owner in &stored.owners {
                    self.dependents.entry(owner.clone()).or_default().insert(location.clone());
                }
            }
        }
    }
}
