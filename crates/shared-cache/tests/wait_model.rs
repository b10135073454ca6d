//! Checks the registry of waits and the holds in every interleaving of a few threads, with loom.
//!
//! The very files of the library are included here, with loom's lock in the place of the real one. Each test is
//! one of the invariants that `src/wait/registry.rs` states.

#![cfg(test)]

#[allow(dead_code, unreachable_pub, reason = "the library's file, of which the models use a part")]
#[path = "../src/wait/holds.rs"]
mod holds;
#[allow(
    dead_code,
    unreachable_pub,
    clippy::modulo_one,
    reason = "the library's file, of which the models use a part, with one shard"
)]
#[path = "../src/wait/registry.rs"]
mod registry;

/// Stands in for `src/wait/sync.rs`.
mod sync {
    pub(super) use loom::sync::atomic::AtomicUsize;

    /// One shard has all the interleavings that matter, because a name is always in the same shard.
    pub(super) const SHARDS: usize = 1;

    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::task::noop_waker_ref;
use loom::future::block_on;
use loom::thread;

use holds::Holds;
use registry::{Registration, Registry, Verdict, Waiter};

type Name = &'static str;
/// Versions are seen; a wait ends with the version that ended it, or with [`CLOSED`].
type TestRegistry = Arc<Registry<Name, u64, u64, ()>>;

const CLOSED: u64 = 999;

/// A waiter that ends at a version or a later one.
fn until(version: u64) -> Waiter<Name, u64, u64, ()> {
    Waiter::new(
        "a",
        Box::new(move |&seen| {
            Some((Some(seen), if seen >= version { Verdict::End(seen) } else { Verdict::GoOn(()) }))
        }),
    )
}

fn end(place: &Registration<Name, u64, u64, ()>) -> u64 {
    block_on(poll_fn(|cx| place.waiter().poll(cx)))
}

/// A store as the informer has one: it changes under its lock and tells the registry afterwards.
struct Store {
    version: sync::Mutex<u64>,
    registry: TestRegistry,
}

impl Store {
    fn new() -> Arc<Self> {
        Arc::new(Self { version: sync::Mutex::new(0), registry: Arc::new(Registry::new()) })
    }

    fn change(&self, version: u64) {
        *self.version.lock() = version;
        self.registry.see(&"a", || version);
    }

    fn change_in_thread(self: &Arc<Self>, version: u64) -> thread::JoinHandle<()> {
        let store = Arc::clone(self);
        thread::spawn(move || store.change(version))
    }

    /// Registers under the store's lock, then checks what is stored outside of it.
    fn register(&self, version: u64) -> Option<Registration<Name, u64, u64, ()>> {
        let stored = self.version.lock();
        let place = self.registry.register(until(version))?;
        let now = *stored;
        drop(stored);
        place.waiter().see(&now);
        Some(place)
    }
}

#[test]
fn no_wake_up_is_lost_between_registration_check_and_change() {
    loom::model(|| {
        let store = Store::new();
        let informer = store.change_in_thread(1);
        let place = store.register(1).unwrap();
        assert_eq!(end(&place), 1);
        informer.join().unwrap();
    });
}

#[test]
fn of_two_waiters_of_a_key_one_leaving_does_not_keep_the_other_from_being_woken() {
    loom::model(|| {
        let store = Store::new();
        let leaving = store.register(1).unwrap();
        let informer = store.change_in_thread(1);
        let other = thread::spawn(move || drop(leaving));
        let place = store.register(1).unwrap();
        assert_eq!(end(&place), 1);
        drop(place);
        informer.join().unwrap();
        other.join().unwrap();
        assert!(store.registry.len() == 0);
    });
}

#[test]
fn a_waiter_that_leaves_during_a_wake_leaves_nothing_behind() {
    loom::model(|| {
        let store = Store::new();
        let informer = store.change_in_thread(1);
        let place = store.register(1).unwrap();
        let waker = noop_waker_ref();
        let polled = place.waiter().poll(&std::task::Context::from_waker(waker));
        assert!(polled.is_pending() || polled == std::task::Poll::Ready(1));
        drop(place);
        informer.join().unwrap();
        assert!(store.registry.len() == 0);
        assert!(store.registry.names().is_empty());
        store.registry.see(&"a", || unreachable!("somebody is still registered"));
    });
}

#[test]
fn a_late_verdict_on_an_older_version_does_not_undo_a_newer_one() {
    loom::model(|| {
        let registry: TestRegistry = Arc::new(Registry::new());
        let place = registry.register(until(2)).unwrap();
        let late = thread::spawn({
            let registry = Arc::clone(&registry);
            move || registry.see(&"a", || 1)
        });
        registry.see(&"a", || 2);
        late.join().unwrap();
        assert_eq!(place.waiter().take_end(), Some(2));
    });
}

#[test]
fn a_registry_that_closes_tells_every_waiter_or_refuses_it() {
    loom::model(|| {
        let store = Store::new();
        let closing = thread::spawn({
            let store = Arc::clone(&store);
            move || store.registry.close(&CLOSED)
        });
        if let Some(place) = store.register(1) {
            assert_eq!(end(&place), CLOSED);
        }
        closing.join().unwrap();
        assert!(store.register(1).is_none());
    });
}

#[test]
fn opposite_holds_exclude_each_other_and_are_released_once() {
    loom::model(|| {
        let holds = Arc::new(Holds::new());
        let inside = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let take = |side: u8| {
            let (holds, inside) = (Arc::clone(&holds), Arc::clone(&inside));
            move || {
                let Ok(hold) = holds.acquire("a".into(), side) else {
                    return;
                };
                // One byte a side counts who is inside.
                let count = |side: u8| 1 << (8 * usize::from(side));
                let before = inside.fetch_add(count(side), Ordering::SeqCst);
                assert_eq!((before / count(1 - side)) & 0xff, 0, "both sides at once");
                inside.fetch_sub(count(side), Ordering::SeqCst);
                drop(hold);
            }
        };
        let threads = [thread::spawn(take(0)), thread::spawn(take(1))];
        take(0)();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(holds.len(), 0);
        assert!(holds.acquire("a".into(), 1).is_ok());
    });
}
