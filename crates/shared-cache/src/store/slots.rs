//! [`Slots`]: values in numbered slots. A clone is a snapshot, and costs the same for any number of values.
//!
//! The values are in chunks, and the chunks in lists. Both are behind `Arc`s, which a snapshot shares. While a snapshot
//! exists, a change first copies the chunk that it changes and the list of that chunk, unless an earlier change has
//! copied them. The first change also copies the pointers of all lists, one for 8,192 slots. So a reader can take a
//! snapshot under the store's lock and copy the objects after it has released the lock, and the writer waits for no
//! copy of all objects.

use std::array;
use std::sync::Arc;

/// Number of a slot. It is stable from insertion to removal and then reused.
pub(crate) type Slot = u32;

/// Number of slots in a chunk. A change of one slot copies at most one chunk. To file an object under other values may
/// also move other objects in their posting lists, one for each value, and copies their chunks as well.
const CHUNK: usize = 32;

/// Number of chunks in a list.
const LIST: usize = 256;

type Chunk<T> = [Option<T>; CHUNK];

/// The chunks of one list: [`LIST`] chunks, fewer in the last list.
type Chunks<T> = Vec<Arc<Chunk<T>>>;

/// Values in numbered slots.
pub(crate) struct Slots<T> {
    lists: Arc<Vec<Arc<Chunks<T>>>>,
}

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Self {
        Self { lists: Arc::clone(&self.lists) }
    }
}

/// Returns the list of a slot, the position of its chunk there, and its position in the chunk.
fn place(slot: Slot) -> (usize, usize, usize) {
    let slot = slot as usize;
    (slot / (CHUNK * LIST), slot / CHUNK % LIST, slot % CHUNK)
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self { lists: Arc::default() }
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        let (list, chunk, position) = place(slot);
        self.lists.get(list)?.get(chunk)?[position].as_ref()
    }

    /// Returns the values in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.lists.iter().flat_map(|list| list.iter()).flat_map(|chunk| chunk.iter().flatten())
    }
}

impl<T: Clone> Slots<T> {
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.slot_mut(slot)?.as_mut()
    }

    /// Empties a slot and returns its value.
    pub(crate) fn take(&mut self, slot: Slot) -> Option<T> {
        self.slot_mut(slot)?.take()
    }

    /// Fills a slot. It is an existing slot, or the first one after the existing ones.
    pub(crate) fn put(&mut self, slot: Slot, value: T) {
        let (list, chunk, _) = place(slot);
        if list == self.lists.len() {
            Arc::make_mut(&mut self.lists).push(Arc::default());
        }
        if self.lists.get(list).is_some_and(|chunks| chunk == chunks.len())
            && let Some(chunks) = Arc::make_mut(&mut self.lists).get_mut(list)
        {
            Arc::make_mut(chunks).push(Arc::new(array::from_fn(|_| None)));
        }
        if let Some(free) = self.slot_mut(slot) {
            *free = Some(value);
        }
    }

    fn slot_mut(&mut self, slot: Slot) -> Option<&mut Option<T>> {
        let (list, chunk, position) = place(slot);
        let chunks = Arc::make_mut(&mut self.lists).get_mut(list)?;
        let chunk = Arc::make_mut(chunks).get_mut(chunk)?;
        Some(&mut Arc::make_mut(chunk)[position])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_keeps_its_values_while_the_slots_change() {
        let mut slots = Slots::new();
        for slot in 0..100 {
            slots.put(slot, slot);
        }
        let snapshot = slots.clone();
        *slots.get_mut(7).unwrap() = 700;
        assert_eq!(slots.take(99), Some(99));
        slots.put(100, 100);
        assert!(snapshot.iter().copied().eq(0..100));
        assert_eq!((snapshot.get(7), snapshot.get(100)), (Some(&7), None));
        assert_eq!((slots.get(7), slots.get(99), slots.get(100)), (Some(&700), None, Some(&100)));
        assert_eq!(slots.iter().count(), 100);
    }

    #[test]
    fn a_change_copies_only_the_chunk_that_it_changes() {
        let mut slots = Slots::new();
        let value = Arc::new(());
        for slot in 0..10 * CHUNK {
            slots.put(Slot::try_from(slot).unwrap(), Arc::clone(&value));
        }
        let (snapshot, before) = (slots.clone(), Arc::strong_count(&value));
        slots.take(0);
        slots.take(1);
        assert_eq!(Arc::strong_count(&value), before + CHUNK - 2);
        drop(snapshot);
        let before = Arc::strong_count(&value);
        slots.take(2);
        assert_eq!(Arc::strong_count(&value), before - 1, "without a snapshot nothing is copied");
    }

    #[test]
    fn the_first_change_after_a_snapshot_copies_one_list_of_chunks() {
        let (mut slots, end, changed) = (Slots::new(), 3 * LIST * CHUNK + 1, LIST * CHUNK + 7);
        for slot in 0..end {
            slots.put(Slot::try_from(slot).unwrap(), slot);
        }
        let snapshot = slots.clone();
        *slots.get_mut(Slot::try_from(changed).unwrap()).unwrap() = 0;
        let lists = snapshot.lists.iter().zip(slots.lists.iter()).map(|(old, new)| Arc::ptr_eq(old, new));
        assert_eq!(lists.collect::<Vec<_>>(), [true, false, true, true]);
        let chunks = snapshot.lists[1].iter().zip(slots.lists[1].iter());
        let shared = chunks.filter(|(old, new)| Arc::ptr_eq(old, new)).count();
        assert_eq!(shared, LIST - 1);
        assert!(snapshot.iter().copied().eq(0..end));
        assert!(slots.iter().enumerate().all(|(slot, &value)| value == slot || slot == changed));
    }
}
