//! [`ManagerError`]: why a manager cannot be built, or how its run failed.

use std::borrow::Cow;
use std::time::Duration;

use shared_cache::StartError;

use crate::controller::ControllerError;
use crate::http::BindError;
use crate::leader_election::LeaseLost;
use crate::metrics::MetricsError;

/// Why a manager could not be built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// The metrics could not be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The health listener gets no thread.
    #[error("cannot start the thread of the health listener: {0}")]
    Thread(#[source] std::io::Error),
    /// The cache was started before.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A controller needs a kind that the cache does not have.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// Two controllers of different kinds have one name.
    #[error("controllers of the kinds {first} and {second} are both named {name:?}; names must be unique")]
    ControllerNameInUse {
        /// The name.
        name: String,
        /// Kind of the controller that was created first.
        first: Cow<'static, str>,
        /// Kind of the other controller.
        second: Cow<'static, str>,
    },
    /// Two health checks, or two listeners, have one name.
    #[error("two {what} are named {name:?}; names must be unique")]
    NameInUse {
        /// `health checks`, `readiness checks` or `listeners`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A runnable, or a task of the manager, has failed. Everything else was stopped in order.
    #[error("{name} failed: {cause}")]
    Task {
        /// Name of the runnable.
        name: String,
        /// What went wrong, with its causes.
        cause: String,
    },
    /// The process does not lead any more. Everything was stopped. The process should exit, so that it is started anew.
    #[error(transparent)]
    LeaseLost(#[from] LeaseLost),
    /// Handlers or runnables were still running at the end of the grace period. They were dropped at the point that
    /// they had reached.
    #[error("handlers were still running after the grace period of {} s", .0.as_secs_f64())]
    GracePeriod(Duration),
}
