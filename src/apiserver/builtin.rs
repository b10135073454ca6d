//! The kinds that every API server has: what they are called, and the rules that their types do not say.

use std::sync::{Arc, LazyLock};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::events::v1 as events;
use k8s_openapi::api::rbac::v1 as rbac;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::access;
use super::crds;
use super::error::{ApiError, FieldError};
use super::metadata::NameRule;
use super::object::{child_mut, metadata_mut, name};
use super::schema::{self, Schema};
use super::store::NAMESPACES;

/// Where Events of both groups are kept.
pub(crate) const EVENTS: &str = "events";

/// Where definitions of custom kinds are kept.
pub(crate) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// A built-in kind in one version.
pub(crate) struct Builtin {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) namespaced: bool,
    pub(crate) storage: &'static str,
    /// Whether the status is written by a subresource.
    pub(crate) status: bool,
    pub(crate) has_generation: bool,
    /// Whether a deletion answers with the object instead of a status.
    pub(crate) returns_deleted: bool,
    pub(crate) name_rule: NameRule,
    /// How Go writes an object of the kind that nothing is set in: who creates one does not own these fields.
    blank: &'static str,
    /// Reads and writes an object by its type.
    typed: fn(Value) -> serde_json::Result<Value>,
    /// Sets what the server sets, on an object that is new or replaces another.
    pub(crate) complete: fn(&mut Value, Option<&Value>),
    /// Rules beyond the types.
    pub(crate) validate: fn(&Value, Option<&Value>) -> Vec<FieldError>,
}

impl Builtin {
    /// The form of its objects.
    pub(crate) fn schema(&self) -> Arc<Schema> {
        let known = schema::Builtin::find(self.group, self.version, self.kind);
        known.map(|known| Arc::clone(known.schema())).unwrap_or_default()
    }

