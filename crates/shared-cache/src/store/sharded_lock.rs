//! [`ShardedLock`]: a read-write lock whose readers do not slow each other.
//!
//! A plain read-write lock counts its readers in one word. Every reader writes that word twice, so two cores pass its
//! cache line to each other: two threads had 0.39 of the throughput of one. Here each thread reads through its own
//! shard, which has its own lock on its own cache lines. A writer takes every shard.
//!
//! ```text
//!   reader 1 ──▶ shard 0: RwLock<Arc<T>> ──┐
//!   reader 2 ──▶ shard 1: RwLock<Arc<T>> ──┼──▶ T      writer ──▶ locks all shards in order, takes all their
//!   reader 3 ──▶ shard 2: RwLock<Arc<T>> ──┘           Arcs, so that it has the only one, and puts clones back
//! ```
//!
//! # Invariants, which `tests/lock_model.rs` checks in every interleaving
//!
//! - A reader sees either everything that a writer has changed, or nothing of it.
//! - A shard has its `Arc` whenever no writer holds the shard, even after a panic of the writer.
//! - Only a writer clones or drops the `Arc`s, so their count is no line that readers write.

use std::ops::{Deref, DerefMut};

use smallvec::SmallVec;

use super::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard, thread_number};

/// Largest useful number of shards: so many guards fit on the stack of a writer.
pub(crate) const MOST_SHARDS: usize = 32;

/// The value as one shard refers to it. `None` only while a writer holds the shard.
type Slot<T> = Option<Arc<T>>;

/// Two cache lines of its own, because lines are fetched in pairs.
#[repr(align(128))]
struct Shard<T>(RwLock<Slot<T>>);

/// A read-write lock for short reads by many threads and few writes. Readers of different shards share no written
/// cache line. A write locks every shard.
pub(crate) struct ShardedLock<T> {
    shards: Box<[Shard<T>]>,
}

impl<T> ShardedLock<T> {
    /// Creates a lock with this many shards, rounded up to a power of two.
    pub(crate) fn new(value: T, shards: usize) -> Self {
        let value = Arc::new(value);
        let shard = |_| Shard(RwLock::new(Some(Arc::clone(&value))));
        let shards = (0..shards.next_power_of_two()).map(shard).collect();
        Self { shards }
    }

    /// Locks the value for reading. A thread that already holds a read lock calls [`Self::read_recursive`].
    pub(crate) fn read(&self) -> ReadGuard<'_, T> {
        ReadGuard(self.own_shard().read())
    }

    /// Locks the value for reading, even if a writer waits. So a thread may read again while it reads.
    pub(crate) fn read_recursive(&self) -> ReadGuard<'_, T> {
        ReadGuard(self.own_shard().read_recursive())
    }

    /// Locks the value for writing. All writers lock the shards in the same order, so they do not deadlock.
    pub(crate) fn write(&self) -> WriteGuard<'_, T> {
        let mut shards: SmallVec<[_; MOST_SHARDS]> =
            self.shards.iter().map(|shard| shard.0.write()).collect();
        let mut arcs = shards.iter_mut().filter_map(|shard: &mut RwLockWriteGuard<'_, Slot<T>>| shard.take());
        let value = arcs.next();
        // The other Arcs are dropped, so that `value` is the only one.
        arcs.for_each(drop);
        WriteGuard { value, shards }
    }

    /// Returns true if a reader would have to wait.
    #[cfg(test)]
    pub(crate) fn is_write_pending(&self) -> bool {
        self.own_shard().try_read().is_none()
    }

    /// A thread always gets the same shard, so nested reads are reads of one lock. A mask is faster than a division.
    fn own_shard(&self) -> &RwLock<Slot<T>> {
        &self.shards[thread_number() & (self.shards.len() - 1)].0
    }
}

/// A value locked for reading.
pub(crate) struct ReadGuard<'a, T>(RwLockReadGuard<'a, Slot<T>>);

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().expect("a writer puts the value back before it unlocks a shard")
    }
}

/// A value locked for writing.
pub(crate) struct WriteGuard<'a, T> {
    /// The only `Arc` of the value. `None` after the drop only.
    value: Slot<T>,
    /// Unlocked after `drop` has put the value back.
    shards: SmallVec<[RwLockWriteGuard<'a, Slot<T>>; MOST_SHARDS]>,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_deref().expect("a write guard has the value until it is dropped")
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().and_then(Arc::get_mut).expect("a write guard has the only Arc of the value")
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        for shard in &mut self.shards {
            shard.clone_from(&self.value);
        }
    }
}
