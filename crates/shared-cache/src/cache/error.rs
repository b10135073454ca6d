//! Why a lookup has no answer.

use std::borrow::Cow;

use crate::object::ObjectKey;

/// Why a lookup of the cache has no answer. None of them is "empty": an empty list is an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The cache shows no whole list of this kind yet, so nothing can be said about it (A6).
    #[error("cache of {kind} is not synced yet")]
    NotSynced {
        /// Kind that was asked for.
        kind: Cow<'static, str>,
    },
    /// No object matches.
    #[error("{kind} {id:?} not found")]
    NotFound {
        /// Kind that was asked for.
        kind: Cow<'static, str>,
        /// Id or name that was asked for.
        id: String,
    },
    /// Several objects match where one was asked for (A2, A3).
    #[error("{kind} {id:?} is ambiguous: {}", join(.candidates))]
    Ambiguous {
        /// Kind that was asked for.
        kind: Cow<'static, str>,
        /// Id or name that was asked for.
        id: String,
        /// The objects that match, sorted.
        candidates: Vec<ObjectKey>,
    },
    /// This cache does not watch that namespace, or the kind at all, so it can't tell (A4).
    #[error("{kind} in {} is outside of what this cache watches", .namespace.as_deref().unwrap_or("any namespace"))]
    OutOfScope {
        /// Kind that was asked for.
        kind: Cow<'static, str>,
        /// Namespace that was asked for; `None` when the kind is not watched anywhere.
        namespace: Option<String>,
    },
    /// The kind has no index of this name (B6).
    #[error("{kind} has no index {index:?}; it has {}", .known.join(", "))]
    UnknownIndex {
        /// Kind that was asked for.
        kind: Cow<'static, str>,
        /// Name that was asked for.
        index: String,
        /// Names that there are.
        known: Vec<&'static str>,
    },
}

impl LookupError {
    /// A short word for metric labels.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotSynced { .. } => "not_synced",
            Self::NotFound { .. } => "not_found",
            Self::Ambiguous { .. } => "ambiguous",
            Self::OutOfScope { .. } => "out_of_scope",
            Self::UnknownIndex { .. } => "unknown_index",
        }
    }
}

fn join(keys: &[ObjectKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
