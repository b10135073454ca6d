//! [`LookupError`]: the reasons why a lookup has no result.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use crate::object::ObjectKey;

/// The reason why a lookup of the cache has no result. An empty list is a result and no error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LookupError {
    /// The initial list of this kind has not completed, so lookups have no result yet (A6).
    NotSynced {
        /// Kind of the lookup.
        kind: Cow<'static, str>,
    },
    /// No object matches.
    NotFound {
        /// Kind of the lookup.
        kind: Cow<'static, str>,
        /// Requested id or name.
        id: String,
    },
    /// Several objects match a lookup for one object (A2, A3).
    Ambiguous {
        /// Kind of the lookup.
        kind: Cow<'static, str>,
        /// Requested id or name.
        id: String,
        /// The objects that match, sorted.
        candidates: Vec<ObjectKey>,
    },
    /// This cache does not watch the namespace or the kind, so the lookup has no result (A4).
    OutOfScope {
        /// Kind of the lookup.
        kind: Cow<'static, str>,
        /// Requested namespace; `None` if the kind is not watched anywhere.
        namespace: Option<String>,
    },
    /// The kind has no index of this name (B6).
    UnknownIndex {
        /// Kind of the lookup.
        kind: Cow<'static, str>,
        /// Requested index name.
        index: String,
        /// Names of the existing indexes.
        known: Vec<&'static str>,
    },
}

/// The source of [`LookupError::NotSynced`].
///
/// Some error types hide the type of the error that they were made of, such as `anyhow::Error` in a `Box<dyn Error>`.
/// The sources of that error stay visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not synced")]
pub struct NotSynced;

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSynced { kind } => write!(f, "cache of {kind} is not synced yet"),
            Self::NotFound { kind, id } => write!(f, "{kind} {id:?} not found"),
            Self::Ambiguous { kind, id, candidates } => {
                write!(f, "{kind} {id:?} is ambiguous: {}", join(candidates))
            }
            Self::OutOfScope { kind, namespace } => {
                let namespace = namespace.as_deref().unwrap_or("any namespace");
                write!(f, "{kind} in {namespace} is outside of what this cache watches")
            }
            Self::UnknownIndex { kind, index, known } => {
                write!(f, "{kind} has no index {index:?}; it has {}", known.join(", "))
            }
        }
    }
}

impl Error for LookupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotSynced { .. } => Some(&NotSynced),
            _ => None,
        }
    }
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
