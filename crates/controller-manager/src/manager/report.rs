//! [`report`]: logs why a manager is not ready, and which kinds show an old view.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use super::health::ManagerHealth;

/// How long after the start the log first names what is missing; a sync is usually done by then.
const FIRST_REPORT: Duration = Duration::from_secs(5);

/// How long a kind may be degraded before the log says so. A watch is often down for seconds.
const DEGRADED_FOR: Duration = Duration::from_secs(10);

/// How often problems that last are logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// Logs what keeps the manager from being ready, what is degraded, and when that is over. Never returns.
pub(super) async fn report(health: &ManagerHealth) -> Infallible {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    let (mut was_ready, mut ready) = (false, false);
    let (mut failed, mut degraded) = (Episode::default(), Episode::default());
    loop {
        let now = interval.tick().await;
        let problems = health.problems();
        let is_ready = problems.failed.is_empty();
        let patience = if was_ready { Duration::ZERO } else { FIRST_REPORT };
        if failed.step(!is_ready, patience, now) == Step::Log {
            for (check, problem) in problems.failed {
                tracing::warn!(check, problem, "not ready");
            }
        }
        if is_ready && !std::mem::replace(&mut ready, is_ready) {
            tracing::info!("ready");
        }
        (ready, was_ready) = (is_ready, was_ready || is_ready);
        match degraded.step(!problems.degraded.is_empty(), DEGRADED_FOR, now) {
            Step::Log => {
                for (check, problem) in problems.degraded {
                    tracing::warn!(check, problem, "degraded, still serving");
                }
            }
            Step::Over => tracing::info!("no longer degraded"),
            Step::Quiet => {}
        }
    }
}

/// What to log about problems of one sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Quiet,
    Log,
    /// The problems that were logged are over.
    Over,
}

/// The time from the first problem of a sort until there is none.
#[derive(Default)]
struct Episode {
    begun: Option<Instant>,
    logged: Option<Instant>,
}

impl Episode {
    /// Decides what to log now. Problems are logged once they have lasted for `patience`, and then at intervals.
    fn step(&mut self, exists: bool, patience: Duration, now: Instant) -> Step {
        if !exists {
            let was_logged = std::mem::take(self).logged.is_some();
            return if was_logged { Step::Over } else { Step::Quiet };
        }
        let begun = *self.begun.get_or_insert(now);
        let due = self.logged.map_or(begun + patience, |logged| logged + REPORT_INTERVAL);
        if now < due {
            return Step::Quiet;
        }
        self.logged = Some(now);
        Step::Log
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn v3_a_problem_that_lasts_is_logged_at_intervals_and_its_end_once() {
        let (start, mut episode) = (Instant::now(), Episode::default());
        let mut steps = Vec::new();
        let exists = |second: u64| (5..=50).contains(&second) || second == 55;
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            match episode.step(exists(second), DEGRADED_FOR, now) {
                Step::Quiet => {}
                step => steps.push((second, step)),
            }
        }
        assert_eq!(steps, [(15, Step::Log), (45, Step::Log), (51, Step::Over)]);
    }
}
