//! [`Reader`]: looks up objects of one kind in its store.

use std::sync::Arc;

use super::error::LookupError;
use super::selection::{Selection, has_any};
use super::watched::Watched;
use crate::kind::{CacheObject, Index, NAMESPACE_INDEX};
use crate::object::{KeyRef, ObjectKey};
use crate::store::{Filter, View, in_predicate};

/// Looks up objects of one kind. Cheap to clone; created by
/// [`SharedCache::reader`](crate::SharedCache::reader).
///
/// All methods are synchronous and do no I/O: they take the store's read lock, copy `Arc`s and release the
/// lock. The results are immutable and as new as the last event of the watch. Lists have no particular order.
/// A namespace of `None` or `""` searches all watched namespaces.
///
/// Every result, also a list of all objects, shows the store as it was at one moment. A lookup visits at most 1,024
/// objects under the lock. If it visits more, it takes a snapshot under the lock and visits the objects after unlocking:
/// a snapshot shares the objects, and copies 4 bytes for each object that has the value of an index. The watch waits
/// for this part of a lookup only, if the predicate is fast. While a snapshot exists, a change of the store first copies
/// the group of 32 slots that it changes. Lookups on several cores do not slow each other, unless they copy the same
/// object.
pub struct Reader<K: CacheObject> {
    /// `None` if the cache does not have the kind.
    watched: Option<Arc<Watched<K>>>,
}

impl<K: CacheObject> Clone for Reader<K> {
    fn clone(&self) -> Self {
        Self { watched: self.watched.clone() }
    }
}

impl<K: CacheObject> Reader<K> {
    pub(super) fn new(watched: Option<Arc<Watched<K>>>) -> Self {
        Self { watched }
    }

    /// Returns true if the cache has the kind and its initial list has completed, so that lookups have
    /// results.
    #[must_use]
    pub fn has_synced(&self) -> bool {
        self.watched.as_ref().is_some_and(|watched| watched.informer.has_synced())
    }

