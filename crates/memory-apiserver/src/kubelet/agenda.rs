//! [`Agenda`]: when to look at which Pod.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use crate::store::Key;

/// The Pods that are to be looked at, by time. Each of them is in it once.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    times: BTreeSet<(Instant, Key)>,
    of: HashMap<Key, Instant>,
}

impl Agenda {
    /// Adds a Pod, unless it is due sooner.
    pub(super) fn add(&mut self, key: &Key, at: Instant) {
        if let Some(before) = self.of.get(key) {
            if *before <= at {
                return;
            }
            self.times.remove(&(*before, key.clone()));
        }
        self.of.insert(key.clone(), at);
        self.times.insert((at, key.clone()));
    }

    /// Takes the Pod that is due first, if its time has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Key> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.times.pop_first()?;
        self.of.remove(&key);
        Some(key)
    }

    /// The time of the Pod that is due first.
    pub(super) fn next(&self) -> Option<Instant> {
        self.times.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pod_is_due_once_at_the_earliest_of_its_times() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        let (a, b) = (Key::new("n", "a"), Key::new("n", "b"));
        for (key, at) in [(&a, later), (&b, later), (&a, now), (&a, later)] {
            agenda.add(key, at);
        }
        assert_eq!((agenda.pop(now), agenda.pop(now)), (Some(a), None));
        assert_eq!((agenda.next(), agenda.pop(later), agenda.next()), (Some(later), Some(b), None));
    }
}
