//! [`compare`]: what changes for stored objects when one schema replaces another.
//!
//! The API server removes each field that the schema does not have, unless a schema around it keeps unknown fields. A
//! path is written as in `spec.runtimes[].name`: `[]` stands for the items of a list, `{}` for the values of a map.
//!
//! Both schemas are structural, as the API server demands of a definition. So a field is only in `properties`,
//! `additionalProperties` or `items`, and all other keywords just restrict its values: see
//! [`restrictions`](super::restrictions).

use serde_json::{Map, Value};

use super::changes::Changes;
use super::restrictions::{narrows, shown};

/// The keywords that this file compares by their meaning.
const MEANINGS: [&str; 7] = [
    "additionalProperties",
    "description",
    "items",
    "properties",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
];

/// Adds the differences of the schemas of one version.
pub(super) fn compare(version: &str, theirs: &Value, ours: &Value, changes: &mut Changes) {
    let mut comparison = Comparison { version, changes, descriptions: 0 };
    comparison.compare("", theirs, ours);
    match comparison.descriptions {
        0 => {}
        1 => changes.changed.push(format!("1 description ({version})")),
        count => changes.changed.push(format!("{count} descriptions ({version})")),
    }
}

struct Comparison<'a> {
    version: &'a str,
    changes: &'a mut Changes,
    descriptions: usize,
}

impl Comparison<'_> {
    fn compare(&mut self, path: &str, theirs: &Value, ours: &Value) {
        self.compare_types(path, theirs, ours);
        self.compare_keywords(path, theirs, ours);
        if keeps_unknown(theirs) && !keeps_unknown(ours) {
            self.changes.lost.push(format!("unknown fields of {}", self.place(path)));
        }
        let names = || fields(&theirs["properties"]).chain(fields(&ours["properties"]));
        let mut seen = std::collections::BTreeSet::new();
        for (name, _) in names().filter(|(name, _)| seen.insert(*name)) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            self.compare_parts(&path, of_field(theirs, name), of_field(ours, name), keeps_unknown(ours));
        }
        let values = |schema| part(schema, "additionalProperties");
        self.compare_parts(&format!("{path}{{}}"), values(theirs), values(ours), keeps_unknown(ours));
        let items = |schema| part(schema, "items");
        self.compare_parts(&format!("{path}[]"), items(theirs), items(ours), keeps_unknown(ours));
    }

    /// Compares the schemas of one part, which one of both may not have.
    fn compare_parts(&mut self, path: &str, theirs: Option<&Value>, ours: Option<&Value>, is_kept: bool) {
        match (theirs, ours) {
            (Some(theirs), Some(ours)) => self.compare(path, theirs, ours),
            (Some(theirs), None) if !is_kept => {
                each_path(path, theirs, &mut |path| self.changes.lost.push(self.field(path)));
            }
            (None, Some(ours)) => {
                each_path(path, ours, &mut |path| self.changes.added.push(self.field(path)));
            }
            _ => {}
        }
    }

    /// A value of a type that is no longer accepted cannot be written back, so it counts as lost.
    fn compare_types(&mut self, path: &str, theirs: &Value, ours: &Value) {
        let (theirs, ours) = (type_of(theirs), type_of(ours));
        let accepts = match ours {
            "any" => true,
            "number" => matches!(theirs, "number" | "integer"),
            "int-or-string" => matches!(theirs, "int-or-string" | "integer" | "string"),
            _ => theirs == ours,
        };
        let place = self.place(path);
        if !accepts {
            self.changes.lost.push(format!("type {theirs} of {place}, which becomes {ours}"));
        } else if theirs != ours {
            self.changes.changed.push(format!("{place}: type {theirs} -> {ours}"));
        }
    }

    fn compare_keywords(&mut self, path: &str, theirs: &Value, ours: &Value) {
        self.descriptions += usize::from(theirs["description"] != ours["description"]);
        let mut seen = std::collections::BTreeSet::new();
        let keywords = fields(theirs).chain(fields(ours)).map(|(keyword, _)| keyword.as_str());
        for keyword in keywords.filter(|keyword| !MEANINGS.contains(keyword)) {
            let (old, new) = (&theirs[keyword], &ours[keyword]);
            if !seen.insert(keyword) || is_same(keyword, old, new) {
                continue;
            }
            let place = self.place(path);
            let (mut before, mut after) = (shown(old), shown(new));
            if before == after {
                (before, after) = (old.to_string(), new.to_string());
            }
            if narrows(keyword, old, &demanded(keyword, new, ours)) {
                self.changes.lost.push(format!("{place}: stricter {keyword} {before} -> {after}"));
            } else {
                self.changes.changed.push(format!("{place}: {keyword} {before} -> {after}"));
            }
        }
    }

    fn field(&self, path: &str) -> String {
        format!("field {path} ({})", self.version)
    }

    fn place(&self, path: &str) -> String {
        if path.is_empty() { format!("the object ({})", self.version) } else { self.field(path) }
    }
}

