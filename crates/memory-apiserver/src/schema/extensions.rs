//! The rules that every node of a CRD's schema must keep, wherever it stands: what Kubernetes leaves out of
//! `OpenAPI`, and how `x-kubernetes-list-type` and its kin may be used.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Value, json};

use super::super::error::{FieldError, Problem};
use super::path::Path;
use super::props::{additional, items, kind, listed, properties};
use super::validations;

/// The types that a value can have.
pub(super) const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What is wrong with a node and all below it.
pub(super) fn check(schema: &JSONSchemaProps, path: &Path<'_>) -> Vec<FieldError> {
    let mut check = Check { errors: Vec::new() };
    let place = Place { is_root: true, ..Place::default() };
    check.all(schema, path, place);
    check.errors
}

/// Where a node stands, as far as rules depend on it.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    is_root: bool,
    /// In `apiVersion`, `kind` or `metadata` of the object or of a resource inside.
    in_meta: bool,
    /// Where defaults are forbidden.
    no_defaults: Option<&'a str>,
}

struct Check {
    errors: Vec<FieldError>,
}

impl Check {
    fn push(&mut self, path: Path<'_>, problem: Problem) {
        self.errors.push(FieldError::new(path.to_string(), problem));
    }

    fn required(&mut self, path: Path<'_>, why: impl Into<String>) {
        self.push(path, Problem::Required(why.into().into()));
    }

    fn forbidden(&mut self, path: Path<'_>, why: impl Into<String>) {
        self.push(path, Problem::Forbidden(why.into().into()));
    }

    fn invalid(&mut self, path: Path<'_>, value: impl Into<Value>, why: &str) {
        self.push(path, Problem::Invalid(value.into(), why.to_owned()));
    }

    fn not_supported(&mut self, path: Path<'_>, value: &str, supported: &[&str]) {
        let supported = supported.iter().map(ToString::to_string).collect();
        self.push(path, Problem::NotSupported(value.into(), supported));
    }

    fn all(&mut self, schema: &JSONSchemaProps, path: &Path<'_>, place: Place<'_>) {
        self.node(schema, path, place);
        let is_resource = place.is_root || schema.x_kubernetes_embedded_resource == Some(true);
        let (at, below) = (path.field("properties"), Place { is_root: false, ..place });
        for (name, property) in properties(schema) {
            let is_meta = is_resource && matches!(name, "metadata" | "apiVersion" | "kind");
            let top_level = format!("in top-level {name}");
            let no_defaults =
                if is_meta && place.is_root { Some(top_level.as_str()) } else { place.no_defaults };
            let place = Place { is_root: false, in_meta: is_meta || place.in_meta, no_defaults };
            self.all(property, &at.key(name), place);
        }
        if let Some(values) = additional(schema) {
            let why = "inside additionalProperties applying to object metadata";
            let no_defaults = if below.in_meta { Some(why) } else { below.no_defaults };
            self.all(values, &path.field("additionalProperties"), Place { no_defaults, ..below });
        }
        for (name, schema) in [("not", schema.not.as_deref()), ("items", items(schema))] {
            if let Some(schema) = schema {
                self.all(schema, &path.field(name), below);
            }
        }
        let lists = [("allOf", &schema.all_of), ("oneOf", &schema.one_of), ("anyOf", &schema.any_of)];
        for (name, list) in lists {
            let list_path = path.field(name);
            for (index, schema) in listed(list.as_ref()).iter().enumerate() {
                self.all(schema, &list_path.index(index), below);
            }
        }
    }

    fn node(&mut self, schema: &JSONSchemaProps, path: &Path<'_>, place: Place<'_>) {
        let kind = kind(schema);
        if !kind.is_empty() && !TYPES.contains(&kind) {
            self.not_supported(path.field("type"), kind, &TYPES);
        }
        if let (Some(_), Some(place)) = (&schema.default, place.no_defaults) {
            self.forbidden(path.field("default"), format!("must not be set {place}"));
        }
        if place.in_meta && schema.x_kubernetes_embedded_resource == Some(true) {
            let at = path.field("x-kubernetes-embedded-resource");
            self.forbidden(at, "must not be used inside of resource meta");
        }
        self.unsupported_keywords(schema, path);
        if schema.unique_items == Some(true) {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbidden(path.field("uniqueItems"), why);
        }
        let open = matches!(schema.additional_properties, None | Some(JSONSchemaPropsOrBool::Bool(true)));
        if !open && properties(schema).next().is_some() {
            let why = "additionalProperties and properties are mutual exclusive";
            self.forbidden(path.field("additionalProperties"), why);
        }
        if schema.x_kubernetes_preserve_unknown_fields == Some(false) {
            let at = path.field("x-kubernetes-preserve-unknown-fields");
            self.invalid(at, false, "must be true or undefined");
        }
        self.map_type(schema, path);
        self.list_type(schema, path);
        self.list_map_keys(schema, path);
        self.items_of_sets_and_maps(schema, path);
        validations::check(schema, path, &mut self.errors);
    }

    fn unsupported_keywords(&mut self, schema: &JSONSchemaProps, path: &Path<'_>) {
        let keywords = [
            ("id", schema.id.as_ref().is_some_and(|id| !id.is_empty())),
            ("additionalItems", schema.additional_items.is_some()),
            ("patternProperties", schema.pattern_properties.as_ref().is_some_and(|some| !some.is_empty())),
            ("definitions", schema.definitions.as_ref().is_some_and(|some| !some.is_empty())),
            ("dependencies", schema.dependencies.is_some()),
            ("$ref", schema.ref_path.is_some()),
        ];
        for (keyword, _) in keywords.into_iter().filter(|(_, is)| *is) {
            self.forbidden(path.field(keyword), format!("{keyword} is not supported"));
        }
        if kind(schema) == "null" {
            let why = "type cannot be set to null, use nullable as an alternative";
            self.forbidden(path.field("type"), why);
        }
        if matches!(schema.items, Some(JSONSchemaPropsOrArray::Schemas(_))) {
            self.forbidden(path.field("items"), "items must be a schema object and not an array");
        }
    }

