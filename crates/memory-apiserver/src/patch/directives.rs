//! Parts that maps and lists of a strategic merge patch share: directives, and new values.

use serde_json::{Map, Value};

use super::values::{REFUSED, discard_nulls};
use crate::error::ApiError;
use crate::go_format::json_type;

pub(super) type Object = Map<String, Value>;

/// The directive in an object itself.
pub(super) const DIRECTIVE: &str = "$patch";

pub(super) fn unknown_directive(directive: &Value, patch: &Object) -> ApiError {
    let patch = Value::Object(patch.clone());
    ApiError::unexpected(format!("unknown patch type: {directive} in map: {patch}"))
}

/// The value of a patch if there is no live value. `None`: a directive, which has no effect then.
pub(super) fn new_value(mut value: Value) -> Option<Value> {
    discard_nulls(&mut value);
    without_directives(value)
}

fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => {
            let kept = |(name, field)| Some((name, without_directives(field)?));
            Some(Value::Object(fields.into_iter().filter_map(kept).collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        scalar => Some(scalar),
    }
}

pub(super) fn wrong_type(expected: &str, found: &Value) -> ApiError {
    ApiError::unexpected(format!("expected a {expected}, but received a {}", json_type(found)))
}

pub(super) fn list_of_lists() -> ApiError {
    ApiError::unprocessable(REFUSED)
}
