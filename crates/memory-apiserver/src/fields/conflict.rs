//! [`Conflict`]: a field that an apply would take from another manager.

use super::managed::Identity;
use super::path::PathElement;
use crate::error::Cause;

/// A field that would be taken from another manager.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Conflict<'a> {
    pub(super) with: Identity<'a>,
    pub(super) path: Vec<PathElement<'a>>,
}

impl Conflict<'_> {
    pub(super) fn cause(&self) -> Cause {
        let Identity { manager, applies, api_version, subresource } = &self.with;
        let through = match &**subresource {
            "" => String::new(),
            subresource => format!(" with subresource {subresource:?}"),
        };
        let using = if *applies { String::new() } else { format!(" using {api_version}") };
        let message = format!("conflict with {manager:?}{through}{using}");
        let field = self.path.iter().map(ToString::to_string).collect();
        Cause { reason: "FieldManagerConflict", message, field }
    }
}
