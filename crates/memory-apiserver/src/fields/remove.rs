//! Removes fields from an object.

use serde_json::Value;

use super::path::PathElement;
use super::set::FieldSet;
use super::shape::{Kind, Shape};

/// The object without these fields and items. A value that becomes empty is set to `null`, as is an atomic value in
/// which the set has a path.
pub(super) fn without(shape: Shape<'_>, object: &Value, fields: &FieldSet<'_>) -> Value {
    let kind = shape.kind_of(object);
    match object {
        _ if kind == Kind::Scalar => object.clone(),
        _ if shape.is_atomic(kind) => Value::Null,
        Value::Object(map) if kind == Kind::Map => {
            let left = map.iter().filter_map(|(name, value)| {
                let element = PathElement::Field(name.into());
                Some((name.clone(), kept(shape.field_or_free(name), value, &element, fields)?))
            });
            or_null(left.collect::<serde_json::Map<_, _>>(), serde_json::Map::is_empty)
        }
        Value::Array(items) if kind == Kind::List => {
            let left = items.iter().filter_map(|item| match shape.item_element(item) {
                Ok(element) => kept(shape.items(), item, &element, fields),
                Err(_) => Some(item.clone()),
            });
            or_null(left.collect::<Vec<_>>(), Vec::is_empty)
        }
        _ => Value::Null,
    }
}

fn or_null<T: Into<Value>>(left: T, is_empty: impl Fn(&T) -> bool) -> Value {
    if is_empty(&left) { Value::Null } else { left.into() }
}

fn kept(shape: Shape<'_>, value: &Value, element: &PathElement<'_>, fields: &FieldSet<'_>) -> Option<Value> {
    match fields.get(element) {
        Some(node) if node.member => None,
        Some(node) => Some(without(shape, value, &node.below)),
        None => Some(value.clone()),
    }
}
