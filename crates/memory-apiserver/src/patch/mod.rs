//! Applies the body of a PATCH request to the live object.
//!
//! Three kinds of patch describe a change, which [`Change`] carries out on plain JSON. The fourth, server-side apply,
//! depends on the owners of fields. Only its body is decoded here, by [`applied::read`].
//!
//! No body causes a panic. No result is larger than the object, the body and [`json::MAX_COPIED`] together, or nested
//! more than [`MAX_DEPTH`] levels. Errors have the codes of kube-apiserver and, where they do not quote its parser, its
//! texts.

pub(crate) mod applied;
mod directives;
mod json;
mod lists;
#[cfg(test)]
mod properties;
mod strategic;
#[cfg(test)]
mod strategic_tests;
#[cfg(test)]
mod tests;
mod values;

use serde_json::{Map, Value};

use super::error::{ApiError, FieldError};
use super::go_format::json_type;
use super::schema::Schema;
use values::{discard_nulls, not_an_object, too_deep};

pub(crate) use values::{MAX_DEPTH, is_deeper_than};

pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC_MERGE_PATCH: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// The kind of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    /// The body describes a change.
    Change(Change),
    /// The body is the desired state of some fields (server-side apply).
    Apply,
}

/// The format of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A list of operations (RFC 6902).
    Json,
    /// The fields to set, and null for fields to remove (RFC 7386).
    Merge,
    /// Like [`Change::Merge`], but lists are merged, too, as the schema of the kind says.
    Strategic,
}

impl PatchKind {
    /// The kind of a `Content-Type`, whose parameters do not matter. Custom kinds have no strategic merges.
    pub(crate) fn from_content_type(content_type: &str, custom: bool) -> Result<Self, ApiError> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        match media_type {
            JSON_PATCH => Ok(Self::Change(Change::Json)),
            MERGE_PATCH => Ok(Self::Change(Change::Merge)),
            STRATEGIC_MERGE_PATCH if !custom => Ok(Self::Change(Change::Strategic)),
            APPLY_PATCH => Ok(Self::Apply),
            _ if custom => Err(ApiError::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: \
                 {JSON_PATCH}, {MERGE_PATCH}, {APPLY_PATCH}"
            ))),
            _ => Err(ApiError::unsupported_media_type("415: Unsupported Media Type")),
        }
    }
}

impl Change {
    /// The object after the change. It has a kind if the live object has one, and is not nested too deeply; nothing
    /// else is checked.
    pub(crate) fn carry_out(self, schema: &Schema, live: &Value, body: &[u8]) -> Result<Value, ApiError> {
        let patched = match self {
            Self::Json => has_kind(json::apply(live, body)?)?,
            Self::Merge => has_kind(merge(live, body)?)?,
            Self::Strategic => strategic::apply(schema, live, body)?,
        };
        if is_deeper_than(&patched, MAX_DEPTH) { Err(too_deep()) } else { Ok(patched) }
    }
}

/// Applies a JSON merge patch. As in kube-apiserver, null fields of objects in lists are removed, too.
fn merge(live: &Value, body: &[u8]) -> Result<Value, ApiError> {
    let decoding = |problem: String| ApiError::bad_request(format!("error decoding patch: {problem}"));
    let mut patch = match serde_json::from_slice(body) {
        Ok(Value::Object(patch)) => patch,
        Ok(Value::Null) => return Err(ApiError::bad_request("Invalid JSON Patch")),
        Ok(other) => return Err(decoding(not_an_object(&other))),
        Err(error) => return Err(decoding(error.to_string())),
    };
    prune_lists(&mut patch);
    let mut document = live.clone();
    json_patch::merge(&mut document, &Value::Object(patch));
    Ok(document)
}

fn prune_lists(patch: &mut Map<String, Value>) {
    for value in patch.values_mut() {
        match value {
            Value::Object(fields) => prune_lists(fields),
            Value::Array(_) => discard_nulls(value),
            _ => {}
        }
    }
}

fn has_kind(patched: Value) -> Result<Value, ApiError> {
    let problem = match &patched {
        Value::Object(fields) if fields.get("kind").is_some_and(|kind| *kind != "") => return Ok(patched),
        Value::Object(_) => format!("Object 'Kind' is missing in '{patched}'"),
        other => format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct",
            json_type(other)
        ),
    };
    let error = FieldError::invalid("patch", Value::String(patched.to_string()), problem);
    Err(ApiError::invalid("", "", "", &[error]))
}
