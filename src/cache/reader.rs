//! [`Reader`]: lookups of one kind, straight from its store.

use std::sync::Arc;

use super::error::LookupError;
use super::resources::Watched;
use crate::informer::{CachedResource, KeyRef, NAMESPACE_INDEX, ObjectKey, View, in_predicate, index_number};

/// Lookups of one kind. Cheap to clone; made by [`Cache::reader`](super::Cache::reader).
///
/// All methods are synchronous and do no I/O: they take the store's read lock, copy `Arc`s and let go. What
/// they return is immutable and as new as the last event of the watch; how far that may lag is in the
/// kind's health. Lists are in no particular order. A namespace of `None` or `""` searches all that is
/// watched.
pub struct Reader<K: CachedResource> {
    watched: Arc<Watched<K>>,
}

impl<K: CachedResource> Clone for Reader<K> {
    fn clone(&self) -> Self {
        Self { watched: Arc::clone(&self.watched) }
    }
}

impl<K: CachedResource> Reader<K> {
    pub(crate) fn new(watched: Arc<Watched<K>>) -> Self {
        Self { watched }
    }

    /// Whether lookups have answers: the kind is in scope and its first list is complete.
    #[must_use]
    pub fn has_synced(&self) -> bool {
        self.watched.informer.has_synced()
    }