/// Calls `found` for the path of a schema and the paths of all its parts.
fn each_path(path: &str, schema: &Value, found: &mut impl FnMut(&str)) {
    found(path);
    for (name, field) in fields(&schema["properties"]) {
        each_path(&format!("{path}.{name}"), field, found);
    }
    for (keyword, mark) in [("additionalProperties", "{}"), ("items", "[]")] {
        if let Some(part) = part(schema, keyword) {
            each_path(&format!("{path}{mark}"), part, found);
        }
    }
}

fn fields(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flat_map(Map::iter)
}

/// Returns the schema of the field `name`. A map has one schema for all names.
fn of_field<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema["properties"].get(name).or_else(|| part(schema, "additionalProperties"))
}

/// Returns the schema in a keyword that can also be `true` or `false`.
fn part<'a>(schema: &'a Value, keyword: &str) -> Option<&'a Value> {
    schema.get(keyword).filter(|part| part.is_object())
}

/// Returns true if fields that the schema does not have are kept.
fn keeps_unknown(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true || schema["additionalProperties"] == true
}

fn type_of(schema: &Value) -> &str {
    match schema["type"].as_str().filter(|kind| !kind.is_empty()) {
        Some(kind) => kind,
        None if schema["x-kubernetes-int-or-string"] == true => "int-or-string",
        None => "any",
    }
}

/// The order of `required` and `enum` has no meaning.
fn is_same(keyword: &str, one: &Value, other: &Value) -> bool {
    let sorted = |value: &Value| {
        let mut items: Vec<_> = value.as_array().into_iter().flatten().map(Value::to_string).collect();
        items.sort();
        items
    };
    one == other || matches!(keyword, "required" | "enum") && sorted(one) == sorted(other)
}

