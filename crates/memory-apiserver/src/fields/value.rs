//! Equality and order of JSON values for owners of fields. Numbers are compared by value.

use std::cmp::Ordering;

use serde_json::{Number, Value};

/// As `==`, but 1 and 1.0 are equal.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => order_numbers(left, right).is_eq(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, value)| right.get(name).is_some_and(|other| same(value, other)))
        }
        _ => left == right,
    }
}

/// A total order in which [`same`] values are equal: numbers, texts, booleans, lists, objects, null.
pub(super) fn order(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => order_numbers(left, right),
        (Value::String(left), Value::String(right)) => left.cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Array(left), Value::Array(right)) => order_all(left.iter(), right.iter(), order),
        (Value::Object(left), Value::Object(right)) => order_all(left.iter(), right.iter(), |left, right| {
            left.0.cmp(right.0).then_with(|| order(left.1, right.1))
        }),
        _ => rank(left).cmp(&rank(right)),
    }
}

/// Compares item by item. A list that ends first comes first.
pub(super) fn order_all<T>(
    left: impl ExactSizeIterator<Item = T>,
    right: impl ExactSizeIterator<Item = T>,
    order: impl Fn(T, T) -> Ordering,
) -> Ordering {
    let lengths = left.len().cmp(&right.len());
    left.zip(right).map(|(left, right)| order(left, right)).find(|order| order.is_ne()).unwrap_or(lengths)
}

fn order_numbers(left: &Number, right: &Number) -> Ordering {
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
        return left.cmp(&right);
    }
    let float = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
    float(left).total_cmp(&float(right))
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_compared_by_what_they_are_worth() {
        assert!(same(&json!({"a": [1]}), &json!({"a": [1.0]})));
        assert!(!same(&json!(1), &json!("1")));
        assert_eq!(order(&json!(2), &json!(10)), Ordering::Less);
        assert_eq!(order(&json!(1.5), &json!(1)), Ordering::Greater);
    }

    #[test]
    fn kinds_of_values_have_an_order() {
        let sorted = [
            json!(7),
            json!("a"),
            json!("b"),
            json!(false),
            json!([1]),
            json!([1, 2]),
            json!({}),
            json!(null),
        ];
        for pair in sorted.windows(2) {
            assert_eq!(order(&pair[0], &pair[1]), Ordering::Less, "{pair:?}");
        }
    }
}
