//! [`Store`]: every object and what became of it lately, under one revision.
//!
//! As in etcd, each write raises the one revision of the whole store, and a list shows the state at one revision.
//! The latest events of each collection are kept ([`Limits`]), so that watches can resume and old states can be
//! shown; what is older has *expired*.
//!
//! One lock guards all of it. It is held for a write's own work and for copying pointers, never while an object is
//! decoded or text is sent.

mod collection;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::watch;

pub(crate) use collection::{Event, EventKind, Range};
pub(crate) use stored::{Key, Stored};

use collection::Collection;

/// Where namespaces are kept; objects can only be created in one that is there and stays.
pub(crate) const NAMESPACES: &str = "namespaces";

/// Where definitions of custom kinds are kept, under the name of the collection that holds the objects of each.
pub(crate) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// How much of the past is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Events of one collection.
    pub(crate) events: usize,
    /// Bytes of objects in the events of one collection.
    pub(crate) bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: 50_000, bytes: 256 << 20 }
    }
}

/// What a write wants to find.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expect {
    /// No object.
    Absent,
    /// No object, of a kind whose definition is there and stays.
    AbsentAndDefined,
    /// The object as it was at this revision.
    Revision(u64),
}

/// What a write does.
pub(crate) enum Change {
    /// Stores the object.
    Put(Value),
    /// Removes the object; watchers are shown this as its last state.
    Remove(Value),
}

/// Why a write was not made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refused {
    /// Somebody else was first: another revision is there, none, or one where none was expected.
    Raced,
    /// There is no such namespace.
    NoNamespace,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The kind is not defined any more.
    NoDefinition,
    /// The definition of the kind is being deleted.
    DefinitionTerminating,
}

/// A state that is no longer known, or not yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unknown {
    /// Older than the events that are kept.
    Expired { oldest: u64 },
    /// Newer than the store.
    Future { current: u64 },
}

/// Objects as they were at one revision, in the order of their keys.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) objects: Vec<Arc<Stored>>,
    pub(crate) revision: u64,
    /// How many follow in the range after the last one.
    pub(crate) remaining: usize,
}

/// Everything that is stored. See the [module](self).
pub(crate) struct Store {
    state: RwLock<State>,
    limits: Limits,
}

struct State {
    revision: u64,
    /// What happened up to this revision has been forgotten, also of collections that are yet to come.
    floor: u64,
    collections: HashMap<Arc<str>, Collection>,
    /// The objects that name an owner, by its UID.
    dependents: HashMap<Box<str>, BTreeSet<Location>>,
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Location {
    pub(crate) storage: Arc<str>,
    pub(crate) key: Key,
}

impl Store {
    pub(crate) fn new(limits: Limits) -> Self {
        // A list's version may not be 0, which asks for "any".
        let state = State { revision: 1, floor: 0, collections: HashMap::new(), dependents: HashMap::new() };
        Self { state: RwLock::new(state), limits }
    }

    /// The revision of the last write.
    pub(crate) fn revision(&self) -> u64 {
        self.state.read().revision
    }

    pub(crate) fn get(&self, storage: &str, key: &Key) -> Option<Arc<Stored>> {
        self.state.read().get(storage, key).cloned()
    }

    /// How many objects a collection holds.
    pub(crate) fn len(&self, storage: &str) -> usize {
        self.state.read().collections.get(storage).map_or(0, Collection::len)
    }

    /// The names of the collections that hold or held objects.
    pub(crate) fn storages(&self) -> Vec<Arc<str>> {
        self.state.read().collections.keys().cloned().collect()
    }

    /// The objects of a range, now or as they were at a revision, at most `limit` of them if it is not 0.
    pub(crate) fn list(
        &self,
        storage: &str,
        range: &Range<'_>,
        at: Option<u64>,
        limit: usize,
    ) -> Result<Snapshot, Unknown> {
        let state = self.state.read();
        let revision = at.unwrap_or(state.revision);
        if revision > state.revision {
            return Err(Unknown::Future { current: state.revision });
        }
        let collection = state.known_since(storage, revision)?;
        let (objects, remaining) = collection.map(|all| all.list(range, revision, limit)).unwrap_or_default();
        Ok(Snapshot { objects, revision, remaining })
    }

