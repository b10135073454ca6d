//! [`Registry`]: who waits for which key, and how they are told.
//!
//! Knows nothing of objects and conditions: a [`Waiter`] brings a judge, a function from what was seen of its
//! key to a verdict. Judges run in the thread that saw the change, outside every lock; the verdict is put in the
//! waiter's slot and its task is woken.
//!
//! # Invariants, which `tests/wait_model.rs` checks in every interleaving
//!
//! - A verdict that is given after [`Registry::register`] returned reaches the waiter: no lost wake-up.
//! - Verdicts of older versions never replace those of newer ones, whoever is late.
//! - A waiter is told nothing once its [`Registration`] is dropped, and nothing of it is kept.
//! - After [`Registry::close`] every waiter, also a later one, is told that it has been closed.

use std::hash::{Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use hashbrown::{Equivalent, HashMap};
use smallvec::SmallVec;

use super::sync::{AtomicUsize, Mutex};

/// What a judge makes of something that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<T, R> {
    /// The wait may end with this, unless something newer says otherwise before the waiter takes it.
    End(T),
    /// The wait goes on, and this is why.
    GoOn(R),
    /// The wait ends with this whatever comes after.
    Final(T),
}

/// Judges what was seen of a waiter's key: `None` when it says nothing about the wait, else the version of what
/// was seen and the verdict.
pub(crate) type Judge<O, T, R> = Box<dyn Fn(&O) -> Option<(u64, Verdict<T, R>)> + Send + Sync>;

struct Slot<T, R> {
    /// How the wait may end.
    end: Option<T>,
    /// Nothing may change `end` any more.
    sealed: bool,
    /// Why the wait goes on, as of the last verdict.
    reason: Option<R>,
    /// Version of what the last verdict was about.
    version: u64,
    waker: Option<Waker>,
}

/// One wait: its judge, and the slot that verdicts are put in.
pub(crate) struct Waiter<O, T, R> {
    judge: Judge<O, T, R>,
    slot: Mutex<Slot<T, R>>,
}

impl<O, T, R> Waiter<O, T, R> {
    pub(crate) fn new(judge: Judge<O, T, R>) -> Self {
        let slot = Slot { end: None, sealed: false, reason: None, version: 0, waker: None };
        Self { judge, slot: Mutex::new(slot) }
    }

    /// Judges what was seen and takes the verdict. Called with no lock held.
    pub(crate) fn see(&self, seen: &O) {
        let Some((version, verdict)) = (self.judge)(seen) else {
            return;
        };
        let mut slot = self.slot.lock();
        if slot.sealed || (version < slot.version && !matches!(verdict, Verdict::Final(_))) {
            return;
        }
        slot.version = version;
        match verdict {
            Verdict::GoOn(reason) => {
                // Also when the wait could have ended before: what was so then is so no longer.
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

    /// How the wait ends, if it does by now; else the task is woken when it may.
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

    /// Takes how the wait ends, if it does by now.
    pub(crate) fn take_end(&self) -> Option<T> {
        self.slot.lock().end.take()
    }

    /// Why the wait goes on, as of the last verdict.
    pub(crate) fn take_reason(&self) -> Option<R> {
        self.slot.lock().reason.take()
    }
}

type Waiters<O, T, R> = SmallVec<[Arc<Waiter<O, T, R>>; 1]>;

struct State<N, O, T, R> {
    waiters: HashMap<N, Waiters<O, T, R>, RandomState>,
    closed: bool,
}

/// The waiters of one kind by the name `N` of their object. `O` is what can be seen of one, `T` how a wait ends,
/// `R` why it goes on.
pub(crate) struct Registry<N, O, T, R> {
    state: Mutex<State<N, O, T, R>>,
    /// How many names have waiters, to pass by the lock while there are none.
    names: AtomicUsize,
}

/// A waiter's place in a registry. Dropping it gives the place up.
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

    /// Lets a waiter be told of its name from here on. `None` once the registry is closed.
    ///
    /// For what happens before a change that the caller knows of, call this while that change is held off.
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
        // Released by the lock that registration and the change are ordered by; see `see`.
        self.names.store(state.waiters.len(), Ordering::Release);
        drop(state);
        Some(Registration { registry: Arc::clone(self), name, waiter })
    }

    /// Tells the waiters of a name what was seen. Their judges run here, one after the other.
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

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.load(Ordering::Acquire) == 0
    }

    /// The names that are waited for now.
    pub(crate) fn names(&self) -> Vec<N> {
        self.state.lock().waiters.keys().cloned().collect()
    }

    /// Ends every wait, and every later one, with this.
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
