//! [`Registry`]: stores which callers wait for which key, and wakes them.
//!
//! The registry does not depend on objects and conditions. A [`Waiter`] contains a judge: a function from a
//! state of its key to a verdict. Judges run in the thread that saw the change, outside every lock. The
//! verdict is stored in the waiter's slot and the waiter's task is woken.
//!
//! A process may have 100,000 waits, so a waiter is small (behaviour W4). The name is stored once, in the waiter, and
//! the table refers to waiters only. A slot keeps the state that was judged last instead of the text of the reason.
//! The waiters are in shards, so that no lock is held for a time that grows with their number.
//!
//! # Invariants, which `tests/wait_model.rs` checks in every interleaving
//!
//! - A verdict given after [`Registry::register`] returned reaches the waiter: no wake-up is lost.
//! - A verdict of an older version never replaces that of a newer version, in any order of arrival.
//! - Once a [`Registration`] is dropped, its waiter receives nothing and is not kept.
//! - After [`Registry::close`] every waiter, including later waiters, receives the end.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use hashbrown::{Equivalent, HashTable};
use smallvec::SmallVec;

use super::sync::{AtomicUsize, Mutex, SHARDS};

/// The result of judging a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<T, R> {
    /// The wait may end with this, unless a newer verdict replaces it before the waiter takes it.
    End(T),
    /// The wait continues for this reason.
    GoOn(R),
    /// The wait ends with this. No later verdict changes it.
    Final(T),
}

/// Judges a state of a waiter's key. Returns `None` if the state does not concern the wait, otherwise its version and
/// the verdict. Without a version the state counts as new as the last one that was judged.
pub(crate) type Judge<O, T, R> = Box<dyn Fn(&O) -> Option<(Option<u64>, Verdict<T, R>)> + Send + Sync>;

struct Slot<O, T> {
    /// The result with which the wait may end.
    end: Option<T>,
    /// The state of the last verdict for which the wait continues.
    last: Option<O>,
    /// The version of the state of the last verdict; [`SEALED`] if no verdict may change `end` any more.
    version: u64,
    waker: Option<Waker>,
}

/// The version of a slot whose result is final. No object reaches this version.
const SEALED: u64 = u64::MAX;

/// One wait: its name, its judge, and the slot that stores verdicts.
pub(crate) struct Waiter<N, O, T, R> {
    name: N,
    /// The hash of the name, set at the registration. It is stored, so that a growing table does not read the names
    /// again under a lock. It is not in the table, because up to half of the places in a table are empty.
    hash: u64,
    judge: Judge<O, T, R>,
    slot: Mutex<Slot<O, T>>,
}

impl<N, O: Clone, T, R> Waiter<N, O, T, R> {
    pub(crate) fn new(name: N, judge: Judge<O, T, R>) -> Self {
        let slot = Slot { end: None, last: None, version: 0, waker: None };
        Self { name, hash: 0, judge, slot: Mutex::new(slot) }
    }

    /// Judges a state and stores the verdict. Called with no lock held.
    pub(crate) fn see(&self, seen: &O) {
        let Some((version, verdict)) = (self.judge)(seen) else {
            return;
        };
        let mut slot = self.slot.lock();
        let version = version.unwrap_or(slot.version);
        if slot.version == SEALED || (version < slot.version && !matches!(verdict, Verdict::Final(_))) {
            return;
        }
        slot.version = version;
        match verdict {
            Verdict::GoOn(_) => {
                // Also if the wait could have ended before, because the older result is no longer valid.
                slot.end = None;
                slot.last = Some(seen.clone());
            }
            Verdict::End(end) => slot.end = Some(end),
            Verdict::Final(end) => {
                slot.end = Some(end);
                slot.version = SEALED;
            }
        }
        let waker = if slot.end.is_some() { slot.waker.take() } else { None };
        drop(slot);
        waker.into_iter().for_each(Waker::wake);
    }