/// Returns the value of a keyword without the required fields that have a default: the API server fills them in before
/// it checks an object.
fn demanded(keyword: &str, value: &Value, schema: &Value) -> Value {
    let Some(fields) = value.as_array().filter(|_| keyword == "required") else { return value.clone() };
    let has_default = |field: &Value| {
        let name = field.as_str().unwrap_or_default();
        schema["properties"][name].get("default").is_some()
    };
    fields.iter().filter(|field| !has_default(field)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changes(theirs: &Value, ours: &Value) -> Changes {
        let mut changes = Changes::default();
        compare("v1", theirs, ours, &mut changes);
        changes
    }

    fn lost(theirs: &Value, ours: &Value) -> Vec<String> {
        changes(theirs, ours).lost
    }

    /// A schema with every way in which a field can be in it.
    fn nested() -> Value {
        json!({"type": "object", "properties": {
            "list": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
            "map": {"type": "object", "additionalProperties": {
                "type": "object", "properties": {"x": {"type": "string"}}
            }},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
            "either": {"x-kubernetes-int-or-string": true},
        }})
    }

    #[test]
    fn z1_equal_schemas_have_no_differences() {
        assert_eq!(changes(&nested(), &nested()), Changes::default());
    }

    #[test]
    fn z1_each_lost_path_is_named_with_all_paths_in_it() {
        let empty = json!({"type": "object"});
        let paths = ["any", "either", "list", "list[]", "list[].name", "map", "map{}", "map{}.x"];
        let named: Vec<_> = paths.iter().map(|path| format!("field {path} (v1)")).collect();
        assert_eq!(lost(&nested(), &empty), named);
        assert_eq!(changes(&empty, &nested()).added, named, "the other way round they are added");
    }

    #[test]
    fn z1_a_field_deep_inside_is_found() {
        for pointer in
            ["/properties/list/items/properties", "/properties/map/additionalProperties/properties"]
        {
            let mut more = nested();
            more.pointer_mut(pointer).unwrap()["more"] = json!({"type": "boolean"});
            let path = if pointer.contains("items") { "list[].more" } else { "map{}.more" };
            assert_eq!(lost(&more, &nested()), [format!("field {path} (v1)")]);
            assert_eq!(lost(&nested(), &more), [""; 0]);
        }
    }

    #[test]
    fn z1_a_schema_that_keeps_unknown_fields_loses_none() {
        let any = json!({"x-kubernetes-preserve-unknown-fields": true});
        for keeps in [any, json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})] {
            assert_eq!(lost(&nested(), &keeps), [""; 0], "{keeps}");
        }
        let map = json!({"type": "object", "additionalProperties": true});
        assert_eq!(lost(&nested(), &map), [""; 0]);
        let known = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        for open in [json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}), map] {
            assert_eq!(lost(&open, &known), ["unknown fields of the object (v1)"], "{open}");
        }
    }

    #[test]
    fn z1_fields_of_a_map_are_kept_by_a_map_of_the_same_schema() {
        let known = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let map = json!({"type": "object", "additionalProperties": {"type": "string"}});
        assert_eq!(lost(&known, &map), [""; 0]);
        assert_eq!(lost(&map, &known), ["field {} (v1)"]);
    }

    #[test]
    fn z1_a_type_that_no_longer_accepts_a_value_counts_as_lost() {
        let of = |schema: Value| json!({"type": "object", "properties": {"f": schema}});
        let typed = |kind: &str| of(json!({"type": kind}));
        let either = of(json!({"x-kubernetes-int-or-string": true}));
        let any = of(json!({"x-kubernetes-preserve-unknown-fields": true}));
        for (theirs, ours) in [
            (&typed("integer"), &typed("number")),
            (&typed("integer"), &either),
            (&typed("string"), &either),
            (&typed("string"), &any),
            (&either, &any),
        ] {
            let changes = changes(theirs, ours);
            assert_eq!((changes.lost.len(), changes.changed.len()), (0, 1), "{changes:?}");
        }
        assert_eq!(
            lost(&typed("string"), &typed("integer")),
            ["type string of field f (v1), which becomes integer"]
        );
        for (theirs, ours) in [(&typed("number"), &typed("integer")), (&either, &typed("string"))] {
            assert_eq!(lost(theirs, ours).len(), 1);
        }
    }

    #[test]
    fn z1_a_stricter_field_is_lost_and_a_more_lenient_one_is_a_change() {
        let strict = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "string", "enum": ["y"], "maxLength": 5},
            "b": {"type": "integer", "minimum": 1, "x-kubernetes-validations": [{"rule": "self != 7", "message": "m"}]},
        }});
        let lenient = json!({"type": "object", "required": ["b"], "properties": {
            "a": {"type": "string", "enum": ["x", "y"], "maxLength": 9}, "b": {"type": "integer", "nullable": true},
        }});
        let expected = [
            r#"the object (v1): stricter required ["b"] -> ["a","b"]"#,
            r#"field a (v1): stricter enum ["x","y"] -> ["y"]"#,
            "field a (v1): stricter maxLength 9 -> 5",
            "field b (v1): stricter nullable true -> none",
            "field b (v1): stricter minimum none -> 1",
            r#"field b (v1): stricter x-kubernetes-validations none -> ["self != 7"]"#,
        ];
        let found = changes(&lenient, &strict);
        assert_eq!(found, Changes { lost: expected.map(str::to_owned).into(), ..Changes::default() });
        let expected = [
            r#"the object (v1): required ["a","b"] -> ["b"]"#,
            r#"field a (v1): enum ["y"] -> ["x","y"]"#,
            "field a (v1): maxLength 5 -> 9",
            "field b (v1): minimum 1 -> none",
            r#"field b (v1): x-kubernetes-validations ["self != 7"] -> none"#,
            "field b (v1): nullable none -> true",
        ];
        let found = changes(&strict, &lenient);
        assert_eq!(found, Changes { changed: expected.map(str::to_owned).into(), ..Changes::default() });
    }

    #[test]
    fn z1_a_field_that_becomes_required_with_a_default_is_no_loss() {
        let of = |required: Value, b: Value| json!({"type": "object", "required": required, "properties": {"b": b}});
        let without = of(json!([]), json!({"type": "string"}));
        let filled_in = of(json!(["b"]), json!({"type": "string", "default": "x"}));
        assert_eq!(lost(&without, &filled_in), [""; 0]);
        let demanded = of(json!(["b"]), json!({"type": "string"}));
        assert_eq!(lost(&without, &demanded), [r#"the object (v1): stricter required [] -> ["b"]"#]);
    }

    #[test]
    fn z1_other_texts_and_orders_are_changes_or_nothing() {
        let theirs = json!({"type": "object", "description": "old", "required": ["a", "b"], "properties": {
            "a": {"type": "string", "enum": ["x", "y"], "description": "same"},
            "b": {"type": "integer", "x-kubernetes-validations": [{"rule": "self != 7", "message": "old"}]},
        }});
        let ours = json!({"type": "object", "description": "new", "required": ["b", "a"], "properties": {
            "a": {"type": "string", "enum": ["y", "x"], "description": "same"},
            "b": {"type": "integer", "default": 3, "x-kubernetes-validations": [{"rule": "self != 7", "message": "new"}]},
        }});
        let changes = changes(&theirs, &ours);
        assert_eq!((changes.lost, changes.added), (vec![], vec![]));
        let expected = [
            r#"field b (v1): x-kubernetes-validations [{"message":"old","rule":"self != 7"}] -> [{"message":"new","rule":"self != 7"}]"#,
            "field b (v1): default none -> 3",
            "1 description (v1)",
        ];
        assert_eq!(changes.changed, expected);
    }
}
