//! [`Transitions`]: the times at which index values change without an event.
//!
//! An object is indexed for a time before or after its transition, and the two cases are kept apart. So a clock that
//! passes a transition indexes the object once. A clock that is set back finds the transitions that are ahead again
//! (behaviour V11).

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::slots::Slot;
use crate::kind::Transition;

/// Slots by the time of their transition.
#[derive(Default)]
pub(super) struct Transitions {
    /// Objects that are indexed for a time before their transition.
    ahead: BTreeSet<(Timestamp, Slot)>,
    /// Objects that are indexed for a time after their transition.
    passed: BTreeSet<(Timestamp, Slot)>,
}

impl Transitions {
    pub(super) fn insert(&mut self, slot: Slot, Transition { at, is_passed }: Transition) {
        let set = if is_passed { &mut self.passed } else { &mut self.ahead };
        set.insert((at, slot));
    }

    pub(super) fn remove(&mut self, slot: Slot, at: Timestamp) {
        if !self.ahead.remove(&(at, slot)) {
            self.passed.remove(&(at, slot));
        }
    }

    pub(super) fn contains(&self, slot: Slot, Transition { at, is_passed }: Transition) -> bool {
        let set = if is_passed { &self.passed } else { &self.ahead };
        set.contains(&(at, slot))
    }

    /// Returns the next time at which an object must be indexed again, if the clock is not set back.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.ahead.first().map(|&(at, _)| at)
    }

    /// Returns the times and objects of the transitions on whose other side than `now` the objects are indexed.
    pub(super) fn due(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Slot)> {
        let is_passed = move |at| Transition::new(at, now).is_passed;
        let due = self.ahead.iter().take_while(move |(at, _)| is_passed(*at));
        let set_back = self.passed.iter().rev().take_while(move |(at, _)| !is_passed(*at));
        due.chain(set_back).copied()
    }

    /// Returns the number of transitions ahead and passed.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.ahead.len(), self.passed.len())
    }
}
