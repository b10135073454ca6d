//! What the types of the built-in kinds do not say of themselves, taken from what kube-apiserver publishes.
//!
//! Types and fields without an entry are as is usual: lists are replaced as a whole, maps and objects are merged
//! field by field.

use serde_json::{Map, Value, json};

/// One fact about a field.
#[derive(Clone, Copy)]
enum Fact {
    /// A list whose items are told apart by these fields, in a strategic merge by the first of them.
    Map(&'static [&'static str]),
    /// The same for a list whose items are unions, of which a strategic merge keeps only what it names.
    Unions(&'static [&'static str]),
    /// A list whose items are told apart by these fields, but that a strategic merge replaces.
    ReplacedMap(&'static [&'static str]),
    /// A list of scalars, each at most once.
    Set,
    /// The same, to which a strategic merge adds.
    MergedSet,
    /// A list that is one value, but that a strategic merge merges by this field.
    MergedBy(&'static str),
    /// A map or an object that is one value.
    Atomic,
    /// An object whose type is one value elsewhere, and here is not.
    Granular,
    /// What an absent text becomes.
    Default(&'static str),
}

use Fact::{Atomic, Default, Granular, Map as MapOf, MergedBy, MergedSet, ReplacedMap, Set, Unions};

/// Types whose objects are one value wherever they are.
const ATOMIC: [&str; 15] = [
    "io.k8s.api.core.v1.ConfigMapKeySelector",
    "io.k8s.api.core.v1.FileKeySelector",
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.NodeSelector",
    "io.k8s.api.core.v1.NodeSelectorTerm",
    "io.k8s.api.core.v1.ObjectFieldSelector",
    "io.k8s.api.core.v1.ObjectReference",
    "io.k8s.api.core.v1.ResourceFieldSelector",
    "io.k8s.api.core.v1.SecretKeySelector",
    "io.k8s.api.core.v1.SecretReference",
    "io.k8s.api.core.v1.TypedLocalObjectReference",
    "io.k8s.api.rbac.v1.RoleRef",
    "io.k8s.api.rbac.v1.Subject",
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
    "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// Facts of fields, by the type that has them.
const FIELDS: &[(&str, &[(&str, Fact)])] = &[
    ("io.k8s.api.core.v1.AzureDiskVolumeSource", AZURE_DISK),
    ("io.k8s.api.core.v1.Container", CONTAINER),
    ("io.k8s.api.core.v1.ContainerPort", PROTOCOL),
    ("io.k8s.api.core.v1.ContainerRestartRuleOnExitCodes", &[("values", Set)]),
    ("io.k8s.api.core.v1.ContainerStatus", CONTAINER_STATUS),
    ("io.k8s.api.core.v1.EphemeralContainer", CONTAINER),
    ("io.k8s.api.core.v1.ISCSIPersistentVolumeSource", ISCSI),
    ("io.k8s.api.core.v1.ISCSIVolumeSource", ISCSI),
    ("io.k8s.api.core.v1.NamespaceStatus", CONDITIONS),
    ("io.k8s.api.core.v1.NodeSpec", &[("podCIDRs", MergedSet)]),
    ("io.k8s.api.core.v1.NodeStatus", &[("addresses", MapOf(&["type"])), ("conditions", MapOf(&["type"]))]),
    ("io.k8s.api.core.v1.PersistentVolumeClaimStatus", CONDITIONS),
    ("io.k8s.api.core.v1.PersistentVolumeSpec", &[("claimRef", Granular)]),
    ("io.k8s.api.core.v1.PodSpec", POD_SPEC),
    ("io.k8s.api.core.v1.PodStatus", POD_STATUS),
    ("io.k8s.api.core.v1.RBDPersistentVolumeSource", RBD),
    ("io.k8s.api.core.v1.RBDVolumeSource", RBD),
    ("io.k8s.api.core.v1.ResourceRequirements", &[("claims", ReplacedMap(&["name"]))]),
    ("io.k8s.api.core.v1.ResourceStatus", &[("resources", ReplacedMap(&["resourceID"]))]),
    ("io.k8s.api.core.v1.ScaleIOPersistentVolumeSource", SCALE_IO),
    ("io.k8s.api.core.v1.ScaleIOVolumeSource", SCALE_IO),
    ("io.k8s.api.core.v1.ServiceAccount", &[("secrets", MapOf(&["name"]))]),
    ("io.k8s.api.core.v1.ServicePort", PROTOCOL),
    ("io.k8s.api.core.v1.ServiceSpec", &[("ports", MapOf(&["port", "protocol"])), ("selector", Atomic)]),
    ("io.k8s.api.core.v1.ServiceStatus", CONDITIONS),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus",
        &[("conditions", ReplacedMap(&["type"]))],
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
        &[("x-kubernetes-validations", MapOf(&["rule"]))],
    ),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
        &[("finalizers", MergedSet), ("ownerReferences", MapOf(&["uid"]))],
    ),
];

