//! The errors of waits.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::object::ObjectKey;

/// The name of an action that a caller waits for, such as `Pause`. The name becomes a metric label, so it
/// must come from the program and never from a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WaitAction(&'static str);

impl WaitAction {
    /// Creates an action of this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Returns the name, as used in messages and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for WaitAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The target of a wait: a kind, an object and an action.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitTarget {
    /// Kind of the object.
    pub kind: Cow<'static, str>,
    /// The object; `None` for a wait on a set of objects.
    pub object: Option<ObjectKey>,
    /// The action.
    pub action: WaitAction,
}

impl WaitTarget {
    pub(super) fn new(kind: Cow<'static, str>, object: Option<ObjectKey>, action: WaitAction) -> Self {
        Self { kind, object, action }
    }
}

impl fmt::Display for WaitTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            Some(object) => write!(f, "{} of {} {object}", self.action, self.kind),
            None => write!(f, "{} of a set of {} objects", self.action, self.kind),
        }
    }
}

/// Error: another caller holds the object for the opposite action (behaviour F4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {object}: {requested} conflicts with {existing}, which is in progress")]
pub struct WaitConflict {
    /// Kind of the object.
    pub kind: Cow<'static, str>,
    /// The object.
    pub object: ObjectKey,
    /// The action in progress.
    pub existing: WaitAction,
    /// The requested action.
    pub requested: WaitAction,
}

/// The reason why a wait ended without its condition.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The timeout passed (behaviour F8).
    #[error("{target} not done after {:.3} s: {reason} ({})", .waited.as_secs_f64(), seen(.last_observed.as_deref()))]
    NotSatisfied {
        /// The target of the wait.
        target: Box<WaitTarget>,
        /// How long the caller has waited.
        waited: Duration,
        /// Resource version of the last state that counted; `None` if no state counted.
        last_observed: Option<String>,
        /// The missing part of the condition.
        reason: String,
    },
    /// The object was deleted, or another object replaced it under its name (behaviour F10). With a selector it may
    /// also no longer match it.
    #[error("{0}: the object was deleted or left the scope of the cache")]
    Gone(Box<WaitTarget>),
    /// The condition reported that it can never be satisfied.
    #[error("{target}: {cause}")]
    Failed {
        /// The target of the wait.
        target: Box<WaitTarget>,
        /// The error of the condition.
        cause: Arc<dyn Error + Send + Sync>,
    },
    /// Another caller holds the object for the opposite action.
    #[error(transparent)]
    Conflict(#[from] WaitConflict),
    /// The initial list of the kind has not completed.
    #[error("{0}: the cache is not synced yet")]
    NotSynced(Box<WaitTarget>),
    /// The cache does not watch the kind or the namespace.
    #[error("{0}: outside of what this cache watches")]
    OutOfScope(Box<WaitTarget>),
    /// The cache was stopped.
    #[error("{0}: the cache was stopped")]
    Stopped(Box<WaitTarget>),
}

impl WaitError {
    /// Returns a short word for metric labels.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotSatisfied { .. } => "not_satisfied",
            Self::Gone(_) => "gone",
            Self::Failed { .. } => "failed",
            Self::Conflict(_) => "conflict",
            Self::NotSynced(_) => "not_synced",
            Self::OutOfScope(_) => "out_of_scope",
            Self::Stopped(_) => "stopped",
        }
    }
}

fn seen(version: Option<&str>) -> String {
    version.map_or_else(
        || "no state that counts was seen".into(),
        |version| format!("last seen at version {version}"),
    )
}
