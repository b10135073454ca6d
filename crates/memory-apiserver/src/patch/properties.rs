//! Properties that hold for any document and any patch.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::strategic_tests::schema;
use super::{Change, MAX_DEPTH, applied, is_deeper_than};
use crate::error::ApiError;
use crate::schema::Schema;

/// Any JSON, with some names and texts that have a meaning in patches.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..3).prop_map(Value::from),
        (-2.0_f64..2.0).prop_map(Value::from),
        name().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(name(), inner, 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Fields of the schema, directives, and fields of operations.
const NAMES: &str = "kind labels finalizers owners plain plainOwners sub uid name tags a b items $patch delete \
    replace merge $retainKeys $deleteFromPrimitiveList $deleteFromPrimitiveList/finalizers \
    $deleteFromPrimitiveList/plain $setElementOrder/ $setElementOrder/finalizers $setElementOrder/owners \
    $setElementOrder/plain op path from value";

fn name() -> impl Strategy<Value = String> {
    let names: Vec<_> = NAMES.split_whitespace().map(str::to_owned).collect();
    prop_oneof![9 => prop::sample::select(names), 1 => any::<String>()]
}

fn any_object() -> impl Strategy<Value = Value> {
    any_json().prop_map(|json| if json.is_object() { json } else { json!({"kind": json}) })
}

/// A path that often exists.
fn path() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        3 => prop::sample::select(&["kind", "owners", "finalizers", "sub", "items", "a", "b"][..])
            .prop_map(str::to_owned),
        3 => (-3_i64..4).prop_map(|index| index.to_string()),
        1 => Just("-".to_owned()),
        1 => any::<String>(),
    ];
    prop::collection::vec(key, 0..4).prop_map(|keys| keys.iter().flat_map(|key| ["/", key]).collect())
}

fn operations() -> impl Strategy<Value = Value> {
    let op = prop::sample::select(&["add", "remove", "replace", "move", "copy", "test"][..]);
    let operation = (op, path(), path(), any_json())
        .prop_map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}));
    prop::collection::vec(operation, 0..6).prop_map(Value::from)
}

fn merge(live: &Value, patch: &Value) -> Value {
    let mut live = live.clone();
    live["kind"] = json!("Thing");
    let mut patch = patch.clone();
    patch.as_object_mut().unwrap().remove("kind");
    Change::Merge.carry_out(&Schema::default(), &live, patch.to_string().as_bytes()).unwrap()
}

/// The merge patch that changes one object into another, which has no nulls.
fn difference(from: &Map<String, Value>, to: &Map<String, Value>) -> Value {
    let mut patch = Map::new();
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, wanted) in to {
        let change = match (from.get(name), wanted) {
            (Some(Value::Object(from)), Value::Object(to)) => difference(from, to),
            _ => wanted.clone(),
        };
        patch.insert(name.clone(), change);
    }
    Value::Object(patch)
}

/// Any object that fits the schema of the tests.
fn fitting() -> impl Strategy<Value = Value> {
    let owners = || keyed(owner(true));
    let labels = prop::collection::btree_map("[abc]", "[xyz]", 0..3).prop_map(|labels| json!(labels));
    let plain = prop::collection::vec("[abc]", 0..4).prop_map(|list| json!(list));
    fields(vec![
        ("labels", labels.boxed()),
        ("finalizers", set()),
        ("owners", owners()),
        ("plain", plain.boxed()),
        ("plainOwners", owners()),
        ("sub", sub()),
    ])
}

fn fields(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let each: Vec<_> =
        fields.into_iter().map(|(name, value)| (Just(name.to_owned()), prop::option::of(value))).collect();
    let present = |fields: Vec<_>| fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
    each.prop_map(move |fields| Value::Object(present(fields).collect())).boxed()
}

fn text() -> BoxedStrategy<Value> {
    "[a-c]".prop_map(Value::from).boxed()
}

fn set() -> BoxedStrategy<Value> {
    prop::sample::subsequence(&["a", "b", "c", "d", "e"][..], 0..5)
        .prop_shuffle()
        .prop_map(|set| json!(set))
        .boxed()
}

fn owner(with_sub: bool) -> BoxedStrategy<Value> {
    let mut each = vec![("name", text()), ("tags", set())];
    if with_sub {
        each.push(("sub", sub()));
    }
    fields(each)
}

fn sub() -> BoxedStrategy<Value> {
    fields(vec![("a", text()), ("b", text()), ("items", keyed(owner(false)))])
}

/// Items that have a `uid` each.
fn keyed(items: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    let with_uid = |(uid, mut item): (String, Value)| {
        item["uid"] = json!(uid);
        item
    };
    let items = prop::collection::btree_map("[1-6]", items, 0..5);
    let list = items.prop_map(move |items| items.into_iter().map(with_uid).collect::<Vec<_>>());
    list.prop_shuffle().prop_map(Value::from).boxed()
}

/// The strategic merge patch that changes one object into another. Both fit the schema.
fn strategic_difference(schema: &Schema, from: &Value, to: &Value) -> Value {
    let (from, to) = (from.as_object().unwrap(), to.as_object().unwrap());
    let mut patch = Map::new();
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, wanted) in to {
        let field = schema.field(name).unwrap();
        match (from.get(name), wanted) {
            (Some(found @ Value::Object(_)), Value::Object(_)) => {
                patch.insert(name.clone(), strategic_difference(field, found, wanted));
            }
            (Some(Value::Array(found)), Value::Array(wanted))
                if field.merge_set || field.merge_key.is_some() =>
            {
                list_difference(&mut patch, name, field, (found, wanted));
            }
            _ => {
                patch.insert(name.clone(), wanted.clone());
            }
        }
    }
    Value::Object(patch)
}