    /// What a new object of the kind starts from.
    pub(crate) fn blank(&'static self) -> &'static Value {
        static BLANKS: LazyLock<Vec<Value>> = LazyLock::new(|| {
            BUILTINS.iter().map(|builtin| serde_json::from_str(builtin.blank).unwrap_or_default()).collect()
        });
        let own = BUILTINS.iter().position(|other| std::ptr::eq(other, self));
        own.map_or(&Value::Null, |own| &BLANKS[own])
    }

    /// The object as its type writes it, such as times in the form that they are always written in.
    ///
    /// # Errors
    ///
    /// When a value has another type than its field.
    pub(crate) fn normalize(&self, object: Value) -> Result<Value, ApiError> {
        (self.typed)(object).map_err(|error| self.not_decoded(&error.to_string()))
    }

    /// For an object that its type can't be made of.
    pub(crate) fn not_decoded(&self, why: &str) -> ApiError {
        let (kind, version) = (self.kind, self.version);
        ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
    }
}

fn typed<K: DeserializeOwned + Serialize>(object: Value) -> serde_json::Result<Value> {
    serde_json::to_value(K::deserialize(object)?)
}

/// What most kinds are; each entry says where it differs.
const fn plain<K: DeserializeOwned + Serialize>(
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
) -> Builtin {
    Builtin {
        group: "",
        version: "v1",
        kind,
        plural,
        short_names: &[],
        categories: &[],
        namespaced,
        storage: plural,
        status: false,
        has_generation: false,
        returns_deleted: false,
        name_rule: NameRule::Subdomain,
        blank: r#"{"metadata": {}}"#,
        typed: typed::<K>,
        complete: |_, _| {},
        validate: |_, _| Vec::new(),
    }
}

const BLANK_ROLE: &str = r#"{"metadata": {}, "rules": null}"#;
const BLANK_BINDING: &str = r#"{"metadata": {}, "roleRef": {"apiGroup": "", "kind": "", "name": ""}}"#;

const fn role<K: DeserializeOwned + Serialize>(
    binding: bool,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
    storage: &'static str,
) -> Builtin {
    Builtin {
        group: "rbac.authorization.k8s.io",
        storage,
        name_rule: NameRule::PathSegment,
        blank: if binding { BLANK_BINDING } else { BLANK_ROLE },
        ..plain::<K>(kind, plural, namespaced)
    }
}

/// Every built-in kind.
pub(crate) static BUILTINS: &[Builtin] = &[
    Builtin {
        short_names: &["ns"],
        storage: NAMESPACES,
        status: true,
        name_rule: NameRule::Label,
        complete: complete_namespace,
        blank: r#"{"metadata": {}, "spec": {}, "status": {}}"#,
        ..plain::<core::Namespace>("Namespace", "namespaces", false)
    },
    Builtin {
        short_names: &["cm"],
        validate: |object, live| immutable_data(object, live, &["data", "binaryData", "immutable"]),
        ..plain::<core::ConfigMap>("ConfigMap", "configmaps", true)
    },
    Builtin {
        complete: complete_secret,
        validate: validate_secret,
        ..plain::<core::Secret>("Secret", "secrets", true)
    },
    Builtin {
        short_names: &["ev"],
        storage: EVENTS,
        blank: r#"{"metadata": {}, "involvedObject": {}, "source": {}, "firstTimestamp": null, "lastTimestamp": null, "eventTime": null, "reportingComponent": "", "reportingInstance": ""}"#,
        ..plain::<core::Event>("Event", "events", true)
    },
    Builtin {
        group: "events.k8s.io",
        short_names: &["ev"],
        storage: EVENTS,
        blank: r#"{"metadata": {}, "eventTime": null, "regarding": {}, "deprecatedSource": {}, "deprecatedFirstTimestamp": null, "deprecatedLastTimestamp": null}"#,
        ..plain::<events::Event>("Event", "events", true)
    },
    Builtin {
        group: "coordination.k8s.io",
        storage: "leases.coordination.k8s.io",
        blank: r#"{"metadata": {}, "spec": {}}"#,
        ..plain::<Lease>("Lease", "leases", true)
    },
    Builtin {
        short_names: &["sa"],
        returns_deleted: true,
        ..plain::<core::ServiceAccount>("ServiceAccount", "serviceaccounts", true)
    },
    Builtin {
        short_names: &["po"],
        categories: &["all"],
        status: true,
        has_generation: true,
        returns_deleted: true,
        complete: complete_pod,
        blank: r#"{"metadata": {}, "spec": {"containers": null}, "status": {}}"#,
        ..plain::<core::Pod>("Pod", "pods", true)
    },
    Builtin {
        short_names: &["no"],
        status: true,
        blank: r#"{"metadata": {}, "spec": {}, "status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": {"machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "", "containerRuntimeVersion": "", "kubeletVersion": "", "kubeProxyVersion": "", "operatingSystem": "", "architecture": ""}}}"#,
        ..plain::<core::Node>("Node", "nodes", false)
    },
    Builtin {
        short_names: &["svc"],
        categories: &["all"],
        status: true,
        returns_deleted: true,
        name_rule: NameRule::StrictLabel,
        complete: complete_service,
        blank: r#"{"metadata": {}, "spec": {}, "status": {"loadBalancer": {}}}"#,
        ..plain::<core::Service>("Service", "services", true)
    },
    Builtin {
        short_names: &["pv"],
        status: true,
        returns_deleted: true,
        complete: |volume, _| {
            default_in(volume, "spec", "persistentVolumeReclaimPolicy", json!("Retain"));
            default_in(volume, "spec", "volumeMode", json!("Filesystem"));
            default_in(volume, "status", "phase", json!("Pending"));
        },
        blank: r#"{"metadata": {}, "spec": {}, "status": {}}"#,
        ..plain::<core::PersistentVolume>("PersistentVolume", "persistentvolumes", false)
    },
    Builtin {
        short_names: &["pvc"],
        status: true,
        returns_deleted: true,
        complete: |claim, _| {
            default_in(claim, "spec", "volumeMode", json!("Filesystem"));
            default_in(claim, "status", "phase", json!("Pending"));
        },
        blank: r#"{"metadata": {}, "spec": {"resources": {}}, "status": {}}"#,
        ..plain::<core::PersistentVolumeClaim>("PersistentVolumeClaim", "persistentvolumeclaims", true)
    },
    Builtin {
        group: "authorization.k8s.io",
        storage: "selfsubjectaccessreviews.authorization.k8s.io",
        ..plain::<SelfSubjectAccessReview>("SelfSubjectAccessReview", "selfsubjectaccessreviews", false)
    },
    Builtin {
        group: "apiextensions.k8s.io",
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        storage: DEFINITIONS,
        status: true,
        has_generation: true,
        complete: crds::complete,
        validate: crds::validate,
        blank: r#"{"metadata": {}, "spec": {"group": "", "names": {"plural": "", "kind": ""}, "scope": "", "versions": null}, "status": {"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": null}}"#,
        ..plain::<CustomResourceDefinition>("CustomResourceDefinition", "customresourcedefinitions", false)
    },
    role::<rbac::ClusterRole>(false, "ClusterRole", "clusterroles", false, access::CLUSTER_ROLES),
    role::<rbac::ClusterRoleBinding>(
        true,
        "ClusterRoleBinding",
        "clusterrolebindings",
        false,
        access::CLUSTER_ROLE_BINDINGS,
    ),
    role::<rbac::Role>(false, "Role", "roles", true, access::ROLES),
    role::<rbac::RoleBinding>(true, "RoleBinding", "rolebindings", true, access::ROLE_BINDINGS),
];

/// Sets a field of `spec` or `status` if it is not there.
fn default_in(object: &mut Value, part: &str, field: &str, value: Value) {
    child_mut(object, part).entry(field).or_insert(value);
}

fn complete_namespace(namespace: &mut Value, live: Option<&Value>) {
    let own = name(namespace).to_owned();
    let labels = metadata_mut(namespace).entry("labels").or_insert_with(|| json!({}));
    labels["kubernetes.io/metadata.name"] = json!(own);
    if live.is_none() {
        namespace["spec"] = json!({"finalizers": ["kubernetes"]});
        namespace["status"] = json!({"phase": "Active"});
    } else if let Some(live) = live {
        // Only the `finalize` subresource changes it.
        namespace["spec"] = live["spec"].clone();
    }
}

/// `stringData` is a way of writing `data`, and not kept.
fn complete_secret(secret: &mut Value, _: Option<&Value>) {
    let plain = secret.as_object_mut().and_then(|secret| secret.remove("stringData"));
    for (key, value) in plain.iter().filter_map(Value::as_object).flatten() {
        let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
        child_mut(secret, "data").insert(key.clone(), json!(encoded));
    }
    if secret["type"].as_str().unwrap_or_default().is_empty() {
        secret["type"] = json!("Opaque");
    }
}

fn validate_secret(secret: &Value, live: Option<&Value>) -> Vec<FieldError> {
    let mut errors = immutable_data(secret, live, &["data", "immutable"]);
    if live.is_some_and(|live| live["type"] != secret["type"]) {
        errors.push(FieldError::invalid("type", secret["type"].clone(), "field is immutable"));
    }
    errors
}

/// What is declared immutable stays, and stays so.
fn immutable_data(object: &Value, live: Option<&Value>, fields: &[&'static str]) -> Vec<FieldError> {
    let Some(live) = live.filter(|live| live["immutable"] == true) else { return Vec::new() };
    let changed = fields.iter().filter(|field| live[**field] != object[**field]);
    changed.map(|field| FieldError::forbidden(*field, "field is immutable when `immutable` is set")).collect()
}

fn complete_pod(pod: &mut Value, live: Option<&Value>) {
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("securityContext", json!({})),
        ("enableServiceLinks", json!(true)),
    ] {
        default_in(pod, "spec", field, value);
    }
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            complete_container(container);
        }
    }
    if live.is_none() {
        pod["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
    }
}

