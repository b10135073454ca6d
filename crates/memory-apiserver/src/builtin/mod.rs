//! The kinds that every API server has: what they are called, and the rules that their types do not say.

mod data;
mod event;
mod kinds;
mod namespace;
mod pod;
mod rbac;
mod rules;
mod service;
mod volume;

use std::sync::{Arc, LazyLock};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::FieldError;
use super::metadata::NameRule;
use super::object::child_mut;
use super::request::Verb;
use super::schema::{self, Schema};

pub(crate) use kinds::BUILTINS;
pub(crate) use service::FIRST_ADDRESS;

/// A built-in kind in one version.
#[expect(clippy::struct_excessive_bools, reason = "a row of a table of independent facts, not a state")]
pub(crate) struct Builtin {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) namespaced: bool,
    pub(crate) storage: &'static str,
    /// What can be done to it.
    pub(crate) verbs: &'static [Verb],
    /// Whether the status is written by a subresource.
    pub(crate) status: bool,
    pub(crate) has_generation: bool,
    /// Whether a deletion answers with the object instead of a status.
    pub(crate) returns_deleted: bool,
    pub(crate) name_rule: NameRule,
    /// How Go writes an object of the kind that nothing is set in: who creates one does not own these fields.
    blank: &'static str,
    /// Reads and writes an object by its type, such as times in the form that they are always written in.
    pub(crate) typed: fn(Value) -> serde_json::Result<Value>,
    /// Sets what a client may leave out. Who writes an object owns these fields like those that it set.
    pub(crate) default: fn(&mut Value),
    /// Sets what only the server sets, on an object that is new or replaces another. Nobody owns these fields.
    pub(crate) prepare: fn(&mut Value, Option<&Value>),
    /// Rules beyond the types.
    pub(crate) validate: fn(&Value, Option<&Value>) -> Vec<FieldError>,
}

impl Builtin {
    /// The form of its objects.
    pub(crate) fn schema(&self) -> Arc<Schema> {
        let known = schema::Builtin::find(self.group, self.version, self.kind);
        known.map(|known| Arc::clone(known.schema())).unwrap_or_default()
    }

    /// What a new object of the kind starts from.
    pub(crate) fn blank(&'static self) -> &'static Value {
        static BLANKS: LazyLock<Vec<Value>> = LazyLock::new(|| {
            BUILTINS.iter().map(|builtin| serde_json::from_str(builtin.blank).unwrap_or_default()).collect()
        });
        let own = BUILTINS.iter().position(|other| std::ptr::eq(other, self));
        own.map_or(&Value::Null, |own| &BLANKS[own])
    }
}

fn typed<K: DeserializeOwned + Serialize>(object: Value) -> serde_json::Result<Value> {
    serde_json::to_value(K::deserialize(object)?)
}

/// Sets a field of `spec` or `status` if it is not there.
fn default_in(object: &mut Value, part: &str, field: &str, value: Value) {
    child_mut(object, part).entry(field).or_insert(value);
}

/// The items of a list inside of an object, none if there is none.
fn items_mut<'a>(object: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    object.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}
