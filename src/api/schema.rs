//! Builds a CustomResourceDefinition from the Rust type of a kind.
//!
//! [`Shape`] holds the facts of a kind that its fields do not say: names, columns and subresources.
//! [`Shape::definition`] combines those facts with the `OpenAPI` schema of the fields, which comes from the
//! derived `JsonSchema`. One rule differs from `JsonSchema`: an `Option` is a field that may be absent, but
//! not a field that may be `null`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::schema::StructuralSchemaRewriter;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::GROUP;

/// One column of `kubectl get`.
pub(crate) struct Column {
    /// The heading of the column.
    pub(crate) name: &'static str,
    /// The type of the value: `string`, `integer` or `date`.
    pub(crate) kind: &'static str,
    /// The JSON path of the value.
    pub(crate) path: &'static str,
}

/// The names, columns and subresources of a kind.
pub(crate) struct Shape {
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) short_name: &'static str,
    /// The description of the whole kind.
    pub(crate) description: &'static str,
    pub(crate) columns: &'static [Column],
    /// Whether the kind has a `scale` subresource.
    pub(crate) scale: bool,
    /// Returns the schema of `spec`.
    pub(crate) spec: fn() -> Value,
    /// Returns the schema of `status`. A kind with this schema has a `status` subresource.
    pub(crate) status: Option<fn() -> Value>,
}

impl Shape {
    /// Returns the definition of this kind with `version` as its only version, served and stored.
    pub(crate) fn definition(&self, version: &str) -> CustomResourceDefinition {
        let columns: Vec<Value> = self
            .columns
            .iter()
            .map(|column| json!({ "name": column.name, "type": column.kind, "jsonPath": column.path }))
            .collect();
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{}.{GROUP}", self.plural) },
            "spec": {
                "group": GROUP,
                "names": {
                    "kind": self.kind,
                    "listKind": format!("{}List", self.kind),
                    "plural": self.plural,
                    "singular": self.singular,
                    "shortNames": [self.short_name],
                },
                "scope": "Namespaced",
                "versions": [{
                    "name": version,
                    "served": true,
                    "storage": true,
                    "schema": { "openAPIV3Schema": self.schema() },
                    "subresources": self.subresources(),
                    "additionalPrinterColumns": (!columns.is_empty()).then_some(columns),
                }],
            },
        });
        serde_json::from_value(definition).expect("the JSON above is a CustomResourceDefinition")
    }

    fn schema(&self) -> Value {
        let mut properties = json!({
            "apiVersion": {
                "type": "string",
                "description": "The version of the schema that this object is written in.",
            },
            "kind": { "type": "string", "description": "The kind of this object." },
            "metadata": { "type": "object" },
            "spec": (self.spec)(),
        });
        if let Some(status) = self.status {
            properties["status"] = status();
        }
        json!({
            "type": "object",
            "description": self.description,
            "required": ["spec"],
            "properties": properties,
        })
    }

    fn subresources(&self) -> Option<Value> {
        self.status?;
        let mut subresources = json!({ "status": {} });
        if self.scale {
            subresources["scale"] = json!({
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            });
        }
        Some(subresources)
    }
}

/// Returns the structural schema of `T`, without references.
pub(crate) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
        // The default transforms would turn every `Option` into `nullable`.
        settings.transforms = vec![Box::new(Plain), Box::new(StructuralSchemaRewriter)];
    });
    SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value()
}

/// Returns the schema of a number or a string, such as `3` or `50%`. Fields name this function in
/// `schema_with`.
pub(crate) fn int_or_string(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "x-kubernetes-int-or-string": true })
}

/// Returns the schema of quantities by name, such as the resources of a container.
pub(crate) fn quantities(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": { "x-kubernetes-int-or-string": true, "pattern": QUANTITY },
    })
}

/// Returns a schema that accepts and keeps any JSON.
pub(crate) fn any_json(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}

/// The text of a quantity, as the definitions of Kubernetes check it.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// Removes `null` alternatives, titles, and the line breaks of doc comments.
#[derive(Clone)]
struct Plain;

impl Transform for Plain {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        object.remove("title");
        take_only_type(object);
        take_only_alternative(object);
        if let Some(Value::String(description)) = object.get_mut("description") {
            let paragraphs = description.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
            *description = paragraphs.collect::<Vec<_>>().join("\n\n");
        }
    }
}

/// Rewrites `type: [X, null]` to `type: X`.
fn take_only_type(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
}

/// Rewrites `anyOf: [X, null]` to `X`. Keywords beside `anyOf` override those of `X`.
fn take_only_alternative(object: &mut Map<String, Value>) {
    let null = json!({ "type": "null" });
    if let Some(Value::Array(alternatives)) = object.get_mut("anyOf") {
        alternatives.retain(|alternative| *alternative != null);
        if let [Value::Object(only)] = alternatives.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            for (keyword, value) in only {
                object.entry(keyword).or_insert(value);
            }
        }
    }
}
