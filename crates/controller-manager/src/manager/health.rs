//! [`ManagerHealth`]: the health of a manager: its watches, the shutdown, and the checks of the user.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shared_cache::SharedCache;

use super::error::ManagerError;
use crate::http::{Check, CheckStatus, HealthSource};
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

/// Live as long as it answers, every watch has its task, and all health checks of the user succeed. Ready while every watch is fresh, all
/// readiness checks of the user succeed, and no shutdown has begun.
pub(super) struct ManagerHealth {
    cache: SharedCache,
    started: AtomicBool,
    shutting_down: AtomicBool,
    live: Vec<UserCheck>,
    ready: Vec<UserCheck>,
}

impl ManagerHealth {
    /// # Errors
    ///
    /// [`ManagerError::NameInUse`].
    pub(super) fn new(
        cache: SharedCache,
        live: Vec<UserCheck>,
        ready: Vec<UserCheck>,
    ) -> Result<Arc<Self>, ManagerError> {
        let this = Self {
            cache,
            started: AtomicBool::new(false),
            shutting_down: AtomicBool::new(false),
            live,
            ready,
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

    /// Name and reason of each readiness check that fails now.
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        let problem = |check: Check| match check.status {
            CheckStatus::Failed(reason) => Some((check.name, reason)),
            CheckStatus::Ok | CheckStatus::Degraded(_) => None,
        };
        self.ready().into_iter().filter_map(problem).collect()
    }
}

fn ping() -> Check {
    Check { name: "ping".to_owned(), status: CheckStatus::Ok }
}

impl HealthSource for ManagerHealth {
    fn live(&self) -> Vec<Check> {
        [ping(), self.watches()].into_iter().chain(self.live.iter().map(UserCheck::run)).collect()
    }

    fn ready(&self) -> Vec<Check> {
        let shutdown = if self.shutting_down.load(Ordering::Acquire) {
            CheckStatus::Failed("the process is shutting down".to_owned())
        } else {
            CheckStatus::Ok
        };
        let shutdown = Check { name: "shutdown".to_owned(), status: shutdown };
        let informers = named_kinds(&self.cache).map(|(name, kind)| {
            let status = match kind.report().ready() {
                Ok(()) => CheckStatus::Ok,
                Err(reason) if kind.is_optional() => CheckStatus::Degraded(reason),
                Err(reason) => CheckStatus::Failed(reason),
            };
            Check { name: format!("informer/{name}"), status }
        });
        [ping(), shutdown].into_iter().chain(informers).chain(self.ready.iter().map(UserCheck::run)).collect()
    }
}