    /// The object of this name, if there is one. The namespace of cluster-scoped kinds is `""`.
    ///
    /// # Errors
    ///
    /// [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn get(&self, namespace: &str, name: &str) -> Result<Option<Arc<K>>, LookupError> {
        self.look(Some(namespace), Option::is_some, |view| view.get(KeyRef { namespace, name }).cloned())
    }

    /// All objects, of one namespace if it is given.
    ///
    /// # Errors
    ///
    /// [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn list(&self, namespace: Option<&str>) -> Result<Vec<Arc<K>>, LookupError> {
        self.look(namespace, has_any, |view| match given(namespace) {
            Some(namespace) => {
                copy(view.by_index(NAMESPACE_INDEX, namespace), view.count(NAMESPACE_INDEX, namespace))
            }
            None => copy(view.iter(), view.iter().len()),
        })
    }

    /// The objects filed under a value of an index.
    ///
    /// # Errors
    ///
    /// [`LookupError::UnknownIndex`], [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn by_index(&self, index: &str, value: &str) -> Result<Vec<Arc<K>>, LookupError> {
        let index = Self::number(index)?;
        self.look(None, has_any, |view| copy(view.by_index(index, value), view.count(index, value)))
    }

    /// The objects filed under a value of each of two indexes; walks the shorter list (B7).
    ///
    /// # Errors
    ///
    /// [`LookupError::UnknownIndex`], [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn by_indexes(&self, a: (&str, &str), b: (&str, &str)) -> Result<Vec<Arc<K>>, LookupError> {
        let (a, b) = ((Self::number(a.0)?, a.1), (Self::number(b.0)?, b.1));
        self.look(None, has_any, |view| view.by_indexes(a, b).cloned().collect())
    }

    /// The first object filed under a value of an index that satisfies the predicate; nothing else is copied
    /// (A9). Which one is first is unspecified.
    ///
    /// The predicate runs under the store's read lock: it must be quick. It may look things up itself.
    ///
    /// # Errors
    ///
    /// [`LookupError::UnknownIndex`], [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn find(
        &self,
        index: &str,
        value: &str,
        mut predicate: impl FnMut(&K) -> bool,
    ) -> Result<Option<Arc<K>>, LookupError> {
        let index = Self::number(index)?;
        self.look(None, Option::is_some, |view| {
            let mut objects = view.by_index(index, value);
            in_predicate(|| objects.find(|object| predicate(object)).cloned())
        })
    }

    /// How many objects filed under a value of an index satisfy the predicate. Copies nothing; the
    /// predicate runs as in [`Self::find`].
    ///
    /// # Errors
    ///
    /// [`LookupError::UnknownIndex`], [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    pub fn count(
        &self,
        index: &str,
        value: &str,
        mut predicate: impl FnMut(&K) -> bool,
    ) -> Result<usize, LookupError> {
        let index = Self::number(index)?;
        self.look(
            None,
            |&count| count > 0,
            |view| in_predicate(|| view.by_index(index, value).filter(|object| predicate(object)).count()),
        )
    }

    /// Number of objects.
    ///
    /// # Errors
    ///
    /// [`LookupError::NotSynced`], [`LookupError::OutOfScope`].
    #[expect(clippy::len_without_is_empty, reason = "an unsynced cache is neither empty nor not")]
    pub fn len(&self) -> Result<usize, LookupError> {
        self.look(None, |&count| count > 0, |view| view.iter().len())
    }

    /// The one object filed under a value of an index (A2, A3).
    pub(super) fn one(
        &self,
        index: &str,
        value: &str,
        namespace: Option<&str>,
    ) -> Result<Arc<K>, LookupError> {
        let index = Self::number(index)?;
        let found = self.look(namespace, Result::is_ok, |view| {
            let mut matches =
                view.by_index(index, value).filter(|object| in_namespace(&***object, namespace));
            match (matches.next(), matches.next()) {
                (Some(only), None) => Ok(Arc::clone(only)),
                (None, _) => Err(Vec::new()),
                (Some(a), Some(b)) => {
                    Err([a, b].into_iter().chain(matches).map(|k| ObjectKey::of(&**k)).collect())
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

    /// Shows the objects of a namespace and filed under a value, each where given, to `collect`, under the read
    /// lock. An empty value is one that nothing is filed under.
    pub(super) fn select<R>(
        &self,
        namespace: Option<&str>,
        index: &str,
        value: Option<&str>,
        hit: impl FnOnce(&R) -> bool,
        collect: impl FnOnce(&Selection<'_, K>) -> R,
    ) -> Result<R, LookupError> {
        let index = Self::number(index)?;
        let namespace = given(namespace);
        self.look(namespace, hit, |view| {
            let filed = value.map(|value| (index, value));
            let within = namespace.map(|namespace| (NAMESPACE_INDEX, namespace));
            collect(&Selection { view, filed, within })
        })
    }

    /// Looks at the store if it has an answer, and counts.
    fn look<R>(
        &self,
        namespace: Option<&str>,
        hit: impl FnOnce(&R) -> bool,
        look: impl FnOnce(&View<'_, K>) -> R,
    ) -> Result<R, LookupError> {
        let kind = || K::kind(&());
        let watched = &self.watched;
        if !watched.in_scope {
            return Err(LookupError::OutOfScope { kind: kind(), namespace: None });
        }
        let limit = watched.informer.options().namespace.as_deref();
        if let (Some(limit), Some(asked)) = (limit, given(namespace))
            && limit != asked
        {
            return Err(LookupError::OutOfScope { kind: kind(), namespace: Some(asked.into()) });
        }
        if !watched.informer.has_synced() {
            return Err(LookupError::NotSynced { kind: kind() });
        }
        let found = look(&watched.informer.store().view());
        watched.lookups.count(hit(&found));
        Ok(found)
    }

    fn number(index: &str) -> Result<u8, LookupError> {
        index_number::<K>(index).ok_or_else(|| LookupError::UnknownIndex {
            kind: K::kind(&()),
            index: index.into(),
            known: K::indexes().iter().map(|index| index.name).collect(),
        })
    }
}

/// Some of the objects of a store, under its read lock.
pub(super) struct Selection<'v, K> {
    view: &'v View<'v, K>,
    /// Filed under a value of an index.
    filed: Option<(u8, &'v str)>,
    /// In a namespace.
    within: Option<(u8, &'v str)>,
}

impl<K: CachedResource> Selection<'_, K> {
    /// Calls `f` with each object.
    pub(super) fn for_each(&self, f: impl FnMut(&Arc<K>)) {
        match (self.within, self.filed) {
            (Some(within), Some(filed)) => self.view.by_indexes(within, filed).for_each(f),
            (Some(one), None) | (None, Some(one)) => self.view.by_index(one.0, one.1).for_each(f),
            (None, None) => self.view.iter().for_each(f),
        }
    }

    /// The objects that satisfy the predicate, with one allocation.
    pub(super) fn copy_if(&self, predicate: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let count = |(index, value)| self.view.count(index, value);
        let at_most = match (self.within, self.filed) {
            (Some(within), Some(filed)) => count(within).min(count(filed)),
            (Some(one), None) | (None, Some(one)) => count(one),
            (None, None) => self.view.iter().len(),
        };
        let mut list = Vec::with_capacity(at_most);
        self.for_each(|object| {
            if predicate(object) {
                list.push(Arc::clone(object));
            }
        });
        list
    }

    /// Whether any object of the whole store is filed under a value of an index.
    pub(super) fn any_filed(&self, index: &str, value: &str) -> bool {
        index_number::<K>(index).is_some_and(|index| self.view.count(index, value) > 0)
    }
}

/// As in the seed, an empty text filters nothing.
pub(super) fn given(filter: Option<&str>) -> Option<&str> {
    filter.filter(|text| !text.is_empty())
}

fn in_namespace<K: CachedResource>(object: &K, namespace: Option<&str>) -> bool {
    given(namespace).is_none_or(|namespace| object.meta().namespace.as_deref() == Some(namespace))
}

#[expect(clippy::ptr_arg, reason = "passed where the list itself is looked at")]
pub(super) fn has_any<K>(list: &Vec<K>) -> bool {
    !list.is_empty()
}

/// Copies a list with one allocation.
fn copy<'a, K: 'a>(objects: impl Iterator<Item = &'a Arc<K>>, count: usize) -> Vec<Arc<K>> {
    let mut list = Vec::with_capacity(count);
    list.extend(objects.cloned());
    list
}
