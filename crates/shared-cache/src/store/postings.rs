//! Indexes: which objects yield which value, as posting lists of slots.
//!
//! Each value of each index has one posting list. An object's slot remembers, for every list that it is
//! in, the list and its position there, so leaving costs O(1) and never derives a key again: what was
//! put in is what is taken out, however the clock or the object's rules have moved since (behaviour B2).

use std::hash::RandomState;

use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

use crate::kind::IndexValues;

use super::keyed_slab::{Slot, short_hash, spread};

/// Where an object stands in one posting list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Posting {
    value: u32,
    position: u32,
}

/// A posting that has a new position, because another one left the list.
pub(crate) struct Move(Posting);

impl Move {
    pub(crate) fn apply(&self, postings: &mut Postings) {
        if let Some(posting) = postings.iter_mut().find(|p| p.value == self.0.value) {
            posting.position = self.0.position;
        }
    }
}

/// The posting lists that one object is in. Three fit without an allocation: namespace, id and user.
pub(crate) type Postings = SmallVec<[Posting; 3]>;

struct Value {
    text: Box<str>,
    members: SmallVec<[Slot; 4]>,
    index: u8,
}

#[derive(Clone, Copy)]
struct Bucket {
    hash: u32,
    value: u32,
}

/// All indexes of one store.
pub(crate) struct Indexes {
    table: HashTable<Bucket>,
    values: Slab<Value>,
    hasher: RandomState,
}

impl Indexes {
    pub(crate) fn new() -> Self {
        Self { table: HashTable::new(), values: Slab::new(), hasher: RandomState::new() }
    }

    /// Files a slot under each of `keys`; the result must be kept with the slot and given to [`Self::remove`].
    pub(crate) fn insert(&mut self, slot: Slot, keys: &IndexValues) -> Postings {
        keys.iter()
            .map(|(index, text)| {
                let value = self.value_of(index, text);
                let members = &mut self.values[value as usize].members;
                members.push(slot);
                Posting { value, position: u32::try_from(members.len() - 1).unwrap_or(u32::MAX) }
            })
            .collect()
    }

    /// Takes a slot out of the lists it was filed in. `moved` is called for each other slot whose position
    /// in a list has changed, so that its stored posting can follow through [`Move::apply`].
    pub(crate) fn remove(&mut self, postings: &Postings, mut moved: impl FnMut(Slot, Move)) {
        for &Posting { value, position } in postings {
            let members = &mut self.values[value as usize].members;
            members.swap_remove(position as usize);
            if let Some(&other) = members.get(position as usize) {
                moved(other, Move(Posting { value, position }));
            } else if members.is_empty() {
                self.drop_value(value);
            } else if members.spilled() && members.len() * 4 < members.capacity() {
                members.shrink_to_fit();
            }
        }
    }

    /// The slots filed under a value, in no particular order.
    pub(crate) fn members(&self, index: u8, text: &str) -> &[Slot] {
        self.lookup(index, text).map_or(&[], |value| &self.values[value as usize].members)
    }

    /// The number of a value, if any object yields it. Valid until the store changes.
    pub(crate) fn lookup(&self, index: u8, text: &str) -> Option<u32> {
        let hash = short_hash(&self.hasher, (index, text));
        self.table
            .find(spread(hash), |b| {
                let value = &self.values[b.value as usize];
                b.hash == hash && value.index == index && &*value.text == text
            })
            .map(|b| b.value)
    }

    /// The slots filed under a value that [`Self::lookup`] returned.
    pub(crate) fn members_of(&self, value: u32) -> &[Slot] {
        &self.values[value as usize].members
    }

    /// Whether an object with these postings is filed under a value.
    pub(crate) fn contains(postings: &Postings, value: u32) -> bool {
        postings.iter().any(|p| p.value == value)
    }

    /// Index number and text of each value that an object is filed under.
    pub(crate) fn describe<'a>(&'a self, postings: &'a Postings) -> impl Iterator<Item = (u8, &'a str)> {
        postings.iter().map(|p| {
            let value = &self.values[p.value as usize];
            (value.index, &*value.text)
        })
    }

    fn value_of(&mut self, index: u8, text: &str) -> u32 {
        if let Some(value) = self.lookup(index, text) {
            return value;
        }
        let hash = short_hash(&self.hasher, (index, text));
        let value = Value { text: text.into(), members: SmallVec::new(), index };
        let value = u32::try_from(self.values.insert(value)).unwrap_or(u32::MAX);
        self.table.insert_unique(spread(hash), Bucket { hash, value }, |b| spread(b.hash));
        value
    }

    fn drop_value(&mut self, value: u32) {
        if let Some(gone) = self.values.try_remove(value as usize) {
            let hash = short_hash(&self.hasher, (gone.index, &*gone.text));
            if let Ok(bucket) = self.table.find_entry(spread(hash), |b| b.value == value) {
                bucket.remove();
            }
        }
    }

    /// Number of distinct values over all indexes.
    #[cfg(test)]
    pub(crate) fn value_count(&self) -> usize {
        self.values.len()
    }

    /// Number of values in the hash table; equal to [`Self::value_count`] unless something leaks.
    #[cfg(test)]
    pub(crate) fn table_len(&self) -> usize {
        self.table.len()
    }
}
