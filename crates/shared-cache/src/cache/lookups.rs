//! Counts lookups without contention of readers on one cache line.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::thread_number;

/// Number of stripes. It exceeds the number of cores, and so of concurrent readers, of typical machines.
const STRIPES: usize = 16;

/// Counters of one stripe. They have two cache lines of their own, because lines are fetched in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Stripe {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Lookups of one kind by outcome. Each thread counts in its own stripe; reading adds the stripes.
#[derive(Default)]
pub(crate) struct Lookups {
    stripes: [Stripe; STRIPES],
}

impl Lookups {
    /// Counts one lookup. A hit found an object.
    pub(crate) fn count(&self, hit: bool) {
        let stripe = &self.stripes[thread_number() % STRIPES];
        let counter = if hit { &stripe.hits } else { &stripe.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of hits and misses.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let sum = |pick: fn(&Stripe) -> &AtomicU64| {
            self.stripes.iter().map(|s| pick(s).load(Ordering::Relaxed)).sum()
        };
        (sum(|stripe| &stripe.hits), sum(|stripe| &stripe.misses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_is_lost_between_threads() {
        let lookups = Lookups::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..1000).for_each(|i| lookups.count(i % 4 == 0)));
            }
        });
        assert_eq!(lookups.totals(), (5_000, 15_000));
    }
}
