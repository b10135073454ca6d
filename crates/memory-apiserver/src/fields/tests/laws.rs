//! What holds for all sets, all objects and all writes.

use std::borrow::Cow;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::super::compare::compare;
use super::super::content::fields_of;
use super::super::managed::{Managed, list_of};
use super::super::path::PathElement;
use super::super::update::strip;
use super::super::{FieldSet, apply, keep_times_of_no_op, track_update};
use super::support::*;

fn path() -> impl Strategy<Value = Vec<PathElement<'static>>> {
    let element = prop_oneof![
        select(vec!["a", "b", "c"]).prop_map(|name| PathElement::Field(name.into())),
        (1..3).prop_map(|port| PathElement::Key(vec![("port".into(), Cow::Owned(json!(port)))])),
        select(vec!["x", "y<z"]).prop_map(|value| PathElement::Value(Cow::Owned(json!(value)))),
        (0..2_i64).prop_map(PathElement::Index),
    ];
    vec(element, 1..4)
}

fn set() -> impl Strategy<Value = FieldSet<'static>> {
    vec(path(), 0..12).prop_map(|paths| {
        let mut set = FieldSet::default();
        for path in paths {
            set.insert(path);
        }
        set
    })
}

fn union<'a>(left: &FieldSet<'a>, right: &FieldSet<'a>) -> FieldSet<'a> {
    let mut union = left.clone();
    union.add(right.clone());
    union
}

fn difference<'a>(left: &FieldSet<'a>, right: &FieldSet<'_>) -> FieldSet<'a> {
    let mut difference = left.clone();
    difference.remove(right);
    difference
}

proptest! {
    #[test]
    fn sets_keep_the_laws_of_sets(a in set(), b in set(), c in set()) {
        prop_assert_eq!(union(&a, &b), union(&b, &a));
        prop_assert_eq!(union(&union(&a, &b), &c), union(&a, &union(&b, &c)));
        prop_assert_eq!(union(&a, &a), a.clone());
        prop_assert!(difference(&a, &a).is_empty());
        prop_assert_eq!(difference(&union(&a, &b), &b), difference(&a, &b));
        prop_assert_eq!(union(&difference(&a, &b), &a.intersection(&b)), a.clone());
        prop_assert_eq!(a.intersection(&b), difference(&a, &difference(&a, &b)));
        prop_assert_eq!(difference(&a, &union(&b, &c)), difference(&difference(&a, &b), &c));
    }

    #[test]
    fn a_set_has_the_paths_that_were_put_in(paths in vec(path(), 0..12), other in path()) {
        let mut set = FieldSet::default();
        for path in paths.clone() {
            set.insert(path);
        }
        prop_assert_eq!(set.has(&other), paths.contains(&other));
        let listed = set.paths();
        prop_assert!(paths.iter().all(|path| listed.contains(path)));
        prop_assert!(listed.iter().all(|path| paths.contains(path)));
    }

    #[test]
    fn what_is_removed_recursively_takes_what_is_below_along(a in set(), b in set()) {
        let mut left = a.clone();
        left.remove_recursively(&b);
        let is_gone = |path: &[PathElement]| (1..=path.len()).any(|length| b.has(&path[..length]));
        let expected: Vec<_> = a.paths().into_iter().filter(|path| !is_gone(path)).collect();
        prop_assert_eq!(left.paths(), expected);
    }

    #[test]
    fn fields_v1_is_read_as_it_was_written(set in set()) {
        prop_assume!(!set.is_empty());
        let written = set.to_json();
        let read = FieldSet::from_json(&written).unwrap();
        prop_assert_eq!(&read, &set);
        prop_assert_eq!(read.to_json(), written);
    }
}

fn text() -> impl Strategy<Value = Value> + Clone {
    select(vec![json!("a"), json!("b")])
}

fn map() -> impl Strategy<Value = Value> + Clone {
    btree_map("[abc]", text(), 0..3).prop_map(|map| json!(map))
}

/// Items with these keys, each in or not, in any order.
fn items(keys: &[Value]) -> impl Strategy<Value = Value> + Clone + use<> {
    let values = vec(proptest::option::of(text()), keys.len());
    (subsequence(keys.to_vec(), 0..=keys.len()).prop_shuffle(), values).prop_map(|(items, values)| {
        let with_value = |(mut item, value): (Value, Option<Value>)| {
            if let Some(value) = value.filter(|_| item.is_object()) {
                item["value"] = value;
            }
            item
        };
        items.into_iter().zip(values).map(with_value).collect()
    })
}

