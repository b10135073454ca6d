//! [`Table`]: texts that are kept once for all objects that contain them.
//!
//! A pool of 10,000 sandboxes contains 10,000 copies of the spec of one pod template, and of the same label
//! keys and node names. The table holds weak references, so a text is freed with its last user.
//! [`Symbol`](super::symbol::Symbol) is the reference that users hold.
//!
//! Invariants, which the tests below prove:
//! - Two texts share an entry only if they are equal byte for byte. The hash only finds candidates.
//! - No strong reference is dropped under the lock of the table, because dropping the last one takes that
//!   lock.
//! - Only the drop of an entry removes the entry from the table. The drop finds the entry by its address. A
//!   weak reference keeps the allocation, so no other entry can have that address meanwhile.
//! - Two threads may insert the same new text at the same time. The first insertion is kept, and the other
//!   copy is dropped.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock, Weak};

use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::Mutex;

/// A text in a table.
pub(super) struct Entry {
    hash: u64,
    text: Box<str>,
    table: &'static Table,
}

/// The texts that are in use, found by hash.
///
/// The lock is a plain mutex, because it is held only for a hash lookup and a comparison of texts, and never
/// across decoding, I/O or an await.
pub(super) struct Table {
    slots: Mutex<HashTable<Slot>>,
    hash: fn(&str) -> u64,
}

struct Slot {
    hash: u64,
    entry: Weak<Entry>,
}

/// Hashes `text` with a random key that is chosen once per process.
///
/// The key prevents users from writing texts whose hashes collide. Collisions would only cost time.
fn seeded_hash(text: &str) -> u64 {
    static SEED: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);
    SEED.hash_one(text)
}

impl Table {
    /// Creates an empty table.
    pub(super) const fn new() -> Self {
        Self::with_hash(seeded_hash)
    }

    const fn with_hash(hash: fn(&str) -> u64) -> Self {
        Self { slots: Mutex::new(HashTable::new()), hash }
    }

    /// Returns the entry of `text`. Copies the text only if the table has no entry of that text and the
    /// caller does not own it.
    pub(super) fn intern(&'static self, text: impl AsRef<str> + Into<Box<str>>) -> Arc<Entry> {
        let hash = (self.hash)(text.as_ref());
        if let Some(entry) = self.lookup(hash, text.as_ref(), None) {
            return entry;
        }
        let fresh = Arc::new(Entry { hash, text: text.into(), table: self });
        // If another thread has inserted the text meanwhile, `fresh` is dropped here, outside the lock. The
        // drop then finds no slot to remove.
        self.lookup(hash, &fresh.text, Some(&fresh)).unwrap_or(fresh)
    }

    /// Returns true if the table has a live entry of this text.
    #[cfg(test)]
    pub(super) fn knows(&self, text: &str) -> bool {
        self.lookup((self.hash)(text), text, None).is_some()
    }

    /// Returns the live entry of `text`. If there is none, inserts `or_insert` under the same lock.
    fn lookup(&self, hash: u64, text: &str, or_insert: Option<&Arc<Entry>>) -> Option<Arc<Entry>> {
        // Entries of other texts with this hash. Each may be the last reference to its entry. The list is
        // declared before the guard, so that it is dropped after the lock is released.
        let mut strays: Vec<Arc<Entry>> = Vec::new();
        let mut found = None;
        let mut slots = self.slots.lock();
        for slot in slots.iter_hash(hash).filter(|slot| slot.hash == hash) {
            // A failed upgrade means that the entry is being dropped. Its drop waits for this lock, and then
            // removes the slot.
            match slot.entry.upgrade() {
                Some(entry) if *entry.text == *text => {
                    found = Some(entry);
                    break;
                }
                Some(stray) => strays.push(stray),
                None => {}
            }
        }
        if let (None, Some(fresh)) = (&found, or_insert) {
            slots.insert_unique(hash, Slot { hash, entry: Arc::downgrade(fresh) }, |slot| slot.hash);
        }
        found
    }
}

