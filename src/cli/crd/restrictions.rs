//! [`narrows`]: which change of a keyword lets a schema reject values that it accepted before.
//!
//! A value that is rejected cannot be written back, so every update of its object fails. That is as bad as a lost field.

use serde_json::Value;

/// How a keyword restricts the values of a schema.
enum Limit {
    /// A list of all values that are accepted. Without it, every value is accepted.
    Choices,
    /// A list of demands. Each element that is new is one more demand. An element that is an object is the demand in this
    /// field of it.
    Demands(&'static str),
    /// An upper bound.
    AtMost,
    /// A lower bound, and the bound without the keyword.
    AtLeast(f64),
    /// `true` rejects values.
    Rejects,
    /// `true` accepts values.
    Accepts,
    /// Any value rejects something, and two values cannot be compared, except these pairs: an old value, and a new one that
    /// accepts as much.
    Fixed(&'static [(Option<&'static str>, &'static str)]),
    /// With the keyword and without it, other fields are kept.
    Constant,
}

/// The keywords that restrict values. Every other keyword changes no decision on what is accepted.
const LIMITS: [(&str, Limit); 25] = [
    ("allOf", Limit::Fixed(&[])),
    ("anyOf", Limit::Fixed(&[])),
    ("enum", Limit::Choices),
    ("exclusiveMaximum", Limit::Rejects),
    ("exclusiveMinimum", Limit::Rejects),
    ("format", Limit::Fixed(&[(Some("int32"), "int64"), (Some("float"), "double")])),
    ("maxItems", Limit::AtMost),
    ("maxLength", Limit::AtMost),
    ("maxProperties", Limit::AtMost),
    ("maximum", Limit::AtMost),
    ("minItems", Limit::AtLeast(0.0)),
    ("minLength", Limit::AtLeast(0.0)),
    ("minProperties", Limit::AtLeast(0.0)),
    ("minimum", Limit::AtLeast(f64::NEG_INFINITY)),
    ("multipleOf", Limit::Fixed(&[])),
    ("not", Limit::Fixed(&[])),
    ("nullable", Limit::Accepts),
    ("oneOf", Limit::Fixed(&[])),
    ("pattern", Limit::Fixed(&[])),
    ("required", Limit::Demands("")),
    ("uniqueItems", Limit::Rejects),
    ("x-kubernetes-embedded-resource", Limit::Constant),
    ("x-kubernetes-list-map-keys", Limit::Fixed(&[])),
    (
        "x-kubernetes-list-type",
        Limit::Fixed(&[(None, "atomic"), (Some("set"), "atomic"), (Some("map"), "atomic")]),
    ),
    ("x-kubernetes-validations", Limit::Demands("rule")),
];

/// Returns true if a schema with the new value of a keyword rejects what it accepts with the old value. An absent
/// keyword is null. If it cannot be decided, the answer is true.
pub(super) fn narrows(keyword: &str, old: &Value, new: &Value) -> bool {
    let Some((_, limit)) = LIMITS.iter().find(|(known, _)| *known == keyword) else { return false };
    match limit {
        Limit::Choices => {
            !new.is_null() && (old.is_null() || items(old).iter().any(|value| !items(new).contains(value)))
        }
        Limit::Demands(field) => {
            let known: Vec<_> = items(old).iter().map(|demand| of_demand(demand, field)).collect();
            items(new).iter().any(|demand| !known.contains(&of_demand(demand, field)))
        }
        Limit::AtMost => bound(new, f64::INFINITY) < bound(old, f64::INFINITY),
        Limit::AtLeast(without) => bound(new, *without) > bound(old, *without),
        Limit::Rejects => *new == true && *old != true,
        Limit::Accepts => *old == true && *new != true,
        Limit::Fixed(wider) => {
            !new.is_null()
                && new != old
                && !wider.iter().any(|(one, other)| {
                    old.as_str() == *one && (one.is_some() || old.is_null()) && new == other
                })
        }
        Limit::Constant => (*old == true) != (*new == true),
    }
}

/// Returns the value of a keyword for people: of rules only the expressions, as their messages are long.
pub(super) fn shown(value: &Value) -> String {
    let rules: Option<Vec<_>> = items(value).iter().map(|rule| rule.get("rule")).collect();
    match rules {
        _ if value.is_null() => "none".to_owned(),
        Some(rules) if !rules.is_empty() => rules.into_iter().cloned().collect::<Value>().to_string(),
        _ => value.to_string(),
    }
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn of_demand<'a>(demand: &'a Value, field: &str) -> &'a Value {
    demand.get(field).unwrap_or(demand)
}

fn bound(value: &Value, without: f64) -> f64 {
    value.as_f64().unwrap_or(without)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// For each keyword: a value that accepts more, and one that accepts less. Null: without the keyword.
    fn pairs() -> Vec<(&'static str, Value, Value)> {
        let rules = |expressions: &[&str]| -> Value {
            expressions.iter().map(|rule| json!({"rule": rule, "message": "m"})).collect()
        };
        vec![
            ("allOf", json!(null), json!([{"minimum": 1}])),
            ("anyOf", json!(null), json!([{"minimum": 1}])),
            ("enum", json!(["a", "b"]), json!(["b"])),
            ("enum", json!(null), json!(["b"])),
            ("exclusiveMaximum", json!(null), json!(true)),
            ("exclusiveMinimum", json!(false), json!(true)),
            ("format", json!("int64"), json!("int32")),
            ("format", json!("double"), json!("float")),
            ("format", json!(null), json!("date-time")),
            ("maxItems", json!(10), json!(9)),
            ("maxItems", json!(null), json!(9)),
            ("maxLength", json!(253), json!(63)),
            ("maxLength", json!(null), json!(63)),
            ("maxProperties", json!(2), json!(1)),
            ("maximum", json!(1.5), json!(1)),
            ("maximum", json!(null), json!(100)),
            ("minItems", json!(null), json!(1)),
            ("minLength", json!(1), json!(2)),
            ("minProperties", json!(0), json!(1)),
            ("minimum", json!(0), json!(1)),
            ("minimum", json!(null), json!(-5)),
            ("multipleOf", json!(null), json!(2)),
            ("not", json!(null), json!({"minimum": 1})),
            ("nullable", json!(true), json!(null)),
            ("nullable", json!(true), json!(false)),
            ("oneOf", json!(null), json!([{"minimum": 1}])),
            ("pattern", json!(null), json!("^a")),
            ("required", json!(["a"]), json!(["b", "a"])),
            ("required", json!(null), json!(["a"])),
            ("uniqueItems", json!(null), json!(true)),
            ("x-kubernetes-list-map-keys", json!(null), json!(["name"])),
            ("x-kubernetes-list-type", json!("atomic"), json!("set")),
            ("x-kubernetes-list-type", json!(null), json!("map")),
            ("x-kubernetes-validations", json!(null), rules(&["self > 1"])),
            ("x-kubernetes-validations", rules(&["self > 1"]), rules(&["self > 1", "self < 9"])),
        ]
    }

    #[test]
    fn z1_each_keyword_narrows_in_one_direction_and_not_in_the_other() {
        for (keyword, wide, narrow) in pairs() {
            assert!(narrows(keyword, &wide, &narrow), "{keyword} {wide} -> {narrow}");
            assert!(!narrows(keyword, &narrow, &wide), "{keyword} {narrow} -> {wide}");
            assert!(!narrows(keyword, &wide, &wide) && !narrows(keyword, &narrow, &narrow), "{keyword}");
        }
    }

    #[test]
    fn z1_every_keyword_of_the_table_has_a_pair() {
        for (keyword, limit) in &LIMITS {
            let has_pair = pairs().iter().any(|(tested, ..)| tested == keyword);
            assert!(has_pair || matches!(limit, Limit::Constant), "{keyword}");
        }
    }

    #[test]
    fn z1_values_that_cannot_be_compared_narrow_in_both_directions() {
        for (keyword, one, other) in [
            ("pattern", json!("^a"), json!("^b")),
            ("format", json!("date"), json!("date-time")),
            ("enum", json!(["a", "b"]), json!(["b", "c"])),
            ("anyOf", json!([{"minimum": 1}]), json!([{"minimum": 2}])),
            ("x-kubernetes-list-type", json!("set"), json!("map")),
            ("x-kubernetes-embedded-resource", json!(null), json!(true)),
        ] {
            assert!(narrows(keyword, &one, &other) && narrows(keyword, &other, &one), "{keyword}");
        }
    }

    #[test]
    fn z1_what_accepts_as_much_as_before_narrows_nothing() {
        let rule = |message: &str| json!([{"rule": "self > 1", "message": message}]);
        for (keyword, old, new) in [
            ("minLength", json!(null), json!(0)),
            ("nullable", json!(null), json!(false)),
            ("uniqueItems", json!(null), json!(false)),
            ("enum", json!(["a", "b"]), json!(["b", "a"])),
            ("maximum", json!(1), json!(1.0)),
            ("x-kubernetes-list-type", json!(null), json!("atomic")),
            ("x-kubernetes-validations", rule("a"), rule("b")),
            ("x-kubernetes-map-type", json!("granular"), json!("atomic")),
            ("default", json!(1), json!(2)),
        ] {
            assert!(!narrows(keyword, &old, &new), "{keyword} {old} -> {new}");
            assert!(!narrows(keyword, &new, &old), "{keyword} {new} -> {old}");
        }
    }

    #[test]
    fn z1_values_are_shown_as_they_are_and_rules_by_their_expressions() {
        for (value, text) in [
            (json!(null), "none"),
            (json!(["a", "b"]), r#"["a","b"]"#),
            (json!([]), "[]"),
            (json!([{"rule": "self > 1", "message": "m"}]), r#"["self > 1"]"#),
        ] {
            assert_eq!(shown(&value), text);
        }
    }
}