    /// The events after a revision, at most `limit` of them; none if there are none yet.
    pub(crate) fn events_after(
        &self,
        storage: &str,
        revision: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, Unknown> {
        let state = self.state.read();
        let collection = state.known_since(storage, revision)?;
        Ok(collection.map(|all| all.events_after(revision, limit)).unwrap_or_default())
    }

    /// Tells of each new revision of a collection.
    pub(crate) fn subscribe(&self, storage: &Arc<str>) -> watch::Receiver<u64> {
        self.state.write().collection(storage).subscribe()
    }

    /// Makes one write and returns the object as it is stored, or was last.
    ///
    /// # Errors
    ///
    /// When something else is there than was expected; nothing is changed then.
    pub(crate) fn write(
        &self,
        storage: &Arc<str>,
        key: &Key,
        expect: Expect,
        change: Change,
    ) -> Result<Arc<Stored>, Refused> {
        let mut state = self.state.write();
        state.check(storage, key, expect)?;
        Ok(state.put(storage, key, change, &self.limits))
    }

    /// Whether such a write would be made now.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub(crate) fn check(&self, storage: &str, key: &Key, expect: Expect) -> Result<(), Refused> {
        self.state.read().check(storage, key, expect)
    }

    /// Stores an object whatever is there, whatever it is: the door for tests.
    pub(crate) fn force(&self, storage: &Arc<str>, key: &Key, object: Value) -> Arc<Stored> {
        self.state.write().put(storage, key, Change::Put(object), &self.limits)
    }

    /// The objects that name this owner.
    pub(crate) fn dependents(&self, uid: &str) -> Vec<Location> {
        let state = self.state.read();
        state.dependents.get(uid).map(|all| all.iter().cloned().collect()).unwrap_or_default()
    }

    /// Ends the watches of a collection once they have told what there is to tell.
    pub(crate) fn close(&self, storage: &str) {
        if let Some(collection) = self.state.write().collections.get_mut(storage) {
            collection.close();
        }
    }

    /// Forgets all that happened before now: watches of older versions have expired.
    pub(crate) fn compact(&self) {
        let mut state = self.state.write();
        let revision = state.revision;
        state.floor = revision;
        state.collections.values_mut().for_each(|collection| collection.compact(revision));
    }

    /// Uses up a revision for nothing, as a server does with what it writes for itself.
    pub(crate) fn skip_revision(&self) {
        self.state.write().revision += 1;
    }

    /// Sets the whole store back to an older revision, as a restored backup would, and forgets all that happened
    /// before and since.
    ///
    /// # Errors
    ///
    /// When that state is no longer known, or not yet.
    pub(crate) fn rewind(&self, revision: u64) -> Result<(), Unknown> {
        let mut state = self.state.write();
        if revision > state.revision {
            return Err(Unknown::Future { current: state.revision });
        }
        let floors = state.collections.values().map(Collection::floor);
        let oldest = floors.max().unwrap_or_default().max(state.floor);
        if revision < oldest {
            return Err(Unknown::Expired { oldest });
        }
        (state.revision, state.floor) = (revision, revision);
        state.collections.values_mut().for_each(|collection| collection.rewind(revision));
        state.rebuild_dependents();
        Ok(())
    }
}

impl State {
    fn collection(&mut self, storage: &Arc<str>) -> &mut Collection {
        let floor = self.floor;
        self.collections.entry(Arc::clone(storage)).or_insert_with(|| Collection::new(floor))
    }

    /// A collection, if there is one and its past is known from this revision on.
    fn known_since(&self, storage: &str, revision: u64) -> Result<Option<&Collection>, Unknown> {
        let collection = self.collections.get(storage);
        let oldest = collection.map_or(self.floor, Collection::floor);
        if revision < oldest { Err(Unknown::Expired { oldest }) } else { Ok(collection) }
    }

    fn get(&self, storage: &str, key: &Key) -> Option<&Arc<Stored>> {
        self.collections.get(storage)?.get(key)
    }

    fn check(&self, storage: &str, key: &Key, expect: Expect) -> Result<(), Refused> {
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

    /// Whether objects of a kind may be created that a definition of this name defines.
    fn check_definition(&self, name: &str) -> Result<(), Refused> {
        match self.get(DEFINITIONS, &Key::new("", name)) {
            None => Err(Refused::NoDefinition),
            Some(definition) if definition.deleting => Err(Refused::DefinitionTerminating),
            Some(_) => Ok(()),
        }
    }

    /// Whether an object may be created under this key.
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

    fn put(&mut self, storage: &Arc<str>, key: &Key, change: Change, limits: &Limits) -> Arc<Stored> {
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

    fn rebuild_dependents(&mut self) {
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
