//! What makes the schema of a CRD version a structural one, so that every field has one known form.
//!
//! Nodes that are reached through `properties`, `items` and `additionalProperties` say what there is; `allOf`,
//! `anyOf`, `oneOf` and `not` only restrict its values and may say nothing of its form. See `extensions` for the
//! rules that hold of every node alike.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use super::super::error::FieldError;
use super::path::Path;
use super::pattern;
use super::props::{additional, items, kind, listed, properties};

/// Where in a schema a node stands, which some rules depend on.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// The alternatives that `x-kubernetes-int-or-string` may be spelled out with.
static INT_OR_STRING: LazyLock<[JSONSchemaProps; 2]> = LazyLock::new(|| {
    ["integer", "string"]
        .map(|kind| JSONSchemaProps { type_: Some(kind.to_owned()), ..JSONSchemaProps::default() })
});

/// Whether a map may have fields.
fn is_open(schema: &JSONSchemaProps) -> bool {
    !matches!(schema.additional_properties, None | Some(JSONSchemaPropsOrBool::Bool(false)))
}

/// The first keyword that a structural schema can't have, wherever it is, in the words of kube-apiserver. With one
/// there is no form to check.
pub(super) fn unsupported(schema: &JSONSchemaProps) -> Option<&'static str> {
    let is_some = |map: Option<bool>| map == Some(false);
    let keywords = [
        ("OpenAPIV3Schema 'id' is not supported", schema.id.is_some()),
        ("OpenAPIV3Schema 'schema' is not supported", schema.schema.is_some()),
        ("OpenAPIV3Schema '$ref' is not supported", schema.ref_path.is_some()),
        (
            "OpenAPIV3Schema 'patternProperties' is not supported",
            is_some(schema.pattern_properties.as_ref().map(BTreeMap::is_empty)),
        ),
        (
            "OpenAPIV3Schema 'dependencies' is not supported",
            is_some(schema.dependencies.as_ref().map(BTreeMap::is_empty)),
        ),
        ("OpenAPIV3Schema 'additionalItems' is not supported", schema.additional_items.is_some()),
        (
            "OpenAPIV3Schema 'definitions' is not supported",
            is_some(schema.definitions.as_ref().map(BTreeMap::is_empty)),
        ),
        (
            "OpenAPIV3Schema 'items' must be a schema, but is an array",
            matches!(schema.items, Some(JSONSchemaPropsOrArray::Schemas(_))),
        ),
        (
            "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined",
            schema.x_kubernetes_preserve_unknown_fields == Some(false),
        ),
    ];
    let here = keywords.into_iter().find_map(|(why, is)| is.then_some(why));
    here.or_else(|| {
        let lists = [&schema.all_of, &schema.any_of, &schema.one_of];
        properties(schema)
            .map(|(_, below)| below)
            .chain(items(schema))
            .chain(additional(schema))
            .chain(schema.not.as_deref())
            .chain(lists.into_iter().flat_map(|list| listed(list.as_ref())))
            .find_map(unsupported)
    })
}

/// What is wrong, in the order of the texts.
pub(super) fn check(schema: &JSONSchemaProps, path: &Path<'_>) -> Vec<FieldError> {
    let mut check = Check { errors: Vec::new() };
    check.node(schema, Level::Root, path);
    check.restrictions_are_of_known_fields(schema, Some(schema), path, path);
    check.errors.sort_by_cached_key(ToString::to_string);
    check.errors
}

struct Check {
    errors: Vec<FieldError>,
}

impl Check {
    fn required(&mut self, path: Path<'_>, why: &'static str) {
        self.errors.push(FieldError::required(path.to_string(), why));
    }

    fn forbidden(&mut self, path: Path<'_>, why: &'static str) {
        self.errors.push(FieldError::forbidden(path.to_string(), why));
    }

    fn invalid(&mut self, path: Path<'_>, value: impl Into<serde_json::Value>, why: &str) {
        self.errors.push(FieldError::invalid(path.to_string(), value.into(), why));
    }

