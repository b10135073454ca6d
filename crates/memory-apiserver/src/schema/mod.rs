//! [`Schema`]: the form of a kind's objects, for custom kinds from their CRD, for built-in ones from their types.
//!
//! One tree serves everything that depends on form: defaults, pruning and strict fields, validation, the owners of
//! fields (apply), strategic merges, and what `kubectl explain` prints.

mod branches;
mod builtin;
#[cfg(feature = "cel")]
mod cel;
mod decode;
mod defaults;
mod duplicates;
mod embedded;
mod extensions;
mod facts;
mod field_path;
mod formats;
mod go_time;
mod lists;
mod messages;
mod omit;
mod openapi;
mod path;
mod pattern;
mod props;
mod prune;
mod required;
mod rules;
mod structural;
mod validate;
mod validations;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

pub(crate) use builtin::{Builtin, components};
pub(crate) use decode::{metadata_type_error, type_error};
pub(crate) use defaults::apply as apply_defaults;
pub(crate) use duplicates::duplicate_fields;
pub(crate) use omit::omit_empty;
pub(crate) use openapi::CustomKind;
pub(crate) use prune::prune;
pub(crate) use required::missing_fields;
pub(crate) use validate::Validator;

/// One node of the form: an object, a map, a list or a scalar.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a keyword of its own")]
pub(crate) struct Schema {
    /// `object`, `array`, `string`, `integer`, `number`, `boolean`; empty: any.
    pub(crate) kind: String,
    /// The fields of an object.
    pub(crate) properties: BTreeMap<String, Arc<Schema>>,
    /// The values of a map.
    pub(crate) values: Option<Arc<Schema>>,
    /// The items of a list.
    pub(crate) items: Option<Arc<Schema>>,
    /// What an absent field becomes.
    pub(crate) default: Option<Value>,
    /// Whether `null` is a value; otherwise it counts as absent where there is a default.
    pub(crate) nullable: bool,
    /// Whether unknown fields are kept.
    pub(crate) preserve_unknown_fields: bool,
    /// Whether it is an object with `apiVersion`, `kind` and `metadata` of its own, as the root is, too.
    pub(crate) embedded_resource: bool,
    /// Whether whole numbers and texts are both accepted.
    pub(crate) int_or_string: bool,
    /// How the items of a list are told apart.
    pub(crate) list_type: ListType,
    /// Whether an object is owned as a whole (`x-kubernetes-map-type: atomic`).
    pub(crate) atomic: bool,
    /// The field by which a strategic merge tells items apart; `None`: the list is replaced.
    pub(crate) merge_key: Option<String>,
    /// Whether a strategic merge adds to a list of scalars instead of replacing it.
    pub(crate) merge_set: bool,
    /// The fields that an object must have.
    pub(crate) required: Vec<String>,
    /// `format`: `int32`, `date-time` and so on; empty: none.
    pub(crate) format: String,
    /// What the type is called in Go, as in `v1.Container`; empty for custom kinds and for what has no name.
    pub(crate) type_name: String,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListType {
    /// One value as a whole.
    #[default]
    Atomic,
    /// Scalars, each at most once.
    Set,
    /// Objects that are told apart by these fields.
    Map(Vec<String>),
}

impl Schema {
    /// The schema of a field: a property, or the values of a map. `None`: unknown.
    pub(crate) fn field(&self, name: &str) -> Option<&Arc<Self>> {
        self.properties.get(name).or(self.values.as_ref())
    }
}
