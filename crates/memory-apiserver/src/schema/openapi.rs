//! From the `openAPIV3Schema` of a CRD version to a [`Schema`] and its [`Validator`], or to what is wrong with it.
//!
//! A schema is accepted if kube-apiserver accepts it, with these exceptions: the module `cel` names those of rules,
//! and a schema that is nested deeper than [`MAX_DEPTH`] is refused, so that every walk along a schema is bounded.

use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use super::super::error::FieldError;
use super::builtin::object_meta;
use super::path::Path;
use super::props::{additional, items, kind, listed, properties};
use super::validate::{Rules, Validator};
use super::{ListType, Schema, extensions, prune, structural};

/// How deep the JSON of a schema may be nested.
const MAX_DEPTH: usize = 200;

/// Keywords that can be taken from the root without loss when `status` is held against its own schema.
const WITH_STATUS: [&str; 22] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// What one version of a custom kind is made of.
#[derive(Debug)]
pub(crate) struct CustomKind {
    pub(crate) schema: Arc<Schema>,
    pub(crate) validator: Validator,
}

impl CustomKind {
    /// Reads a schema that stands at `path` of the definition, which errors begin with. `has_status`: the version
    /// has the subresource, for which the schema of `status` must say all that holds of it.
    pub(crate) fn new(schema: &Value, path: &str, has_status: bool) -> Result<Self, Vec<FieldError>> {
        let at = Path::Root(path);
        let one = |error| vec![error];
        if is_deeper_than(schema, MAX_DEPTH) {
            return Err(one(FieldError::forbidden(path, "is nested too deeply")));
        }
        let props: JSONSchemaProps = serde_json::from_value(schema.clone())
            .map_err(|error| one(FieldError::invalid(path, Value::Null, error.to_string())))?;
        let mut errors = root_errors(schema, &props, &at, has_status);
        let form = Arc::new(Schema::of_resource(&props));
        let unsupported = structural::unsupported(&props);
        let structural = if unsupported.is_some() { Vec::new() } else { structural::check(&props, &at) };
        if structural.is_empty() && unsupported.is_none() {
            errors.extend(default_errors(&props, &form, &at));
        }
        errors.extend(structural);
        errors.extend(extensions::check(&props, &at));
        if let Some(why) = unsupported.filter(|_| errors.is_empty()) {
            errors.push(FieldError::invalid(path, Value::from(""), why));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let validator = Validator::new(&props, Arc::clone(&form), path)?;
        Ok(Self { schema: form, validator })
    }
}

fn is_deeper_than(value: &Value, depth: usize) -> bool {
    let Some(below) = depth.checked_sub(1) else { return true };
    match value {
        Value::Object(fields) => fields.values().any(|value| is_deeper_than(value, below)),
        Value::Array(items) => items.iter().any(|value| is_deeper_than(value, below)),
        _ => false,
    }
}

/// The rules for the root alone.
fn root_errors(
    schema: &Value,
    props: &JSONSchemaProps,
    path: &Path<'_>,
    has_status: bool,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if has_status {
        if !matches!(kind(props), "" | "object") {
            let why = "only \"object\" is allowed as the type at the root of the schema if the status \
                       subresource is enabled";
            errors.push(FieldError::invalid(path.field("type").to_string(), kind(props).into(), why));
        }
        let keywords = schema.as_object().into_iter().flatten().map(|(keyword, _)| keyword.as_str());
        if keywords.into_iter().any(|keyword| !WITH_STATUS.contains(&keyword)) {
            let why = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                WITH_STATUS.join(" ")
            );
            errors.push(FieldError::invalid(path.to_string(), schema.clone(), why));
        }
    }
    if props.nullable == Some(true) {
        let at = path.field("nullable").to_string();
        errors.push(FieldError::forbidden(at, "nullable cannot be true at the root"));
    }
    errors
}

/// Defaults must be valid values, without fields that nobody knows.
fn default_errors(props: &JSONSchemaProps, form: &Schema, path: &Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(default) = &props.default {
        let at = path.field("default").to_string();
        if !prune::prune(&mut default.0.clone(), form).is_empty() {
            errors.push(FieldError::invalid(&at, default.0.clone(), "must not have unknown fields"));
        }
        match Rules::new(props) {
            Ok(rules) => errors.extend(rules.errors(&default.0, &at, &|_| false)),
            Err(why) => errors.push(FieldError::invalid(&at, default.0.clone(), why)),
        }
    }
    if let (Some(props), Some(form)) = (items(props), &form.items) {
        errors.extend(default_errors(props, form, &path.field("items")));
    }
    let below = path.field("properties");
    for (name, props) in properties(props) {
        // What metadata may be, the schema does not say.
        let is_meta = form.embedded_resource && matches!(name, "metadata" | "apiVersion" | "kind");
        if let Some(form) = form.properties.get(name).filter(|_| !is_meta) {
            errors.extend(default_errors(props, form, &below.key(name)));
        }
    }
    errors
}

impl Schema {
    /// What `schema` says of form, for an object that has `apiVersion`, `kind` and `metadata`.
    fn of_resource(schema: &JSONSchemaProps) -> Self {
        let mut form = Self::of(schema);
        for name in ["apiVersion", "kind"] {
            let text = Self { kind: "string".to_owned(), ..Self::default() };
            form.properties.insert(name.to_owned(), Arc::new(text));
        }
        form.properties.insert("metadata".to_owned(), object_meta());
        form.embedded_resource = true;
        form
    }

    fn of(schema: &JSONSchemaProps) -> Self {
        let of_below = |below: &JSONSchemaProps| {
            let is_resource = below.x_kubernetes_embedded_resource == Some(true);
            Arc::new(if is_resource { Self::of_resource(below) } else { Self::of(below) })
        };
        let int_or_string = schema.x_kubernetes_int_or_string == Some(true);
        let list_type = match schema.x_kubernetes_list_type.as_deref() {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map(listed(schema.x_kubernetes_list_map_keys.as_ref()).to_vec()),
            _ => ListType::Atomic,
        };
        // Any value is allowed, but nothing is known of its fields, which are unknown for that.
        let any = || Arc::new(Self { nullable: true, ..Self::default() });
        let values = match &schema.additional_properties {
            Some(JSONSchemaPropsOrBool::Bool(_)) => Some(any()),
            _ => additional(schema).map(of_below),
        };
        Self {
            kind: if int_or_string { String::new() } else { kind(schema).to_owned() },
            properties: properties(schema).map(|(name, below)| (name.to_owned(), of_below(below))).collect(),
            values,
            items: items(schema).map(of_below),
            default: schema.default.as_ref().map(|default| default.0.clone()),
            nullable: schema.nullable == Some(true),
            preserve_unknown_fields: schema.x_kubernetes_preserve_unknown_fields == Some(true),
            int_or_string,
            list_type,
            atomic: schema.x_kubernetes_map_type.as_deref() == Some("atomic"),
            format: schema.format.clone().unwrap_or_default(),
            required: listed(schema.required.as_ref()).to_vec(),
            ..Self::default()
        }
    }
}
