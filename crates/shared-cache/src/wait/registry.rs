//! [`Registry`]: stores which callers wait for which key, and wakes them.
//!
//! The registry does not depend on objects and conditions. A [`Waiter`] contains a judge: a function from a
//! state of its key to a verdict. Judges run in the thread that saw the change, outside every lock. The
//! verdict is stored in the waiter's slot and the waiter's task is woken.
//!
//! # Invariants, which `tests/wait_model.rs` checks in every interleaving
//!
//! - A verdict given after [`Registry::register`] returned reaches the waiter: no wake-up is lost.
//! - A verdict of an older version never replaces that of a newer version, in any order of arrival.
//! - Once a [`Registration`] is dropped, its waiter receives nothing and is not kept.
//! - After [`Registry::close`] every waiter, including later waiters, receives the end.

use std::hash::{Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use hashbrown::{Equivalent, HashMap};
use smallvec::SmallVec;

use super::sync::{AtomicUsize, Mutex};

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

struct Slot<T, R> {
    /// The result with which the wait may end.
    end: Option<T>,
    /// If true, no verdict may change `end` any more.
    sealed: bool,
    /// The reason of the last verdict for which the wait continues.
    reason: Option<R>,
    /// The version of the state of the last verdict.
    version: u64,
    waker: Option<Waker>,
}

/// One wait: its judge, and the slot that stores verdicts.
pub(crate) struct Waiter<O, T, R> {
    judge: Judge<O, T, R>,
    slot: Mutex<Slot<T, R>>,
}

impl<O, T, R> Waiter<O, T, R> {
    pub(crate) fn new(judge: Judge<O, T, R>) -> Self {
        let slot = Slot { end: None, sealed: false, reason: None, version: 0, waker: None };
        Self { judge, slot: Mutex::new(slot) }
    }

    /// Judges a state and stores the verdict. Called with no lock held.
    pub(crate) fn see(&self, seen: &O) {
        let Some((version, verdict)) = (self.judge)(seen) else {
            return;
        };
        let mut slot = self.slot.lock();
        let version = version.unwrap_or(slot.version);
        if slot.sealed || (version < slot.version && !matches!(verdict, Verdict::Final(_))) {
            return;
        }
        slot.version = version;
        match verdict {
            Verdict::GoOn(reason) => {
                // Also if the wait could have ended before, because the older result is no longer valid.
                slot.end = None;
                slot.reason = Some(reason);
            }
            Verdict::End(end) => slot.end = Some(end),
            Verdict::Final(end) => {
                slot.end = Some(end);
                slot.sealed = true;
            }
        }
        let waker = if slot.end.is_some() { slot.waker.take() } else { None };
        drop(slot);
        waker.into_iter().for_each(Waker::wake);
    }

    fn seal(&self, end: T) {
        let mut slot = self.slot.lock();
        if slot.sealed {
            return;
        }
        slot.sealed = true;
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

    /// Takes the reason of the last verdict for which the wait continues.
    pub(crate) fn take_reason(&self) -> Option<R> {
        self.slot.lock().reason.take()
    }
}

type Waiters<O, T, R> = SmallVec<[Arc<Waiter<O, T, R>>; 1]>;

struct State<N, O, T, R> {
    waiters: HashMap<N, Waiters<O, T, R>, RandomState>,
    closed: bool,
}

/// The waiters of one kind by the name `N` of their object. `O` is a state of an object, `T` the result of a
/// wait, `R` the reason why a wait continues.
pub(crate) struct Registry<N, O, T, R> {
    state: Mutex<State<N, O, T, R>>,
    /// Number of names that have waiters. Readers skip the lock while the number is zero.
    names: AtomicUsize,
}

/// Registration of a waiter. Dropping it removes the waiter.
#[must_use]
pub(crate) struct Registration<N: Eq + Hash + Clone, O, T, R> {
    registry: Arc<Registry<N, O, T, R>>,
    name: N,
    waiter: Arc<Waiter<O, T, R>>,
}

impl<N: Eq + Hash + Clone, O, T: Clone, R> Registry<N, O, T, R> {
    pub(crate) fn new() -> Self {
        let state = State { waiters: HashMap::default(), closed: false };
        Self { state: Mutex::new(state), names: AtomicUsize::new(0) }
    }

    /// Registers a waiter for a name. Returns `None` once the registry is closed.
    ///
    /// A caller that must not miss a change calls this while the change is blocked, for example under the
    /// store's lock.
    pub(crate) fn register(
        self: &Arc<Self>,
        name: N,
        waiter: Waiter<O, T, R>,
    ) -> Option<Registration<N, O, T, R>> {
        let waiter = Arc::new(waiter);
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.waiters.entry(name.clone()).or_default().push(Arc::clone(&waiter));
        // The lock that orders registration and change also orders this store; see `see`.
        self.names.store(state.waiters.len(), Ordering::Release);
        drop(state);
        Some(Registration { registry: Arc::clone(self), name, waiter })
    }

    /// Passes a state of a name to its waiters. Their judges run here, one after another.
    pub(crate) fn see<Q: Hash + Equivalent<N>>(&self, name: &Q, seen: impl FnOnce() -> O) {
        if self.is_empty() {
            return;
        }
        let waiters = self.state.lock().waiters.get(name).cloned();
        if let Some(waiters) = waiters {
            let seen = seen();
            waiters.iter().for_each(|waiter| waiter.see(&seen));
        }
    }

    /// Returns true if there are no waiters.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.load(Ordering::Acquire) == 0
    }

    /// Returns the names that have waiters.
    pub(crate) fn names(&self) -> Vec<N> {
        self.state.lock().waiters.keys().cloned().collect()
    }

    /// Ends every wait, including later waits, with this result.
    pub(crate) fn close(&self, end: &T) {
        let mut state = self.state.lock();
        state.closed = true;
        let waiters: Vec<_> = state.waiters.values().flatten().cloned().collect();
        drop(state);
        for waiter in waiters {
            waiter.seal(end.clone());
        }
    }
}

impl<N: Eq + Hash + Clone, O, T, R> Registration<N, O, T, R> {
    pub(crate) fn waiter(&self) -> &Waiter<O, T, R> {
        &self.waiter
    }
}

impl<N: Eq + Hash + Clone, O, T, R> Drop for Registration<N, O, T, R> {
    fn drop(&mut self) {
        let mut state = self.registry.state.lock();
        let Some(waiters) = state.waiters.get_mut(&self.name) else {
            return;
        };
        waiters.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
        if waiters.is_empty() {
            state.waiters.remove(&self.name);
            self.registry.names.store(state.waiters.len(), Ordering::Release);
        }
    }
}
