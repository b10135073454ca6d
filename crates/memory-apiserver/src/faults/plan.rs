//! [`FaultPlan`]: which requests and events go wrong, and how.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::request::{Target, Verb};
use crate::store::Stored;

/// Faults to happen. Its `Debug` says all that it holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultPlan {
    /// What the plan was made from, if it was made by chance.
    pub seed: Option<u64>,
    /// All of them count on their own.
    pub faults: Vec<Fault>,
}

/// One fault: what it strikes, at which times, and what happens then.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Something happens to requests.
    Request {
        /// Which requests count.
        on: On,
        /// Which of those that count are struck.
        times: Times,
        /// What happens to them.
        then: RequestFault,
    },
    /// Something happens to events of watches; those of all watches count together.
    Event {
        /// Which events count; the verb is of no matter.
        on: On,
        /// Which of those that count are struck.
        times: Times,
        /// What happens to them.
        then: WatchFault,
    },
}

/// Which requests or events count. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct On {
    /// Only this verb.
    pub verb: Option<Verb>,
    /// Only this kind, by its plural.
    pub plural: Option<String>,
    /// Only the object of this name.
    pub name: Option<String>,
}

/// Which of those that count, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The first so many.
    First(u64),
    /// This one alone.
    Nth(u64),
    /// Every so-manieth.
    Every(u64),
    /// All.
    Always,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestFault {
    /// It is answered with this HTTP status, and asked to come again after so many seconds.
    Answer {
        /// HTTP status.
        code: u16,
        /// Seconds, as `Retry-After`.
        retry_after: Option<u32>,
    },
    /// It is carried out later.
    Delay(Duration),
    /// Its connection is dropped before anything is done.
    Drop,
    /// It is carried out, and its connection dropped instead of an answer.
    DropAnswer,
    /// It never gets an answer, and the connection stays.
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
    /// A list shows what was there so many revisions ago.
    OldList {
        /// Revisions back from the newest one.
        behind: u64,
    },
    /// A watch sends no bookmarks.
    NoBookmarks,
    /// A watch ends after this time.
    CutAfter(Duration),
}

/// What happens to an event on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchFault {
    /// The watch ends cleanly before it.
    End,
    /// The connection breaks before it.
    Reset,
    /// The connection breaks in the middle of it.
    MidLine,
    /// Instead of it the watch is told that its version has expired, and ends.
    Expire,
    /// It, and all after it, come later.
    Hold(Duration),
    /// The watch says nothing any more, and its connection stays.
    Silence,
    /// It comes twice.
    Duplicate,
    /// It changes places with the next one.
    Reorder,
}

impl On {
    /// A kind.
    #[must_use]
    pub fn kind(plural: &str) -> Self {
        Self { plural: Some(plural.to_owned()), ..Self::default() }
    }

    /// A verb on a kind.
    #[must_use]
    pub fn request(verb: Verb, plural: &str) -> Self {
        Self { verb: Some(verb), ..Self::kind(plural) }
    }

    /// The same for one object.
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
    /// These faults.
    #[must_use]
    pub fn new(faults: Vec<Fault>) -> Self {
        Self { seed: None, faults }
    }

    /// One fault of requests.
    #[must_use]
    pub fn request(on: On, times: Times, then: RequestFault) -> Self {
        Self::new(vec![Fault::Request { on, times, then }])
    }

    /// One fault of events.
    #[must_use]
    pub fn event(on: On, times: Times, then: WatchFault) -> Self {
        Self::new(vec![Fault::Event { on, times, then }])
    }

    /// Both plans at once.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.faults.extend(other.faults);
        self
    }

    /// A plan that chance made: one to six faults that pass, on lists and watches of a kind. The same seed makes the
    /// same plan.
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