impl Entry {
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let address: *const Self = self;
        let mut slots = self.table.slots.lock();
        if let Ok(slot) = slots.find_entry(self.hash, |slot| std::ptr::eq(slot.entry.as_ptr(), address)) {
            slot.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Creates a table for one test. Tests that run at the same time share the table of the process.
    fn table(hash: fn(&str) -> u64) -> &'static Table {
        Box::leak(Box::new(Table::with_hash(hash)))
    }

    fn len(table: &'static Table) -> usize {
        table.slots.lock().len()
    }

    #[test]
    fn equal_texts_share_an_entry_and_the_last_user_takes_it_along() {
        let table = table(seeded_hash);
        let (first, second) = (table.intern("a"), table.intern(Box::<str>::from("a")));
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &table.intern("b")));
        drop(first);
        assert_eq!((len(table), second.text()), (1, "a"));
        drop(second);
        assert_eq!(len(table), 0);
        assert_eq!(table.intern("a").text(), "a");
    }

    #[test]
    fn texts_with_the_same_hash_are_kept_apart() {
        let table = table(|_| 7);
        let (a, b) = (table.intern("a"), table.intern("b"));
        assert_eq!((a.text(), b.text()), ("a", "b"));
        assert!(Arc::ptr_eq(&a, &table.intern("a")) && Arc::ptr_eq(&b, &table.intern("b")));
        drop(a);
        assert_eq!(len(table), 1);
        assert!(Arc::ptr_eq(&b, &table.intern("b")));
    }

    #[test]
    fn the_slower_of_two_threads_takes_the_entry_of_the_quicker() {
        let table = table(seeded_hash);
        let quicker = table.intern("a");
        // As a thread sees it that has looked up the text before the other thread inserted it.
        let slower = Arc::new(Entry { hash: quicker.hash, text: "a".into(), table });
        let found = table.lookup(quicker.hash, "a", Some(&slower)).unwrap();
        assert!(Arc::ptr_eq(&quicker, &found));
        drop(slower);
        assert_eq!(len(table), 1);
    }

    #[test]
    fn an_entry_whose_drop_is_still_waiting_is_neither_found_nor_removed_by_others() {
        let (table, elsewhere) = (table(|_| 7), table(|_| 7));
        // This entry names another table, so its drop does not remove the slot from `table`. The slot stays
        // in the state between the last use of an entry and its removal.
        let dying = Arc::new(Entry { hash: 7, text: "a".into(), table: elsewhere });
        let slot = Slot { hash: 7, entry: Arc::downgrade(&dying) };
        table.slots.lock().insert_unique(7, slot, |slot| slot.hash);
        drop(dying);
        let fresh = table.intern("a");
        assert_eq!((fresh.text(), len(table)), ("a", 2));
        assert!(Arc::ptr_eq(&fresh, &table.intern("a")));
        drop(fresh);
        assert_eq!(len(table), 1);
        assert!(table.slots.lock().iter().all(|slot| slot.entry.strong_count() == 0));
    }

    #[test]
    fn lookups_and_drops_may_race() {
        // The short texts collide, so that lookups drop entries of other texts too.
        let table = table(|text| if text.len() == 1 { 7 } else { seeded_hash(text) });
        let texts = ["a", "b", "c", "long a", "long b"];
        let mixed_up = AtomicUsize::new(0);
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            for offset in 0..8 {
                let (barrier, mixed_up) = (&barrier, &mixed_up);
                scope.spawn(move || {
                    barrier.wait();
                    for round in 0..5_000 {
                        let text = texts[(offset + round) % texts.len()];
                        let (held, again) = (table.intern(text), table.intern(text));
                        if held.text() != text || !Arc::ptr_eq(&held, &again) {
                            mixed_up.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(mixed_up.into_inner(), 0);
        assert_eq!(len(table), 0);
    }
}