    /// A node that says what there is, and all below it.
    fn node(&mut self, schema: &JSONSchemaProps, level: Level, path: &Path<'_>) {
        if kind(schema) == "array" && items(schema).is_none() {
            self.required(path.field("items"), "must be specified");
        }
        if let Some(items) = items(schema) {
            self.node(items, Level::Item, &path.field("items"));
        }
        let below = path.field("properties");
        for (name, property) in properties(schema) {
            self.node(property, Level::Field, &below.key(name));
        }
        if schema.additional_properties.is_some() && level == Level::Root {
            self.forbidden(path.field("additionalProperties"), "must not be used at the root");
        }
        if let Some(values) = additional(schema) {
            self.node(values, Level::Field, &path.field("additionalProperties"));
        }
        self.extensions(schema, path);
        let spelled_out = |any: &[JSONSchemaProps]| any == INT_OR_STRING.as_slice();
        let skip_any = spelled_out(listed(schema.any_of.as_ref()));
        let skip_first = listed(schema.all_of.as_ref())
            .first()
            .is_some_and(|first| spelled_out(listed(first.any_of.as_ref())));
        self.restrictions(schema, skip_any, skip_first, path);
        self.has_type(schema, level, path);
        self.resource(schema, level, path);
    }

    fn extensions(&mut self, schema: &JSONSchemaProps, path: &Path<'_>) {
        if schema.x_kubernetes_int_or_string != Some(true) {
            return;
        }
        let others = [
            ("x-kubernetes-preserve-unknown-fields", schema.x_kubernetes_preserve_unknown_fields),
            ("x-kubernetes-embedded-resource", schema.x_kubernetes_embedded_resource),
        ];
        for (name, _) in others.into_iter().filter(|(_, is)| *is == Some(true)) {
            self.invalid(path.field(name), true, "must be false if x-kubernetes-int-or-string is true");
        }
    }

    fn has_type(&mut self, schema: &JSONSchemaProps, level: Level, path: &Path<'_>) {
        let embedded = schema.x_kubernetes_embedded_resource == Some(true);
        let untyped = schema.x_kubernetes_int_or_string == Some(true)
            || schema.x_kubernetes_preserve_unknown_fields == Some(true);
        let at = path.field("type");
        match kind(schema) {
            "" if embedded => self.required(at, "must be object if x-kubernetes-embedded-resource is true"),
            "" if untyped => {}
            "" => self.required(
                at,
                match level {
                    Level::Root => "must not be empty at the root",
                    Level::Item => "must not be empty for specified array items",
                    Level::Field => "must not be empty for specified object fields",
                },
            ),
            "object" => {}
            other => {
                if embedded {
                    self.invalid(at, other, "must be object if x-kubernetes-embedded-resource is true");
                }
                if level == Level::Root {
                    self.invalid(at, other, "must be object at the root");
                }
            }
        }
    }

    /// The rules for what has `apiVersion`, `kind` and `metadata` of its own.
    fn resource(&mut self, schema: &JSONSchemaProps, level: Level, path: &Path<'_>) {
        let embedded = schema.x_kubernetes_embedded_resource == Some(true);
        if embedded && schema.additional_properties.is_some() {
            let why = "must not be used if x-kubernetes-embedded-resource is set";
            self.forbidden(path.field("additionalProperties"), why);
        }
        let preserves = schema.x_kubernetes_preserve_unknown_fields == Some(true);
        if embedded && !preserves && properties(schema).next().is_none() {
            let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                       x-kubernetes-preserve-unknown-fields";
            self.required(path.field("properties"), why);
        }
        if !embedded && level != Level::Root {
            return;
        }
        let below = path.field("properties");
        for (name, property) in properties(schema) {
            let expected = if name == "metadata" { "object" } else { "string" };
            let is_meta = matches!(name, "metadata" | "apiVersion" | "kind");
            if is_meta && kind(property) != expected {
                let why = format!("must be {expected}");
                self.invalid(below.key(name).field("type"), kind(property), &why);
            }
            if name == "metadata" && level == Level::Root {
                self.root_metadata(property, below.key(name));
            }
        }
    }

    /// The names of objects may be restricted, and nothing else of their metadata.
    fn root_metadata(&mut self, metadata: &JSONSchemaProps, path: Path<'_>) {
        let mut rest = metadata.clone();
        (rest.type_, rest.default) = (None, None);
        if properties(metadata).all(|(name, _)| matches!(name, "name" | "generateName")) {
            rest.properties = None;
        }
        if rest != JSONSchemaProps::default() {
            let why = "must not specify anything other than name and generateName, but metadata is \
                       implicitly specified";
            self.forbidden(path, why);
        }
    }

