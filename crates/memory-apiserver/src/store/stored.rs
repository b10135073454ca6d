//! [`Stored`]: one version of one object, as text.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::object;

/// What objects of a collection are ordered and found by, as in etcd: the namespace first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// Empty for cluster-scoped kinds.
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// One version of one object. Immutable.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) key: Key,
    pub(crate) revision: u64,
    /// Whether deletion has begun.
    pub(crate) deleting: bool,
    pub(crate) labels: BTreeMap<String, String>,
    /// UIDs of its owners.
    pub(crate) owners: Vec<Box<str>>,
    /// The whole object as JSON.
    pub(crate) text: Bytes,
}

impl Stored {
    /// Gives the object its version and takes from it what is asked for often.
    pub(super) fn new(key: Key, mut object: Value, revision: u64) -> Self {
        object::metadata_mut(&mut object).insert("resourceVersion".to_owned(), revision.to_string().into());
        Self {
            key,
            revision,
            deleting: object::is_deleting(&object),
            labels: object::labels(&object),
            owners: object::owners(&object).map(Into::into).collect(),
            text: object.to_string().into(),
        }
    }

    /// An object that is shown but not kept: it has no version but the one it says.
    pub(crate) fn unstored(key: Key, object: &Value) -> Self {
        Self {
            key,
            revision: 0,
            deleting: object::is_deleting(object),
            labels: object::labels(object),
            owners: Vec::new(),
            text: object.to_string().into(),
        }
    }

    /// The object.
    pub(crate) fn value(&self) -> Value {
        // The text was written from a value.
        serde_json::from_slice(&self.text).unwrap_or_default()
    }

    /// The object as it was in this version, said to be of another one: how the end of a selection is told.
    pub(crate) fn at_revision(&self, revision: u64) -> Self {
        Self::new(self.key.clone(), self.value(), revision)
    }
}
