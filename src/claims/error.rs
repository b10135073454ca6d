//! [`ClaimError`]: why the engine could not do what was asked.

use std::time::Duration;

use shared_cache::{LookupError, ObjectKey};

use super::lost::LostLock;
use crate::api::v1alpha1::Sandbox;

named_enum! {
    /// Why the state of a sandbox does not allow an action.
    pub enum ConflictReason {
        /// The sandbox is paused already.
        AlreadyPaused => "already_paused",
        /// The sandbox is paused or is being paused.
        Paused => "paused",
        /// The sandbox is not paused.
        NotPaused => "not_paused",
        /// The sandbox is being resumed.
        Resuming => "resuming",
        /// The sandbox is not ready.
        NotReady => "not_ready",
        /// Others changed the sandbox each time that this process tried to.
        Contended => "contended",
    }
}

named_enum! {
    /// The step that took too long.
    pub enum Step {
        /// Locking a candidate, or waiting for the permission to create one.
        Lock => "lock",
        /// Waiting until the claimed sandbox is ready.
        WaitReady => "wait_ready",
        /// Waiting until the sandbox is paused. It will be: the pause stays wanted.
        Pause => "pause",
        /// Waiting until the sandbox is resumed. It will be: the resume stays wanted.
        Resume => "resume",
    }
}

/// What is known of a write that failed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WriteOutcome {
    /// Nothing was changed. The call may be repeated.
    NothingDone,
    /// The API server may have written the change, or write it later. This process looks for a lock and undoes it, unless
    /// the request was [`return_when_locked`](super::ClaimRequest::return_when_locked).
    Unknown {
        /// The sandbox.
        sandbox: ObjectKey,
        /// The lock, if the write was one.
        lock: Option<Box<LostLock>>,
    },
}

/// Why the engine could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// The pool does not exist.
    #[error("SandboxSet {namespace}/{pool} not found")]
    PoolNotFound {
        /// Namespace of the pool.
        namespace: String,
        /// Name of the pool.
        pool: String,
    },
    /// The pool has no available sandbox, and none may be created. Nothing was done.
    #[error("SandboxSet {namespace}/{pool} has no available sandbox")]
    NoStock {
        /// Namespace of the pool.
        namespace: String,
        /// Name of the pool.
        pool: String,
    },
    /// The owner has no such sandbox: it never existed, is somebody else's, or has ended.
    #[error("sandbox {id:?} not found")]
    NotFound {
        /// The id that was asked for.
        id: String,
    },
    /// The state of the sandbox does not allow the action. Nothing was done.
    #[error("sandbox {id:?}: {}", .reason.as_str().replace('_', " "))]
    Conflict {
        /// The id of the sandbox.
        id: String,
        /// What is in the way.
        reason: ConflictReason,
    },
    /// A step took too long. A claimed sandbox is deleted; a pause or a resume stays wanted.
    #[error("{} not done after {:.3} s: {reason}", .step.as_str(), .waited.as_secs_f64())]
    Timeout {
        /// The step.
        step: Step,
        /// How long the engine has waited.
        waited: Duration,
        /// What was missing.
        reason: String,
    },
    /// The claimed sandbox cannot become ready, or its runtime could not be initialised. It is deleted, or kept as the
    /// request says.
    #[error("sandbox {sandbox} failed: {reason}")]
    Failed {
        /// The sandbox.
        sandbox: ObjectKey,
        /// What failed.
        reason: String,
    },
    /// The labels of the claimed sandbox would not match the label selector of the cache, so nobody could find the
    /// sandbox. Nothing was done.
    #[error("the labels of a claimed sandbox do not match sandboxLabelSelector")]
    OutOfScope,
    /// Another claim of the owner with the same key was faster, and has its sandbox. Nothing was done.
    #[error("another claim with this key was faster")]
    Repeated,
    /// The task of the call has panicked, or its caller was gone. What it had begun may have been done.
    #[error("the call was interrupted")]
    Interrupted,
    /// The API server refused the write, and would do so again. Nothing was done.
    #[error("{action}: the API server refused: HTTP {code}: {message}")]
    Refused {
        /// What was refused.
        action: &'static str,
        /// HTTP status of the refusal.
        code: u16,
        /// The message of the API server.
        message: String,
    },
    /// The request itself is not valid. Nothing was done.
    #[error("invalid request: {0}")]
    Invalid(&'static str),
    /// The API server cannot be reached, or the cache has no answer.
    #[error("unavailable: {cause}")]
    Unavailable {
        /// What is known of the write.
        outcome: WriteOutcome,
        /// The error with its causes.
        cause: String,
    },
}

impl ClaimError {
    /// Returns true if the call has changed nothing, so that it may be repeated.
    #[must_use]
    pub fn is_nothing_done(&self) -> bool {
        match self {
            Self::Timeout { step, .. } => *step == Step::Lock,
            Self::Failed { .. } | Self::Interrupted => false,
            Self::Unavailable { outcome, .. } => *outcome == WriteOutcome::NothingDone,
            _ => true,
        }
    }

    /// Returns a short word for metric labels.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PoolNotFound { .. } => "pool_not_found",
            Self::NoStock { .. } => "no_stock",
            Self::NotFound { .. } => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::Timeout { .. } => "timeout",
            Self::Failed { .. } => "failed",
            Self::OutOfScope => "out_of_scope",
            Self::Repeated => "repeated",
            Self::Interrupted => "interrupted",
            Self::Refused { .. } => "refused",
            Self::Invalid(_) => "invalid",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// After a write of this sandbox: nobody may call it undone.
    pub(super) fn unavailable_after_write(sandbox: &Sandbox, cause: impl Into<String>) -> Self {
        let outcome = WriteOutcome::Unknown { sandbox: ObjectKey::of(sandbox), lock: None };
        Self::Unavailable { outcome, cause: cause.into() }
    }

    pub(super) fn unavailable(cause: impl Into<String>) -> Self {
        Self::Unavailable { outcome: WriteOutcome::NothingDone, cause: cause.into() }
    }
}

impl From<LookupError> for ClaimError {
    fn from(error: LookupError) -> Self {
        Self::unavailable(error.to_string())
    }
}