fn list_difference(
    patch: &mut Map<String, Value>,
    name: &str,
    schema: &Schema,
    (from, to): (&[Value], &[Value]),
) {
    let (changes, order): (Vec<_>, Vec<_>) = match &schema.merge_key {
        None => {
            let removed: Vec<_> = from.iter().filter(|item| !to.contains(item)).cloned().collect();
            patch.insert(format!("$deleteFromPrimitiveList/{name}"), removed.into());
            (to.iter().filter(|item| !from.contains(item)).cloned().collect(), to.to_vec())
        }
        Some(key) => {
            let find = |list: &[Value], item: &Value| list.iter().find(|it| it[key] == item[key]).cloned();
            let mut changes: Vec<_> = to
                .iter()
                .map(|wanted| match find(from, wanted) {
                    None => wanted.clone(),
                    Some(found) => {
                        let mut change = strategic_difference(schema.items.as_ref().unwrap(), &found, wanted);
                        change[key] = wanted[key].clone();
                        change
                    }
                })
                .collect();
            let removed = from.iter().filter(|item| find(to, item).is_none());
            changes.extend(removed.map(|item| json!({key: item[key], "$patch": "delete"})));
            (changes, to.iter().map(|item| json!({key: item[key]})).collect())
        }
    };
    patch.insert(name.to_owned(), changes.into());
    if !order.is_empty() {
        patch.insert(format!("$setElementOrder/{name}"), order.into());
    }
}

fn strategically(live: &Value, patch: &Value) -> Result<Value, ApiError> {
    Change::Strategic.carry_out(&schema(), live, patch.to_string().as_bytes())
}

proptest! {
    #[test]
    fn any_patch_of_any_object_is_carried_out_or_refused(live in any_object(), patch in any_json()) {
        for change in [Change::Json, Change::Merge, Change::Strategic] {
            for body in [patch.to_string(), json!([patch]).to_string()] {
                if let Ok(patched) = change.carry_out(&schema(), &live, body.as_bytes()) {
                    prop_assert!(patched.is_object() && !is_deeper_than(&patched, MAX_DEPTH));
                }
            }
        }
    }

    #[test]
    fn any_operations_are_carried_out_or_refused(live in any_object(), operations in operations()) {
        match Change::Json.carry_out(&Schema::default(), &live, operations.to_string().as_bytes()) {
            Ok(patched) => prop_assert!(patched.is_object()),
            Err(error) => prop_assert_eq!(error.code, 422),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), text in any::<String>()) {
        for body in [&bytes[..], text.as_bytes()] {
            for change in [Change::Json, Change::Merge, Change::Strategic] {
                if let Err(error) = change.carry_out(&schema(), &json!({"kind": "K"}), body) {
                    prop_assert!([400, 422].contains(&error.code));
                }
            }
            if let Err(error) = applied::read(body) {
                prop_assert_eq!(error.code, 400);
            }
        }
    }

    #[test]
    fn json_is_applied_as_it_is(object in any_object()) {
        prop_assert_eq!(applied::read(object.to_string().as_bytes()).unwrap(), object);
    }

    #[test]
    fn merging_twice_is_merging_once(live in any_object(), patch in any_object()) {
        let once = merge(&live, &patch);
        prop_assert_eq!(merge(&once, &patch), once);
    }

    #[test]
    fn merging_nothing_changes_nothing(live in any_object()) {
        let changed = merge(&live, &json!({}));
        prop_assert_eq!(merge(&changed, &json!({})), changed);
    }

    #[test]
    fn what_a_merge_patch_sets_is_there_and_what_it_removes_is_not(live in any_object(), patch in any_object()) {
        let merged = merge(&live, &patch);
        for (name, value) in patch.as_object().unwrap().iter().filter(|(name, _)| *name != "kind") {
            match value {
                Value::Null => prop_assert_eq!(merged.get(name), None),
                Value::Object(_) => prop_assert!(merged[name].is_object()),
                Value::Array(items) => prop_assert_eq!(merged[name].as_array().unwrap().len(), items.len()),
                scalar => prop_assert_eq!(&merged[name], scalar),
            }
        }
    }

    #[test]
    fn merging_the_difference_makes_the_one_object_the_other(from in fitting(), to in fitting()) {
        let patch = difference(from.as_object().unwrap(), to.as_object().unwrap());
        let mut expected = to;
        expected["kind"] = json!("Thing");
        prop_assert_eq!(merge(&from, &patch), expected);
    }

    #[test]
    fn merging_the_strategic_difference_makes_the_one_object_the_other(from in fitting(), to in fitting()) {
        let patch = strategic_difference(&schema(), &from, &to);
        prop_assert_eq!(strategically(&from, &patch).unwrap(), to);
    }

    #[test]
    fn a_strategic_merge_of_the_object_itself_changes_nothing(object in fitting()) {
        prop_assert_eq!(strategically(&object, &object).unwrap(), object);
    }
}
