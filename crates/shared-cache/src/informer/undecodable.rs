//! Tracks objects that exist but cannot be decoded (behaviour E6). They are not stored, are counted, and are
//! logged once.

use std::collections::HashSet;

use kube::Resource;

use super::raw_event::Stub;
use crate::kind::{CacheObject, DecodeError};
use crate::object::{ObjectKey, parse_version};
use crate::store::Change;

/// The undecodable objects of one kind. Owned by the informer's task.
#[derive(Default)]
pub(crate) struct Isolation {
    current: HashSet<ObjectKey>,
    /// The undecodable objects that the running list has seen. Once the list is complete, they are the only
    /// ones.
    listed: HashSet<ObjectKey>,
}

impl Isolation {
    pub(crate) fn begin_list(&mut self) {
        self.listed.clear();
    }

    pub(crate) fn end_list(&mut self) {
        self.current = std::mem::take(&mut self.listed);
    }

    pub(crate) fn len(&self) -> usize {
        self.current.len()
    }

    /// Records that the object of this key can be decoded again, or was deleted.
    pub(crate) fn record_decoded<K: CacheObject>(&mut self, object: &K) {
        if !self.current.is_empty() || !self.listed.is_empty() {
            let key = ObjectKey::of(object);
            if self.current.remove(&key) | self.listed.remove(&key) {
                tracing::info!(kind = %K::kind(&()), %key, "object can be decoded again");
            }
        }
    }

    /// Records an object that `error` says is undecodable. The returned change hides the outdated stored
    /// object.
    pub(crate) fn isolate<K: CacheObject>(&mut self, object: &str, error: &DecodeError) -> Change<K> {
        let stub = Stub::parse(object);
        let key = ObjectKey::new(stub.metadata.namespace, stub.metadata.name);
        if self.current.insert(key.clone()) {
            tracing::warn!(
                kind = %K::kind(&()), %key, field = %error.field, problem = %error.problem,
                "object cannot be decoded and is not in the cache"
            );
        }
        let version = parse_version(&stub.metadata.resource_version);
        self.listed.insert(key.clone());
        Change::Hide { namespace: key.namespace, name: key.name, version }
    }

    /// Records that an undecodable object was deleted.
    pub(crate) fn gone<K: Resource>(&mut self, object: &str) -> Change<K> {
        let stub = Stub::parse(object);
        let version = parse_version(&stub.metadata.resource_version);
        let key = ObjectKey::new(stub.metadata.namespace, stub.metadata.name);
        self.current.remove(&key);
        self.listed.remove(&key);
        Change::DeleteHidden { namespace: key.namespace, name: key.name, version }
    }
}
