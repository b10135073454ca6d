//! [`RetryLimits`]: how long a key waits after an error.

use std::time::Duration;

use tokio::time::Instant;

use super::options::QueueOptions;

/// The back-off of each key, and the bucket that all keys of a queue share.
pub(super) struct RetryLimits {
    first: Duration,
    longest: Duration,
    bucket: Option<Bucket>,
}

/// A token bucket whose tokens can be reserved ahead of time, as client-go's `BucketRateLimiter` does it.
struct Bucket {
    start: Instant,
    /// Time in which one token comes.
    interval: Duration,
    /// How far reservations may be ahead of the clock without a delay.
    tolerance: Duration,
    /// When the next token would come if tokens were handed out one by one, since `start`.
    next: Duration,
}

impl RetryLimits {
    pub(super) fn new(options: &QueueOptions, now: Instant) -> Self {
        let QueueOptions { first_backoff, max_backoff, retries_per_second, retry_burst } = *options;
        let bucket = (retries_per_second > 0).then(|| {
            let interval = Duration::from_secs(1) / retries_per_second;
            let tolerance = interval.saturating_mul(retry_burst.saturating_sub(1));
            Bucket { start: now, interval, tolerance, next: Duration::ZERO }
        });
        Self { first: first_backoff, longest: max_backoff, bucket }
    }

    /// Delay before the next run of a key that has failed this many times in a row, at least once.
    pub(super) fn delay(&mut self, failures: u32, now: Instant) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let own = self.first.saturating_mul(doubled).min(self.longest);
        let shared = self.bucket.as_mut().map_or(Duration::ZERO, |bucket| bucket.reserve(now));
        own.max(shared)
    }
}

impl Bucket {
    fn reserve(&mut self, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.start);
        let token = self.next.max(elapsed);
        self.next = token + self.interval;
        token.saturating_sub(elapsed + self.tolerance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(retries_per_second: u32, retry_burst: u32) -> (RetryLimits, Instant) {
        let now = Instant::now();
        let options = QueueOptions { retries_per_second, retry_burst, ..QueueOptions::default() };
        (RetryLimits::new(&options, now), now)
    }

    #[test]
    fn r3_the_delay_of_a_key_doubles_from_5_ms_to_1000_s() {
        let (mut limits, now) = limits(0, 0);
        let delays: Vec<_> = (1..=40).map(|failures| limits.delay(failures, now)).collect();
        assert_eq!(delays[..3], [5, 10, 20].map(Duration::from_millis));
        assert_eq!(delays[17], Duration::from_millis(5 << 17));
        assert_eq!(delays[18..], [Duration::from_secs(1000); 22]);
    }

    #[test]
    fn x5_retries_of_all_keys_share_a_bucket_that_refills() {
        let (mut limits, now) = limits(10, 3);
        let mut first_failures = |at: Instant, count: usize| -> Vec<_> {
            (0..count).map(|_| limits.delay(1, at).as_millis()).collect()
        };
        assert_eq!(first_failures(now, 6), [5, 5, 5, 100, 200, 300]);
        assert_eq!(first_failures(now + Duration::from_millis(300), 2), [100, 200]);
        assert_eq!(first_failures(now + Duration::from_mins(1), 4), [5, 5, 5, 100]);
    }

    #[test]
    fn x5_the_later_of_the_two_delays_counts() {
        let (mut limits, now) = limits(1, 1);
        assert_eq!(limits.delay(4, now), Duration::from_millis(40));
        assert_eq!(limits.delay(4, now), Duration::from_secs(1));
        assert_eq!(limits.delay(30, now), Duration::from_secs(1000));
    }
}
