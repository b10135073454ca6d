//! [`KindParams`]: the properties of one kind that the store and the informer need.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Resource;
use serde::de::DeserializeOwned;

use super::cached_resource::{CacheObject, CachedResource};
use super::decode::{DecodeError, decode_json};
use super::index::{Index, IndexFunc, IndexKeys, IndexValues, NAMESPACE_INDEX, Transition};

/// Extracts the values of one index.
pub(crate) type Extract<K> = Arc<dyn Fn(&K, &mut IndexKeys<'_>) + Send + Sync>;

/// Decodes an object from its JSON text.
pub(crate) type Decode<K> = Arc<dyn Fn(&str) -> Result<K, DecodeError> + Send + Sync>;

/// Changes an object before it is stored.
pub(crate) type Transform<K> = Arc<dyn Fn(&mut K) + Send + Sync>;

/// One index: its name and the function that extracts its values.
pub(crate) struct IndexDefinition<K> {
    pub(crate) index: Index<K>,
    pub(crate) extract: Extract<K>,
}

/// The decoder, the indexes and the time rule of one kind. Immutable once the cache is built.
pub(crate) struct KindParams<K> {
    decode: Decode<K>,
    unread_fields: fn(&K) -> &[DecodeError],
    next_transition: fn(&K) -> Option<Timestamp>,
    transforms: Vec<Transform<K>>,
    indexes: Vec<IndexDefinition<K>>,
}

impl<K: CacheObject> KindParams<K> {
    /// Creates the parameters of a kind without its own definitions.
    pub(crate) fn plain() -> Self
    where
        K: DeserializeOwned,
    {
        Self {
            decode: Arc::new(decode_json::<K>),
            unread_fields: |_| &[],
            next_transition: |_| None,
            transforms: Vec::new(),
            indexes: Vec::new(),
        }
    }

    /// Creates the parameters of a kind from its [`CachedResource`] implementation.
    pub(crate) fn cached() -> Self
    where
        K: CachedResource,
    {
        let definition = |func: &IndexFunc<K>| {
            let extract = func.extract;
            IndexDefinition { index: func.index, extract: Arc::new(extract) as Extract<K> }
        };
        Self {
            decode: Arc::new(K::decode),
            unread_fields: K::unread_fields,
            next_transition: K::next_transition,
            transforms: Vec::new(),
            indexes: K::indexes().iter().map(definition).collect(),
        }
    }

    pub(crate) fn add_index(&mut self, definition: IndexDefinition<K>) {
        self.indexes.push(definition);
    }

    pub(crate) fn set_decoder(&mut self, decode: Decode<K>) {
        self.decode = decode;
    }

    pub(crate) fn add_transform(&mut self, transform: Transform<K>) {
        self.transforms.push(transform);
    }

    /// Decodes an object and applies the transforms.
    pub(crate) fn decode(&self, json: &str) -> Result<K, DecodeError> {
        let mut object = (self.decode)(json)?;
        self.transforms.iter().for_each(|transform| transform(&mut object));
        Ok(object)
    }

    /// Returns the fields of an object that could not be read.
    pub(crate) fn unread_fields<'a>(&self, object: &'a K) -> &'a [DecodeError] {
        (self.unread_fields)(object)
    }

    pub(crate) fn next_transition(&self, object: &K) -> Option<Timestamp> {
        (self.next_transition)(object)
    }

    /// Returns all index values of an object at a time.
    pub(crate) fn index_values(&self, object: &K, now: Timestamp) -> IndexValues {
        let transition = self.next_transition(object).map(|at| Transition::new(at, now));
        let mut values = IndexValues::new(transition);
        values.push(NAMESPACE_INDEX, Resource::meta(object).namespace.as_deref().unwrap_or_default());
        for (number, definition) in (NAMESPACE_INDEX + 1..).zip(&self.indexes) {
            (definition.extract)(object, &mut IndexKeys::new(&mut values, number, now));
        }
        values
    }

    /// Returns the number of an index by its name.
    pub(crate) fn index_number(&self, name: &str) -> Option<u8> {
        (NAMESPACE_INDEX + 1..)
            .zip(&self.indexes)
            .find(|(_, d)| d.index.name() == name)
            .map(|(number, _)| number)
    }

    /// Returns the names of the indexes, in the order of their numbers.
    pub(crate) fn index_names(&self) -> impl Iterator<Item = &'static str> {
        self.indexes.iter().map(|definition| definition.index.name())
    }

    /// Returns the name of an index by its number; `None` for the index by namespace.
    pub(crate) fn index_name(&self, number: u8) -> Option<&'static str> {
        let position = number.checked_sub(NAMESPACE_INDEX + 1)?;
        self.indexes.get(usize::from(position)).map(|definition| definition.index.name())
    }
}
