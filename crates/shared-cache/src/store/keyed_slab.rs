//! [`KeyedSlab`]: stores values in stable slots and finds them by the key in each value.
//!
//! A map from key to value would store every key twice, in the object and in the map. Here the hash table
//! stores a 32-bit hash and a slot number (8 bytes an entry) and compares keys inside the slots. With the
//! stored hash, a growing table also does not read every object again under a lock.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::slots::{Slot, Slots};
use crate::object::KeyRef;

/// A value that contains its own key. The key must not change while the value is in a slab.
pub(crate) trait Keyed {
    /// The key, borrowed from the value.
    fn key(&self) -> KeyRef<'_>;
}

#[derive(Clone, Copy)]
struct Bucket {
    hash: u32,
    slot: Slot,
}

/// Values of type `T` in numbered slots with lookup by key. At most one value per key, at most 2³² − 1 values.
pub(crate) struct KeyedSlab<T> {
    slots: Slots<T>,
    /// Slots that were emptied. The last one is filled first.
    free: Vec<Slot>,
    /// The first slot that was never filled.
    end: Slot,
    table: HashTable<Bucket>,
    /// Seeded at random. Users choose the names, and chosen collisions must not slow the store.
    hasher: RandomState,
}

impl<T: Keyed> KeyedSlab<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slots::new(),
            free: Vec::new(),
            end: 0,
            table: HashTable::new(),
            hasher: RandomState::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn find(&self, key: KeyRef<'_>) -> Option<Slot> {
        let hash = short_hash(&self.hasher, key);
        let is_key = |slot| self.slots.get(slot).is_some_and(|value| value.key() == key);
        self.table.find(spread(hash), |b| b.hash == hash && is_key(b.slot)).map(|b| b.slot)
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        self.slots.get(slot)
    }

    /// Returns the slots. Their clone is a snapshot.
    pub(crate) fn slots(&self) -> &Slots<T> {
        &self.slots
    }

    /// Returns the highest slot number that can be occupied, plus one.
    pub(crate) fn slot_end(&self) -> Slot {
        self.end
    }
}

impl<T: Keyed + Clone> KeyedSlab<T> {
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.slots.get_mut(slot)
    }

    /// Inserts a value whose key is not in the slab.
    pub(crate) fn insert(&mut self, value: T) -> Slot {
        let hash = short_hash(&self.hasher, value.key());
        let slot = self.free.pop().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        });
        self.slots.put(slot, value);
        self.table.insert_unique(spread(hash), Bucket { hash, slot }, |b| spread(b.hash));
        slot
    }

    /// Removes and returns the value of a slot; `None` if the slot is empty.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        let hash = short_hash(&self.hasher, self.slots.get(slot)?.key());
        if let Ok(bucket) = self.table.find_entry(spread(hash), |b| b.slot == slot) {
            bucket.remove();
        }
        let value = self.slots.take(slot)?;
        self.free.push(slot);
        Some(value)
    }
}

/// Returns the hash of a value, cut to the 32 bits that a table entry stores.
pub(crate) fn short_hash(hasher: &RandomState, value: impl std::hash::Hash) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a hash has no value to lose, only bits to choose from"
    )]
    let hash = hasher.hash_one(value) as u32;
    hash
}

/// Spreads a stored hash over the 64 bits from which the table takes its bucket and tag (Fibonacci hashing).
pub(crate) fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Named(&'static str, u8);

    impl Keyed for Named {
        fn key(&self) -> KeyRef<'_> {
            KeyRef { namespace: "ns", name: self.0 }
        }
    }

    fn key(name: &str) -> KeyRef<'_> {
        KeyRef { namespace: "ns", name }
    }

    #[test]
    fn values_are_found_by_their_own_key_until_removed() {
        let mut slab = KeyedSlab::new();
        let a = slab.insert(Named("a", 1));
        let b = slab.insert(Named("b", 2));
        assert_eq!(slab.find(key("a")), Some(a));
        assert_eq!(slab.find(key("b")), Some(b));
        assert_eq!(slab.find(KeyRef { namespace: "other", name: "a" }), None);
        assert_eq!(slab.remove(a).map(|v| v.1), Some(1));
        assert_eq!(slab.find(key("a")), None);
        assert_eq!(slab.find(key("b")), Some(b));
        assert!(slab.remove(a).is_none());
        assert_eq!(slab.len(), 1);
    }
}
