//! [`InitialKeys`]: the objects of the initial list that no worker has taken yet.
//!
//! Names and versions, not the objects themselves: an object that changes before its turn would keep its old version
//! in memory, 2.4 kB each for a fleet whose objects all change. The names of all keys are in one allocation.

use std::sync::Arc;

use kube::Resource;
use shared_cache::{KeyRef, version_of};

/// The version of an object in the initial list; `None` if it is not numeric.
pub(crate) type InitialVersion = Option<u64>;

/// Keys with the versions that their objects had, in order.
#[derive(Default)]
pub(super) struct InitialKeys {
    /// Namespace and name of each key, one after the other.
    names: String,
    keys: std::vec::IntoIter<Key>,
    /// Where the names of the next key begin.
    next: usize,
}

struct Key {
    namespace_end: usize,
    name_end: usize,
    version: InitialVersion,
}

impl InitialKeys {
    pub(super) fn new<K: Resource>(objects: &[Arc<K>]) -> Self {
        let length = |key: KeyRef<'_>| key.namespace.len() + key.name.len();
        let length = objects.iter().map(|object| length(KeyRef::of(&**object))).sum();
        let mut names = String::with_capacity(length);
        let mut keys = Vec::with_capacity(objects.len());
        for object in objects {
            let KeyRef { namespace, name } = KeyRef::of(&**object);
            names.push_str(namespace);
            let namespace_end = names.len();
            names.push_str(name);
            keys.push(Key { namespace_end, name_end: names.len(), version: version_of(&**object) });
        }
        Self { names, keys: keys.into_iter(), next: 0 }
    }

    /// Takes the next key. Frees the memory if there is none.
    pub(super) fn pop(&mut self) -> Option<(KeyRef<'_>, InitialVersion)> {
        let Some(Key { namespace_end, name_end, version }) = self.keys.next() else {
            *self = Self::default();
            return None;
        };
        let begin = std::mem::replace(&mut self.next, name_end);
        let key = KeyRef {
            namespace: &self.names[begin..namespace_end],
            name: &self.names[namespace_end..name_end],
        };
        Some((key, version))
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}
