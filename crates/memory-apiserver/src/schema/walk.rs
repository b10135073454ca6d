//! Goes through a value along its form.

use serde_json::{Map, Value};

use super::Schema;
use super::path::Path;

/// Calls `visit` for each object in a value that has a form, outer ones first.
pub(super) fn objects(
    value: &Value,
    schema: &Schema,
    path: &Path<'_>,
    visit: &mut impl FnMut(&Map<String, Value>, &Schema, &Path<'_>),
) {
    match value {
        Value::Object(fields) => {
            visit(fields, schema, path);
            for (name, value) in fields.iter().filter(|(_, value)| value.is_object() || value.is_array()) {
                match (schema.properties.get(name), &schema.values) {
                    (Some(property), _) => objects(value, property, &path.field(name), visit),
                    (None, Some(values)) => objects(value, values, &path.key(name), visit),
                    (None, None) => {}
                }
            }
        }
        Value::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                if let Some(items) = &schema.items {
                    objects(item, items, &path.index(index), visit);
                }
            }
        }
        _ => {}
    }
}
