//! `allOf`, and which of several alternatives fits a value best.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::ValidationError;
use serde_json::Value;

use super::formats;
use super::messages::type_name;

/// The `allOf`s that failed, each by where it stands in the schema and at what place in the value it was looked
/// at, with the branches that failed.
pub(super) type AllOf = BTreeMap<(String, Vec<String>), BTreeSet<usize>>;

/// Notes the `allOf`s that an error is below. The first `above` segments of the node's path are passed over.
pub(super) fn note_all_of(error: &ValidationError<'_>, above: usize, noted: &mut AllOf) {
    let node: Vec<_> = error.schema_path().segments().map(|segment| segment.to_string()).collect();
    let place: Vec<_> = error.instance_path().segments().map(|segment| segment.to_string()).collect();
    // How much of the place the schema has descended into so far.
    let mut depth = 0;
    let mut at = 0;
    while at < node.len() {
        let taken = match node[at].as_str() {
            "allOf" if at >= above => {
                let branch = node.get(at + 1).and_then(|index| index.parse().ok()).unwrap_or_default();
                let key = (pointer(&node[..=at]), place[..depth.min(place.len())].to_vec());
                noted.entry(key).or_default().insert(branch);
                2
            }
            "allOf" | "anyOf" | "oneOf" => 2,
            "properties" => {
                depth += 1;
                2
            }
            "items" | "additionalProperties" => {
                depth += 1;
                1
            }
            _ => 1,
        };
        at += taken;
    }
}

fn pointer(segments: &[String]) -> String {
    let mut pointer = String::new();
    for segment in segments {
        pointer.push('/');
        pointer.push_str(&segment.replace('~', "~0").replace('/', "~1"));
    }
    pointer
}

/// The index of the first schema that most of the value was looked at by, for what it says helps most.
pub(super) fn best(schemas: &[Value], value: &Value) -> usize {
    let mut best = (0, 0);
    for (index, schema) in schemas.iter().enumerate() {
        let count = checks(schema, value);
        if count > best.0 {
            best = (count, index);
        }
    }
    best.1
}

/// How many checks kube-apiserver counts when it holds a value against a schema.
fn checks(schema: &Value, value: &Value) -> usize {
    let types: Vec<_> = schema["type"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let is = type_name(value);
    let fits = types.contains(&is) || (is == "integer" && types.contains(&"number"));
    if value.is_null() {
        return usize::from(types.is_empty() || fits);
    }
    let of_type = match (types.is_empty(), fits) {
        (true, _) => 0,
        (false, false) => 1,
        (false, true) => 2,
    };
    let of_value = match value {
        Value::String(_) => 1 + usize::from(schema["format"].as_str().and_then(formats::check).is_some()),
        Value::Number(_) => 2,
        Value::Array(items) => 2 + items.iter().map(|item| below(&schema["items"], item)).sum::<usize>(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| match schema["properties"].get(name) {
                Some(property) => below(property, value),
                None => below(&schema["additionalProperties"], value),
            };
            1 + fields.iter().map(field).sum::<usize>()
        }
        _ => 0,
    };
    let branches = |keyword: &str| {
        let branches = schema[keyword].as_array().into_iter().flatten();
        branches.map(|branch| checks(branch, value)).collect::<Vec<_>>()
    };
    let best = |keyword| branches(keyword).into_iter().max().unwrap_or_default();
    let of_branches = branches("allOf").iter().sum::<usize>() + best("anyOf") + best("oneOf");
    // Alternatives, allowed values and the node itself are counted whether or not there are any.
    of_type + of_value + of_branches + 4
}

fn below(schema: &Value, value: &Value) -> usize {
    if schema.is_object() { checks(schema, value) } else { 0 }
}
