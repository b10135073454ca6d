//! Bodies: valid and nearly valid objects, patches, and random texts.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Names that have a meaning to the server, and others.
const NAMES: &str = "kind apiVersion metadata name namespace uid resourceVersion labels finalizers ownerReferences \
    managedFields generateName deletionTimestamp deletionGracePeriodSeconds creationTimestamp generation spec status \
    data stringData type containers versions schema openAPIV3Schema properties items default required rules subjects \
    roleRef replicas text number parts free inner op path from value $patch $retainKeys $setElementOrder/parts \
    $deleteFromPrimitiveList/finalizers propagationPolicy preconditions dryRun gracePeriodSeconds a b";

/// Texts that have a meaning to the server, and others.
const TEXTS: &[&str] = &[
    "",
    "a",
    "A b",
    "default",
    "v1",
    "ConfigMap",
    "2026-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
    "1Gi",
    "-1",
    "example.com/hold",
    "foregroundDeletion",
    "orphan",
    "Orphan",
    "Foreground",
    "replace",
    "delete",
    "Namespaced",
    "[(",
    "\u{0}",
    "ä\u{1F600}",
];

fn name() -> impl Strategy<Value = String> {
    let names: Vec<_> = NAMES.split_whitespace().map(str::to_owned).collect();
    prop_oneof![9 => prop::sample::select(names), 1 => any::<String>()]
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => (-2_i64..100).prop_map(Value::from),
        1 => prop::sample::select(&[i64::MIN, i64::MAX, 1 << 31][..]).prop_map(Value::from),
        1 => Just(json!(u64::MAX)),
        1 => any::<f64>().prop_map(Value::from),
    ]
}

pub(super) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        2 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => number(),
        4 => prop::sample::select(TEXTS).prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name(), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Every place in a value.
fn pointers(value: &Value) -> Vec<String> {
    let mut all = vec![String::new()];
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    for (step, value) in inside {
        all.extend(pointers(value).into_iter().map(|rest| format!("/{step}{rest}")));
    }
    all
}

#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Add(String, Value),
    Remove,
}

fn change() -> impl Strategy<Value = (prop::sample::Index, Change)> {
    let change = prop_oneof![
        3 => any_json().prop_map(Change::Replace),
        2 => (name(), any_json()).prop_map(|(name, value)| Change::Add(name, value)),
        2 => Just(Change::Remove),
    ];
    (any::<prop::sample::Index>(), change)
}

/// An object with a few changes, or none.
fn mutated(object: Value) -> impl Strategy<Value = Value> {
    prop::collection::vec(change(), 0..4).prop_map(move |changes| {
        let mut object = object.clone();
        for (at, change) in changes {
            let pointer = at.get(&pointers(&object)).clone();
            apply(&mut object, &pointer, change);
        }
        object
    })
}

fn apply(object: &mut Value, pointer: &str, change: Change) {
    match change {
        Change::Replace(value) => {
            if let Some(found) = object.pointer_mut(pointer) {
                *found = value;
            }
        }
        Change::Add(name, value) => {
            if let Some(Value::Object(fields)) = object.pointer_mut(pointer) {
                fields.insert(name, value);
            }
        }
        Change::Remove => {
            let Some((parent, step)) = pointer.rsplit_once('/') else { return };
            if let Some(Value::Object(fields)) = object.pointer_mut(parent) {
                fields.remove(step);
            }
        }
    }
}

/// A part of an object, like a merge patch or an applied configuration.
fn part(object: &Value) -> impl Strategy<Value = Value> + use<> {
    let fields: Vec<(String, Value)> =
        object.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    prop::sample::subsequence(fields.clone(), 0..=fields.len())
        .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>()))
        .prop_flat_map(mutated)
}

/// A JSON patch of an object.
fn operations(object: &Value) -> impl Strategy<Value = Value> + use<> {
    let path = prop_oneof![
        4 => prop::sample::select(pointers(object)),
        1 => prop::collection::vec(name(), 0..3).prop_map(|keys| keys.iter().flat_map(|key| ["/", key]).collect()),
        1 => any::<String>(),
    ];
    let op = prop::sample::select(&["add", "remove", "replace", "move", "copy", "test", "other"][..]);
    let operation = (op, path.clone(), path, any_json())
        .prop_map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}));
    prop::collection::vec(operation, 0..5).prop_map(Value::from)
}

fn options() -> impl Strategy<Value = Value> {
    let options = json!({
        "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground", "gracePeriodSeconds": 1,
        "preconditions": {"uid": "u", "resourceVersion": "1"}, "dryRun": ["All"],
    });
    mutated(options)
}

/// Deeply nested brackets, texts that are not JSON, and YAML with aliases.
fn nonsense() -> impl Strategy<Value = Vec<u8>> {
    let deep = prop::sample::select(&["[", "{\"a\":", "[{\"spec\":", "{\"metadata\":{\"labels\":"][..]);
    prop_oneof![
        (deep, 1_usize..5000, any::<bool>()).prop_map(|(open, depth, closed)| {
            let mut text = open.repeat(depth);
            if closed {
                text.push('1');
                let close = |c: char| match c {
                    '[' => Some(']'),
                    '{' => Some('}'),
                    _ => None,
                };
                let ends: String = text.chars().rev().filter_map(close).collect();
                text.push_str(&ends);
            }
            text.into_bytes()
        }),
        prop::collection::vec(any::<u8>(), 0..64),
        Just(b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n".to_vec()),
        Just(b"--- \n...\n---\n? {a: b}\n: !!binary c\n".to_vec()),
    ]
}

fn truncated(value: &Value, at: prop::sample::Index) -> Vec<u8> {
    let mut text = value.to_string().into_bytes();
    text.truncate(at.index(text.len() + 1));
    text
}

/// Any body, often one that fits an object like this one.
pub(super) fn body(object: &Value) -> impl Strategy<Value = Vec<u8>> + use<> {
    let text = |value: Value| value.to_string().into_bytes();
    prop_oneof![
        2 => Just(Vec::new()),
        6 => mutated(object.clone()).prop_map(text),
        4 => part(object).prop_map(text),
        4 => operations(object).prop_map(text),
        2 => options().prop_map(text),
        1 => any_json().prop_map(text),
        1 => (mutated(object.clone()), any::<prop::sample::Index>()).prop_map(|(value, at)| truncated(&value, at)),
        1 => nonsense(),
    ]
}
