//! [`QueueOptions`]: the back-off of one controller's queue.

use std::time::Duration;

/// When a key runs again after an error.
///
/// Each key backs off by itself, and all keys of a controller share a limit of retries; the later of the two times
/// counts. The defaults are those of controller-runtime's default rate limiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// Delay after the first error of a key. It doubles with each further error and starts anew after a success.
    pub first_backoff: Duration,
    /// Longest delay of a key.
    pub max_backoff: Duration,
    /// Retries a second of all keys together, over time. 0: not limited.
    pub retries_per_second: u32,
    /// Retries of all keys together that need not wait for each other after a quiet time. 0 counts as 1.
    pub retry_burst: u32,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            first_backoff: Duration::from_millis(5),
            max_backoff: Duration::from_secs(1000),
            retries_per_second: 10,
            retry_burst: 100,
        }
    }
}
