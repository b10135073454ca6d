//! The built-in kinds: their [`Schema`]s, made from their types and from [`facts`], and the same as
//! components of an `OpenAPI` document.
//!
//! Each is made once, when it is first asked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, OnceLock};

use k8s_openapi::Resource;
use k8s_openapi::api::{authorization, autoscaling, coordination, core, events, rbac};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::{ListType, Schema, facts};

/// Where the components of a document are.
const COMPONENTS: &str = "#/components/schemas/";
/// The only type that holds itself. In itself, it holds anything.
const RECURSIVE: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// A built-in kind.
pub(crate) struct Builtin {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    generate: fn(&mut SchemaGenerator) -> schemars::Schema,
    schema: OnceLock<Arc<Schema>>,
}

static KINDS: [Builtin; 19] = [
    Builtin::of::<core::v1::Namespace>(),
    Builtin::of::<core::v1::ConfigMap>(),
    Builtin::of::<core::v1::Secret>(),
    Builtin::of::<core::v1::Event>(),
    Builtin::of::<core::v1::ServiceAccount>(),
    Builtin::of::<core::v1::Pod>(),
    Builtin::of::<core::v1::Node>(),
    Builtin::of::<core::v1::Service>(),
    Builtin::of::<core::v1::PersistentVolume>(),
    Builtin::of::<core::v1::PersistentVolumeClaim>(),
    Builtin::of::<events::v1::Event>(),
    Builtin::of::<coordination::v1::Lease>(),
    Builtin::of::<authorization::v1::SelfSubjectAccessReview>(),
    Builtin::of::<apiextensions::v1::CustomResourceDefinition>(),
    Builtin::of::<rbac::v1::Role>(),
    Builtin::of::<rbac::v1::RoleBinding>(),
    Builtin::of::<rbac::v1::ClusterRole>(),
    Builtin::of::<rbac::v1::ClusterRoleBinding>(),
    Builtin::of::<autoscaling::v1::Scale>(),
];

impl Builtin {
    const fn of<K: Resource + JsonSchema>() -> Self {
        Self {
            group: K::GROUP,
            version: K::VERSION,
            kind: K::KIND,
            generate: SchemaGenerator::subschema_for::<K>,
            schema: OnceLock::new(),
        }
    }

    /// The kind of this name, if it is a built-in one.
    pub(crate) fn find(group: &str, version: &str, kind: &str) -> Option<&'static Self> {
        KINDS.iter().find(|one| one.group == group && one.version == version && one.kind == kind)
    }

    /// The form of its objects.
    pub(crate) fn schema(&self) -> &Arc<Schema> {
        self.schema.get_or_init(|| {
            let mut root = of_type(self.generate);
            root.embedded_resource = true;
            Arc::new(root)
        })
    }
}

/// The form of the metadata of every object.
pub(super) fn object_meta() -> Arc<Schema> {
    static OBJECT_META: LazyLock<Arc<Schema>> =
        LazyLock::new(|| Arc::new(of_type(SchemaGenerator::subschema_for::<ObjectMeta>)));
    Arc::clone(&OBJECT_META)
}

/// The types of all built-in kinds as they stand under `components.schemas` of an `OpenAPI` document, by name, with
/// their descriptions.
pub(crate) fn components() -> &'static BTreeMap<String, Value> {
    static COMPONENTS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
        let mut generator = generator();
        let roots: Vec<_> = KINDS.iter().map(|kind| (kind, (kind.generate)(&mut generator))).collect();
        let mut components: BTreeMap<_, _> = definitions(&mut generator).into_iter().collect();
        for (kind, root) in roots {
            let of_kind = reference(root.as_value()).and_then(|name| components.get_mut(name));
            if let Some(component) = of_kind {
                let (group, version, kind) = (kind.group, kind.version, kind.kind);
                component["x-kubernetes-group-version-kind"] =
                    json!([{ "group": group, "version": version, "kind": kind }]);
            }
        }
        components
    });
    &COMPONENTS
}

fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12();
    settings.with(|settings| settings.definitions_path = "/components/schemas".into()).into_generator()
}

fn of_type(generate: fn(&mut SchemaGenerator) -> schemars::Schema) -> Schema {
    let mut generator = generator();
    let root = generate(&mut generator);
    let definitions = definitions(&mut generator);
    Forms { definitions: &definitions, known: HashMap::new() }.of(root.as_value(), false)
}

