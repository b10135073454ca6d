//! [`Selection`]: the objects that a lookup visits, under the store's read lock.

use std::sync::Arc;

use crate::kind::{CacheObject, Index, KindParams};
use crate::store::View;

/// Some of the objects of a store, under its read lock. See [`Reader::select`](crate::Reader::select).
pub struct Selection<'v, K> {
    view: &'v View<'v, K>,
    params: Option<&'v KindParams<K>>,
    /// Index and value that the objects have.
    filed: Option<(u8, &'v str)>,
    /// Namespace index and value that the objects have.
    within: Option<(u8, &'v str)>,
}

impl<'v, K: CacheObject> Selection<'v, K> {
    pub(super) fn new(
        view: &'v View<'v, K>,
        params: Option<&'v KindParams<K>>,
        filed: Option<(u8, &'v str)>,
        within: Option<(u8, &'v str)>,
    ) -> Self {
        Self { view, params, filed, within }
    }

    /// Calls `f` with each object.
    pub fn for_each(&self, f: impl FnMut(&Arc<K>)) {
        match (self.within, self.filed) {
            (Some(within), Some(filed)) => self.view.by_indexes(within, filed).for_each(f),
            (Some(one), None) | (None, Some(one)) => self.view.by_index(one.0, one.1).for_each(f),
            (None, None) => self.view.iter().for_each(f),
        }
    }

    /// Returns the objects that satisfy the predicate, with one allocation.
    #[must_use]
    pub fn copy_if(&self, predicate: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
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

    /// Returns true if any object of the whole store has a value in an index.
    #[must_use]
    pub fn any_filed(&self, index: impl Into<Index<K>>, value: &str) -> bool {
        let number = self.params.and_then(|params| params.index_number(index.into().name()));
        number.is_some_and(|number| self.view.count(number, value) > 0)
    }
}

#[expect(clippy::ptr_arg, reason = "passed where the list itself is looked at")]
pub(super) fn has_any<K>(list: &Vec<K>) -> bool {
    !list.is_empty()
}

/// Copies a list with one allocation.
pub(super) fn copy<'a, K: 'a>(objects: impl Iterator<Item = &'a Arc<K>>, count: usize) -> Vec<Arc<K>> {
    let mut list = Vec::with_capacity(count);
    list.extend(objects.cloned());
    list
}
