//! [`Clock`]: time that no setting of the wall clock changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Measures time since a fixed moment. Clones measure the same.
///
/// Where a lease is concerned, two moments are only ever compared on the clock of one process. So a wall clock that
/// jumps, or that differs between machines, does not matter.
#[derive(Clone)]
pub(crate) struct Clock {
    now: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Clock {
    /// Counts also the time in which the process was stopped, and on Linux the time in which the machine was suspended.
    ///
    /// It is the later one of two clocks. `CLOCK_BOOTTIME` of Linux goes on while the machine is suspended; the clock of
    /// `std::time::Instant` stands still, and a process would believe after an hour of sleep that it still leads. The
    /// clock of tokio makes tests work whose time is paused.
    pub(crate) fn system() -> Self {
        let (start, since_start) = (Instant::now(), suspended_time_included());
        Self::new(move || start.elapsed().max(since_start()))
    }

    pub(crate) fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now) }
    }

    pub(crate) fn now(&self) -> Duration {
        (self.now)()
    }
}

/// Time since this call, by the best clock of the system.
#[cfg(target_os = "linux")]
fn suspended_time_included() -> impl Fn() -> Duration + Send + Sync {
    use rustix::time::{ClockId, clock_gettime};
    let since_boot =
        || Duration::try_from(clock_gettime(ClockId::Boottime)).expect("the time since the boot is positive");
    let start = since_boot();
    move || since_boot().saturating_sub(start)
}

/// Time since this call, by the best clock of the system.
#[cfg(not(target_os = "linux"))]
fn suspended_time_included() -> impl Fn() -> Duration + Send + Sync {
    let start = std::time::Instant::now();
    move || start.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_the_system_never_goes_back() {
        let clock = Clock::system();
        let first = clock.now();
        assert!(first <= clock.now());
    }
}
