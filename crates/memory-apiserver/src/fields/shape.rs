//! [`Shape`]: how a schema lets a value be divided among owners.
//!
//! Objects and maps are granular unless they are atomic. Lists are atomic unless their items have keys. Without a
//! schema (unknown fields that are kept, free-form objects), maps are granular and lists are atomic.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::path::PathElement;
use crate::schema::{ListType, Schema};

/// The shape of the values at one place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape<'a> {
    /// A schema decides.
    Known(Known<'a>),
    /// Values of any type: maps are granular, lists are atomic.
    Free,
    /// Values of any type that are never divided.
    Whole,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    schema: &'a Schema,
    /// Whether it has `apiVersion`, `kind` and `metadata`.
    resource: bool,
    /// Whether an object above keeps unknown fields, which applies to all fields below it.
    open: bool,
}

/// The type as which a value is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Map,
    Scalar,
    List,
}

/// The scalars that a schema allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Text,
    Number,
    Boolean,
    Any,
}

impl<'a> Shape<'a> {
    /// The shape of whole objects.
    pub(super) fn of_resource(schema: &'a Schema) -> Self {
        Self::Known(Known { schema, resource: true, open: false })
    }

    /// The type as which a value is treated: its own type if the schema allows that, otherwise the first type of the
    /// schema.
    pub(super) fn kind_of(self, value: &Value) -> Kind {
        let is = match value {
            Value::Object(_) => Kind::Map,
            Value::Array(_) => Kind::List,
            Value::Null => return self.first_kind(),
            _ => Kind::Scalar,
        };
        self.only_kind().unwrap_or(is)
    }

    /// The type as which an absent value or `null` is treated.
    pub(super) fn first_kind(self) -> Kind {
        self.only_kind().unwrap_or(Kind::Map)
    }

    fn only_kind(self) -> Option<Kind> {
        let Self::Known(known) = self else { return None };
        match known.schema.kind.as_str() {
            "object" => Some(Kind::Map),
            "array" => Some(Kind::List),
            "string" | "integer" | "number" | "boolean" => Some(Kind::Scalar),
            _ => None,
        }
    }

    pub(super) fn scalar(self) -> Scalar {
        let Self::Known(Known { schema, .. }) = self else { return Scalar::Any };
        match schema.kind.as_str() {
            _ if schema.int_or_string => Scalar::Any,
            "string" => Scalar::Text,
            "integer" | "number" => Scalar::Number,
            "boolean" => Scalar::Boolean,
            _ => Scalar::Any,
        }
    }

    /// Whether a value of this kind has one owner as a whole.
    pub(super) fn is_atomic(self, kind: Kind) -> bool {
        match (self, kind) {
            (_, Kind::Scalar) | (Self::Whole, _) | (Self::Free, Kind::List) => true,
            (Self::Free, Kind::Map) => false,
            (Self::Known(known), Kind::Map) => known.schema.atomic,
            (Self::Known(known), Kind::List) => known.schema.list_type == ListType::Atomic,
        }
    }

    /// The shape of a field, or of a key of a map. `None` if the schema has no such field.
    pub(super) fn field(self, name: &str) -> Option<Self> {
        let Self::Known(known) = self else { return Some(self) };
        if let Some(property) = known.property(name) {
            let is_metadata = known.resource && name == "metadata";
            return Some(known.below(property, !is_metadata));
        }
        if let Some(values) = known.schema.values.as_deref() {
            return Some(known.below(values, true));
        }
        (known.keeps_unknown_fields() || known.has_no_properties()).then_some(Self::Free)
    }

    /// As [`Self::field`], but unknown fields are free-form.
    pub(super) fn field_or_free(self, name: &str) -> Self {
        self.field(name).unwrap_or(Self::Free)
    }

    /// Whether the schema names this field, so that it is not a key of a map.
    pub(super) fn names(self, name: &str) -> bool {
        matches!(self, Self::Known(known) if known.property(name).is_some())
    }

    /// Whether the schema says nothing about the fields of an object.
    pub(super) fn is_free_form(self) -> bool {
        match self {
            Self::Known(known) => known.has_no_properties() && known.schema.values.is_none(),
            Self::Free => true,
            Self::Whole => false,
        }
    }

    /// The shape of the items of a list.
    pub(super) fn items(self) -> Self {
        match self {
            Self::Known(known) => {
                known.schema.items.as_deref().map_or(Self::Whole, |items| known.below(items, true))
            }
            Self::Free | Self::Whole => Self::Whole,
        }
    }

    /// The shape of the value at a path element. `None` if it is not known.
    pub(super) fn child(self, element: &PathElement<'_>) -> Option<Self> {
        match element {
            PathElement::Field(name) => self.field(name),
            _ => matches!(self.only_kind(), None | Some(Kind::List)).then(|| self.items()),
        }
    }