const AZURE_DISK: &[(&str, Fact)] =
    &[("cachingMode", Default("ReadWrite")), ("fsType", Default("ext4")), ("kind", Default("Shared"))];

const CONDITIONS: &[(&str, Fact)] = &[("conditions", MapOf(&["type"]))];

const CONTAINER: &[(&str, Fact)] = &[
    ("env", MapOf(&["name"])),
    ("ports", MapOf(&["containerPort", "protocol"])),
    ("volumeDevices", MapOf(&["devicePath"])),
    ("volumeMounts", MapOf(&["mountPath"])),
];

const CONTAINER_STATUS: &[(&str, Fact)] =
    &[("allocatedResourcesStatus", MapOf(&["name"])), ("volumeMounts", MapOf(&["mountPath"]))];

const ISCSI: &[(&str, Fact)] = &[("iscsiInterface", Default("default"))];

const POD_SPEC: &[(&str, Fact)] = &[
    ("containers", MapOf(&["name"])),
    ("ephemeralContainers", MapOf(&["name"])),
    ("hostAliases", MapOf(&["ip"])),
    ("imagePullSecrets", MapOf(&["name"])),
    ("initContainers", MapOf(&["name"])),
    ("nodeSelector", Atomic),
    ("resourceClaims", Unions(&["name"])),
    ("schedulingGates", MapOf(&["name"])),
    ("topologySpreadConstraints", MapOf(&["topologyKey", "whenUnsatisfiable"])),
    ("volumes", Unions(&["name"])),
];

const POD_STATUS: &[(&str, Fact)] = &[
    ("conditions", MapOf(&["type"])),
    ("hostIPs", MergedBy("ip")),
    ("podIPs", MapOf(&["ip"])),
    ("resourceClaimStatuses", Unions(&["name"])),
];

const PROTOCOL: &[(&str, Fact)] = &[("protocol", Default("TCP"))];

const RBD: &[(&str, Fact)] =
    &[("keyring", Default("/etc/ceph/keyring")), ("pool", Default("rbd")), ("user", Default("admin"))];

const SCALE_IO: &[(&str, Fact)] = &[("fsType", Default("xfs")), ("storageMode", Default("ThinProvisioned"))];

/// Types whose `name` is empty when it is absent.
const MAY_BE_UNNAMED: &str = "io.k8s.api.core.v1.LocalObjectReference";

impl Fact {
    /// The fact in the words of `OpenAPI` documents.
    fn keywords(self) -> Value {
        let list = |list_type: &str| json!({ "x-kubernetes-list-type": list_type });
        let map =
            |keys: &[&str]| json!({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys });
        let merged = |mut keywords: Value, strategy: &str, key: Option<&&str>| {
            keywords["x-kubernetes-patch-strategy"] = json!(strategy);
            if let Some(key) = key {
                keywords["x-kubernetes-patch-merge-key"] = json!(key);
            }
            keywords
        };
        match self {
            Self::Map(keys) => merged(map(keys), "merge", keys.first()),
            Self::Unions(keys) => merged(map(keys), "merge,retainKeys", keys.first()),
            Self::ReplacedMap(keys) => map(keys),
            Self::Set => list("set"),
            Self::MergedSet => merged(list("set"), "merge", None),
            Self::MergedBy(key) => merged(list("atomic"), "merge", Some(&key)),
            Self::Atomic => json!({ "x-kubernetes-map-type": "atomic" }),
            Self::Granular => json!({ "x-kubernetes-map-type": "granular" }),
            Self::Default(text) => json!({ "default": text }),
        }
    }
}

/// Which fields a type requires, where the Rust type says otherwise.
fn correct_required(name: &str, schema: &mut Map<String, Value>) {
    let Some(Value::Array(required)) = schema.get_mut("required") else { return };
    required.retain(|field| match field.as_str() {
        Some("metadata") => name == "io.k8s.api.core.v1.Event",
        Some("name") => name != MAY_BE_UNNAMED,
        _ => true,
    });
    if name == "io.k8s.api.events.v1.Event" {
        required.push(json!("eventTime"));
    }
    if required.is_empty() {
        schema.remove("required");
    }
}

/// Writes the facts of a type and its fields into its schema.
pub(super) fn add(name: &str, schema: &mut Map<String, Value>) {
    correct_required(name, schema);
    if ATOMIC.contains(&name) {
        schema.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
    }
    let facts = FIELDS.iter().filter(|(owner, _)| *owner == name).flat_map(|(_, facts)| *facts);
    for (field, fact) in facts {
        let property = schema.get_mut("properties").and_then(|properties| properties.get_mut(*field));
        if let (Some(Value::Object(property)), Value::Object(keywords)) = (property, fact.keywords()) {
            property.extend(keywords);
        }
    }
}

/// The types and fields that there are facts of.
#[cfg(test)]
pub(super) fn fields() -> impl Iterator<Item = (&'static str, &'static str)> {
    FIELDS.iter().flat_map(|(owner, facts)| facts.iter().map(|(field, _)| (*owner, *field)))
}