fn free() -> impl Strategy<Value = Value> + Clone {
    let leaf = prop_oneof![Just(json!(1)), Just(json!(true)), text()];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map("[abc]", inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

/// A field that may be there.
fn field(
    name: &'static str,
    value: impl Strategy<Value = Value>,
) -> impl Strategy<Value = Option<(String, Value)>> {
    proptest::option::of(value).prop_map(move |value| Some((name.to_owned(), value?)))
}

fn spec() -> impl Strategy<Value = Value> {
    let env = [json!({"name": "a"}), json!({"name": "b"}), json!({"name": "c"}), json!({"name": "d"})];
    let fields = (
        field("replicas", select(vec![json!(1), json!(2)])),
        field("text", text()),
        field("labels", map()),
        field("atomic", map()),
        field("list", vec(text(), 0..3).prop_map(Value::from)),
        field("set", items(&[json!("p"), json!("q"), json!("r"), json!("s")])),
        field("env", items(&env)),
        field("free", btree_map("[abc]", free(), 0..3).prop_map(|map| json!(map))),
    );
    fields.prop_map(|(a, b, c, d, e, f, g, h)| {
        Value::Object([a, b, c, d, e, f, g, h].into_iter().flatten().collect::<Map<_, _>>())
    })
}

/// A spec in which nothing is empty.
fn filled_spec() -> impl Strategy<Value = Value> {
    spec().prop_map(|mut spec| {
        let fields = spec.as_object_mut().unwrap();
        fields.remove("free");
        fields.retain(|_, value| *value != json!({}) && *value != json!([]));
        fields.insert("flag".to_owned(), json!(true));
        spec
    })
}

/// All that the managers of an object own.
fn all_owned(object: &Value) -> FieldSet<'_> {
    let owners = Managed::read(list_of(object)).unwrap();
    owners.entries.iter().fold(FieldSet::default(), |all, entry| union(&all, &entry.fields))
}

proptest! {
    #[test]
    fn every_field_has_an_owner_and_every_owned_field_is_there(specs in vec(spec(), 1..5)) {
        let mut live: Option<Value> = None;
        for (number, spec) in specs.into_iter().enumerate() {
            let name = format!("m{}", number % 3);
            let mut object = widget(spec);
            track_update(&main(), &at(1, &name), live.as_ref(), &mut object);
            let mut without_owners = object.clone();
            without_owners["metadata"].as_object_mut().unwrap().remove("managedFields");
            let mut all = compare(main().shape(), None, Some(&without_owners)).unwrap().added;
            strip(&mut all);
            prop_assert_eq!(all_owned(&object).to_json(), all.to_json());
            live = Some(object);
        }
    }

    #[test]
    fn an_apply_is_idempotent(before in spec(), first in spec()) {
        let live = created("creator", before);
        let once = apply(&main(), &at(2, "one"), Some(&live), &widget(first.clone()), true).unwrap();
        let twice = apply(&main(), &at(3, "one"), Some(&once), &widget(first), false).unwrap();
        let mut settled = twice.clone();
        keep_times_of_no_op(&once, &mut settled);
        prop_assert_eq!(settled, once);
    }

    #[test]
    fn what_is_applied_is_so_and_owned(before in spec(), spec in spec()) {
        let live = created("creator", before);
        let object = apply(&main(), &at(2, "one"), Some(&live), &widget(spec.clone()), true).unwrap();
        let spec = widget(spec);
        let changes = compare(main().shape(), Some(&spec), Some(&object)).unwrap();
        let mut said = fields_of(main().shape(), &spec);
        prop_assert!(said.intersection(&changes.removed).is_empty());
        prop_assert!(said.intersection(&changes.modified).is_empty());
        strip(&mut said);
        prop_assert_eq!(difference(&said, &all_owned(&object)), FieldSet::default());
    }

    /// Not so for what is empty: an empty list has no owner, and what is emptied becomes null.
    #[test]
    fn who_applies_and_withdraws_leaves_what_was_there(before in filled_spec(), spec in filled_spec()) {
        let live = apply(&main(), &at(1, "creator"), None, &widget(before), false).unwrap();
        let Ok(joined) = apply(&main(), &at(2, "one"), Some(&live), &widget(spec), false) else { return Ok(()) };
        let mut nothing = widget(json!({}));
        nothing.as_object_mut().unwrap().remove("spec");
        let left = apply(&main(), &at(3, "one"), Some(&joined), &nothing, false).unwrap();
        prop_assert!(!managers(&left).contains(&"one Apply".to_owned()));
        let changes = compare(main().shape(), Some(&live), Some(&left)).unwrap();
        let mut changed = union(&changes.modified, &union(&changes.added, &changes.removed));
        changed.remove_recursively(&FieldSet::of(["metadata.managedFields"]));
        prop_assert_eq!(changed.to_json(), json!({}));
    }
}
