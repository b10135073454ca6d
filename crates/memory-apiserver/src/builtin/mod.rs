//! The kinds that every API server has: their names, and the rules that their types do not express.

mod data;
mod event;
mod kinds;
mod namespace;
mod pod;
mod rbac;
mod rules;
mod service;
mod volume;

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::FieldError;
use super::names::NameRule;
use super::object::child_mut;
use super::request::Verb;
use super::schema::{self, Schema};

pub(crate) use kinds::{BUILTINS, plain};
pub(crate) use service::FIRST_ADDRESS;

/// A built-in kind in one version.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a row of a table of independent facts, not a state")]
pub(crate) struct Builtin {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) namespaced: bool,
    /// The collection of its objects; `None`: that of its plural and group.
    pub(crate) storage: Option<&'static str>,
    /// The verbs that it supports.
    pub(crate) verbs: &'static [Verb],
    /// Whether the status is a subresource.
    pub(crate) status: bool,
    pub(crate) has_generation: bool,
    /// Whether a PUT may leave out the version, and then replaces any version.
    pub(crate) unconditional_update: bool,
    /// Whether a PUT creates an object that does not exist.
    pub(crate) create_on_update: bool,
    /// Whether a deletion is answered with the object instead of a status.
    pub(crate) returns_deleted: bool,
    pub(crate) name_rule: NameRule,
    /// An object of the kind without any value, as Go writes it. The creator of an object does not own these fields.
    pub(crate) blank: &'static str,
    /// Decodes and encodes an object by its type, which brings times and numbers into their usual form.
    pub(crate) typed: fn(Value) -> serde_json::Result<Value>,
    /// Sets defaults. The writer of the object owns these fields like its own.
    pub(crate) default: fn(&mut Value),
    /// Sets fields that only the server sets, on a new object or over the live one. Nobody owns these fields.
    pub(crate) prepare: fn(&mut Value, Option<&Value>, Timestamp),
    /// Checks the rules that the type does not express, for a new object or over the live one.
    pub(crate) validate: fn(&Value, Option<&Value>) -> Vec<FieldError>,
    /// The subresource `resize`, if the kind has it.
    pub(crate) resize: Option<Resize>,
}

/// The rules of the subresource `resize`, which changes a part of the spec that no other write changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resize {
    /// Returns the spec of the live object (the second) with the part that the written object (the first) changes.
    pub(crate) spec: fn(&Value, &Value) -> Value,
    /// Checks the new object over the live one.
    pub(crate) validate: fn(&Value, &Value) -> Vec<FieldError>,
}

impl Builtin {
    /// The schema of its objects.
    pub(crate) fn schema(&self) -> Arc<Schema> {
        let known = schema::Builtin::find(self.group, self.version, self.kind);
        known.map(|known| Arc::clone(known.schema())).unwrap_or_default()
    }

    /// A new object of the kind before any field is set.
    pub(crate) fn blank(&self) -> Value {
        // The texts are constants, and a test parses all of them.
        serde_json::from_str(self.blank).unwrap_or_default()
    }
}

fn typed<K: DeserializeOwned + Serialize>(object: Value) -> serde_json::Result<Value> {
    serde_json::to_value(K::deserialize(object)?)
}

/// Sets a field of `spec` or `status` if it is absent.
fn default_in(object: &mut Value, part: &str, field: &str, value: Value) {
    child_mut(object, part).entry(field).or_insert(value);
}

/// The items of the list at a pointer; none if there is no list.
fn items_mut<'a>(object: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    object.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}
