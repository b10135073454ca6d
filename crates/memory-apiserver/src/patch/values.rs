//! Operations on plain JSON that all kinds of patch share, and their limits.

use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::go_format::json_type;

/// Maximum depth of nested lists and objects, so that every client can parse the object, also in a list.
pub(crate) const MAX_DEPTH: usize = 100;

/// The text of kube-apiserver for every patch that does not fit the object.
pub(super) const REFUSED: &str = "the server rejected our request due to an error in our request";

/// Removes null fields at any depth. Null items of lists stay.
pub(super) fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => discard_null_fields(fields),
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

pub(super) fn discard_null_fields(fields: &mut Map<String, Value>) {
    fields.retain(|_, field| !field.is_null());
    fields.values_mut().for_each(discard_nulls);
}

/// The text of Go's decoder for a patch that is not an object.
pub(super) fn not_an_object(value: &Value) -> String {
    format!("json: cannot unmarshal {} into Go value of type map[string]interface {{}}", json_type(value))
}

/// Whether lists and objects are nested more than `levels` levels. Does not look deeper.
pub(crate) fn is_deeper_than(value: &Value, levels: usize) -> bool {
    let deeper = |inner: &Value| is_deeper_than(inner, levels - 1);
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(deeper),
        Value::Object(fields) => levels == 0 || fields.values().any(deeper),
        _ => false,
    }
}

pub(super) fn too_deep() -> ApiError {
    ApiError::unprocessable(format!("the patched object would be nested more than {MAX_DEPTH} levels deep"))
}
