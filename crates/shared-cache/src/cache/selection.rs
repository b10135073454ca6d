//! [`Selection`]: the objects that a lookup visits.

use std::sync::Arc;

use crate::kind::{CacheObject, Index, KindParams};
use crate::store::{Filter, View};

/// Some of the objects of a store, as they are at one moment. See [`Reader::select`](crate::Reader::select).
///
/// The store is locked until the objects are visited. If they are many, it is unlocked first.
pub struct Selection<'v, K> {
    view: View<'v, K>,
    params: Option<&'v KindParams<K>>,
    filter: Filter<'v>,
}

impl<'v, K: CacheObject> Selection<'v, K> {
    pub(super) fn new(view: View<'v, K>, params: Option<&'v KindParams<K>>, filter: Filter<'v>) -> Self {
        Self { view, params, filter }
    }

    /// Calls `f` with each object.
    pub fn for_each(self, f: impl FnMut(&Arc<K>)) {
        self.view.members(self.filter).for_each(f);
    }

    /// Returns all objects, with one allocation if they are few.
    #[must_use]
    pub fn copy(self) -> Vec<Arc<K>> {
        self.view.members(self.filter).copy()
    }

    /// Returns the objects that satisfy the predicate, with one allocation if the selection is small.
    #[must_use]
    pub fn copy_if(self, predicate: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.view.members(self.filter).copy_if(predicate)
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
