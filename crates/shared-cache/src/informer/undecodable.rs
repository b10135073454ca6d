//! Tracks objects that exist but cannot be decoded (behaviour E6), or only partially (V9). Undecodable objects are not
//! stored. Objects of both kinds are counted, and are logged once.

use std::collections::HashSet;

use kube::Resource;

use super::raw_event::Stub;
use crate::kind::{CacheObject, DecodeError};
use crate::object::{KeyRef, ObjectKey, parse_version};
use crate::store::Change;

/// The objects of one kind that cannot be decoded completely. Owned by the informer's task.
#[derive(Default)]
pub(crate) struct Isolation {
    undecodable: Tracked,
    partial: Tracked,
}

/// A set of keys that a complete list replaces.
#[derive(Default)]
struct Tracked {
    current: HashSet<ObjectKey>,
    /// The keys that the running list has seen. Once the list is complete, they are the only ones.
    listed: HashSet<ObjectKey>,
}

impl Tracked {
    fn is_empty(&self) -> bool {
        self.current.is_empty() && self.listed.is_empty()
    }

    /// Returns true if the key is new.
    fn insert(&mut self, key: &ObjectKey) -> bool {
        self.listed.insert(key.clone());
        self.current.insert(key.clone())
    }

    /// Returns true if the key was tracked.
    fn remove(&mut self, key: &ObjectKey) -> bool {
        self.current.remove(key) | self.listed.remove(key)
    }
}

impl Isolation {
    pub(crate) fn begin_list(&mut self) {
        self.undecodable.listed.clear();
        self.partial.listed.clear();
    }

    pub(crate) fn end_list(&mut self) {
        self.undecodable.current = std::mem::take(&mut self.undecodable.listed);
        self.partial.current = std::mem::take(&mut self.partial.listed);
    }

    /// Returns true if the object of a key is known not to be decoded completely.
    pub(crate) fn tracks(&self, key: KeyRef<'_>) -> bool {
        let is_in =
            |tracked: &Tracked| !tracked.is_empty() && tracked.current.contains(&ObjectKey::from(key));
        is_in(&self.undecodable) || is_in(&self.partial)
    }

    /// Returns the number of undecodable and of partially decoded objects.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.undecodable.current.len(), self.partial.current.len())
    }

    /// Records that an object was decoded without the fields `unread`.
    pub(crate) fn record_decoded<K: CacheObject>(&mut self, object: &K, unread: &[DecodeError]) {
        if unread.is_empty() && self.undecodable.is_empty() && self.partial.is_empty() {
            return;
        }
        let (kind, key) = (K::kind(&()), ObjectKey::of(object));
        if self.undecodable.remove(&key) {
            tracing::info!(%kind, %key, "object can be decoded again");
        }
        let Some(first) = unread.first() else {
            self.partial.remove(&key);
            return;
        };
        if self.partial.insert(&key) {
            let fields: Vec<_> = unread.iter().map(|fault| fault.field.as_str()).collect();
            tracing::warn!(
                %kind, %key, fields = fields.join(", "), problem = %first.problem,
                "object is in the cache without the fields that cannot be decoded"
            );
        }
    }

    /// Records that an object was deleted whose last version was decoded.
    pub(crate) fn record_deleted<K: CacheObject>(&mut self, object: &K) {
        if !self.undecodable.is_empty() || !self.partial.is_empty() {
            let key = ObjectKey::of(object);
            self.undecodable.remove(&key);
            self.partial.remove(&key);
        }
    }

    /// Records an object that `error` says is undecodable. The returned change hides the outdated stored
    /// object.
    pub(crate) fn isolate<K: CacheObject>(&mut self, object: &str, error: &DecodeError) -> Change<K> {
        let stub = Stub::parse(object);
        let key = ObjectKey::new(stub.metadata.namespace, stub.metadata.name);
        self.partial.remove(&key);
        if self.undecodable.insert(&key) {
            tracing::warn!(
                kind = %K::kind(&()), %key, field = %error.field, problem = %error.problem,
                "object cannot be decoded and is not in the cache"
            );
        }
        let version = parse_version(&stub.metadata.resource_version);
        Change::Hide { namespace: key.namespace, name: key.name, version }
    }

    /// Records that an undecodable object was deleted.
    pub(crate) fn gone<K: Resource>(&mut self, object: &str) -> Change<K> {
        let stub = Stub::parse(object);
        let version = parse_version(&stub.metadata.resource_version);
        let key = ObjectKey::new(stub.metadata.namespace, stub.metadata.name);
        self.undecodable.remove(&key);
        self.partial.remove(&key);
        Change::DeleteHidden { namespace: key.namespace, name: key.name, version }
    }
}
