//! The kinds that tests use: `Widget`, whose schema has every feature of schemas, `Machine` and `MachineSet`, and
//! built-in kinds.

use anyhow::ensure;
use serde_json::{Value, json};

use super::collection::Collection;
use super::server::Server;
use crate::kinds::{API_VERSION, definitions};
use crate::support::{SOON, eventually};

/// The path of definitions.
pub(super) const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// The group of [`widget`].
pub(super) const GROUP: &str = "conformance.test";

/// A definition of a kind with one version, `v1`; its plural is its name in small letters and an `s`.
pub(super) fn definition(group: &str, kind: &str, version: &Value) -> Value {
    let singular = kind.to_lowercase();
    let mut versions = json!([{ "name": "v1", "served": true, "storage": true }]);
    for (field, value) in version.as_object().expect("a version of a definition") {
        versions[0][field] = value.clone();
    }
    json!({
        "metadata": { "name": format!("{singular}s.{group}") },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": { "kind": kind, "plural": format!("{singular}s") },
            "versions": versions,
        },
    })
}

/// A schema that allows any object.
pub(super) fn any_object() -> Value {
    json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } })
}

/// The kind that most tests of custom objects use.
fn widget() -> Value {
    let schema =
        json!({ "type": "object", "properties": { "spec": widget_spec(), "status": widget_status() } });
    let mut definition = definition(
        GROUP,
        "Widget",
        &json!({
            "schema": { "openAPIV3Schema": schema },
            "subresources": { "status": {}, "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            } },
            "selectableFields": [
                { "jsonPath": ".spec.text" }, { "jsonPath": ".spec.number" }, { "jsonPath": ".spec.flag" },
            ],
            "additionalPrinterColumns": [
                { "name": "Text", "type": "string", "jsonPath": ".spec.text" },
                { "name": "Number", "type": "integer", "jsonPath": ".spec.number", "priority": 1, "description": "N." },
                { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
            ],
        }),
    );
    definition["spec"]["names"]["shortNames"] = json!(["wg"]);
    definition["spec"]["names"]["categories"] = json!(["conformance"]);
    definition
}

fn widget_spec() -> Value {
    let mut properties = scalars();
    for more in [lists(), maps(), choices()] {
        properties.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    json!({ "type": "object", "properties": properties })
}

fn scalars() -> Value {
    json!({
        "text": { "type": "string", "minLength": 1, "maxLength": 10, "pattern": "^[a-z]+$" },
        "number": { "type": "integer", "minimum": 1, "maximum": 10 },
        "step": { "type": "integer", "multipleOf": 5 },
        "ratio": { "type": "number", "minimum": 0, "maximum": 1, "exclusiveMaximum": true },
        "mode": { "type": "string", "enum": ["On", "Off"], "default": "On" },
        "flag": { "type": "boolean" },
        "at": { "type": "string", "format": "date-time" },
        "port": { "x-kubernetes-int-or-string": true },
        "maybe": { "type": "string", "nullable": true },
        "maybeDefaulted": { "type": "string", "nullable": true, "default": "d" },
        "replicas": { "type": "integer", "minimum": 0 },
    })
}

fn lists() -> Value {
    json!({
        "tags": {
            "type": "array", "x-kubernetes-list-type": "set", "minItems": 1, "maxItems": 3,
            "items": { "type": "string" },
        },
        "parts": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object", "required": ["name"],
                "properties": {
                    "name": { "type": "string" }, "size": { "type": "integer" }, "color": { "type": "string" },
                },
            },
        },
        "ports": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
            "items": {
                "type": "object", "required": ["port"],
                "properties": {
                    "port": { "type": "integer" }, "name": { "type": "string" },
                    "protocol": { "type": "string", "default": "TCP" },
                },
            },
        },
        "ordered": { "type": "array", "items": { "type": "string" } },
    })
}

fn maps() -> Value {
    json!({
        "nested": {
            "type": "object", "default": {},
            "properties": { "depth": { "type": "integer", "default": 3 }, "other": { "type": "string" } },
        },
        "lazy": { "type": "object", "properties": { "depth": { "type": "integer", "default": 3 } } },
        "free": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": { "known": { "type": "integer" } },
        },
        "opaque": { "x-kubernetes-preserve-unknown-fields": true },
        "embedded": {
            "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true,
        },
        "labels": { "type": "object", "maxProperties": 3, "additionalProperties": { "type": "string" } },
        "whole": {
            "type": "object", "x-kubernetes-map-type": "atomic",
            "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
        },
    })
}

