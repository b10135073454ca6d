//! [`Transitions`]: the times at which index values change without an event.
//!
//! An object is indexed for a time before or after its transition, and the two cases are kept apart. So a clock that
//! passes a transition indexes the object once. A clock that is set back finds the transitions that are ahead again
//! (behaviour V11).

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::slots::Slot;
use crate::kind::Transition;

/// A transition as it is filed. Each object keeps its own, so it is small.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Filed {
    at: Nanoseconds,
    is_passed: bool,
}

impl From<Transition> for Filed {
    fn from(Transition { at, is_passed }: Transition) -> Self {
        Self { at: nanoseconds(at), is_passed }
    }
}

/// Nanoseconds since the epoch. A time after the year 2262 counts as the last one of these, because no clock gets there.
type Nanoseconds = i64;

fn nanoseconds(time: Timestamp) -> Nanoseconds {
    let exact = time.as_nanosecond();
    let limit = if exact < 0 { Nanoseconds::MIN } else { Nanoseconds::MAX };
    Nanoseconds::try_from(exact).unwrap_or(limit)
}

fn timestamp(at: Nanoseconds) -> Timestamp {
    Timestamp::from_nanosecond(at.into()).unwrap_or(Timestamp::MAX)
}

/// Slots by the time of their transition.
#[derive(Default)]
pub(super) struct Transitions {
    /// Objects that are indexed for a time before their transition.
    ahead: BTreeSet<(Nanoseconds, Slot)>,
    /// Objects that are indexed for a time after their transition.
    passed: BTreeSet<(Nanoseconds, Slot)>,
}

impl Transitions {
    fn side(&mut self, is_passed: bool) -> &mut BTreeSet<(Nanoseconds, Slot)> {
        if is_passed { &mut self.passed } else { &mut self.ahead }
    }

    pub(super) fn insert(&mut self, slot: Slot, filed: Filed) {
        self.side(filed.is_passed).insert((filed.at, slot));
    }

    /// Removes what [`Self::insert`] has inserted.
    pub(super) fn remove(&mut self, slot: Slot, filed: Filed) {
        self.side(filed.is_passed).remove(&(filed.at, slot));
    }

    /// Returns the next time at which an object must be indexed again, if the clock is not set back.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.ahead.first().map(|&(at, _)| timestamp(at))
    }

    /// Returns the objects that are indexed for the other side of their transition than `now`.
    pub(super) fn due(&self, now: Timestamp) -> impl Iterator<Item = Slot> {
        let is_passed = move |at| Transition::new(timestamp(at), now).is_passed;
        let due = self.ahead.iter().take_while(move |(at, _)| is_passed(*at));
        let set_back = self.passed.iter().rev().take_while(move |(at, _)| !is_passed(*at));
        due.chain(set_back).map(|&(_, slot)| slot)
    }

    /// Returns the number of transitions ahead and passed.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.ahead.len(), self.passed.len())
    }
}
