//! [`Type`]: the types of values in CEL, and the type that a node of a schema declares.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::super::{ListType, Schema};

/// The words that CEL reserves. A field of this name is read as `__name__`.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The type of a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    /// Any type. It is known only at run time.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>, ListType),
    /// Keys and values.
    Map(Arc<Type>, Arc<Type>),
    Object(Arc<Fields>),
    Optional(Arc<Type>),
    /// A type as a value: `type(1)`, `int`.
    Kind,
    /// A value of a library, such as a quantity.
    Library(&'static str),
}

/// The fields of an object by the names that CEL has for them, each with its name in JSON.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Fields(pub(super) BTreeMap<String, (String, Type)>);

impl Type {
    /// Returns the type that a schema declares, or `None` if rules can't see its values.
    pub(super) fn of(schema: &Schema) -> Option<Self> {
        if schema.int_or_string {
            return Some(Self::Dyn);
        }
        Some(match schema.kind.as_str() {
            "array" => {
                let items = Self::of(schema.items.as_deref()?)?;
                Self::List(Arc::new(items), schema.list_type.clone())
            }
            "object" => match schema.values.as_deref().filter(|values| !is_any(values)) {
                Some(values) => Self::Map(Arc::new(Self::String), Arc::new(Self::of(values)?)),
                None => Self::Object(Arc::new(Fields::of(schema))),
            },
            "string" => match schema.format.as_str() {
                "byte" => Self::Bytes,
                "duration" => Self::Duration,
                "date" | "date-time" => Self::Timestamp,
                _ => Self::String,
            },
            "boolean" => Self::Bool,
            "number" => Self::Double,
            "integer" => Self::Int,
            _ => return None,
        })
    }

    pub(super) fn list(items: Self) -> Self {
        Self::List(Arc::new(items), ListType::Atomic)
    }

    pub(super) fn optional(of: Self) -> Self {
        Self::Optional(Arc::new(of))
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// Returns the common type of two types, or `None` if a value of one can't replace a value of the other.
    pub(super) fn joined(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) => Some(Self::Dyn),
            (Self::Null, some) | (some, Self::Null) if some.may_be_null() => Some(some.clone()),
            (Self::List(items, kind), Self::List(others, _)) => {
                Some(Self::List(Arc::new(items.joined(others)?), kind.clone()))
            }
            (Self::Map(keys, values), Self::Map(other_keys, other_values)) => {
                Some(Self::Map(Arc::new(keys.joined(other_keys)?), Arc::new(values.joined(other_values)?)))
            }
            (Self::Optional(some), Self::Optional(other)) => Some(Self::optional(some.joined(other)?)),
            _ => (self == other).then(|| self.clone()),
        }
    }

    /// Returns true if `null` can replace a value of this type.
    fn may_be_null(&self) -> bool {
        let is_plain = matches!(self, Self::Bool | Self::String | Self::Bytes | Self::Kind);
        !(is_plain || self.is_number() || matches!(self, Self::List(..) | Self::Map(..)))
    }

    /// Returns true if the type contains lists that are sets or maps. Their order does not count in comparisons.
    pub(super) fn has_unordered_lists(&self) -> bool {
        match self {
            Self::List(items, kind) => *kind != ListType::Atomic || items.has_unordered_lists(),
            Self::Map(_, values) => values.has_unordered_lists(),
            Self::Object(fields) => fields.0.values().any(|(_, field)| field.has_unordered_lists()),
            Self::Optional(some) => some.has_unordered_lists(),
            _ => false,
        }
    }
}

/// Returns true if the schema of a map's values says nothing.
fn is_any(values: &Schema) -> bool {
    values.kind.is_empty() && !values.preserve_unknown_fields && !values.int_or_string
}

impl Fields {
    fn of(schema: &Schema) -> Self {
        let mut fields = BTreeMap::new();
        for (name, below) in &schema.properties {
            // Of the metadata of a resource, rules see only the names.
            let found = match name.as_str() {
                "metadata" if schema.embedded_resource => Some(Self::of_metadata()),
                _ => Type::of(below),
            };
            if let (Some(escaped), Some(found)) = (escape(name), found) {
                fields.insert(escaped, (name.clone(), found));
            }
        }
        Self(fields)
    }

    fn of_metadata() -> Type {
        let field = |name: &str| (name.to_owned(), (name.to_owned(), Type::String));
        Type::Object(Arc::new(Self(BTreeMap::from(["name", "generateName"].map(field)))))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Type> {
        self.0.get(name).map(|(_, field)| field)
    }
}

/// Returns the name of a field in CEL, or `None` if it can't be written there.
fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    if !name.chars().all(|char| char.is_ascii_alphanumeric() || "_-./".contains(char)) {
        return None;
    }
    let name = name.replace("__", "__underscores__");
    Some(name.replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__"))
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::List(items, _) => write!(f, "list({items})"),
            Self::Map(keys, values) => write!(f, "map({keys}, {values})"),
            Self::Object(_) => f.write_str("object"),
            Self::Optional(some) => write!(f, "optional_type({some})"),
            Self::Kind => f.write_str("type"),
            Self::Library(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fields_are_escaped_as_by_the_real_server() {
        for (name, escaped) in [
            ("plain", Some("plain")),
            ("my_field", Some("my_field")),
            ("my__field", Some("my__underscores__field")),
            ("namespace", Some("__namespace__")),
            ("a-b", Some("a__dash__b")),
            ("a.b/c", Some("a__dot__b__slash__c")),
            ("1a", None),
            ("a b", None),
            ("", None),
        ] {
            assert_eq!(escape(name).as_deref(), escaped, "{name}");
        }
    }
}