/// The types that were generated so far, as kube-apiserver publishes them.
fn definitions(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut definitions = generator.take_definitions(false);
    for (name, definition) in &mut definitions {
        let Value::Object(schema) = definition else { continue };
        published_form(name, schema);
        for property in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
            wrap_reference(property.1);
        }
        facts::add(name, schema);
    }
    definitions
}

/// Types that are more than their generated form says.
fn published_form(name: &str, schema: &mut Map<String, Value>) {
    let (of_values, rest) = match short_name(name) {
        "IntOrString" => (json!([{ "type": "integer" }, { "type": "string" }]), "int-or-string"),
        "Quantity" => (json!([{ "type": "string" }, { "type": "number" }]), ""),
        // Any value.
        "JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" => {
            schema.retain(|keyword, _| keyword == "description");
            return;
        }
        _ => return,
    };
    schema.remove("x-kubernetes-int-or-string");
    schema.insert("oneOf".to_owned(), of_values);
    if !rest.is_empty() {
        schema.insert("format".to_owned(), json!(rest));
    }
}

/// In `OpenAPI` 3.0 nothing stands beside a reference, so what does goes around it.
fn wrap_reference(schema: &mut Value) {
    if let Value::Object(keywords) = schema
        && keywords.len() > 1
        && let Some(reference) = keywords.remove("$ref")
    {
        keywords.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
    }
}

/// The name of the type that a schema refers to.
fn reference(schema: &Value) -> Option<&str> {
    let direct = schema.get("$ref").or_else(|| schema.get("allOf")?.get(0)?.get("$ref"));
    direct?.as_str()?.strip_prefix(COMPONENTS)
}

fn short_name(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}

/// `v1.Container`.
fn go_name(name: &str) -> &str {
    name.rmatch_indices('.').nth(1).map_or(name, |(at, _)| &name[at + 1..])
}

/// Makes forms of definitions, each once.
struct Forms<'a> {
    definitions: &'a Map<String, Value>,
    known: HashMap<&'a str, Arc<Schema>>,
}

impl<'a> Forms<'a> {
    /// The form that a schema describes. `in_recursive`: it is part of the type that holds itself.
    fn of(&mut self, schema: &'a Value, in_recursive: bool) -> Schema {
        let Some(name) = reference(schema) else {
            let mut form = self.of_keywords(schema, in_recursive);
            add_facts(&mut form, schema);
            return form;
        };
        let mut form = match name {
            RECURSIVE if in_recursive => anything("object"),
            _ => self.of_definition(name).as_ref().clone(),
        };
        add_facts(&mut form, schema);
        form
    }

    fn of_definition(&mut self, name: &'a str) -> Arc<Schema> {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        let definition = self.definitions.get(name).unwrap_or(&Value::Null);
        let mut form = match short_name(name) {
            "IntOrString" | "Quantity" => Schema { int_or_string: true, ..Schema::default() },
            _ => self.of_keywords(definition, name == RECURSIVE),
        };
        add_facts(&mut form, definition);
        go_name(name).clone_into(&mut form.type_name);
        let form = Arc::new(form);
        self.known.insert(name, Arc::clone(&form));
        form
    }

    /// The form of what is below, shared where nothing is said of it here.
    fn below(&mut self, schema: &'a Value, in_recursive: bool) -> Arc<Schema> {
        let is_plain = schema.as_object().is_some_and(|keywords| keywords.len() == 1);
        match reference(schema) {
            Some(name) if is_plain && !(in_recursive && name == RECURSIVE) => self.of_definition(name),
            _ => Arc::new(self.of(schema, in_recursive)),
        }
    }

    fn of_keywords(&mut self, schema: &'a Value, in_recursive: bool) -> Schema {
        let text = |keyword: &str| schema[keyword].as_str().unwrap_or_default().to_owned();
        let properties = schema["properties"].as_object().into_iter().flatten();
        let mut form = Schema {
            kind: text("type"),
            format: text("format"),
            properties: properties
                .map(|(name, below)| (name.clone(), self.below(below, in_recursive)))
                .collect(),
            values: schema.get("additionalProperties").map(|below| self.below(below, in_recursive)),
            items: schema.get("items").map(|below| self.below(below, in_recursive)),
            required: schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|name| Some(name.as_str()?.to_owned()))
                .collect(),
            ..Schema::default()
        };
        let is_open = matches!(form.kind.as_str(), "" | "object");
        form.preserve_unknown_fields = is_open && form.properties.is_empty() && form.values.is_none();
        form
    }
}

/// A value of which nothing more is known.
fn anything(kind: &str) -> Schema {
    Schema { kind: kind.to_owned(), preserve_unknown_fields: true, ..Schema::default() }
}

