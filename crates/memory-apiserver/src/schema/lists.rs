//! Lists that are sets or maps: no item twice.

use std::collections::HashMap;
use std::hash::Hash;

use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::super::error::{FieldError, Problem};
use super::path::Path;
use super::{ListType, Schema};

/// Adds an error for each item that is there a second time.
pub(super) fn check(value: &Value, schema: &Schema, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(_, value)| value.is_object() || value.is_array()) {
                // Of metadata, kube-apiserver has a notion of its own.
                if schema.embedded_resource && name == "metadata" {
                    continue;
                }
                match (schema.properties.get(name), &schema.values) {
                    (Some(property), _) => check(value, property, &path.field(name), errors),
                    (None, Some(values)) => check(value, values, &path.key(name), errors),
                    (None, None) => {}
                }
            }
        }
        Value::Array(list) => {
            match &schema.list_type {
                ListType::Atomic => {}
                ListType::Set => check_set(list, path, errors),
                ListType::Map(keys) => check_map(list, keys, path, errors),
            }
            for (index, item) in list.iter().enumerate() {
                if let Some(items) = &schema.items {
                    check(item, items, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

fn check_set(list: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for index in repeated(list.iter()) {
        let at = path.index(index).to_string();
        errors.push(FieldError::new(at, Problem::Duplicate(list[index].clone())));
    }
}

fn check_map(list: &[Value], keys: &[String], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let is_item = |item: &Value| item.is_object() || item.is_null();
    if let Some(index) = list.iter().position(|item| !is_item(item)) {
        let why = "must be an object for an array of list-type map";
        errors.push(FieldError::invalid(path.index(index).to_string(), list[index].clone(), why));
        return;
    }
    let key_of = |item| keys.iter().map(move |key| Value::get(item, key)).collect::<SmallVec<[_; 2]>>();
    for index in repeated(list.iter().map(key_of)) {
        let of_item: Map<_, _> =
            keys.iter().filter_map(|key| Some((key.clone(), list[index].get(key)?.clone()))).collect();
        let at = path.index(index).to_string();
        errors.push(FieldError::new(at, Problem::Duplicate(Value::Object(of_item))));
    }
}

/// The indexes of those that are there a second time; further ones are not told.
fn repeated<K: Hash + Eq>(keys: impl ExactSizeIterator<Item = K>) -> Vec<usize> {
    if keys.len() < 2 {
        return Vec::new();
    }
    let mut times = HashMap::with_capacity(keys.len());
    let mut repeated = Vec::new();
    for (index, key) in keys.enumerate() {
        let seen = times.entry(key).or_insert(0_usize);
        *seen += 1;
        if *seen == 2 {
            repeated.push(index);
        }
    }
    repeated
}
