//! [`PerSecond`]: limits how often something is done per second, by a token bucket (Q3).

use controller_manager::RateLimit;
use tokio::time::Instant;

/// The limit. Waiting callers are served in no particular order.
pub(super) struct PerSecond {
    bucket: RateLimit,
}

impl PerSecond {
    /// Allows it so often per second, and as often at once after a pause. 0 is no limit.
    pub(super) fn new(times: u32) -> Self {
        Self { bucket: RateLimit::new(times, times) }
    }

    /// Waits for the next turn. Returns false if that is after the deadline. Cancel safe.
    pub(super) async fn wait(&self, deadline: Instant) -> bool {
        while let Err(wait) = self.bucket.take() {
            if Instant::now() + wait > deadline {
                return false;
            }
            tokio::time::sleep(wait).await;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn q3_creations_are_limited_and_the_wait_ends_before_the_deadline() {
        let limit = PerSecond::new(10);
        let start = Instant::now();
        for _ in 0..20 {
            assert!(limit.wait(start + Duration::from_secs(2)).await);
        }
        let taken = start.elapsed();
        assert!(taken >= Duration::from_millis(900) && taken <= Duration::from_millis(1100), "{taken:?}");
        assert!(!limit.wait(Instant::now()).await);
        assert_eq!(start.elapsed(), taken, "it does not wait in vain");
        let none = PerSecond::new(0);
        for _ in 0..1000 {
            assert!(none.wait(start).await);
        }
    }
}