    fn seal(&self, end: T) {
        let mut slot = self.slot.lock();
        if slot.version == SEALED {
            return;
        }
        slot.version = SEALED;
        slot.end = Some(end);
        let waker = slot.waker.take();
        drop(slot);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Returns the result if there is one, otherwise registers the waker.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<T> {
        let mut slot = self.slot.lock();
        if let Some(end) = slot.end.take() {
            return Poll::Ready(end);
        }
        if slot.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes the result of the wait, if there is one.
    pub(crate) fn take_end(&self) -> Option<T> {
        self.slot.lock().end.take()
    }

    /// Returns the reason of the last verdict for which the wait continues. The state is judged again.
    pub(crate) fn take_reason(&self) -> Option<R> {
        let last = self.slot.lock().last.take()?;
        match (self.judge)(&last)?.1 {
            Verdict::GoOn(reason) => Some(reason),
            Verdict::End(_) | Verdict::Final(_) => None,
        }
    }
}

struct Shard<N, O, T, R> {
    waiters: HashTable<Arc<Waiter<N, O, T, R>>>,
    closed: bool,
}

/// The waiters of one kind by the name `N` of their object. `O` is a state of an object, `T` the result of a
/// wait, `R` the reason why a wait continues.
pub(crate) struct Registry<N, O, T, R> {
    shards: [Mutex<Shard<N, O, T, R>>; SHARDS],
    hasher: RandomState,
    /// Number of waiters. Readers skip the locks while the number is zero.
    count: AtomicUsize,
}

/// Registration of a waiter. Dropping it removes the waiter.
#[must_use]
pub(crate) struct Registration<N, O, T, R> {
    registry: Arc<Registry<N, O, T, R>>,
    waiter: Arc<Waiter<N, O, T, R>>,
}

impl<N: Hash + Clone, O: Clone, T: Clone, R> Registry<N, O, T, R> {
    pub(crate) fn new() -> Self {
        let shard = |_| Mutex::new(Shard { waiters: HashTable::new(), closed: false });
        let shards = std::array::from_fn(shard);
        Self { shards, hasher: RandomState::new(), count: AtomicUsize::new(0) }
    }

    /// Registers a waiter. Returns `None` once the registry is closed.
    ///
    /// A caller that must not miss a change calls this while the change is blocked, for example under the
    /// store's lock.
    pub(crate) fn register(
        self: &Arc<Self>,
        mut waiter: Waiter<N, O, T, R>,
    ) -> Option<Registration<N, O, T, R>> {
        let hash = self.hasher.hash_one(&waiter.name);
        waiter.hash = hash;
        let waiter = Arc::new(waiter);
        let mut shard = self.shard(hash).lock();
        if shard.closed {
            return None;
        }
        shard.waiters.insert_unique(hash, Arc::clone(&waiter), |waiter| waiter.hash);
        // The lock that orders registration and change also orders this addition; see `see`.
        self.count.fetch_add(1, Ordering::Release);
        drop(shard);
        Some(Registration { registry: Arc::clone(self), waiter })
    }

    /// Passes a state of a name to its waiters. Their judges run here, one after another.
    pub(crate) fn see<Q: Hash + Equivalent<N>>(&self, name: &Q, seen: impl FnOnce() -> O) {
        if self.len() == 0 {
            return;
        }
        let hash = self.hasher.hash_one(name);
        let waiters: SmallVec<[_; 1]> = {
            let shard = self.shard(hash).lock();
            let waiters = shard.waiters.iter_hash(hash).filter(|waiter| name.equivalent(&waiter.name));
            waiters.map(Arc::clone).collect()
        };
        if !waiters.is_empty() {
            let seen = seen();
            waiters.iter().for_each(|waiter| waiter.see(&seen));
        }
    }

    /// Returns the number of waiters.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Returns the name of each waiter.
    pub(crate) fn names(&self) -> Vec<N> {
        let mut names = Vec::new();
        for shard in &self.shards {
            let waiters = shard.lock().all();
            names.extend(waiters.iter().map(|waiter| waiter.name.clone()));
        }
        names
    }

    /// Ends every wait, including later waits, with this result.
    pub(crate) fn close(&self, end: &T) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.closed = true;
            let waiters = shard.all();
            drop(shard);
            for waiter in waiters {
                waiter.seal(end.clone());
            }
        }
    }
}

impl<N, O, T, R> Registry<N, O, T, R> {
    fn shard(&self, hash: u64) -> &Mutex<Shard<N, O, T, R>> {
        // The lowest bits choose the bucket within the shard.
        let bits = usize::try_from(hash >> 32).unwrap_or_default();
        &self.shards[bits % SHARDS]
    }
}

impl<N, O, T, R> Shard<N, O, T, R> {
    fn all(&self) -> Vec<Arc<Waiter<N, O, T, R>>> {
        self.waiters.iter().map(Arc::clone).collect()
    }
}

impl<N, O, T, R> Registration<N, O, T, R> {
    pub(crate) fn waiter(&self) -> &Waiter<N, O, T, R> {
        &self.waiter
    }
}

impl<N, O, T, R> Drop for Registration<N, O, T, R> {
    fn drop(&mut self) {
        let mut shard = self.registry.shard(self.waiter.hash).lock();
        let found = shard.waiters.find_entry(self.waiter.hash, |waiter| Arc::ptr_eq(waiter, &self.waiter));
        if let Ok(entry) = found {
            entry.remove();
            self.registry.count.fetch_sub(1, Ordering::Release);
        }
    }
}
