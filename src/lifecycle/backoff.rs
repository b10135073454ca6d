//! [`Backoff`]: how long an object is left alone after a failure that only others can end (LC7).
//!
//! The queue of a controller backs off by itself, but a change of the object ends that back-off. A failure writes a
//! condition, which is a change of the object. So the times of such failures are kept here, by UID.

use std::collections::HashMap;
use std::time::Duration;

use controller_manager::QueueOptions;
use parking_lot::Mutex;
use tokio::time::Instant;

/// The longest delay of an object after an error. Its timers wait for the next try, so it limits how late they are (LC6).
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Returns the back-off of the queues of the lifecycle controllers.
pub(crate) fn queue_options() -> QueueOptions {
    QueueOptions { max_backoff: LONGEST_RETRY, ..QueueOptions::default() }
}

/// Returns the delay after a failure that follows so many others: `first`, doubled each time, at most `longest`.
pub(crate) fn delay(first: Duration, longest: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.min(20)).min(longest)
}

/// The failures of the objects of one controller. Lost when the process ends: then each object is tried once.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: Mutex<HashMap<String, Failure>>,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    /// The generation of the object that has failed. A newer one is tried at once.
    generation: i64,
    count: u32,
    retry_at: Instant,
}

impl Backoff {
    /// Creates a back-off that doubles from `first` to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: Mutex::default() }
    }

    /// Records a failure. Returns the time until the next try.
    pub(crate) fn failed(&self, uid: &str, generation: i64) -> Duration {
        let mut failures = self.failures.lock();
        let before = failures.get(uid).filter(|failure| failure.generation == generation);
        let count = before.map_or(0, |failure| failure.count);
        let delay = delay(self.first, self.longest, count);
        let failure = Failure { generation, count: count + 1, retry_at: Instant::now() + delay };
        failures.insert(uid.to_owned(), failure);
        delay
    }

    /// Returns the time until the next try; `None` if the object may be tried now.
    pub(crate) fn remaining(&self, uid: &str, generation: i64) -> Option<Duration> {
        let failures = self.failures.lock();
        let failure = failures.get(uid).filter(|failure| failure.generation == generation)?;
        Some(failure.retry_at.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Forgets the failures of an object, because it succeeded or is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.failures.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn lc7_the_delay_doubles_up_to_the_limit_and_starts_anew_after_a_success() {
        let backoff = Backoff::new(SECOND, 4 * SECOND);
        let delays: Vec<_> = (0..4).map(|_| backoff.failed("u", 1)).collect();
        assert_eq!(delays, [SECOND, 2 * SECOND, 4 * SECOND, 4 * SECOND]);
        assert_eq!(backoff.remaining("u", 1), Some(4 * SECOND));
        assert_eq!(backoff.remaining("other", 1), None);
        tokio::time::advance(4 * SECOND).await;
        assert_eq!(backoff.remaining("u", 1), None, "the time has passed");
        backoff.forget("u");
        assert_eq!(backoff.failed("u", 1), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn lc7_a_changed_spec_is_tried_at_once() {
        let backoff = Backoff::new(SECOND, 4 * SECOND);
        backoff.failed("u", 1);
        backoff.failed("u", 1);
        assert_eq!(backoff.remaining("u", 2), None);
        assert_eq!(backoff.failed("u", 2), SECOND);
    }
}
