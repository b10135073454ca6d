//! [`KeyedSlab`]: values in stable slots, found by the object key that each value carries itself.
//!
//! A map from key to value would keep every key twice, once in the object and once in the map. Here the
//! hash table holds a 32-bit hash and a slot number (8 bytes an entry) and compares keys inside the slots.
//! The stored hash also spares a growing table from reading every object again while a lock is held.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use slab::Slab;

use crate::object::KeyRef;

/// A value that carries its own key. The key must not change while the value is in a slab.
pub(crate) trait Keyed {
    /// The key, borrowed from the value.
    fn key(&self) -> KeyRef<'_>;
}

/// Number of a slot; stable from insertion to removal, then reused.
pub(crate) type Slot = u32;

#[derive(Clone, Copy)]
struct Bucket {
    hash: u32,
    slot: Slot,
}

/// Values of type `T` in numbered slots with lookup by key. At most one value a key, at most 2³² − 1 values.
pub(crate) struct KeyedSlab<T> {
    slots: Slab<T>,
    table: HashTable<Bucket>,
    /// Seeded at random: names are chosen by users, and chosen collisions must not slow the store down.
    hasher: RandomState,
}

impl<T: Keyed> KeyedSlab<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Slab::new(), table: HashTable::new(), hasher: RandomState::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn find(&self, key: KeyRef<'_>) -> Option<Slot> {
        let hash = short_hash(&self.hasher, key);
        self.table
            .find(spread(hash), |b| b.hash == hash && self.slots[b.slot as usize].key() == key)
            .map(|b| b.slot)
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        self.slots.get(slot as usize)
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)
    }

    /// Puts in a value whose key is not yet here.
    pub(crate) fn insert(&mut self, value: T) -> Slot {
        let hash = short_hash(&self.hasher, value.key());
        let slot = Slot::try_from(self.slots.insert(value)).unwrap_or(Slot::MAX);
        self.table.insert_unique(spread(hash), Bucket { hash, slot }, |b| spread(b.hash));
        slot
    }

    /// Takes the value out of a slot; `None` when the slot is empty.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        let hash = short_hash(&self.hasher, self.slots.get(slot as usize)?.key());
        if let Ok(bucket) = self.table.find_entry(spread(hash), |b| b.slot == slot) {
            bucket.remove();
        }
        self.slots.try_remove(slot as usize)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        self.slots.iter().map(|(_, value)| value)
    }

    /// One past the highest slot that can be occupied.
    pub(crate) fn slot_end(&self) -> Slot {
        Slot::try_from(self.slots.capacity()).unwrap_or(Slot::MAX)
    }
}

/// Hash of a value, cut to what a table entry stores.
pub(crate) fn short_hash(hasher: &RandomState, value: impl std::hash::Hash) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a hash has no value to lose, only bits to choose from"
    )]
    let hash = hasher.hash_one(value) as u32;
    hash
}

/// Spreads a stored hash over the 64 bits that the table draws its bucket and tag from (Fibonacci hashing).
pub(crate) fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

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
