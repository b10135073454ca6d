//! [`FaultPlan`]: which requests and events fail, and how.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::request::{Target, Verb};
use crate::store::Stored;

/// A list of faults. Its `Debug` output shows everything in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultPlan {
    /// The seed of a random plan.
    pub seed: Option<u64>,
    /// Each fault counts by itself.
    pub faults: Vec<Fault>,
}

/// One fault: its trigger, which of the matches it strikes, and what it does.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A fault of requests.
    Request {
        /// The requests that match.
        on: On,
        /// Which of the matches are struck.
        times: Times,
        /// What happens to those.
        then: RequestFault,
    },
    /// A fault of events. The events of all watches are counted together.
    Event {
        /// The events that match. The verb does not matter.
        on: On,
        /// Which of the matches are struck.
        times: Times,
        /// What happens to those.
        then: WatchFault,
    },
}

/// A trigger: which requests or events match. The default matches all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct On {
    /// Only this verb.
    pub verb: Option<Verb>,
    /// Only this kind, by its plural.
    pub plural: Option<String>,
    /// Only the object of this name.
    pub name: Option<String>,
}

/// Which of the matches are struck, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The first ones, so many.
    First(u64),
    /// Only this one.
    Nth(u64),
    /// Each one whose number is a multiple of this.
    Every(u64),
    /// All.
    Always,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestFault {
    /// It is answered with this HTTP status.
    Answer {
        /// HTTP status.
        code: u16,
        /// The seconds of `Retry-After`.
        retry_after: Option<u32>,
    },
    /// It is processed after this time.
    Delay(Duration),
    /// Its connection is dropped, and it is not processed.
    Drop,
    /// It is processed, but its connection is dropped instead of an answer.
    DropAnswer,
    /// It gets no answer, and its connection stays open.
    Silence,
    /// It is refused (403) as if no role allowed it.
    Forbid,
    /// All tokens and clients of its sender become invalid, and it is refused (401). New ones are valid.
    RevokeTokens,
    /// The server is set back by so many revisions, as a restored backup would, but not to before the plan was
    /// injected. Every connection breaks, that of the request too.
    Rewind {
        /// Revisions back from the newest one.
        behind: u64,
    },
    /// A list shows the state of so many revisions ago.
    OldList {
        /// Revisions back from the newest one.
        behind: u64,
    },
    /// A watch sends no bookmarks.
    NoBookmarks,
    /// A watch ends after this time.
    CutAfter(Duration),
}

/// What happens to an event on its way to one watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchFault {
    /// The watch ends cleanly before it.
    End,
    /// The connection breaks before it.
    Reset,
    /// The connection breaks in the middle of its line.
    MidLine,
    /// The watch gets an error instead, that its version has expired (410), and ends.
    Expire,
    /// It and all later events are delayed.
    Hold(Duration),
    /// The watch sends nothing any more, and its connection stays open.
    Silence,
    /// It comes twice.
    Duplicate,
    /// It changes places with the next one.
    Reorder,
}

impl On {
    /// Requests for a kind, or events of it.
    #[must_use]
    pub fn kind(plural: &str) -> Self {
        Self { plural: Some(plural.to_owned()), ..Self::default() }
    }

    /// Requests of one verb for a kind.
    #[must_use]
    pub fn request(verb: Verb, plural: &str) -> Self {
        Self { verb: Some(verb), ..Self::kind(plural) }
    }

    /// Only those for the object of this name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    pub(super) fn is_request(&self, verb: Option<Verb>, target: &Target) -> bool {
        self.verb.is_none_or(|wanted| Some(wanted) == verb)
            && self.plural.as_ref().is_none_or(|plural| *plural == target.plural)
            && self.name.as_ref().is_none_or(|name| Some(name) == target.name.as_ref())
    }

    pub(super) fn is_event(&self, plural: &str, stored: &Stored) -> bool {
        self.plural.as_ref().is_none_or(|wanted| wanted == plural)
            && self.name.as_ref().is_none_or(|name| **name == *stored.key.name)
    }
}

impl Times {
    pub(super) fn include(self, number: u64) -> bool {
        match self {
            Self::First(count) => number <= count,
            Self::Nth(nth) => number == nth,
            Self::Every(every) => every > 0 && number.is_multiple_of(every),
            Self::Always => true,
        }
    }
}

impl FaultPlan {
    /// A plan of these faults.
    #[must_use]
    pub fn new(faults: Vec<Fault>) -> Self {
        Self { seed: None, faults }
    }

    /// A plan of one fault of requests.
    #[must_use]
    pub fn request(on: On, times: Times, then: RequestFault) -> Self {
        Self::new(vec![Fault::Request { on, times, then }])
    }

    /// A plan of one fault of events.
    #[must_use]
    pub fn event(on: On, times: Times, then: WatchFault) -> Self {
        Self::new(vec![Fault::Event { on, times, then }])
    }

    /// Adds the faults of another plan.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.faults.extend(other.faults);
        self
    }

    /// A random plan: one to six temporary faults of lists and watches of a kind. The same seed makes the same plan.
    #[must_use]
    pub fn random(seed: u64, plural: &str) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let count = chance.random_range(1..=6);
        let faults = (0..count).map(|_| random_fault(&mut chance, plural)).collect();
        Self { seed: Some(seed), faults }
    }
}

fn random_fault(chance: &mut StdRng, plural: &str) -> Fault {
    let times = match chance.random_range(0..3) {
        0 => Times::First(chance.random_range(1..=3)),
        1 => Times::Nth(chance.random_range(1..=20)),
        _ => Times::Nth(chance.random_range(1..=3)),
    };
    if chance.random_bool(0.5) {
        let then = [
            WatchFault::End,
            WatchFault::Reset,
            WatchFault::MidLine,
            WatchFault::Expire,
            WatchFault::Hold(Duration::from_millis(chance.random_range(1..=500))),
            WatchFault::Silence,
            WatchFault::Duplicate,
            WatchFault::Reorder,
        ];
        let then = then.choose(chance).cloned().unwrap_or(WatchFault::End);
        return Fault::Event { on: On::kind(plural), times, then };
    }
    let verb = if chance.random_bool(0.5) { Verb::Watch } else { Verb::List };
    let then = [
        RequestFault::Answer { code: 410, retry_after: None },
        RequestFault::Answer { code: 429, retry_after: Some(1) },
        RequestFault::Answer { code: 500, retry_after: None },
        RequestFault::Answer { code: 503, retry_after: Some(2) },
        RequestFault::Answer { code: 504, retry_after: None },
        RequestFault::Delay(Duration::from_millis(chance.random_range(1..=2000))),
        RequestFault::Drop,
        RequestFault::DropAnswer,
        RequestFault::Silence,
        RequestFault::Forbid,
        RequestFault::Rewind { behind: chance.random_range(1..=5) },
        RequestFault::OldList { behind: chance.random_range(1..=5) },
        RequestFault::NoBookmarks,
        RequestFault::CutAfter(Duration::from_millis(chance.random_range(0..=3000))),
    ];
    let then = then.choose(chance).cloned().unwrap_or(RequestFault::Drop);
    Fault::Request { on: On::request(verb, plural), times, then }
}
