//! [`QueueGauges`]: what a queue tells of itself when its metrics are scraped.

use std::time::Duration;

use super::entry::Priority;

/// Number of keys by their priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// Keys of changes.
    pub(super) high: usize,
    /// Keys of the initial list, and their retries.
    pub(super) low: usize,
}

impl Depth {
    pub(super) fn of(&mut self, priority: Priority) -> &mut usize {
        match priority {
            Priority::High => &mut self.high,
            Priority::Low => &mut self.low,
        }
    }
}

/// Values that are read off a queue. Both calls take its lock for a short time.
pub(crate) trait QueueGauges: Send + Sync {
    /// Number of keys whose run is due.
    fn depth(&self) -> Depth;
    /// For how long each running attempt has run.
    fn running_for(&self) -> Vec<Duration>;
}
