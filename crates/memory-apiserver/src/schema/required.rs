//! Fields of built-in kinds that must be there.

use serde_json::{Map, Value};

use super::super::error::FieldError;
use super::path::Path;
use super::{Schema, walk};

/// Fields whose documentation calls them required, though what is absent is taken to be empty.
const MAY_BE_ABSENT: [(&str, &str); 4] = [
    ("v1.Event", "metadata"),
    ("v1.Event", "involvedObject"),
    ("v1.HTTPHeader", "value"),
    ("v1.Sysctl", "value"),
];

/// An error for each required field of an object of a built-in kind that is not there.
///
/// Metadata is for others to check. Nothing of `status` is required, nor is what can be true or false. A `spec`
/// that is absent is an empty one.
pub(crate) fn missing_fields(object: &Value, schema: &Schema) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (empty, root) = (Value::Object(Map::new()), &Path::OBJECT);
    for (name, field) in
        schema.properties.iter().filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"))
    {
        let value = object.get(name).filter(|value| !value.is_null());
        match value.or((name == "spec").then_some(&empty)) {
            Some(value) => check(value, field, &root.field(name), &mut errors),
            None if is_required(name, schema) => errors.push(FieldError::required(name, "")),
            None => {}
        }
    }
    errors
}

fn is_required(name: &String, schema: &Schema) -> bool {
    schema.required.contains(name)
        && !MAY_BE_ABSENT.contains(&(schema.type_name.as_str(), name))
        && schema.field(name).is_none_or(|field| field.kind != "boolean")
}

fn check(value: &Value, schema: &Schema, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    walk::objects(value, schema, path, &mut |fields, schema, path| {
        for name in schema.required.iter().filter(|name| is_required(name, schema)) {
            if fields.get(name).is_none_or(Value::is_null) {
                errors.push(FieldError::required(path.field(name).to_string(), ""));
            }
        }
    });
}
