//! [`Faults`]: the faults in force and how often each of them has happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::interference::Interference;
use super::plan::{Fault, FaultPlan, Times, WatchFault};
use crate::request::{Target, Verb};
use crate::store::Stored;

/// The faults that are in force.
#[derive(Default)]
pub(crate) struct Faults {
    active: RwLock<Vec<Arc<Active>>>,
}

/// A fault and how often its trigger has matched.
struct Active {
    fault: Fault,
    /// The revision of the store at which it was injected.
    since: u64,
    matched: AtomicU64,
    fired: AtomicU64,
}

impl Active {
    /// Counts a match; whether it is one at which the fault happens.
    fn fires(&self, times: &Times) -> bool {
        let number = self.matched.fetch_add(1, Ordering::Relaxed) + 1;
        let fires = times.include(number);
        self.fired.fetch_add(u64::from(fires), Ordering::Relaxed);
        fires
    }
}

impl Faults {
    /// Adds the faults of a plan; `since` is the revision of the store.
    pub(crate) fn inject(&self, plan: &FaultPlan, since: u64) {
        let new = plan.faults.iter().map(|fault| {
            let (fault, matched, fired) = (fault.clone(), AtomicU64::new(0), AtomicU64::new(0));
            Arc::new(Active { fault, since, matched, fired })
        });
        self.active.write().extend(new);
    }

    pub(crate) fn clear(&self) {
        self.active.write().clear();
    }

    /// Each fault in force and how often it has happened.
    pub(crate) fn fired(&self) -> Vec<(Fault, u64)> {
        let fired = |active: &Arc<Active>| (active.fault.clone(), active.fired.load(Ordering::Relaxed));
        self.active.read().iter().map(fired).collect()
    }

    /// What is to happen to a request.
    pub(crate) fn on_request(&self, verb: Option<Verb>, target: &Target) -> Interference {
        let (mut faults, mut since) = (Vec::new(), 0);
        let active = self.active.read();
        for active in active.iter() {
            let Fault::Request { on, times, then } = &active.fault else { continue };
            if on.is_request(verb, target) && active.fires(times) {
                faults.push(then.clone());
                since = since.max(active.since);
            }
        }
        Interference::new(faults, since)
    }

    /// What is to happen to an event on its way to one watch.
    pub(crate) fn on_event(&self, plural: &str, stored: &Stored) -> Option<WatchFault> {
        let active = self.active.read();
        let mut first = None;
        for active in active.iter() {
            let Fault::Event { on, times, then } = &active.fault else { continue };
            if on.is_event(plural, stored) && active.fires(times) {
                first.get_or_insert_with(|| then.clone());
            }
        }
        first
    }
}
