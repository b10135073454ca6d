//! What built-in kinds do not write: lists and maps that are empty.

use serde_json::{Map, Value};

use super::Schema;

/// Drops the empty lists and maps of an object of a built-in kind, as its type in Go does when it is written, unless
/// they are required. Objects with fields of their own stay, as their presence alone can mean something. Metadata is
/// for others.
pub(crate) fn omit_empty(object: &mut Value, schema: &Schema) {
    let fields = object.as_object_mut().into_iter().flatten();
    for (name, value) in fields.filter(|(name, _)| *name != "metadata") {
        if let Some(field) = schema.field(name) {
            omit_in(value, field);
        }
    }
    if let Some(fields) = object.as_object_mut() {
        retain(fields, schema);
    }
}

fn omit_in(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if let Some(field) = schema.field(name) {
                    omit_in(value, field);
                }
            }
            retain(fields, schema);
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for item in list {
                    omit_in(item, items);
                }
            }
        }
        _ => {}
    }
}

fn retain(fields: &mut Map<String, Value>, schema: &Schema) {
    fields.retain(|name, value| {
        let Some(field) = schema.properties.get(name) else { return true };
        let is_empty = match value {
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty() && field.properties.is_empty() && field.values.is_some(),
            _ => false,
        };
        !is_empty || name == "metadata" || schema.required.contains(name)
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Builtin;
    use super::*;

    #[test]
    fn empty_lists_and_maps_are_dropped_but_not_what_has_fields() {
        let pod = Builtin::find("", "v1", "Pod").unwrap().schema();
        let mut object = json!({
            "metadata": {"labels": {}},
            "spec": {
                "containers": [], "nodeSelector": {}, "securityContext": {},
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"items": []}}],
            },
        });
        omit_empty(&mut object, pod);
        let expected = json!({
            "metadata": {"labels": {}},
            "spec": {
                "containers": [], "securityContext": {},
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {}}],
            },
        });
        assert_eq!(object, expected);
    }
}
