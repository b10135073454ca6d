//! [`Store`]: all objects and their latest changes, under one revision.
//!
//! As in etcd, each write raises the one revision of the whole store, and a list shows the state at one revision. The
//! latest events of each collection are kept ([`Limits`]), so that watches can resume and older states can be shown.
//! Older states have *expired*.
//!
//! One lock guards the store. It is held while a write is done and while pointers are copied, never while an object is
//! parsed or sent.

mod collection;
mod limits;
mod range;
mod state;
mod stored;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::watch;

pub(crate) use collection::{Event, EventKind};
pub(crate) use limits::Limits;
pub(crate) use range::Range;
pub(crate) use state::{DEFINITIONS, Location, NAMESPACES, Unknown};
pub(crate) use stored::{Key, Stored};
pub(crate) use write::{Change, Expect, Refused};

use collection::Collection;
use state::State;

/// Objects as they were at one revision, in the order of their keys.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) objects: Vec<Arc<Stored>>,
    pub(crate) revision: u64,
    /// Whether more of them follow in the range.
    pub(crate) more: bool,
}

/// All objects. See the [module](self).
pub(crate) struct Store {
    state: RwLock<State>,
    limits: Limits,
}

impl Store {
    pub(crate) fn new(limits: Limits) -> Self {
        // The version of a list must not be 0, which means "any".
        let state = State { revision: 1, ..State::default() };
        Self { state: RwLock::new(state), limits }
    }

    /// The revision of the last write.
    pub(crate) fn revision(&self) -> u64 {
        self.state.read().revision
    }

    pub(crate) fn get(&self, storage: &str, key: &Key) -> Option<Arc<Stored>> {
        self.state.read().get(storage, key).cloned()
    }

    /// How many objects a collection has.
    pub(crate) fn len(&self, storage: &str) -> usize {
        self.state.read().collections.get(storage).map_or(0, Collection::len)
    }

    /// The names of all collections that have or had objects.
    pub(crate) fn storages(&self) -> Vec<Arc<str>> {
        self.state.read().collections.keys().cloned().collect()
    }

    /// The first `limit` objects of a range, now or at a revision; all of them if `limit` is 0.
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
        let limit = if limit == 0 { usize::MAX } else { limit };
        let (objects, more) = collection.map(|all| all.list(range, revision, limit)).unwrap_or_default();
        Ok(Snapshot { objects, revision, more })
    }

    /// The first `limit` objects of a range as they are now.
    pub(crate) fn page(&self, storage: &str, range: &Range<'_>, limit: usize) -> Vec<Arc<Stored>> {
        let state = self.state.read();
        let collection = state.collections.get(storage);
        collection.map(|all| all.list(range, state.revision, limit).0).unwrap_or_default()
    }

    /// How many objects there were at a revision in a namespace, or in all of them.
    ///
    /// # Errors
    ///
    /// If the state at that revision is not known.
    pub(crate) fn count(
        &self,
        storage: &str,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<usize, Unknown> {
        let state = self.state.read();
        let collection = state.known_since(storage, revision)?;
        Ok(collection.map_or(0, |all| all.count(namespace, revision)))
    }

    /// Whether no collection has an object in this namespace.
    pub(crate) fn is_empty_namespace(&self, namespace: &str) -> bool {
        let state = self.state.read();
        state.collections.values().all(|all| all.count(Some(namespace), state.revision) == 0)
    }

    /// Whether a watch can begin at this revision.
    ///
    /// # Errors
    ///
    /// If events after that revision may be forgotten.
    pub(crate) fn check_watchable(&self, storage: &str, revision: u64) -> Result<(), Unknown> {
        let state = self.state.read();
        let oldest = state.collections.get(storage).map_or(state.floor, Collection::watchable);
        if revision < oldest { Err(Unknown::Expired { oldest }) } else { Ok(()) }
    }

    /// Lets no new watch of a collection begin before now: its kind has changed.
    pub(crate) fn expire_watches(&self, storage: &Arc<str>) {
        let mut state = self.state.write();
        let revision = state.revision;
        state.collection(storage).expire_watches(revision);
    }

    /// The events after a revision that an open watch has reached, at most `limit` of them.
    ///
    /// # Errors
    ///
    /// If some of them are forgotten. A compaction alone is not an error: a watch that has read all events goes on.
    pub(crate) fn events_after(
        &self,
        storage: &str,
        revision: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, Unknown> {
        let state = self.state.read();
        let Some(collection) = state.collections.get(storage) else { return Ok(Vec::new()) };
        let oldest = collection.lost();
        if revision < oldest {
            return Err(Unknown::Expired { oldest });
        }
        Ok(collection.events_after(revision, limit))
    }

    /// Begins a watch: the receiver changes with each new revision of the collection. [`Self::unsubscribe`] ends it.
    pub(crate) fn subscribe(&self, storage: &Arc<str>) -> watch::Receiver<u64> {
        self.state.write().collection(storage).subscribe()
    }

    /// Ends a watch.
    pub(crate) fn unsubscribe(&self, storage: &str) {
        if let Some(collection) = self.state.write().collections.get_mut(storage) {
            collection.unsubscribe();
        }
    }

    /// Forgets the events of a collection whose kind is gone, once the watches that are open have ended.
    pub(crate) fn end(&self, storage: &str) {
        if let Some(collection) = self.state.write().collections.get_mut(storage) {
            collection.end();
        }
    }

    /// Writes an object and returns it as it is stored, or its last state if it is removed.
    ///
    /// # Errors
    ///
    /// If the present state is not the expected one. Nothing is changed then.
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

    /// Checks whether such a write is possible now.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub(crate) fn check(&self, storage: &str, key: &Key, expect: Expect) -> Result<(), Refused> {
        self.state.read().check(storage, key, expect)
    }

    /// Stores an object without any check, for tests.
    pub(crate) fn force(&self, storage: &Arc<str>, key: &Key, object: Value) -> Arc<Stored> {
        self.state.write().put(storage, key, Change::Put(object), &self.limits)
    }

    /// The objects that name the owner of this UID.
    pub(crate) fn dependents(&self, uid: &str) -> Vec<Location> {
        let state = self.state.read();
        state.dependents.get(uid).map(|all| all.iter().cloned().collect()).unwrap_or_default()
    }

    /// Forgets all events. Watches that have not read all of them have expired.
    pub(crate) fn compact(&self) {
        let mut state = self.state.write();
        let revision = state.revision;
        state.floor = revision;
        state.collections.values_mut().for_each(|collection| collection.compact(revision));
    }

    /// Raises the revision without a write, as the writes of a server itself do.
    pub(crate) fn skip_revision(&self) {
        self.state.write().revision += 1;
    }

    /// Sets the whole store back to an older revision, as a restored backup would, and forgets all events.
    ///
    /// # Errors
    ///
    /// If the state at that revision is not known.
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
