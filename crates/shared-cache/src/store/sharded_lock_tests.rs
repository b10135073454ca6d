//! Tests the lock with real threads. `tests/lock_model.rs` checks it in every interleaving.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;

use super::sharded_lock::ShardedLock;

#[test]
fn every_shard_has_the_value_after_a_writer_has_panicked() {
    let lock = ShardedLock::new(0, 4);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        *lock.write() += 1;
        let mut value = lock.write();
        *value += 1;
        panic!("during a change");
    }));
    assert!(panicked.is_err());
    // Eight threads have eight numbers in a row, so they read through all shards.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(*lock.read(), 2));
        }
    });
    *lock.write() += 1;
    assert_eq!(*lock.read(), 3);
}

#[test]
fn a_nested_read_does_not_wait_behind_a_writer() {
    let lock = ShardedLock::new(0, 4);
    let outer = lock.read();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| *lock.write() += 1);
        while !lock.is_write_pending() {
            std::thread::yield_now();
        }
        assert_eq!((*outer, *lock.read_recursive()), (0, 0));
        drop(outer);
        writer.join().unwrap();
    });
    assert_eq!(*lock.read(), 1);
}

#[test]
fn threads_of_different_shards_read_at_the_same_time() {
    let lock = ShardedLock::new((), 8);
    let all_read = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let _value = lock.read();
                all_read.wait();
            });
        }
    });
}