    /// What a node says of values, as opposed to their form.
    fn restrictions(
        &mut self,
        schema: &JSONSchemaProps,
        skip_any: bool,
        skip_any_of_first: bool,
        path: &Path<'_>,
    ) {
        let (any, all, one) = (path.field("anyOf"), path.field("allOf"), path.field("oneOf"));
        for (index, branch) in listed(schema.any_of.as_ref()).iter().enumerate().filter(|_| !skip_any) {
            self.branch(branch, false, &any.index(index));
        }
        for (index, branch) in listed(schema.all_of.as_ref()).iter().enumerate() {
            self.branch(branch, skip_any_of_first && index == 0, &all.index(index));
        }
        for (index, branch) in listed(schema.one_of.as_ref()).iter().enumerate() {
            self.branch(branch, false, &one.index(index));
        }
        if let Some(not) = &schema.not {
            self.branch(not, false, &path.field("not"));
        }
        let pattern = schema.pattern.as_deref().unwrap_or_default();
        if let Err(why) = pattern::translate(pattern) {
            let why = format!("must be a valid regular expression, but isn't: error parsing regexp: {why}");
            self.invalid(path.field("pattern"), pattern, &why);
        }
    }

    /// A node that may only restrict values, and all below it.
    fn branch(&mut self, schema: &JSONSchemaProps, skip_any: bool, path: &Path<'_>) {
        self.restrictions(schema, skip_any, false, path);
        if let Some(items) = items(schema) {
            self.branch(items, false, &path.field("items"));
        }
        let below = path.field("properties");
        for (name, property) in properties(schema) {
            self.branch(property, false, &below.key(name));
            if name == "metadata" {
                self.forbidden(below.key(name), "must not be specified in a nested context");
            }
        }
        let on = |flag: Option<bool>| flag == Some(true);
        let has = |text: Option<&String>| text.is_some_and(|text| !text.is_empty());
        let (empty, undefined, disabled) = (
            "must be empty to be structural",
            "must be undefined to be structural",
            "must be false to be structural",
        );
        let of_form = [
            ("type", has(schema.type_.as_ref()), empty),
            ("title", has(schema.title.as_ref()), empty),
            ("description", has(schema.description.as_ref()), empty),
            ("default", schema.default.is_some(), undefined),
            ("additionalProperties", is_open(schema), undefined),
            ("nullable", on(schema.nullable), disabled),
            (
                "x-kubernetes-preserve-unknown-fields",
                on(schema.x_kubernetes_preserve_unknown_fields),
                disabled,
            ),
            ("x-kubernetes-embedded-resource", on(schema.x_kubernetes_embedded_resource), disabled),
            ("x-kubernetes-int-or-string", on(schema.x_kubernetes_int_or_string), disabled),
            (
                "x-kubernetes-list-map-keys",
                !listed(schema.x_kubernetes_list_map_keys.as_ref()).is_empty(),
                empty,
            ),
            ("x-kubernetes-list-type", schema.x_kubernetes_list_type.is_some(), undefined),
            ("x-kubernetes-map-type", schema.x_kubernetes_map_type.is_some(), undefined),
            ("x-kubernetes-validations", !listed(schema.x_kubernetes_validations.as_ref()).is_empty(), empty),
        ];
        for (name, _, why) in of_form.into_iter().filter(|(_, is, _)| *is) {
            self.forbidden(path.field(name), why);
        }
    }

    /// Holds `restricting` against `form`: what is restricted must exist. `None`: it does not.
    fn restrictions_are_of_known_fields(
        &mut self,
        restricting: &JSONSchemaProps,
        form: Option<&JSONSchemaProps>,
        at: &Path<'_>,
        by: &Path<'_>,
    ) {
        let lists =
            [("allOf", &restricting.all_of), ("anyOf", &restricting.any_of), ("oneOf", &restricting.one_of)];
        for (name, list) in lists {
            let list_path = by.field(name);
            for (index, branch) in listed(list.as_ref()).iter().enumerate() {
                self.branch_is_of_known_fields(branch, form, at, &list_path.index(index));
            }
        }
        if let Some(not) = &restricting.not {
            self.branch_is_of_known_fields(not, form, at, &by.field("not"));
        }
    }

    fn branch_is_of_known_fields(
        &mut self,
        branch: &JSONSchemaProps,
        form: Option<&JSONSchemaProps>,
        at: &Path<'_>,
        by: &Path<'_>,
    ) {
        let Some(form) = form else {
            self.errors.push(FieldError::required(at.to_string(), format!("because it is defined in {by}")));
            return;
        };
        self.restrictions_are_of_known_fields(branch, Some(form), at, by);
        if let Some(below) = items(branch) {
            self.branch_is_of_known_fields(below, items(form), &at.field("items"), &by.field("items"));
        }
        let (known, at, by) = (form.properties.as_ref(), at.field("properties"), by.field("properties"));
        for (name, below) in properties(branch) {
            let form = known.and_then(|known| known.get(name));
            self.branch_is_of_known_fields(below, form, &at.key(name), &by.key(name));
        }
    }
}
