//! [`merge()`]: merges an applied configuration into an object. Fields that the configuration leaves out stay.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::path::PathElement;
use super::shape::{Kind, Shape};

/// The object with the configuration merged into it. Both must be valid, the configuration also without duplicates.
pub(super) fn merge(shape: Shape<'_>, object: &Value, applied: &Value) -> Value {
    let kind = shape.kind_of(applied);
    if !shape.is_atomic(kind) {
        if kind == Kind::Map {
            let (fields, over) = (object.as_object(), applied.as_object());
            if !(fields.is_none_or(Map::is_empty) && over.is_none_or(Map::is_empty)) {
                return Value::Object(merge_fields(shape, fields, over));
            }
        } else {
            let [items, over] =
                [object, applied].map(|list| list.as_array().map(Vec::as_slice).unwrap_or_default());
            if !(items.is_empty() && over.is_empty()) {
                return Value::Array(merge_items(shape, items, over));
            }
        }
    }
    applied.clone()
}

fn merge_fields(
    shape: Shape<'_>,
    fields: Option<&Map<String, Value>>,
    over: Option<&Map<String, Value>>,
) -> Map<String, Value> {
    let mut merged = fields.cloned().unwrap_or_default();
    for (name, applied) in over.into_iter().flatten() {
        match merged.get_mut(name) {
            Some(value) => *value = merge(shape.field_or_free(name), value, applied),
            None => {
                merged.insert(name.clone(), applied.clone());
            }
        }
    }
    merged
}

/// Merges lists by key. The applied items keep their order, and the other items their places between them.
fn merge_items(shape: Shape<'_>, items: &[Value], over: &[Value]) -> Vec<Value> {
    let (keys, over_keys) = (keys_of(shape, items), keys_of(shape, over));
    let (index, applied) = (Index::new(&keys), Index::new(&over_keys));

    // The items of both lists, in the order of the configuration.
    let mut shared: VecDeque<_> = over_keys.iter().filter(|key| index.count(key) > 0).collect();
    let mut merged = Vec::with_capacity(items.len() + over.len());
    let mut pending = over.iter().zip(&over_keys);
    let mut take = |shared: &mut VecDeque<&PathElement<'_>>, merged: &mut Vec<Value>| {
        let (item, key) = pending.next()?;
        shared.pop_front_if(|next| *next == key);
        merged.push(match index.only(key) {
            Some(at) => merge(shape.items(), &items[at], item),
            // The item is new, or there are several with its key, of which none is merged.
            None => item.clone(),
        });
        Some(key)
    };
    for (item, key) in items.iter().zip(&keys) {
        if applied.count(key) == 0 {
            merged.push(item.clone());
        } else if shared.front() == Some(&key) {
            while take(&mut shared, &mut merged).is_some_and(|taken| taken != key) {}
        } else if shared.is_empty() {
            // A duplicate of an item that is merged already is dropped.
            take(&mut shared, &mut merged);
        }
    }
    while take(&mut shared, &mut merged).is_some() {}
    merged
}

/// The key of each item. It is the position if an item has no key, which no valid list has.
fn keys_of<'a>(shape: Shape<'a>, items: &'a [Value]) -> Vec<PathElement<'a>> {
    let key = |(at, item)| shape.item_element(item).unwrap_or(PathElement::Index(at));
    (0..).zip(items).map(key).collect()
}

/// Finds items by their keys.
struct Index<'a>(Vec<(&'a PathElement<'a>, usize)>);

impl<'a> Index<'a> {
    fn new(keys: &'a [PathElement<'a>]) -> Self {
        let mut sorted: Vec<_> = keys.iter().zip(0..).collect();
        sorted.sort();
        Self(sorted)
    }

    fn with(&self, key: &PathElement<'_>) -> &[(&'a PathElement<'a>, usize)] {
        let start = self.0.partition_point(|(other, _)| *other < key);
        let end = self.0.partition_point(|(other, _)| *other <= key);
        &self.0[start..end]
    }

    fn count(&self, key: &PathElement<'_>) -> usize {
        self.with(key).len()
    }

    fn only(&self, key: &PathElement<'_>) -> Option<usize> {
        if let [(_, at)] = self.with(key) { Some(*at) } else { None }
    }
}
