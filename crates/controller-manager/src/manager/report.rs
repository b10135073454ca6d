//! [`report`]: logs why a manager is not ready, and which kinds show an old view.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use super::health::{ManagerHealth, Problem, Severity};

/// How long after the start the log first names what is missing; a sync is usually done by then.
const FIRST_REPORT: Duration = Duration::from_secs(5);

/// How long a kind may be degraded before the log says so. A watch is often down for seconds.
const DEGRADED_FOR: Duration = Duration::from_secs(10);

/// How often problems that last are logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// Logs what keeps the manager from being ready, what is degraded, and when that is over. Never returns.
pub(super) async fn report(health: &ManagerHealth) -> Infallible {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    let mut reporter = Reporter::default();
    loop {
        let now = interval.tick().await;
        for line in reporter.step(health.problems(), now) {
            line.log();
        }
    }
}

/// A line of the log.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Problem(Problem),
    /// This check is in order again.
    Over(String),
    Ready,
}

impl Line {
    fn log(self) {
        match self {
            Self::Problem(Problem { check, reason, severity }) => match severity {
                Severity::Failed => tracing::warn!(check, problem = reason, "not ready"),
                Severity::Degraded | Severity::Absent => {
                    tracing::warn!(check, problem = reason, "degraded, still serving");
                }
            },
            Self::Over(check) => tracing::info!(check, "in order again"),
            Self::Ready => tracing::info!("ready"),
        }
    }
}

/// Decides what to log. Each check has a time of its own, so that a problem does not hide another one.
#[derive(Default)]
struct Reporter {
    episodes: BTreeMap<String, Episode>,
    is_ready: bool,
    was_ready: bool,
}

/// The time in which a check has a problem of the same severity.
struct Episode {
    severity: Severity,
    begun: Instant,
    logged: Option<Instant>,
}

impl Reporter {
    fn step(&mut self, problems: Vec<Problem>, now: Instant) -> Vec<Line> {
        let is_ready = problems.iter().all(|problem| problem.severity != Severity::Failed);
        let mut lines = Vec::new();
        let mut before = std::mem::take(&mut self.episodes);
        for problem in problems {
            let Problem { check, severity, .. } = &problem;
            let known = before.remove(check).filter(|episode| episode.severity == *severity);
            let mut episode = known.unwrap_or(Episode { severity: *severity, begun: now, logged: None });
            let check = check.clone();
            if episode.is_due(self.was_ready, now) {
                episode.logged = Some(now);
                lines.push(Line::Problem(problem));
            }
            self.episodes.insert(check, episode);
        }
        lines.extend(
            before
                .into_iter()
                .filter(|(_, episode)| episode.logged.is_some())
                .map(|(check, _)| Line::Over(check)),
        );
        if is_ready && !self.is_ready {
            lines.push(Line::Ready);
        }
        self.is_ready = is_ready;
        self.was_ready |= is_ready;
        lines
    }
}

impl Episode {
    /// Problems are logged once they have lasted for a while, and then at intervals. A kind that does not exist, and need
    /// not exist, is logged only once.
    fn is_due(&self, was_ready: bool, now: Instant) -> bool {
        let patience = match self.severity {
            Severity::Failed if was_ready => Duration::ZERO,
            Severity::Failed => FIRST_REPORT,
            Severity::Degraded | Severity::Absent => DEGRADED_FOR,
        };
        match self.logged {
            None => now >= self.begun + patience,
            Some(logged) => self.severity != Severity::Absent && now >= logged + REPORT_INTERVAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(check: &str, severity: Severity) -> Problem {
        Problem { check: check.to_owned(), reason: "reason".to_owned(), severity }
    }

    /// What is logged in a minute: second, check, and true if it is a problem. `exists` says which problems there are.
    fn logged(exists: impl Fn(u64) -> Vec<Problem>) -> Vec<(u64, String, bool)> {
        let (start, mut reporter) = (Instant::now(), Reporter::default());
        let mut logged = Vec::new();
        for second in 0..60 {
            for line in reporter.step(exists(second), start + Duration::from_secs(second)) {
                match line {
                    Line::Problem(problem) => logged.push((second, problem.check, true)),
                    Line::Over(check) => logged.push((second, check, false)),
                    Line::Ready => logged.push((second, "ready".to_owned(), false)),
                }
            }
        }
        logged
    }

    fn expected(lines: &[(u64, &str, bool)]) -> Vec<(u64, String, bool)> {
        lines.iter().map(|(second, check, exists)| (*second, (*check).to_owned(), *exists)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn v3_a_problem_that_lasts_is_logged_at_intervals_and_its_end_once() {
        let exists = |second: u64| (5..=50).contains(&second) || second == 55;
        let lines =
            logged(|second| exists(second).then(|| problem("a", Severity::Degraded)).into_iter().collect());
        let all = [(0, "ready", false), (15, "a", true), (45, "a", true), (51, "a", false)];
        assert_eq!(lines, expected(&all));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_problem_is_logged_as_soon_as_the_first_would_be() {
        let lines = logged(|second| {
            let second = (second >= 20).then(|| problem("b", Severity::Degraded));
            [problem("a", Severity::Degraded)].into_iter().chain(second).collect()
        });
        let all = [(0, "ready", false), (10, "a", true), (30, "b", true), (40, "a", true)];
        assert_eq!(lines, expected(&all));
    }

    #[tokio::test(start_paused = true)]
    async fn an_optional_kind_that_does_not_exist_is_logged_once() {
        let lines = logged(|_| vec![problem("a", Severity::Absent)]);
        assert_eq!(lines, expected(&[(0, "ready", false), (10, "a", true)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_problem_that_gets_worse_is_logged_at_once() {
        let lines = logged(|second| {
            let severity = if (20..25).contains(&second) { Severity::Failed } else { Severity::Degraded };
            (second < 30).then(|| problem("a", severity)).into_iter().collect()
        });
        let all = [(0, "ready", false), (10, "a", true), (20, "a", true), (25, "ready", false)];
        assert_eq!(lines, expected(&all));
    }
}
