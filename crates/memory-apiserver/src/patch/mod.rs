//! What the body of a PATCH request makes of the object that is there.
//!
//! Three kinds of patch describe a change, and [`Change`] carries them out on plain JSON. The fourth, server-side
//! apply, depends on who owns which field; of it only the body is read here, by [`applied::read`].
//!
//! Whatever a body says, nothing here panics, and no result is larger than the object, the body and
//! [`json::MAX_COPIED`] together, nor nested more than [`MAX_DEPTH`] levels. Refusals have the codes of
//! kube-apiserver and, where they do not quote its parser, its texts.

pub(crate) mod applied;
mod json;
mod lists;
#[cfg(test)]
mod properties;
mod strategic;
#[cfg(test)]
mod strategic_tests;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::error::{ApiError, FieldError};
use super::go_format::json_type;
use super::schema::Schema;

/// How deeply lists and objects may be nested in an object, so that every client can read it, also in a list.
pub(crate) const MAX_DEPTH: usize = 100;

/// All that kube-apiserver says of a patch that does not fit the object.
const REFUSED: &str = "the server rejected our request due to an error in our request";

pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC_MERGE_PATCH: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// What the body of a PATCH request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    /// It describes a change.
    Change(Change),
    /// It is what someone wants to be so (server-side apply).
    Apply,
}

/// In which way a change is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A list of operations (RFC 6902).
    Json,
    /// The fields to set, and null for those to remove (RFC 7386).
    Merge,
    /// Like [`Change::Merge`], but lists are merged too, in the way that the kind's schema says.
    Strategic,
}

impl PatchKind {
    /// From a `Content-Type`, whose parameters do not matter. Kinds that a CRD defines have no strategic merges.
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
    /// The object after the change. Of it no more is known than that it is an object, has a kind if the live one
    /// had one, and is not nested too deeply.
    pub(crate) fn carry_out(self, schema: &Schema, live: &Value, body: &[u8]) -> Result<Value, ApiError> {
        let patched = match self {
            Self::Json => has_kind(json::apply(live, body)?)?,
            Self::Merge => has_kind(merge(live, body)?)?,
            Self::Strategic => strategic::apply(schema, live, body)?,
        };
        if is_deeper_than(&patched, MAX_DEPTH) { Err(too_deep()) } else { Ok(patched) }
    }
}

/// The JSON merge patch, which as in kube-apiserver removes the null fields of objects in lists, too.
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

/// Removes the fields that are null, at any depth. The items of lists stay.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => discard_null_fields(fields),
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

fn discard_null_fields(fields: &mut Map<String, Value>) {
    fields.retain(|_, field| !field.is_null());
    fields.values_mut().for_each(discard_nulls);
}

/// What Go's decoder says of a patch that is no object.
fn not_an_object(value: &Value) -> String {
    format!("json: cannot unmarshal {} into Go value of type map[string]interface {{}}", json_type(value))
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

/// Whether lists and objects are nested more than `levels` levels; does not look deeper.
pub(crate) fn is_deeper_than(value: &Value, levels: usize) -> bool {
    let deeper = |inner: &Value| is_deeper_than(inner, levels - 1);
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(deeper),
        Value::Object(fields) => levels == 0 || fields.values().any(deeper),
        _ => false,
    }
}

fn too_deep() -> ApiError {
    ApiError::unprocessable(format!("the patched object would be nested more than {MAX_DEPTH} levels deep"))
}
