//! Indexes: stores for each index value a posting list of the slots that have the value.
//!
//! An object's slot stores, for every list that contains it, the list and its position there. So removal
//! costs O(1) and never computes a key again. The removed entries are exactly the inserted ones, even if the
//! clock or the object's rules have changed since (behaviour B2).

use std::hash::RandomState;

use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

use crate::kind::IndexValues;

use super::keyed_slab::{short_hash, spread};
use super::slots::Slot;

/// Position of an object in one posting list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Posting {
    value: u32,
    position: u32,
}

/// A new position of a posting, because another posting left the list.
pub(crate) struct Move(Posting);

impl Move {
    pub(crate) fn apply(&self, postings: &mut Postings) {
        if let Some(posting) = postings.iter_mut().find(|p| p.value == self.0.value) {
            posting.position = self.0.position;
        }
    }
}

/// The posting lists that contain one object. Three fit without an allocation: namespace, id and user.
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

    /// Adds a slot to the list of each of `keys`. Keep the result with the slot and pass it to
    /// [`Self::remove`].
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

    /// Returns true if an object with these postings has exactly these values, so that it need not be filed again.
    pub(crate) fn are_filed(&self, postings: &Postings, values: &IndexValues) -> bool {
        // The postings are in the order of the values from which they were made.
        self.describe(postings).eq(values.iter())
    }

    /// Removes a slot from its lists. Calls `moved` for each other slot whose position in a list has changed,
    /// so that its stored posting can be updated with [`Move::apply`].
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

    /// Returns the slots in the list of a value, in no particular order.
    pub(crate) fn members(&self, index: u8, text: &str) -> &[Slot] {
        self.lookup(index, text).map_or(&[], |value| &self.values[value as usize].members)
    }

    /// Returns the number of a value, if any object has that value. Valid until the store changes.
    pub(crate) fn lookup(&self, index: u8, text: &str) -> Option<u32> {
        let hash = short_hash(&self.hasher, (index, text));
        self.table
            .find(spread(hash), |b| {
                let value = &self.values[b.value as usize];
                b.hash == hash && value.index == index && &*value.text == text
            })
            .map(|b| b.value)
    }

    /// Returns the slots in the list of a value that [`Self::lookup`] returned.
    pub(crate) fn members_of(&self, value: u32) -> &[Slot] {
        &self.values[value as usize].members
    }

    /// Returns true if an object with these postings is in the list of a value.
    pub(crate) fn contains(postings: &Postings, value: u32) -> bool {
        postings.iter().any(|p| p.value == value)
    }

    /// Returns the index number and text of each value of an object.
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

    /// Returns the number of distinct values over all indexes.
    #[cfg(test)]
    pub(crate) fn value_count(&self) -> usize {
        self.values.len()
    }

    /// Returns the number of values in the hash table. It equals [`Self::value_count`] unless values leak.
    #[cfg(test)]
    pub(crate) fn table_len(&self) -> usize {
        self.table.len()
    }
}
