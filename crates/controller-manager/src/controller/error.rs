//! [`ControllerError`]: why a controller cannot run.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What a controller does with a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KindUse {
    /// It reconciles objects of the kind.
    Reconciles,
    /// It reconciles the owners of objects of the kind.
    Owns,
    /// It maps objects of the kind to keys.
    Watches,
}

impl fmt::Display for KindUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reconciles => "reconciles",
            Self::Owns => "owns",
            Self::Watches => "watches",
        })
    }
}

/// Why a controller cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControllerError {
    /// The cache does not have a kind that the controller needs.
    #[error(
        "controller {controller:?} {usage} kind {kind}, which the cache does not have; add the kind to the cache"
    )]
    UnknownKind {
        /// Name of the controller.
        controller: Arc<str>,
        /// The kind.
        kind: Cow<'static, str>,
        /// What the controller does with it.
        usage: KindUse,
    },
    /// The context that was handed out writes also when this process does not lead.
    #[error(
        "controller {controller:?}: leader_only() was called after context() or add_reconcile_handler_with(); call it \
         before them"
    )]
    LeaderOnlyTooLate {
        /// Name of the controller.
        controller: Arc<str>,
    },
}
