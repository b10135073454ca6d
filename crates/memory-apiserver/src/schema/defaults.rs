//! Defaults, and what becomes of `null`.

use serde_json::{Map, Value};

use super::Schema;

/// Fills in what is absent and has a default, also in lists and maps and in defaults themselves.
///
/// A `null` where the schema knows of none counts as absent: it becomes the default, or the field goes. In a
/// list, where nothing can be absent, one without a default stays, for validation to refuse. Doing it twice
/// changes nothing.
pub(crate) fn apply(object: &mut Value, schema: &Schema) {
    match object {
        Value::Object(fields) => apply_to_fields(fields, schema),
        Value::Array(list) => {
            let Some(items) = &schema.items else { return };
            for item in list {
                if let (Value::Null, false, Some(default)) = (&*item, items.nullable, &items.default) {
                    *item = default.clone();
                }
                apply(item, items);
            }
        }
        _ => {}
    }
}

fn apply_to_fields(fields: &mut Map<String, Value>, schema: &Schema) {
    fields.retain(|name, value| {
        value.is_null().then(|| schema.field(name)).flatten().is_none_or(|field| {
            if let (false, Some(default)) = (field.nullable, &field.default) {
                *value = default.clone();
            }
            field.nullable || field.default.is_some()
        })
    });
    for (name, property) in &schema.properties {
        if let Some(default) = &property.default
            && !fields.contains_key(name)
        {
            fields.insert(name.clone(), default.clone());
        }
    }
    for (name, value) in fields.iter_mut().filter(|(_, value)| value.is_object() || value.is_array()) {
        if let Some(field) = schema.field(name) {
            apply(value, field);
        }
    }
}
