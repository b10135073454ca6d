//! [`Members`]: the objects that a lookup visits, as they were at one moment.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::inner::Entry;
use super::postings::Indexes;
use super::slots::{Slot, Slots};
use super::view::View;
use crate::kind::CacheObject;

/// Number of objects that a lookup visits under the lock. A longer lookup takes a snapshot, because the informer must
/// not wait for it.
const FEW: usize = 1024;

/// Selects objects by the values of their indexes. An index is given by its number.
#[derive(Clone, Copy)]
pub(crate) enum Filter<'f> {
    /// All objects.
    All,
    /// The objects that have a value in an index.
    One((u8, &'f str)),
    /// The objects that have both values.
    Both((u8, &'f str), (u8, &'f str)),
}

/// The posting list that is walked, by the number of its value.
enum Walk {
    All,
    List(u32),
    Nothing,
}

enum Source<'a, K> {
    /// Few objects: the store stays locked.
    Locked { view: View<'a, K>, walk: Walk },
    /// Many objects: the store is unlocked. The list was copied under the lock, 4 bytes for each of its objects.
    Snapshot { entries: Slots<Entry<K>>, list: Option<Vec<Slot>> },
}

/// The objects that a lookup visits. All methods see the store at one moment.
pub(crate) struct Members<'a, K> {
    source: Source<'a, K>,
    /// A value that the objects must have besides.
    check: Option<u32>,
    at_most: usize,
}

impl<'a, K: CacheObject> View<'a, K> {
    /// Returns the objects of a filter as they are now. Unlocks the store if they are many.
    pub(crate) fn members(self, filter: Filter<'_>) -> Members<'a, K> {
        Members::new(self, filter)
    }

    /// Returns the first object of a filter that satisfies the predicate.
    pub(crate) fn find(self, filter: Filter<'_>, predicate: impl FnMut(&K) -> bool) -> Option<Arc<K>> {
        Members::find(self, filter, predicate)
    }
}

impl<'a, K: CacheObject> Members<'a, K> {
    /// Selects objects of a view and keeps it locked. Of two values the one with fewer objects is walked (B7).
    fn locked(view: View<'a, K>, filter: Filter<'_>) -> Self {
        let indexes = &view.inner.indexes;
        let lookup = |(index, value): (u8, &str)| indexes.lookup(index, value);
        let length = |value| indexes.members_of(value).len();
        let (walk, check) = match filter {
            Filter::All => (Walk::All, None),
            Filter::One(one) => (lookup(one).map_or(Walk::Nothing, Walk::List), None),
            Filter::Both(a, b) => match lookup(a).zip(lookup(b)) {
                Some((a, b)) if length(a) <= length(b) => (Walk::List(a), Some(b)),
                Some((a, b)) => (Walk::List(b), Some(a)),
                None => (Walk::Nothing, None),
            },
        };
        let at_most = match walk {
            Walk::All => view.len(),
            Walk::List(value) => length(value),
            Walk::Nothing => 0,
        };
        Self { source: Source::Locked { view, walk }, check, at_most }
    }

    /// Selects objects of a view, and unlocks the store if they are many.
    fn new(view: View<'a, K>, filter: Filter<'_>) -> Self {
        Self::locked(view, filter).unlock_if_many()
    }

    /// Takes a snapshot and unlocks the store, if the objects are many.
    fn unlock_if_many(self) -> Self {
        match self.source {
            Source::Locked { view, walk } if self.at_most > FEW => {
                Self { source: Source::snapshot(&view, &walk), ..self }
            }
            source => Self { source, ..self },
        }
    }

    /// Returns the first object of a view that satisfies the predicate. Visits the first objects under the lock,
    /// because most searches end there, and takes a snapshot only for the rest.
    fn find(view: View<'a, K>, filter: Filter<'_>, mut predicate: impl FnMut(&K) -> bool) -> Option<Arc<K>> {
        let members = Self::locked(view, filter);
        let mut visited = 0;
        // Breaks with `None` when the search has used up its time under the lock.
        let first = members.try_for_each(|object| {
            visited += 1;
            if predicate(object) {
                ControlFlow::Break(Some(Arc::clone(object)))
            } else if visited == FEW {
                ControlFlow::Break(None)
            } else {
                ControlFlow::Continue(())
            }
        });
        let Some(None) = first else {
            return first.flatten();
        };
        let members = members.unlock_if_many();
        let mut visited = 0;
        members.try_for_each(|object| {
            visited += 1;
            if visited > FEW && predicate(object) {
                ControlFlow::Break(Arc::clone(object))
            } else {
                ControlFlow::Continue(())
            }
        })
    }

    /// Calls `f` with each object until it breaks. Returns the value with which it broke.
    pub(crate) fn try_for_each<'s, B>(
        &'s self,
        mut f: impl FnMut(&'s Arc<K>) -> ControlFlow<B>,
    ) -> Option<B> {
        let visit = |entry: &'s Entry<K>| match self.check {
            Some(value) if !Indexes::contains(&entry.postings, value) => ControlFlow::Continue(()),
            _ => f(&entry.object),
        };
        let (entries, list) = self.source.parts();
        let end = match list {
            None => entries.iter().try_for_each(visit),
            Some(list) => list.iter().filter_map(|&slot| entries.get(slot)).try_for_each(visit),
        };
        end.break_value()
    }

    /// Calls `f` with each object.
    pub(crate) fn for_each<'s>(&'s self, mut f: impl FnMut(&'s Arc<K>)) {
        self.try_for_each(|object| {
            f(object);
            ControlFlow::<()>::Continue(())
        });
    }

    /// Returns the objects that satisfy the predicate.
    pub(crate) fn copy_if(&self, mut predicate: impl FnMut(&K) -> bool) -> Vec<Arc<K>> {
        let mut list = Vec::with_capacity(self.at_most);
        self.for_each(|object| {
            if predicate(object) {
                list.push(Arc::clone(object));
            }
        });
        list
    }

    /// Returns all objects.
    pub(crate) fn copy(&self) -> Vec<Arc<K>> {
        self.copy_if(|_| true)
    }
}

impl<K: CacheObject> Source<'_, K> {
    fn snapshot(view: &View<'_, K>, walk: &Walk) -> Self {
        let list = match walk {
            Walk::All => None,
            Walk::List(value) => Some(view.inner.indexes.members_of(*value).to_vec()),
            Walk::Nothing => Some(Vec::new()),
        };
        Self::Snapshot { entries: view.inner.entries.slots().clone(), list }
    }

    /// Returns the entries, and the slots of those to visit; `None` for all.
    fn parts(&self) -> (&Slots<Entry<K>>, Option<&[Slot]>) {
        match self {
            Self::Snapshot { entries, list } => (entries, list.as_deref()),
            Self::Locked { view, walk } => {
                let list = match *walk {
                    Walk::All => None,
                    Walk::List(value) => Some(view.inner.indexes.members_of(value)),
                    Walk::Nothing => Some(&[][..]),
                };
                (view.inner.entries.slots(), list)
            }
        }
    }
}
