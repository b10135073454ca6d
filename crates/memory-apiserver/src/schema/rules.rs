//! From the schema of a CRD to JSON Schema, which a library compiles and holds values against.
//!
//! The two differ in little: bounds are exclusive by a flag here and by a keyword there, `nullable` and
//! `x-kubernetes-int-or-string` are types there, `format` has names of its own, and patterns are another dialect.
//! Every node of what comes out stands where it stood, so that an error leads back to it.

use jsonschema::{Draft, PatternOptions};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrBool,
};
use serde_json::{Map, Value, json};

use super::extensions::TYPES;
use super::formats;
use super::pattern;
use super::props::{items, kind, listed, properties};

/// Where a node keeps its pattern as it was written, for messages.
pub(super) const PATTERN: &str = "x-pattern";
/// Where a node keeps its allowed values as they were written, for messages.
pub(super) const ENUM: &str = "x-enum";

/// The names of formats to check, collected while nodes are translated.
type Formats = Vec<(String, formats::Check)>;

/// The JSON Schema, and what holds values against it. The error says why it can't be compiled.
pub(super) fn compile(schema: &JSONSchemaProps) -> Result<(Value, jsonschema::Validator), String> {
    let mut formats = Formats::new();
    let json = translate(schema, &mut formats)?;
    let mut options = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(PatternOptions::regex())
        .should_validate_formats(true);
    for (name, check) in formats {
        options = options.with_format(name, check);
    }
    let compiled = options.build(&json).map_err(|error| error.to_string())?;
    Ok((json, compiled))
}

fn translate(schema: &JSONSchemaProps, formats: &mut Formats) -> Result<Value, String> {
    let mut json = Map::new();
    types(schema, &mut json);
    bounds(schema, &mut json);
    let sizes = [
        ("minLength", schema.min_length),
        ("maxLength", schema.max_length),
        ("minItems", schema.min_items),
        ("maxItems", schema.max_items),
        ("minProperties", schema.min_properties),
        ("maxProperties", schema.max_properties),
    ];
    for (keyword, size) in sizes {
        if let Some(size) = size {
            json.insert(keyword.to_owned(), json!(size.max(0)));
        }
    }
    if let Some(pattern) = schema.pattern.as_ref().filter(|pattern| !pattern.is_empty()) {
        json.insert("pattern".to_owned(), json!(pattern::translate(pattern)?));
        json.insert(PATTERN.to_owned(), json!(pattern));
    }
    if let Some((format, check)) = schema.format.as_ref().and_then(|name| Some((name, formats::check(name)?)))
    {
        json.insert("format".to_owned(), json!(format));
        formats.push((format.clone(), check));
    }
    values(schema, &mut json);
    if let Some(required) = &schema.required {
        json.insert("required".to_owned(), json!(distinct(required)));
    }
    below(schema, &mut json, formats)?;
    Ok(Value::Object(json))
}

fn types(schema: &JSONSchemaProps, json: &mut Map<String, Value>) {
    let mut types = match (kind(schema), schema.x_kubernetes_int_or_string) {
        (_, Some(true)) => vec!["integer", "string"],
        // A type that there is none of was refused already.
        (kind, _) if !TYPES.contains(&kind) => return,
        (kind, _) => vec![kind],
    };
    // What has a format is asked no further if it is a list, which kube-apiserver takes for bytes.
    if types == ["string"] && has_format(schema) {
        types.push("array");
    }
    if schema.nullable == Some(true) {
        types.push("null");
    }
    json.insert("type".to_owned(), json!(types));
}

fn has_format(schema: &JSONSchemaProps) -> bool {
    schema.format.as_deref().and_then(formats::check).is_some()
}

fn bounds(schema: &JSONSchemaProps, json: &mut Map<String, Value>) {
    let bounds = [
        (schema.minimum, schema.exclusive_minimum, "minimum", "exclusiveMinimum"),
        (schema.maximum, schema.exclusive_maximum, "maximum", "exclusiveMaximum"),
        (schema.multiple_of.filter(|factor| *factor > 0.0), None, "multipleOf", ""),
    ];
    for (bound, exclusive, keyword, exclusive_keyword) in bounds {
        if let Some(bound) = bound {
            let keyword = if exclusive == Some(true) { exclusive_keyword } else { keyword };
            json.insert(keyword.to_owned(), json!(bound));
        }
    }
}

/// `null` among the allowed values allows nothing, as kube-apiserver compares.
fn values(schema: &JSONSchemaProps, json: &mut Map<String, Value>) {
    let all = listed(schema.enum_.as_ref());
    if all.is_empty() {
        return;
    }
    let allowed = all.iter().map(|value| &value.0).filter(|value| !value.is_null());
    json.insert("enum".to_owned(), json!(distinct(allowed)));
    json.insert(ENUM.to_owned(), all.iter().map(|value| value.0.clone()).collect());
}

/// JSON Schema wants some lists without repetition.
fn distinct<T: PartialEq>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

fn below(
    schema: &JSONSchemaProps,
    json: &mut Map<String, Value>,
    formats: &mut Formats,
) -> Result<(), String> {
    if let Some(items) = items(schema) {
        json.insert("items".to_owned(), translate(items, formats)?);
    }
    if schema.properties.is_some() {
        let properties: Result<Map<_, _>, String> = properties(schema)
            .map(|(name, below)| Ok((name.to_owned(), translate(below, formats)?)))
            .collect();
        json.insert("properties".to_owned(), Value::Object(properties?));
    }
    let values = match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => Some(translate(values, formats)?),
        Some(JSONSchemaPropsOrBool::Bool(any)) => Some(json!(any)),
        None => None,
    };
    if let Some(values) = values {
        json.insert("additionalProperties".to_owned(), values);
    }
    if let Some(not) = &schema.not {
        json.insert("not".to_owned(), translate(not, formats)?);
    }
    let lists = [("allOf", &schema.all_of), ("anyOf", &schema.any_of), ("oneOf", &schema.one_of)];
    for (keyword, list) in lists {
        let branches: Result<Vec<_>, String> =
            listed(list.as_ref()).iter().map(|branch| translate(branch, formats)).collect();
        let branches = branches?;
        if !branches.is_empty() {
            json.insert(keyword.to_owned(), Value::Array(branches));
        }
    }
    Ok(())
}
