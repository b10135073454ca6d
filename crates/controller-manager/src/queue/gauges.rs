//! [`QueueGauges`]: what a queue tells of itself when its metrics are scraped.

use std::time::Duration;

/// Values that are read off a queue. Both calls take its lock for a short time.
pub(crate) trait QueueGauges: Send + Sync {
    /// Number of keys whose run is due.
    fn depth(&self) -> usize;
    /// For how long each running attempt has run.
    fn running_for(&self) -> Vec<Duration>;
}
