//! [`Rows`]: the functions that make the rows of a built-in kind, and helpers for cells.

use jiff::Timestamp;
use serde_json::Value;

use super::age::age;
use crate::object::meta_text;

/// The functions that make a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub(super) cells: fn(&Value, Timestamp) -> Vec<Value>,
    /// The conditions of the row, if it has any.
    pub(super) conditions: fn(&Value) -> Option<Value>,
}

/// The age of the object.
pub(super) fn created(object: &Value, now: Timestamp) -> Value {
    age(meta_text(object, "creationTimestamp"), now).into()
}

/// The text at a pointer such as `/spec/nodeName`, or an empty text.
pub(super) fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn text_or<'v>(object: &'v Value, pointer: &str, default: &'static str) -> &'v str {
    or(text(object, pointer), default)
}

/// The text, or the default for an empty text.
pub(super) fn or<'v>(text: &'v str, default: &'static str) -> &'v str {
    if text.is_empty() { default } else { text }
}

/// The list at a pointer, or an empty list.
pub(super) fn list<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
