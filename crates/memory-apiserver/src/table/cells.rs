//! [`Rows`]: how the rows of a built-in kind are made, and what their cells have in common.

use jiff::Timestamp;
use serde_json::Value;

use super::age::age;
use crate::object::meta_text;

/// How a row is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub(super) cells: fn(&Value, Timestamp) -> Vec<Value>,
    /// What the row says of the object's state, if anything.
    pub(super) conditions: fn(&Value) -> Option<Value>,
}

/// The age of the object.
pub(super) fn created(object: &Value, now: Timestamp) -> Value {
    age(meta_text(object, "creationTimestamp"), now).into()
}

/// The text at a pointer such as `/spec/nodeName`, empty when there is none.
pub(super) fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn text_or<'v>(object: &'v Value, pointer: &str, default: &'static str) -> &'v str {
    or(text(object, pointer), default)
}

/// The text, or what stands for an empty one.
pub(super) fn or<'v>(text: &'v str, default: &'static str) -> &'v str {
    if text.is_empty() { default } else { text }
}

/// The list at a pointer, empty when there is none.
pub(super) fn list<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
