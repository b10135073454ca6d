//! Fields that no schema knows: dropped, and named for warnings and for strict requests.

use std::mem;

use serde_json::{Map, Number, Value};

use super::Schema;
use super::path::Path;

/// Drops what is unknown, unless the schema preserves it, and says where that was, as in
/// `unknown field "spec.runtimes[0].nme"`: metadata first, then the rest in order of the paths, then the metadata
/// of resources inside.
///
/// What is left is brought into the form that it is always written in: metadata without empty fields, whole numbers
/// without a point, save in what is preserved unseen. Doing it twice changes nothing.
pub(crate) fn prune(object: &mut Value, schema: &Schema) -> Vec<String> {
    let mut dropped = Dropped::default();
    dropped.walk(object, schema, &Path::OBJECT, false);
    let Dropped { mut metadata, mut rest, mut embedded } = dropped;
    for paths in [&mut metadata, &mut rest, &mut embedded] {
        paths.sort_unstable();
    }
    metadata.append(&mut rest);
    metadata.append(&mut embedded);
    metadata
}

#[derive(Default)]
struct Dropped {
    metadata: Vec<String>,
    rest: Vec<String>,
    embedded: Vec<String>,
}

impl Dropped {
    /// `preserving`: this is a list whose unknown fields are kept, and so are those of its items.
    fn walk(&mut self, value: &mut Value, schema: &Schema, path: &Path<'_>, preserving: bool) {
        let preserving = preserving || schema.preserve_unknown_fields;
        match value {
            Value::Object(fields) => self.walk_fields(fields, schema, path, preserving),
            Value::Array(list) => match &schema.items {
                Some(items) => self.walk_items(list, items, path, preserving),
                None if !preserving => self.walk_items(list, &Schema::default(), path, false),
                None => {}
            },
            Value::Number(number) if number.is_f64() => {
                if let Some(whole) = whole(number) {
                    *value = whole.into();
                }
            }
            _ => {}
        }
    }

    fn walk_items(&mut self, list: &mut [Value], items: &Schema, path: &Path<'_>, preserving: bool) {
        for (index, item) in list.iter_mut().enumerate() {
            self.walk(item, items, &path.index(index), preserving);
        }
    }

    fn walk_fields(
        &mut self,
        fields: &mut Map<String, Value>,
        schema: &Schema,
        path: &Path<'_>,
        preserving: bool,
    ) {
        fields.retain(|name, value| {
            let at = path.field(name);
            match schema.field(name) {
                Some(field) if schema.embedded_resource && name == "metadata" => {
                    self.walk_metadata(value, field, path, &at);
                }
                Some(field) => self.walk(value, field, &at, false),
                None if preserving => {}
                None => {
                    self.rest.push(at.to_string());
                    return false;
                }
            }
            true
        });
    }

    fn walk_metadata(&mut self, value: &mut Value, schema: &Schema, owner: &Path<'_>, path: &Path<'_>) {
        if value.is_null() {
            *value = Value::Object(Map::new());
        }
        let before = mem::take(&mut self.rest);
        self.walk(value, schema, path, false);
        let dropped = mem::replace(&mut self.rest, before);
        let is_root = matches!(owner, Path::Root(_));
        if is_root { &mut self.metadata } else { &mut self.embedded }.extend(dropped);
        if let Value::Object(fields) = value {
            normalize(fields);
        }
    }
}

/// The whole number that a number is, if a float holds it exactly.
#[expect(clippy::cast_possible_truncation, reason = "it is whole and of a size that fits")]
fn whole(number: &Number) -> Option<i64> {
    const MOST: f64 = 9_007_199_254_740_992.0;
    number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= MOST).map(|float| float as i64)
}

/// The form of metadata in Go has no place for the difference between what is empty and what is absent.
fn normalize(metadata: &mut Map<String, Value>) {
    for name in ["labels", "annotations"] {
        let texts = metadata.get_mut(name).and_then(Value::as_object_mut).into_iter().flatten();
        for (_, text) in texts.filter(|(_, text)| text.is_null()) {
            *text = Value::from("");
        }
    }
    metadata.retain(|_, value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    });
}