    /// `keyword` is there, so the type must be `expected`.
    fn has_type(&mut self, schema: &JSONSchemaProps, path: &Path<'_>, expected: &str, keyword: &str) -> bool {
        let why = format!("must be {expected} if {keyword} is specified");
        match kind(schema) {
            "" => self.required(path.field("type"), why),
            kind if kind != expected => self.invalid(path.field("type"), kind, &why),
            _ => return true,
        }
        false
    }

    fn map_type(&mut self, schema: &JSONSchemaProps, path: &Path<'_>) {
        let Some(map_type) = &schema.x_kubernetes_map_type else { return };
        self.has_type(schema, path, "object", "x-kubernetes-map-type");
        if !matches!(map_type.as_str(), "atomic" | "granular") {
            self.not_supported(path.field("x-kubernetes-map-type"), map_type, &["atomic", "granular"]);
        }
    }

    fn list_type(&mut self, schema: &JSONSchemaProps, path: &Path<'_>) {
        let Some(list_type) = &schema.x_kubernetes_list_type else { return };
        let is_list = self.has_type(schema, path, "array", "x-kubernetes-list-type");
        if let Some(items) = items(schema).filter(|_| is_list && list_type == "set") {
            let below = path.field("items");
            let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
            let (list_type, map_type) = (&items.x_kubernetes_list_type, &items.x_kubernetes_map_type);
            match kind(items) {
                "array" if list_type.as_ref().is_some_and(|inner| inner != "atomic") => {
                    self.invalid(below.field("x-kubernetes-list-type"), list_type.clone(), why);
                }
                "object" if map_type.as_ref().is_none_or(|inner| inner != "atomic") => {
                    // The value that is shown is the list type; so does the real server.
                    self.invalid(below.field("x-kubernetes-map-type"), list_type.clone(), why);
                }
                _ => {}
            }
        }
        if !matches!(list_type.as_str(), "atomic" | "set" | "map") {
            let at = path.field("x-kubernetes-list-type");
            self.not_supported(at, list_type, &["atomic", "set", "map"]);
        }
    }

    fn list_map_keys(&mut self, schema: &JSONSchemaProps, path: &Path<'_>) {
        let keys = listed(schema.x_kubernetes_list_map_keys.as_ref());
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        match schema.x_kubernetes_list_type.as_deref() {
            None if !keys.is_empty() => self.required(path.field("x-kubernetes-list-type"), why),
            Some(other) if other != "map" && !keys.is_empty() => {
                self.invalid(path.field("x-kubernetes-list-type"), other, why);
            }
            Some("map") => self.map_list(schema, keys, path),
            _ => {}
        }
    }

    fn map_list(&mut self, schema: &JSONSchemaProps, keys: &[String], path: &Path<'_>) {
        let keys_path = path.field("x-kubernetes-list-map-keys");
        if keys.is_empty() {
            self.required(keys_path, "must not be empty if x-kubernetes-list-type is map");
        }
        if schema.items.is_none() {
            self.required(path.field("items"), "must have a schema if x-kubernetes-list-type is map");
        }
        let Some(items) = items(schema) else { return };
        let below = path.field("items");
        if kind(items) != "object" {
            let why = "must be object if parent array's x-kubernetes-list-type is map";
            self.invalid(below.field("type"), kind(items), why);
            return;
        }
        let below = below.field("properties");
        for (index, key) in keys.iter().enumerate() {
            match items.properties.iter().flatten().find(|(name, _)| *name == key) {
                Some((_, property)) if matches!(kind(property), "array" | "object") => {
                    let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    self.invalid(below.key(key).field("type"), kind(items), why);
                }
                Some(_) => {}
                None => self.invalid(keys_path, json!(keys), "entries must all be names of item properties"),
            }
            if keys[..index].contains(key) {
                self.invalid(keys_path, json!(keys), "must not contain duplicate entries");
            }
        }
    }

    /// Items of sets are there; those of maps have all their keys.
    fn items_of_sets_and_maps(&mut self, schema: &JSONSchemaProps, path: &Path<'_>) {
        let Some(list_type @ ("set" | "map")) = schema.x_kubernetes_list_type.as_deref() else { return };
        let Some(items) = items(schema) else { return };
        let below = path.field("items");
        if items.nullable == Some(true) {
            let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
            self.forbidden(below.field("nullable"), why);
        }
        if list_type == "set" {
            return;
        }
        let below = below.field("properties");
        for key in listed(schema.x_kubernetes_list_map_keys.as_ref()) {
            let Some(property) = items.properties.iter().flatten().find(|(name, _)| *name == key) else {
                continue;
            };
            let about = "this property is in x-kubernetes-list-map-keys, so it";
            if property.1.default.is_none() && !listed(items.required.as_ref()).contains(key) {
                let why = format!("{about} must have a default or be a required property");
                self.required(below.key(key).field("default"), why);
            }
            if property.1.nullable == Some(true) {
                self.forbidden(below.key(key).field("nullable"), format!("{about} cannot be nullable"));
            }
        }
    }
}