/// What a node says beside its type.
fn add_facts(form: &mut Schema, schema: &Value) {
    let text = |keyword: &str| schema.get(keyword).and_then(Value::as_str);
    match text("x-kubernetes-list-type") {
        Some("set") => form.list_type = ListType::Set,
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            form.list_type = ListType::Map(keys.filter_map(|key| Some(key.as_str()?.to_owned())).collect());
        }
        _ => {}
    }
    if let Some(map_type) = text("x-kubernetes-map-type") {
        form.atomic = map_type == "atomic";
    }
    let merge_key = text("x-kubernetes-patch-merge-key");
    form.merge_set = text("x-kubernetes-patch-strategy").is_some() && merge_key.is_none();
    form.merge_key = merge_key.map(str::to_owned);
    if let Some(default) = schema.get("default") {
        form.default = Some(default.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(kind: &str) -> &'static Schema {
        KINDS.iter().find(|one| one.kind == kind).unwrap().schema()
    }

    fn at<'a>(schema: &'a Schema, path: &str) -> &'a Schema {
        path.split('.').fold(schema, |schema, name| match name {
            "[]" => schema.items.as_ref().unwrap(),
            name => schema.field(name).unwrap(),
        })
    }

    fn keys(schema: &Schema) -> Vec<&str> {
        match &schema.list_type {
            ListType::Map(keys) => keys.iter().map(String::as_str).collect(),
            other => panic!("no map: {other:?}"),
        }
    }

    #[test]
    fn every_fact_is_of_a_type_and_a_field_that_there_are() {
        for (owner, field) in facts::fields() {
            let property = &components()[owner]["properties"][field];
            assert!(property.is_object(), "{owner} has no {field}");
        }
    }

    #[test]
    fn lists_know_how_their_items_are_told_apart() {
        let pod = at(schema("Pod"), "spec");
        assert_eq!(keys(at(pod, "containers")), ["name"]);
        assert_eq!(at(pod, "containers").merge_key.as_deref(), Some("name"));
        let ports = at(pod, "containers.[].ports");
        assert_eq!(keys(ports), ["containerPort", "protocol"]);
        assert_eq!(ports.merge_key.as_deref(), Some("containerPort"));
        assert_eq!(at(ports, "[].protocol").default, Some(json!("TCP")));
        assert_eq!(at(pod, "tolerations").list_type, ListType::Atomic);
        let claims = at(pod, "containers.[].resources.claims");
        assert_eq!((keys(claims), &claims.merge_key), (vec!["name"], &None));
        let finalizers = at(schema("Pod"), "metadata.finalizers");
        assert!(finalizers.list_type == ListType::Set && finalizers.merge_set);
    }

    #[test]
    fn what_is_one_value_is_so_unless_a_field_says_otherwise() {
        assert!(at(schema("Pod"), "spec.nodeSelector").atomic);
        assert!(at(schema("Service"), "spec.selector").atomic);
        assert!(at(schema("Event"), "involvedObject").atomic);
        assert!(!at(schema("PersistentVolume"), "spec.claimRef").atomic);
        assert!(!at(schema("ConfigMap"), "data").atomic);
    }

    #[test]
    fn quantities_and_ports_are_numbers_or_texts() {
        assert!(at(schema("Node"), "status.capacity.cpu").int_or_string);
        assert!(at(schema("Service"), "spec.ports.[].targetPort").int_or_string);
    }

    #[test]
    fn the_type_that_holds_itself_holds_anything() {
        let schema = at(schema("CustomResourceDefinition"), "spec.versions.[].schema.openAPIV3Schema");
        assert!(!schema.preserve_unknown_fields);
        assert!(at(schema, "properties.spec").preserve_unknown_fields);
        assert!(at(schema, "not").preserve_unknown_fields);
        assert!(at(schema, "default").preserve_unknown_fields);
    }

    #[test]
    fn each_reference_of_a_component_leads_to_another() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(fields) => {
                    found.extend(reference(value).map(str::to_owned));
                    fields.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        for component in components().values() {
            references(component, &mut found);
        }
        assert!(found.len() > 100 && found.iter().all(|name| components().contains_key(name)));
        let spec = &components()["io.k8s.api.core.v1.Pod"]["properties"]["spec"];
        assert_eq!(spec["allOf"], json!([{ "$ref": "#/components/schemas/io.k8s.api.core.v1.PodSpec" }]));
        assert!(spec["description"].is_string());
    }
}
