//! Checks the lock of the store in every interleaving of a few threads, with loom.
//!
//! The very file of the library is included here, with loom's lock in the place of the real one. Each test is one of
//! the invariants that `src/store/sharded_lock.rs` states. Loom knows no nested reads; `src/store/sharded_lock_tests.rs`
//! tests them.

#![cfg(test)]

#[allow(dead_code, unreachable_pub, reason = "the library's file, of which the models use a part")]
#[path = "../src/store/sharded_lock.rs"]
mod sharded_lock;

/// Stands in for `src/store/sync.rs`.
mod sync {
    use std::cell::Cell;

    pub(super) use loom::sync::{Arc, RwLockReadGuard, RwLockWriteGuard};

    loom::thread_local! {
        static NUMBER: Cell<usize> = Cell::new(0);
    }

    pub(super) fn thread_number() -> usize {
        NUMBER.with(Cell::get)
    }

    /// Gives the calling thread a number, and so a shard.
    pub(super) fn set_thread_number(number: usize) {
        NUMBER.with(|own| own.set(number));
    }

    pub(super) struct RwLock<T>(loom::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(super) fn new(value: T) -> Self {
            Self(loom::sync::RwLock::new(value))
        }

        pub(super) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap()
        }

        pub(super) fn read_recursive(&self) -> RwLockReadGuard<'_, T> {
            self.read()
        }

        pub(super) fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
            self.0.try_read().ok()
        }

        pub(super) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap()
        }
    }
}

use std::sync::Arc;

use loom::cell::Cell;
use loom::thread::{self, JoinHandle};

use sharded_lock::ShardedLock;
use sync::set_thread_number;

/// Two values that are always equal, except while a writer changes them. Loom reports an access to one of them that
/// the lock does not order.
type Pair = (Cell<u32>, Cell<u32>);

#[expect(clippy::arc_with_non_send_sync, reason = "loom runs the threads of a model one after the other")]
fn lock(shards: usize) -> Arc<ShardedLock<Pair>> {
    Arc::new(ShardedLock::new((Cell::new(0), Cell::new(0)), shards))
}

fn read(lock: &ShardedLock<Pair>) -> u32 {
    let pair = lock.read();
    let seen = (pair.0.get(), pair.1.get());
    assert_eq!(seen.0, seen.1, "a reader saw half of a change");
    seen.0
}

fn add(lock: &ShardedLock<Pair>) {
    let mut pair = lock.write();
    let pair = &mut *pair;
    pair.0.set(pair.0.get() + 1);
    pair.1.set(pair.1.get() + 1);
}

fn spawn(
    lock: &Arc<ShardedLock<Pair>>,
    number: usize,
    run: impl FnOnce(&ShardedLock<Pair>) + 'static,
) -> JoinHandle<()> {
    let lock = Arc::clone(lock);
    thread::spawn(move || {
        set_thread_number(number);
        run(&lock);
    })
}

#[test]
fn readers_of_different_shards_see_all_of_a_change_or_nothing() {
    loom::model(|| {
        let lock = lock(2);
        let readers = [0, 1].map(|number| {
            spawn(&lock, number, |lock| {
                let first = read(lock);
                assert!(read(lock) >= first, "a change was taken back");
            })
        });
        add(&lock);
        assert_eq!(read(&lock), 1, "the writer sees its change");
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn no_write_is_lost_between_two_writers() {
    loom::model(|| {
        let lock = lock(2);
        let writer = spawn(&lock, 1, add);
        add(&lock);
        writer.join().unwrap();
        assert_eq!(read(&lock), 2);
    });
}