fn choices() -> Value {
    json!({
        "need": { "type": "object", "required": ["this"], "properties": { "this": { "type": "string" } } },
        "one": {
            "type": "object", "properties": { "left": { "type": "string" }, "right": { "type": "string" } },
            "oneOf": [{ "required": ["left"] }, { "required": ["right"] }],
        },
        "any": {
            "type": "object", "properties": { "size": { "type": "integer" }, "unit": { "type": "string" } },
            "anyOf": [{ "properties": { "size": { "minimum": 10 } } }, { "required": ["unit"] }],
        },
        "all": {
            "type": "object", "properties": { "size": { "type": "integer" } },
            "allOf": [{ "properties": { "size": { "minimum": 2 } } }, { "properties": { "size": { "maximum": 4 } } }],
        },
        "never": { "type": "object", "properties": { "bad": { "type": "string" } }, "not": { "required": ["bad"] } },
    })
}

fn widget_status() -> Value {
    json!({
        "type": "object",
        "properties": {
            "phase": { "type": "string", "enum": ["Fresh", "Used"] },
            "replicas": { "type": "integer" },
            "selector": { "type": "string" },
            "conditions": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object", "required": ["type", "status"],
                    "properties": {
                        "type": { "type": "string" }, "status": { "type": "string" },
                        "message": { "type": "string" },
                    },
                },
            },
        },
    })
}

impl Server {
    /// The definitions of custom kinds.
    pub(super) fn crds(&self) -> Collection {
        self.at(CRDS, "apiextensions.k8s.io/v1", "CustomResourceDefinition")
    }

    /// Creates a definition unless it exists, and returns when all its versions are served.
    pub(super) async fn install(&self, definition: Value) {
        let created = self.crds().create(definition.clone()).await;
        assert!([201, 409].contains(&created.code), "{created:?}");
        let (group, plural) = (&definition["spec"]["group"], &definition["spec"]["names"]["plural"]);
        let (group, plural) = (group.as_str().unwrap(), plural.as_str().unwrap());
        for version in definition["spec"]["versions"].as_array().unwrap() {
            if version["served"] == json!(true) {
                self.served(&format!("/apis/{group}/{}/{plural}", version["name"].as_str().unwrap())).await;
            }
        }
    }

    /// Returns when a path can be listed and watched.
    ///
    /// It lists without a limit: kube-apiserver answers a limited list from etcd while the watch cache of a new kind
    /// is not filled, and all other lists and watches with 429.
    pub(super) async fn served(&self, path: &str) {
        eventually(&format!("{path} is served"), SOON, async || {
            let answer = self.get(path).await;
            ensure!(answer.code == 200, "{answer:?}");
            Ok(())
        })
        .await;
    }

    /// The widgets of a namespace of the test's own.
    pub(super) async fn widgets(&self) -> Collection {
        self.install(widget()).await;
        self.namespaced(&format!("{GROUP}/v1"), "widgets", "Widget").await
    }

    /// Config maps and widgets, for tests of built-in and custom kinds.
    pub(super) async fn both(&self) -> [Collection; 2] {
        [self.config_maps().await, self.widgets().await]
    }

    /// The machines of a namespace of the test's own.
    pub(super) async fn machines(&self) -> Collection {
        self.defined("machines", "Machine").await
    }

    /// The machine sets of a namespace of the test's own.
    pub(super) async fn machine_sets(&self) -> Collection {
        self.defined("machinesets", "MachineSet").await
    }

    async fn defined(&self, plural: &str, kind: &str) -> Collection {
        for definition in definitions() {
            if definition.spec.names.kind == kind {
                self.install(serde_json::to_value(definition).unwrap()).await;
            }
        }
        self.namespaced(API_VERSION, plural, kind).await
    }

    /// The config maps of a namespace of the test's own.
    pub(super) async fn config_maps(&self) -> Collection {
        self.namespaced("v1", "configmaps", "ConfigMap").await
    }

    /// The objects of a kind in a namespace of the test's own.
    pub(super) async fn namespaced(&self, api_version: &str, plural: &str, kind: &str) -> Collection {
        self.in_namespace(&self.namespace().await, api_version, plural, kind)
    }

    /// The objects of a kind in a namespace.
    pub(super) fn in_namespace(
        &self,
        namespace: &str,
        api_version: &str,
        plural: &str,
        kind: &str,
    ) -> Collection {
        let path = format!("{}/namespaces/{namespace}/{plural}", root(api_version));
        self.at(&path, api_version, kind)
    }

    /// The objects of a cluster-scoped kind, or those of a kind in all namespaces.
    pub(super) fn everywhere(&self, api_version: &str, plural: &str, kind: &str) -> Collection {
        self.at(&format!("{}/{plural}", root(api_version)), api_version, kind)
    }
}

/// The path of a group and version.
fn root(api_version: &str) -> String {
    if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") }
}
