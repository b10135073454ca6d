//! OpenAPI v3 documents, which `kubectl apply` and `kubectl explain` read.
//!
//! One document for each group and version, created when it is requested. Paths have only the parameters that
//! clients look for.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::patch::{APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH};
use super::registry::Registry;
use super::resource::{Nature, Resource};
use super::schema;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const REFERENCE: &str = "#/components/schemas/";

/// The document at a path below `/openapi/v3`: the index, or that of one group and version.
pub(crate) fn document(registry: &Registry, path: &str) -> Option<Value> {
    match path.trim_matches('/').split('/').collect::<Vec<_>>()[..] {
        [""] => Some(index(registry)),
        ["api", version] => of_version(registry, "", version),
        ["apis", group, version] => of_version(registry, group, version),
        _ => None,
    }
}

fn index(registry: &Registry) -> Value {
    let places: BTreeSet<_> =
        registry.all().map(|resource| place(&resource.group, &resource.version)).collect();
    let entry = |place: String| {
        let url = json!({"serverRelativeURL": format!("/openapi/v3/{place}")});
        (place, url)
    };
    json!({"paths": places.into_iter().map(entry).collect::<Map<_, _>>()})
}

/// As in `apis/fleet.test/v1alpha1`, or `api/v1`.
fn place(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn of_version(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let resources: Vec<_> = registry.of(group, version).collect();
    if resources.is_empty() {
        return None;
    }
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for resource in resources {
        add_paths(resource, &mut paths);
        add_schemas(resource, &mut schemas);
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

fn add_paths(resource: &Resource, paths: &mut Map<String, Value>) {
    let namespace = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let base = format!("/{}{namespace}/{}", place(&resource.group, &resource.version), resource.names.plural);
    let gvk = gvk(resource);
    let operation = |action: &str, parameters: &[&str]| {
        let parameters: Vec<_> = parameters.iter().map(|name| parameter(name)).collect();
        json!({
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk, "parameters": parameters,
            "responses": {"200": {"description": "OK", "content": {"application/json": {
                "schema": {"$ref": format!("{REFERENCE}{}", component(resource))},
            }}}},
        })
    };
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    let list = [
        "allowWatchBookmarks",
        "continue",
        "fieldSelector",
        "labelSelector",
        "limit",
        "resourceVersion",
        "timeoutSeconds",
        "watch",
    ];
    let apply = ["dryRun", "fieldManager", "fieldValidation", "force"];
    let delete = ["dryRun", "gracePeriodSeconds", "propagationPolicy"];
    let patch = with_body(operation("patch", &apply), patch_types(resource));
    let collection = json!({
        "get": operation("list", &list), "post": operation("post", &write),
        "delete": operation("deletecollection", &delete),
    });
    let object = json!({
        "get": operation("get", &[]), "put": operation("put", &write), "patch": patch,
        "delete": operation("delete", &delete),
    });
    let part = json!({
        "get": operation("get", &[]), "put": operation("put", &write), "patch": patch,
    });
    for subresource in [resource.status.then_some("status"), resource.scale.is_some().then_some("scale")]
        .into_iter()
        .flatten()
    {
        paths.insert(format!("{base}/{{name}}/{subresource}"), part.clone());
    }
    paths.insert(format!("{base}/{{name}}"), object);
    paths.insert(base, collection);
}

/// The media types of patches of a kind.
fn patch_types(resource: &Resource) -> &'static [&'static str] {
    // Custom kinds have no strategic merges, which come first.
    let all = &[STRATEGIC_MERGE_PATCH, JSON_PATCH, MERGE_PATCH, APPLY_PATCH];
    if resource.is_custom() { &all[1..] } else { all }
}

fn with_body(mut operation: Value, media_types: &[&str]) -> Value {
    let content: Map<_, _> = media_types
        .iter()
        .map(|&media_type| (media_type.to_owned(), json!({"schema": {"type": "object"}})))
        .collect();
    operation["requestBody"] = json!({"required": true, "content": content});
    operation
}

fn parameter(name: &str) -> Value {
    let kind = match name {
        "allowWatchBookmarks" | "force" | "watch" => "boolean",
        "gracePeriodSeconds" | "limit" | "timeoutSeconds" => "integer",
        _ => "string",
    };
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}

fn gvk(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.names.kind})
}

/// The name of a kind among the schemas. For a kind without a published schema it begins with the reversed group.
fn component(resource: &Resource) -> String {
    let own = gvk(resource);
    let is_own = |component: &Value| component["x-kubernetes-group-version-kind"][0] == own;
    match schema::components().iter().find(|(_, component)| is_own(component)) {
        Some((name, _)) if !resource.is_custom() => name.clone(),
        _ => {
            let group: Vec<_> = resource.group.rsplit('.').collect();
            format!("{}.{}.{}", group.join("."), resource.version, resource.names.kind)
        }
    }
}

/// Adds the schema of a kind and all schemas that it refers to.
fn add_schemas(resource: &Resource, schemas: &mut Map<String, Value>) {
    let mut wanted = vec![OBJECT_META.to_owned()];
    let own = component(resource);
    match &resource.nature {
        Nature::Builtin(_) if schema::components().contains_key(&own) => wanted.push(own.clone()),
        Nature::Builtin(_) => {
            let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            schemas.insert(own.clone(), anything);
        }
        Nature::Custom(custom) => {
            let mut form = custom.form.clone();
            form["properties"]["metadata"] =
                json!({"allOf": [{"$ref": format!("{REFERENCE}{OBJECT_META}")}]});
            for field in ["apiVersion", "kind"] {
                if form["properties"][field].is_null() {
                    form["properties"][field] = json!({"type": "string"});
                }
            }
            schemas.insert(own.clone(), form);
        }
    }
    while let Some(name) = wanted.pop() {
        let Some(known) = schema::components().get(&name).filter(|_| !schemas.contains_key(&name)) else {
            continue;
        };
        referred(known, &mut wanted);
        schemas.insert(name, known.clone());
    }
    if let Some(own) = schemas.get_mut(&own) {
        own["x-kubernetes-group-version-kind"] = json!([gvk(resource)]);
    }
}

/// The names of all schemas that one refers to.
fn referred(schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            for (field, value) in fields {
                match value.as_str().and_then(|text| text.strip_prefix(REFERENCE)) {
                    Some(name) if field == "$ref" => names.push(name.to_owned()),
                    _ => referred(value, names),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| referred(item, names)),
        _ => {}
    }
}
