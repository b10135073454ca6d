//! [`Schema`]: the form of a kind's objects, for custom kinds from their CRD, for built-in ones from their types.
//!
//! One tree serves everything that depends on form: defaults, pruning and strict fields, validation, the owners of
//! fields (apply), strategic merges, and what `kubectl explain` prints.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// One node of the form: an object, a map, a list or a scalar.
#[derive(Clone, Debug, Default)]
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
    /// Whether it holds an object with `apiVersion`, `kind` and `metadata` of its own.
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
