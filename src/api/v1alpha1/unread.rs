//! [`UnreadFields`]: the fields of an object that could not be read.
//!
//! The API server may serve fields that this version cannot interpret: it validates by the installed CRD, which
//! may be older or newer. Such a field must not hide the whole object (behaviour V9, docs/behaviours.md).
//! `decode_partially` of the crate `shared_cache` omits the field, and the object names it here.

use shared_cache::DecodeError;

/// The fields of an object that could not be read. Nearly always empty, and takes 8 bytes then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnreadFields(
    #[expect(clippy::box_collection, reason = "every object has this field")] Option<Box<Vec<DecodeError>>>,
);

impl UnreadFields {
    /// Returns the fields, each with its problem.
    #[must_use]
    pub fn as_slice(&self) -> &[DecodeError] {
        self.0.as_ref().map(|fields| fields.as_slice()).unwrap_or_default()
    }

    /// Returns true if one of the fields is `path`, a part of it, or contains it. Fast if all fields were read.
    pub(super) fn touch(&self, path: &str) -> bool {
        let within = |field: &str, path: &str| {
            field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.as_slice().iter().any(|unread| within(&unread.field, path) || within(path, &unread.field))
    }
}

impl From<Vec<DecodeError>> for UnreadFields {
    fn from(fields: Vec<DecodeError>) -> Self {
        Self((!fields.is_empty()).then(|| Box::new(fields)))
    }
}
