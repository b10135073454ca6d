//! Values of a type that has no place in an object, as Go finds them when it decodes the object: such a request
//! is refused with 400 and one error, before anything is validated.
//!
//! For built-in kinds that is the whole object, for custom ones its metadata and that of resources inside.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Number, Value};

use super::super::go_format;
use super::path::Path;
use super::{Schema, go_time};

/// What Go says when it can't decode the first value that is not as `schema` wants it.
pub(crate) fn type_error(object: &Value, schema: &Schema) -> Option<String> {
    Field { owner: "", path: &Path::OBJECT }.check(object, schema)
}

/// The same for an object of a custom kind, whose other fields Go takes as they are.
pub(crate) fn metadata_type_error(object: &Value, schema: &Schema) -> Option<String> {
    in_resource(object, schema, &Path::OBJECT)
}

fn in_resource(value: &Value, schema: &Schema, path: &Path<'_>) -> Option<String> {
    match value {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let (at, field) = (path.field(name), schema.field(name)?);
            let is_root = matches!(path, Path::Root(_));
            match name.as_str() {
                "metadata" if schema.embedded_resource => {
                    let why = type_error(value, field)?;
                    let shown = go_format::value(value);
                    Some(if is_root { why } else { format!("{at}: Invalid value: {shown}: {why}") })
                }
                "apiVersion" | "kind" if schema.embedded_resource && !value.is_string() => {
                    Some(format!("{at}: Invalid value: {}: must be a string", go_format::value(value)))
                }
                _ => in_resource(value, field, &at),
            }
        }),
        Value::Array(list) => {
            let items = schema.items.as_ref()?;
            list.iter().enumerate().find_map(|(index, item)| in_resource(item, items, &path.index(index)))
        }
        _ => None,
    }
}

/// A field of a struct in Go.
#[derive(Clone, Copy)]
struct Field<'a> {
    /// The name of the struct.
    owner: &'a str,
    /// The names of fields that lead to it; items and keys of maps have none.
    path: &'a Path<'a>,
}

impl Field<'_> {
    fn check(self, value: &Value, schema: &Schema) -> Option<String> {
        match value {
            Value::Null => None,
            _ if schema.int_or_string => self.check_int_or_string(value, schema),
            Value::Object(fields) if matches!(schema.kind.as_str(), "object" | "") => {
                let is_struct = !schema.properties.is_empty();
                fields.iter().find_map(|(name, value)| {
                    let at = self.path.field(name);
                    let owner = schema.type_name.rsplit('.').next().unwrap_or_default();
                    let field = if is_struct { Field { owner, path: &at } } else { self };
                    field.check(value, schema.field(name)?)
                })
            }
            Value::Array(list) if schema.kind == "array" => {
                list.iter().find_map(|item| self.check(item, schema.items.as_ref()?))
            }
            Value::String(text) if schema.kind == "string" => check_text(text, schema),
            Value::Number(number) if matches!(schema.kind.as_str(), "integer" | "number") => {
                let is_one = schema.kind == "number" || is_integer(number, &schema.format);
                (!is_one).then(|| self.mismatch(&format!("number {number}"), &go_type(schema)))
            }
            Value::Bool(_) if schema.kind == "boolean" => None,
            _ if schema.kind.is_empty() => None,
            _ => Some(self.mismatch(go_format::json_type(value), &go_type(schema))),
        }
    }

    fn check_int_or_string(self, value: &Value, schema: &Schema) -> Option<String> {
        if schema.type_name == "resource.Quantity" {
            let is_quantity = match value {
                Value::String(text) => is_quantity(text),
                other => other.is_number(),
            };
            let why = "quantities must match the regular expression \
                       '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
            return (!is_quantity).then(|| why.to_owned());
        }
        match value {
            Value::String(_) => None,
            Value::Number(number) if is_integer(number, "int32") => None,
            Value::Number(number) => Some(self.mismatch(&format!("number {number}"), "int32")),
            other => Some(self.mismatch(go_format::json_type(other), "int32")),
        }
    }

    fn mismatch(self, what: &str, of_type: &str) -> String {
        if self.owner.is_empty() {
            return format!("json: cannot unmarshal {what} into Go value of type {of_type}");
        }
        let Self { owner, path } = self;
        format!("json: cannot unmarshal {what} into Go struct field {owner}.{path} of type {of_type}")
    }
}

fn check_text(text: &str, schema: &Schema) -> Option<String> {
    match schema.format.as_str() {
        "date-time" => go_time::error(text, schema.type_name == "v1.MicroTime"),
        "byte" => {
            let text: String = text.chars().filter(|char| !matches!(char, '\r' | '\n')).collect();
            let error = BASE64_STANDARD.decode(&text).err()?;
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                // The group of four that is not complete.
                _ => text.len() / 4 * 4,
            };
            Some(format!("illegal base64 data at input byte {at}"))
        }
        _ => None,
    }
}

/// The type that a form has in Go.
fn go_type(schema: &Schema) -> String {
    match (schema.kind.as_str(), schema.format.as_str()) {
        ("string", "byte") => "[]uint8".to_owned(),
        ("integer", "int32") => "int32".to_owned(),
        ("integer", _) => "int64".to_owned(),
        ("number", _) => "float64".to_owned(),
        ("boolean", _) => "bool".to_owned(),
        ("array", _) => {
            format!("[]{}", schema.items.as_ref().map_or_else(String::new, |items| go_type(items)))
        }
        ("object", _) => match &schema.values {
            Some(values) => format!("map[string]{}", go_type(values)),
            None => schema.type_name.clone(),
        },
        _ if schema.int_or_string => schema.type_name.clone(),
        _ => "string".to_owned(),
    }
}

fn is_integer(number: &Number, format: &str) -> bool {
    number.as_i64().is_some_and(|number| format != "int32" || i32::try_from(number).is_ok())
}

/// A decimal number with a suffix.
fn is_quantity(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let suffix = unsigned.trim_start_matches(|char: char| char.is_ascii_digit() || char == '.');
    let number = &unsigned[..unsigned.len() - suffix.len()];
    let is_number = number.matches('.').count() <= 1 && number.bytes().any(|byte| byte.is_ascii_digit());
    let is_exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|exponent| exponent.parse::<i32>().is_ok());
    let suffixes = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    is_number && (is_exponent || suffixes.contains(&suffix))
}