fn complete_container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let latest =
        image.ends_with(":latest") || !image.rsplit('/').next().unwrap_or_default().contains([':', '@']);
    let policy = if latest { "Always" } else { "IfNotPresent" };
    let Some(container) = container.as_object_mut() else { return };
    for (field, value) in [
        ("imagePullPolicy", json!(policy)),
        ("resources", json!({})),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
    ] {
        container.entry(field).or_insert(value);
    }
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            port.entry("protocol").or_insert_with(|| json!("TCP"));
        }
    }
}

fn complete_service(service: &mut Value, live: Option<&Value>) {
    for (field, value) in [
        ("type", json!("ClusterIP")),
        ("sessionAffinity", json!("None")),
        ("internalTrafficPolicy", json!("Cluster")),
        ("ipFamilies", json!(["IPv4"])),
        ("ipFamilyPolicy", json!("SingleStack")),
    ] {
        default_in(service, "spec", field, value);
    }
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        let number = port["port"].clone();
        if let Some(port) = port.as_object_mut() {
            port.entry("protocol").or_insert_with(|| json!("TCP"));
            port.entry("targetPort").or_insert(number);
        }
    }
    let address = match live {
        Some(live) => live["spec"]["clusterIP"].clone(),
        None => json!(cluster_address()),
    };
    default_in(service, "spec", "clusterIP", address);
    let address = service["spec"]["clusterIP"].clone();
    default_in(service, "spec", "clusterIPs", json!([address]));
    default_in(service, "status", "loadBalancer", json!({}));
}

/// An address for a Service; nothing listens there, so that two may have the same.
fn cluster_address() -> String {
    let [a, b] = rand::random::<[u8; 2]>();
    format!("10.96.{a}.{}", b.clamp(1, 254))
}
