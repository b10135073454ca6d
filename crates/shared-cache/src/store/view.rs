//! [`View`]: a read-locked store.

use std::cell::Cell;
use std::sync::Arc;

use super::inner::Inner;
use super::sharded_lock::ReadGuard;
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
    pub(super) inner: ReadGuard<'a, Inner<K>>,
}

impl<'a, K: CacheObject> View<'a, K> {
    pub(super) fn new(inner: ReadGuard<'a, Inner<K>>) -> Self {
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

    /// Returns the number of objects.
    pub(crate) fn len(&self) -> usize {
        self.inner.entries.len()
    }

    /// Returns the number of objects that have a value in an index.
    pub(crate) fn count(&self, index: u8, value: &str) -> usize {
        self.inner.indexes.members(index, value).len()
    }

    /// Returns the number of the last batch of changes that this view contains.
    pub(crate) fn sequence(&self) -> u64 {
        self.inner.sequence
    }

    /// Returns the objects, in the order of their slots.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.inner.entries.slots().iter().map(|entry| &entry.object)
    }
}
