//! [`report`]: logs why a manager is not ready.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use super::health::ManagerHealth;

/// How long after the start the log first names what is missing; a sync is usually done by then.
const FIRST_REPORT: Duration = Duration::from_secs(5);

/// How often problems that last are logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// Logs what keeps the manager from being ready, and when it becomes ready. Never returns.
pub(super) async fn report(health: &ManagerHealth) -> Infallible {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    let mut ready = false;
    let mut next = Instant::now() + FIRST_REPORT;
    loop {
        interval.tick().await;
        let problems = health.problems();
        if problems.is_empty() {
            if !std::mem::replace(&mut ready, true) {
                tracing::info!("ready");
            }
        } else if ready || Instant::now() >= next {
            (ready, next) = (false, Instant::now() + REPORT_INTERVAL);
            for (check, problem) in problems {
                tracing::warn!(check, problem, "not ready");
            }
        }
    }
}