    /// The path element of an item of a list whose items have keys.
    pub(super) fn item_element(self, item: &'a Value) -> Result<PathElement<'a>, Cow<'static, str>> {
        match self {
            Self::Known(Known { schema: Schema { list_type: ListType::Map(keys), .. }, .. }) => {
                self.item_key(keys, item)
            }
            _ => match item {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type".into())
                }
                Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null => {
                    Err("associative list without keys has an element that's an explicit null".into())
                }
                scalar => Ok(PathElement::Value(Cow::Borrowed(scalar))),
            },
        }
    }

    /// Absent keys have their defaults, or are left out.
    fn item_key(self, keys: &'a [String], item: &'a Value) -> Result<PathElement<'a>, Cow<'static, str>> {
        let fields = match item {
            Value::Object(fields) => fields,
            Value::Null => return Err("associative list with keys may not have a null element".into()),
            _ => return Err("associative list with keys may not have non-map elements".into()),
        };
        let default = |key: &str| match self.items() {
            Self::Known(known) => known.property(key).and_then(|property| property.default.as_ref()),
            Self::Free | Self::Whole => None,
        };
        let present: Vec<_> = keys
            .iter()
            .filter_map(|key| {
                Some((Cow::from(key), Cow::Borrowed(fields.get(key).or_else(|| default(key))?)))
            })
            .collect();
        if present.is_empty() {
            let keys: Vec<_> = keys.iter().map(|key| format!("{key:?}")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have \
                 default values for any key fields)",
                keys.join(" ")
            )
            .into());
        }
        Ok(PathElement::key(present))
    }
}

impl<'a> Known<'a> {
    /// The shape of a field that the schema names, or that every resource has.
    fn property(self, name: &str) -> Option<&'a Schema> {
        let declared = self.schema.properties.get(name).map(AsRef::as_ref);
        match name {
            "apiVersion" | "kind" if self.resource => declared.or(Some(&*TEXT)),
            // Custom kinds can only restrict names here.
            "metadata" if self.resource => {
                declared.filter(|metadata| metadata.properties.len() > 2).or(Some(&*OBJECT_META))
            }
            _ => declared,
        }
    }

    /// The shape of a value in this one. It keeps unknown fields if this one does and `inherit` is true.
    fn below(self, schema: &'a Schema, inherit: bool) -> Shape<'a> {
        let open = inherit && self.keeps_unknown_fields();
        Shape::Known(Known { schema, resource: schema.embedded_resource, open })
    }

    fn keeps_unknown_fields(self) -> bool {
        self.open || self.schema.preserve_unknown_fields
    }

    fn has_no_properties(self) -> bool {
        self.schema.properties.is_empty() && !self.resource
    }
}

static TEXT: LazyLock<Arc<Schema>> = LazyLock::new(|| typed("string"));

/// The metadata of every kind.
static OBJECT_META: LazyLock<Schema> = LazyLock::new(|| {
    let map = || Arc::new(Schema { values: Some(TEXT.clone()), ..schema("object") });
    let list = |list_type, items| Arc::new(Schema { items: Some(items), list_type, ..schema("array") });
    let owner = Arc::new(Schema { atomic: true, ..object(OWNER_REFERENCE) });
    let mut metadata = object(SIMPLE_METADATA);
    metadata.properties.extend([
        ("labels".to_owned(), map()),
        ("annotations".to_owned(), map()),
        ("finalizers".to_owned(), list(ListType::Set, TEXT.clone())),
        ("ownerReferences".to_owned(), list(ListType::Map(vec!["uid".to_owned()]), owner)),
        ("managedFields".to_owned(), list(ListType::Atomic, typed("object"))),
    ]);
    metadata
});

const SIMPLE_METADATA: &[(&str, &str)] = &[
    ("name", "string"),
    ("generateName", "string"),
    ("namespace", "string"),
    ("selfLink", "string"),
    ("uid", "string"),
    ("resourceVersion", "string"),
    ("generation", "integer"),
    // Times are structures in Go, so they are atomic.
    ("creationTimestamp", ""),
    ("deletionTimestamp", ""),
    ("deletionGracePeriodSeconds", "integer"),
];

const OWNER_REFERENCE: &[(&str, &str)] = &[
    ("apiVersion", "string"),
    ("kind", "string"),
    ("name", "string"),
    ("uid", "string"),
    ("controller", "boolean"),
    ("blockOwnerDeletion", "boolean"),
];

fn schema(kind: &str) -> Schema {
    Schema { kind: kind.to_owned(), ..Schema::default() }
}

fn typed(kind: &str) -> Arc<Schema> {
    Arc::new(schema(kind))
}

fn object(fields: &[(&str, &str)]) -> Schema {
    let properties: BTreeMap<_, _> =
        fields.iter().map(|(name, kind)| ((*name).to_owned(), typed(kind))).collect();
    Schema { properties, ..schema("object") }
}
