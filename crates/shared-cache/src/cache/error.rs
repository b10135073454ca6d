//! [`LookupError`]: the reasons why a lookup has no result.

use std::borrow::Cow;

use crate::object::ObjectKey;

/// The reason why a lookup of the cache has no result. An empty list is a result and no error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The initial list of this kind has not completed, so lookups have no result yet (A6).
    #[error("cache of {kind} is not synced yet")]
    NotSynced {
        /// Kind of the lookup.
        kind: Cow<'static, str>,
    },
    /// No object matches.
    #[error("{kind} {id:?} not found")]
    NotFound {
        /// Kind of the lookup.
        kind: Cow<'static, str>,
        /// Requested id or name.
        id: String,
    },
    /// Several objects match a lookup for one object (A2, A3).
    #[error("{kind} {id:?} is ambiguous: {}", join(.candidates))]
    Ambiguous {
        /// Kind of the lookup.
        kind: Cow<'static, str>,
        /// Requested id or name.
        id: String,
        /// The objects that match, sorted.
        candidates: Vec<ObjectKey>,
    },
    /// This cache does not watch the namespace or the kind, so the lookup has no result (A4).
    #[error("{kind} in {} is outside of what this cache watches", .namespace.as_deref().unwrap_or("any namespace"))]
    OutOfScope {
        /// Kind of the lookup.
        kind: Cow<'static, str>,
        /// Requested namespace; `None` if the kind is not watched anywhere.
        namespace: Option<String>,
    },
    /// The kind has no index of this name (B6).
    #[error("{kind} has no index {index:?}; it has {}", .known.join(", "))]
    UnknownIndex {
        /// Kind of the lookup.
        kind: Cow<'static, str>,
        /// Requested index name.
        index: String,
        /// Names of the existing indexes.
        known: Vec<&'static str>,
    },
}

impl LookupError {
    /// Returns a short word for metric labels.
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
