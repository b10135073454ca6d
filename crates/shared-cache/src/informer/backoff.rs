//! Computes how long an informer waits before it retries.

use std::time::Duration;

use rand::Rng;

use super::error::WatchError;

/// First delay after a failure. client-go's reflector also starts with 800 ms.
const FIRST: Duration = Duration::from_millis(800);

/// Longest delay that the informer chooses itself.
const LONGEST: Duration = Duration::from_secs(30);

/// Longest delay for failures that an operator must fix. A new CRD or permission must be noticed within 30 s
/// (behaviour C5).
const LONGEST_FOR_OPERATOR_FIX: Duration = Duration::from_secs(15);

/// Longest Retry-After that is respected. A longer one is cut to this value.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// A connection that lived this long resets the failure count.
const HEALTHY: Duration = Duration::from_mins(2);

/// A watch that lived this long may be resumed at once.
const SHORT_LIVED: Duration = Duration::from_secs(5);

/// Exponential back-off with jitter of one informer (behaviour E7).
#[derive(Default)]
pub(crate) struct Backoff {
    failures: u32,
    /// True if the last failure was an expired version: the server answers again.
    expired: bool,
}

impl Backoff {
    /// Returns the delay before the next connection. `lived` is how long the last connection fed the store;
    /// it is zero if no request succeeded or the list was not completed.
    pub(crate) fn after(&mut self, lived: Duration, failure: Option<&WatchError>) -> Duration {
        if lived >= HEALTHY {
            self.failures = 0;
        }
        let expired = failure.is_some_and(WatchError::is_expired);
        if expired && !self.expired {
            self.failures = 0;
        }
        self.expired = expired;
        if let Some(pause) = failure.and_then(requested_pause) {
            // A server that sends Retry-After is up, so the own delay restarts (behaviour V13).
            self.failures = 0;
            return pause;
        }
        if lived >= SHORT_LIVED {
            return Duration::ZERO;
        }
        let longest = match failure.and_then(WatchError::code) {
            Some(403 | 404) => LONGEST_FOR_OPERATOR_FIX,
            _ => LONGEST,
        };
        let delay = FIRST.saturating_mul(1 << self.failures.min(10)).min(longest);
        self.failures = self.failures.saturating_add(1);
        // Jitter only shortens the delay, so that its bounds hold.
        delay.mul_f64(rand::rng().random_range(0.75..=1.0))
    }
}

/// Returns the delay that the server requested, with jitter; `None` if it requested none.
pub(super) fn requested_pause(failure: &WatchError) -> Option<Duration> {
    let asked = failure.retry_after().filter(|asked| !asked.is_zero())?;
    Some(asked.min(LONGEST_RETRY_AFTER).mul_f64(rand::rng().random_range(1.0..=1.25)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn status(code: u16, retry_after: Option<Duration>) -> WatchError {
        WatchError::Status { status: Status::failure("", "").with_code(code).boxed(), retry_after }
    }

    fn delays(backoff: &mut Backoff, failure: &WatchError, count: usize) -> Vec<Duration> {
        (0..count).map(|_| backoff.after(Duration::ZERO, Some(failure))).collect()
    }

    #[test]
    fn e7_delays_double_from_800_ms_to_30_s_with_jitter() {
        let delays = delays(&mut Backoff::default(), &status(500, None), 12);
        for (i, delay) in delays.iter().enumerate() {
            let full = Duration::from_millis(800 * (1 << i.min(10))).min(LONGEST);
            assert!(*delay <= full && *delay >= full.mul_f64(0.75), "{i}: {delay:?} of {full:?}");
        }
    }

    #[test]
    fn e7_a_clean_end_is_followed_at_once_unless_it_lived_under_5_s() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.after(Duration::from_secs(5), None), Duration::ZERO);
        assert!(backoff.after(Duration::from_millis(4999), None) >= Duration::from_millis(600));
    }

    #[test]
    fn e7_two_minutes_of_health_reset_the_delay() {
        let mut backoff = Backoff::default();
        let failure = status(500, None);
        delays(&mut backoff, &failure, 8);
        assert_eq!(backoff.after(Duration::from_secs(119), Some(&failure)), Duration::ZERO);
        assert!(backoff.after(Duration::ZERO, Some(&failure)) > Duration::from_secs(20));
        assert_eq!(backoff.after(Duration::from_mins(2), Some(&failure)), Duration::ZERO);
        assert!(backoff.after(Duration::ZERO, Some(&failure)) <= FIRST);
    }

    #[test]
    fn e7_retry_after_is_honoured_with_jitter_and_within_reason() {
        let mut backoff = Backoff::default();
        let asked = Duration::from_secs(16);
        for lived in [Duration::ZERO, Duration::from_mins(1)] {
            let delay = backoff.after(lived, Some(&status(429, Some(asked))));
            assert!((asked..=Duration::from_secs(20)).contains(&delay), "{delay:?}");
        }
        let day = status(503, Some(Duration::from_hours(24)));
        assert!(backoff.after(Duration::ZERO, Some(&day)) <= LONGEST_RETRY_AFTER.mul_f64(1.25));
    }

    #[test]
    fn v13_retry_after_restarts_the_own_delay() {
        let mut backoff = Backoff::default();
        delays(&mut backoff, &status(500, None), 8);
        let asked = status(429, Some(Duration::from_secs(1)));
        assert!(backoff.after(Duration::ZERO, Some(&asked)) <= Duration::from_millis(1250));
        assert!(backoff.after(Duration::ZERO, Some(&status(500, None))) <= FIRST);
    }

    #[test]
    fn e7_the_first_expired_version_after_an_outage_is_met_with_a_short_delay() {
        let mut backoff = Backoff::default();
        delays(&mut backoff, &status(500, None), 8);
        assert!(backoff.after(Duration::ZERO, Some(&status(410, None))) <= FIRST);
        assert!(backoff.after(Duration::ZERO, Some(&status(410, None))) > FIRST, "but not again and again");
    }

    #[test]
    fn c5_a_missing_crd_or_permission_is_asked_for_again_within_15_s() {
        for code in [403, 404] {
            let delays = delays(&mut Backoff::default(), &status(code, None), 20);
            assert!(delays.iter().all(|&delay| delay <= LONGEST_FOR_OPERATOR_FIX));
        }
    }
}
