//! [`View`]: a read-locked store.

use std::cell::Cell;
use std::sync::Arc;

use parking_lot::RwLockReadGuard;

use super::inner::Inner;
use super::postings::Indexes;
use crate::kind::CacheObject;
use crate::object::KeyRef;

thread_local! {
    /// True while this thread runs a caller's predicate and therefore already holds a read lock.
    static IN_PREDICATE: Cell<bool> = const { Cell::new(false) };
}

/// Runs a caller's predicate under the read lock, so that the predicate itself may look up objects.
pub(crate) fn in_predicate<R>(run: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IN_PREDICATE.with(|flag| flag.set(self.0));
        }
    }
    let _restore = Restore(IN_PREDICATE.with(|flag| flag.replace(true)));
    run()
}

/// Returns true while this thread runs a predicate.
pub(super) fn is_in_predicate() -> bool {
    IN_PREDICATE.with(Cell::get)
}

/// A read-locked store. Nothing changes while a view exists. Do not await while holding a view.
pub(crate) struct View<'a, K> {
    pub(super) inner: RwLockReadGuard<'a, Inner<K>>,
}

impl<'a, K: CacheObject> View<'a, K> {
    pub(super) fn new(inner: RwLockReadGuard<'a, Inner<K>>) -> Self {
        Self { inner }
    }

    /// Returns true if the object of this key exists in a version that cannot be decoded.
    pub(crate) fn is_hidden(&self, key: KeyRef<'_>) -> bool {
        self.inner.hidden.contains(key)
    }

    pub(crate) fn get(&self, key: KeyRef<'_>) -> Option<&Arc<K>> {
        let slot = self.inner.entries.find(key)?;
        self.inner.entries.get(slot).map(|entry| &entry.object)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<K>> {
        self.inner.entries.iter().map(|entry| &entry.object)
    }

    /// Returns the objects that have a value in an index.
    pub(crate) fn by_index(&self, index: u8, value: &str) -> impl Iterator<Item = &Arc<K>> {
        let slots = self.inner.indexes.members(index, value);
        slots.iter().filter_map(|&slot| self.inner.entries.get(slot)).map(|entry| &entry.object)
    }

    /// Returns the number of objects that have a value in an index.
    pub(crate) fn count(&self, index: u8, value: &str) -> usize {
        self.inner.indexes.members(index, value).len()
    }

    /// Returns the objects that have both values. Walks the shorter list and looks up the other value (B7).
    pub(crate) fn by_indexes(&self, a: (u8, &str), b: (u8, &str)) -> impl Iterator<Item = &Arc<K>> {
        let indexes = &self.inner.indexes;
        let both = indexes.lookup(a.0, a.1).zip(indexes.lookup(b.0, b.1));
        both.into_iter().flat_map(move |(a, b)| {
            let (walk, check) =
                if indexes.members_of(a).len() <= indexes.members_of(b).len() { (a, b) } else { (b, a) };
            let entries = indexes.members_of(walk).iter().filter_map(|&slot| self.inner.entries.get(slot));
            entries.filter(move |entry| Indexes::contains(&entry.postings, check)).map(|entry| &entry.object)
        })
    }

    /// Returns the number of the last batch of changes that this view contains.
    pub(crate) fn sequence(&self) -> u64 {
        self.inner.sequence
    }
}
