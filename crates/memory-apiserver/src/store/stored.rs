//! [`Stored`]: one version of an object, as text.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::object;

/// The key of an object in its collection. Keys are ordered as in etcd, by namespace first.
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

/// One version of an object. Immutable.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) key: Key,
    pub(crate) revision: u64,
    /// Whether deletion has begun.
    pub(crate) deleting: bool,
    pub(crate) labels: BTreeMap<String, String>,
    /// The UIDs of its owners.
    pub(crate) owners: Vec<Box<str>>,
    /// The whole object as JSON.
    pub(crate) text: Bytes,
}

impl Stored {
    /// Sets the version of the object, and copies the fields that are read often.
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

    /// An object that is only shown, with the version that it has.
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
        // The text was made of a value, so it can be parsed.
        serde_json::from_slice(&self.text).unwrap_or_default()
    }

    /// The same object with another version: the deletion that a watch gets if an object no longer matches.
    pub(crate) fn at_revision(&self, revision: u64) -> Self {
        Self::new(self.key.clone(), self.value(), revision)
    }
}
