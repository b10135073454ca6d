//! [`ManagerHealth`]: the health of a manager: its watches, the shutdown, and the checks of the user.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared_cache::{Freshness, SharedCache};

use super::error::ManagerError;
use crate::http::{Check, CheckStatus, HealthSource};
use crate::leader_election::Status;
use crate::resource_names::named_kinds;

/// A check of the user.
pub(super) struct UserCheck {
    name: String,
    check: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl UserCheck {
    pub(super) fn new(
        name: impl Into<String>,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), check: Box::new(check) }
    }

    fn run(&self) -> Check {
        let result = catch_unwind(AssertUnwindSafe(|| (self.check)()));
        let result = result.unwrap_or_else(|_| Err("the check panicked".to_owned()));
        Check { name: self.name.clone(), status: result.into() }
    }
}

/// Says whether a manager is live and ready.
///
/// The manager is live while every watch has its task and all health checks of the user succeed. It is ready while every
/// kind that is not optional has a view that is not too old, all readiness checks of the user succeed, and no shutdown
/// has begun.
pub(super) struct ManagerHealth {
    cache: SharedCache,
    /// How long a kind may be without a watch; zero sets no limit.
    stale_after: Duration,
    started: AtomicBool,
    shutting_down: AtomicBool,
    live: Vec<UserCheck>,
    ready: Vec<UserCheck>,
    /// Who leads, if there is a leader election.
    leader: Option<Status>,
}

impl ManagerHealth {
    /// # Errors
    ///
    /// [`ManagerError::NameInUse`].
    pub(super) fn new(
        cache: SharedCache,
        stale_after: Duration,
        live: Vec<UserCheck>,
        ready: Vec<UserCheck>,
        leader: Option<Status>,
    ) -> Result<Arc<Self>, ManagerError> {
        let this = Self {
            cache,
            stale_after,
            started: AtomicBool::new(false),
            shutting_down: AtomicBool::new(false),
            live,
            ready,
            leader,
        };
        for (what, checks) in [("health checks", this.live()), ("readiness checks", this.ready())] {
            let mut names: Vec<_> = checks.into_iter().map(|check| check.name).collect();
            names.sort();
            if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(ManagerError::NameInUse { what, name: pair[0].clone() });
            }
        }
        Ok(Arc::new(this))
    }

    /// The cache has started its watches.
    pub(super) fn started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// A watch has a task from the start to the shutdown, whatever the API server does. If one has ended, for instance
    /// with its thread, only a restart brings it back.
    fn watches(&self) -> Check {
        let (running, all) = (self.cache.running_watches(), self.cache.kinds().len());
        let expected = self.started.load(Ordering::Acquire) && !self.shutting_down.load(Ordering::Acquire);
        let status = if expected && running < all {
            CheckStatus::Failed(format!("{} of {all} watches have ended", all - running))
        } else {
            CheckStatus::Ok
        };
        Check { name: "watches".to_owned(), status }
    }

    /// The process is not ready from now on.
    pub(super) fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::Release);
    }

    /// The checks of readiness that are not in order now, without the leader election, which logs its problems itself.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let kinds = named_kinds(&self.cache).map(|(name, kind)| {
            let freshness = kind.report().freshness();
            let is_absent = matches!(freshness, Freshness::NotSynced { .. });
            (Check { name: informer(&name), status: self.judge(&freshness, kind.is_optional()) }, is_absent)
        });
        let others = [self.shutdown()].into_iter().chain(self.ready.iter().map(UserCheck::run));
        let problem = |(Check { name, status }, is_absent)| {
            let (severity, reason) = match status {
                CheckStatus::Ok | CheckStatus::OkWith(_) => return None,
                CheckStatus::Failed(reason) => (Severity::Failed, reason),
                CheckStatus::Degraded(reason) if is_absent => (Severity::Absent, reason),
                CheckStatus::Degraded(reason) => (Severity::Degraded, reason),
            };
            Some(Problem { check: name, reason, severity })
        };
        kinds.chain(others.map(|check| (check, false))).filter_map(problem).collect()
    }

    fn shutdown(&self) -> Check {
        let status = if self.shutting_down.load(Ordering::Acquire) {
            CheckStatus::Failed("the process is shutting down".to_owned())
        } else {
            CheckStatus::Ok
        };
        Check { name: "shutdown".to_owned(), status }
    }

    /// A view that is too old fails only a kind that is not optional (behaviour V3).
    fn judge(&self, freshness: &Freshness, is_optional: bool) -> CheckStatus {
        match freshness {
            Freshness::Fresh => CheckStatus::Ok,
            freshness => match freshness.within(self.stale_after) {
                Err(reason) if !is_optional => CheckStatus::Failed(reason),
                Ok(()) | Err(_) => CheckStatus::Degraded(freshness.to_string()),
            },
        }
    }
}

/// A check that is not in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) check: String,
    pub(super) reason: String,
    pub(super) severity: Severity,
}

/// What a problem means for readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// It fails the probe.
    Failed,
    /// It does not fail the probe.
    Degraded,
    /// It is an optional kind that has no view, for instance because this cluster does not have it.
    Absent,
}

/// Name of the check of a kind.
fn informer(name: &str) -> String {
    format!("informer/{name}")
}

fn ping() -> Check {
    Check { name: "ping".to_owned(), status: CheckStatus::Ok }
}

impl HealthSource for ManagerHealth {
    fn live(&self) -> Vec<Check> {
        [ping(), self.watches()].into_iter().chain(self.live.iter().map(UserCheck::run)).collect()
    }

    fn ready(&self) -> Vec<Check> {
        let informers = named_kinds(&self.cache).map(|(name, kind)| {
            let status = self.judge(&kind.report().freshness(), kind.is_optional());
            Check { name: informer(&name), status }
        });
        let leader = self
            .leader
            .iter()
            .map(|leader| Check { name: "leader-election".to_owned(), status: leader.check() });
        let own = [ping(), self.shutdown()].into_iter().chain(informers).chain(leader);
        own.chain(self.ready.iter().map(UserCheck::run)).collect()
    }
}