    /// Returns the object of this name; `None` if there is none. The namespace of cluster-scoped kinds is
    /// `""`.
    ///
    /// # Errors
    ///
    /// [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn get(&self, namespace: &str, name: &str) -> Result<Option<Arc<K>>, LookupError> {
        self.look(Some(namespace), Option::is_some, |view| view.get(KeyRef { namespace, name }).cloned())
    }

    /// Returns all objects, or those of one namespace if it is given.
    ///
    /// # Errors
    ///
    /// [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn list(&self, namespace: Option<&str>) -> Result<Vec<Arc<K>>, LookupError> {
        let filter = given(namespace).map_or(Filter::All, |name| Filter::One((NAMESPACE_INDEX, name)));
        self.look(namespace, has_any, |view| view.members(filter).copy())
    }

    /// Returns the objects that have a value in an index.
    ///
    /// # Errors
    ///
    /// [`LookupError::UnknownIndex`], [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn by_index(&self, index: impl Into<Index<K>>, value: &str) -> Result<Vec<Arc<K>>, LookupError> {
        let index = self.number(index)?;
        self.look(None, has_any, |view| view.members(Filter::One((index, value))).copy())
    }

    /// Returns the objects that have a value in each of two indexes. Walks the shorter list (B7).
    ///
    /// # Errors
    ///
    /// [`LookupError::UnknownIndex`], [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn by_indexes(
        &self,
        a: (impl Into<Index<K>>, &str),
        b: (impl Into<Index<K>>, &str),
    ) -> Result<Vec<Arc<K>>, LookupError> {
        let (a, b) = ((self.number(a.0)?, a.1), (self.number(b.0)?, b.1));
        self.look(None, has_any, |view| view.members(Filter::Both(a, b)).copy())
    }

    /// Returns the first object that has a value in an index and satisfies the predicate. Copies no other
    /// object (A9). The order is unspecified.
    ///
    /// The predicate may run under the store's read lock, so it must be fast. It may look up objects itself.
    ///
    /// # Errors
    ///
    /// [`LookupError::UnknownIndex`], [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn find(
        &self,
        index: impl Into<Index<K>>,
        value: &str,
        predicate: impl FnMut(&K) -> bool,
    ) -> Result<Option<Arc<K>>, LookupError> {
        let index = self.number(index)?;
        self.look(None, Option::is_some, |view| {
            in_predicate(|| view.find(Filter::One((index, value)), predicate))
        })
    }

    /// Returns the number of objects that have a value in an index and satisfy the predicate. Copies nothing.
    /// The predicate runs as in [`Self::find`].
    ///
    /// # Errors
    ///
    /// [`LookupError::UnknownIndex`], [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn count(
        &self,
        index: impl Into<Index<K>>,
        value: &str,
        mut predicate: impl FnMut(&K) -> bool,
    ) -> Result<usize, LookupError> {
        let index = self.number(index)?;
        let any = |count: &usize| *count > 0;
        self.look(None, any, |view| {
            let objects = view.members(Filter::One((index, value)));
            let mut count = 0;
            in_predicate(|| objects.for_each(|object| count += usize::from(predicate(object))));
            count
        })
    }

    /// Returns the number of objects.
    ///
    /// # Errors
    ///
    /// [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    #[expect(clippy::len_without_is_empty, reason = "an unsynced cache is neither empty nor non-empty")]
    pub fn len(&self) -> Result<usize, LookupError> {
        self.look(None, |&count| count > 0, |view| view.len())
    }

    /// Returns the one object that has a value in an index, in a namespace if it is given.
    ///
    /// # Errors
    ///
    /// [`LookupError::NotFound`]; [`LookupError::Ambiguous`] with all candidates if there are several;
    /// [`LookupError::UnknownIndex`], [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn one(
        &self,
        index: impl Into<Index<K>>,
        value: &str,
        namespace: Option<&str>,
    ) -> Result<Arc<K>, LookupError> {
        let index = self.number(index)?;
        let found = self.look(namespace, Result::is_ok, |view| {
            let objects = view.members(Filter::One((index, value)));
            let mut first: Option<&Arc<K>> = None;
            let mut others = Vec::new();
            objects.for_each(|object| match first {
                _ if !in_namespace(&**object, namespace) => {}
                None => first = Some(object),
                Some(_) => others.push(ObjectKey::of(&**object)),
            });
            match first {
                None => Err(Vec::new()),
                Some(only) if others.is_empty() => Ok(Arc::clone(only)),
                Some(first) => {
                    others.push(ObjectKey::of(&**first));
                    Err(others)
                }
            }
        })?;
        found.map_err(|mut candidates| {
            let (kind, id) = (K::kind(&()), value.to_owned());
            candidates.sort();
            if candidates.is_empty() {
                LookupError::NotFound { kind, id }
            } else {
                LookupError::Ambiguous { kind, id, candidates }
            }
        })
    }

    /// Calls `collect` with the objects in a namespace that have a value in an index, each if given. An empty
    /// value has no objects. For results that [`Self::list`] and [`Self::by_index`] cannot express without a
    /// copy.
    ///
    /// `collect` may run under the store's read lock, so it must be fast. It may look up objects itself. `hit`
    /// decides if the lookup counts as a hit in the metrics.
    ///
    /// # Errors
    ///
    /// [`LookupError::UnknownIndex`], [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn select<R>(
        &self,
        namespace: Option<&str>,
        index: impl Into<Index<K>>,
        value: Option<&str>,
        hit: impl FnOnce(&R) -> bool,
        collect: impl FnOnce(Selection<'_, K>) -> R,
    ) -> Result<R, LookupError> {
        let index = self.number(index)?;
        let namespace = given(namespace);
        self.look(namespace, hit, |view| {
            let within = namespace.map(|namespace| (NAMESPACE_INDEX, namespace));
            let filter = match (within, value.map(|value| (index, value))) {
                (Some(within), Some(value)) => Filter::Both(within, value),
                (Some(one), None) | (None, Some(one)) => Filter::One(one),
                (None, None) => Filter::All,
            };
            let params = self.watched.as_ref().map(|watched| &*watched.params);
            in_predicate(|| collect(Selection::new(view, params, filter)))
        })
    }

    /// Returns the object of a name and the number of the last batch of changes in the store
    /// ([`Batch::sequence`](crate::Batch::sequence)). With the number an observer can check that it has seen
    /// all changes.
    ///
    /// # Errors
    ///
    /// [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn get_at(&self, namespace: &str, name: &str) -> Result<(Option<Arc<K>>, u64), LookupError> {
        let found = |(object, _): &(Option<Arc<K>>, u64)| object.is_some();
        self.look(Some(namespace), found, |view| {
            (view.get(KeyRef { namespace, name }).cloned(), view.sequence())
        })
    }

    /// Reads the store if its lookups have results, and counts the lookup.
    fn look<R>(
        &self,
        namespace: Option<&str>,
        hit: impl FnOnce(&R) -> bool,
        look: impl FnOnce(View<'_, K>) -> R,
    ) -> Result<R, LookupError> {
        let kind = || K::kind(&());
        let Some(watched) = &self.watched else {
            return Err(LookupError::OutOfScope { kind: kind(), namespace: None });
        };
        if let Some(asked) = given(namespace).filter(|asked| !watched.covers(asked)) {
            return Err(LookupError::OutOfScope { kind: kind(), namespace: Some(asked.into()) });
        }
        if !watched.informer.has_synced() {
            return Err(LookupError::NotSynced { kind: kind() });
        }
        let found = look(watched.informer.store().view());
        watched.lookups.count(hit(&found));
        Ok(found)
    }

    fn number(&self, index: impl Into<Index<K>>) -> Result<u8, LookupError> {
        let (kind, name) = (K::kind(&()), index.into().name());
        let Some(watched) = &self.watched else {
            return Err(LookupError::OutOfScope { kind, namespace: None });
        };
        watched.params.index_number(name).ok_or_else(|| LookupError::UnknownIndex {
            kind,
            index: name.into(),
            known: watched.params.index_names().collect(),
        })
    }
}

/// Returns `None` for an empty text, so that an empty filter selects everything.
pub(super) fn given(filter: Option<&str>) -> Option<&str> {
    filter.filter(|text| !text.is_empty())
}

fn in_namespace<K: CacheObject>(object: &K, namespace: Option<&str>) -> bool {
    given(namespace).is_none_or(|namespace| object.meta().namespace.as_deref() == Some(namespace))
}
