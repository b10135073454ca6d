//! The objects that requests are about.

use serde_json::{Value, json};

use crate::harness::Harness;
use crate::object;
use crate::store::Key;

/// A kind: the path of its objects, its subresources, and an object of it.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) path: &'static str,
    pub(super) storage: &'static str,
    pub(super) object: Value,
}

const DEFAULT: &str = "/api/v1/namespaces/default";

/// An object of nearly every kind.
pub(super) fn kinds() -> Vec<Kind> {
    let mut kinds = core_kinds();
    kinds.extend(other_kinds());
    kinds
}

fn kind(path: &'static str, storage: &'static str, api_version: &str, kind: &str, fields: Value) -> Kind {
    let mut object = fields;
    object["apiVersion"] = json!(api_version);
    object["kind"] = json!(kind);
    let metadata = json!({
        "name": "a", "uid": "u", "labels": {"l": "x"}, "annotations": {"n": "y"},
        "finalizers": ["example.com/hold"], "creationTimestamp": "2026-01-01T00:00:00Z",
        "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "b", "uid": "o"}],
    });
    object["metadata"] = metadata;
    if path.contains("/namespaces/default/") {
        object["metadata"]["namespace"] = json!("default");
    }
    Kind { path, storage, object }
}

fn core_kinds() -> Vec<Kind> {
    let port = json!({"name": "p", "port": 80, "targetPort": 80, "protocol": "TCP"});
    let container = json!({
        "name": "c", "image": "i", "ports": [{"containerPort": 1}], "env": [{"name": "e", "value": "v"}],
        "resources": {"limits": {"cpu": "1"}}, "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    });
    let about = json!({"kind": "Pod", "name": "a", "namespace": "default"});
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let volume = json!({
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"},
    });
    vec![
        kind(
            concat!("/api/v1/namespaces/default", "/configmaps"),
            "configmaps",
            "v1",
            "ConfigMap",
            json!({"data": {"a": "b"}, "binaryData": {"c": "YQ=="}}),
        ),
        kind(
            "/api/v1/namespaces/default/secrets",
            "secrets",
            "v1",
            "Secret",
            json!({"data": {"a": "YQ=="}, "stringData": {"b": "c"}, "type": "Opaque"}),
        ),
        kind(
            "/api/v1/namespaces/default/pods",
            "pods",
            "v1",
            "Pod",
            json!({"spec": {"containers": [container], "volumes": [{"name": "v"}], "nodeName": "n"}}),
        ),
        kind(
            "/api/v1/namespaces/default/services",
            "services",
            "v1",
            "Service",
            json!({"spec": {"ports": [port], "type": "NodePort"}}),
        ),
        kind(
            "/api/v1/namespaces/default/persistentvolumeclaims",
            "persistentvolumeclaims",
            "v1",
            "PersistentVolumeClaim",
            json!({"spec": claim}),
        ),
        kind(
            "/api/v1/persistentvolumes",
            "persistentvolumes",
            "v1",
            "PersistentVolume",
            json!({"spec": volume}),
        ),
        kind(
            "/api/v1/namespaces/default/events",
            "events",
            "v1",
            "Event",
            json!({"involvedObject": about, "reason": "R", "count": 1, "source": {"component": "c"}}),
        ),
        kind(
            "/api/v1/namespaces/default/serviceaccounts",
            "serviceaccounts",
            "v1",
            "ServiceAccount",
            json!({}),
        ),
        kind(
            "/api/v1/namespaces",
            "namespaces",
            "v1",
            "Namespace",
            json!({"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
        ),
        kind(
            "/api/v1/nodes",
            "nodes",
            "v1",
            "Node",
            json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}, "status": {"capacity": {"cpu": "1"}}}),
        ),
    ]
}

fn other_kinds() -> Vec<Kind> {
    let about = json!({"kind": "Pod", "name": "a", "namespace": "default"});
    let event = json!({
        "regarding": about, "eventTime": "2026-01-01T00:00:00.000001Z", "action": "A", "reason": "R", "type": "Normal",
        "reportingController": "example.com/c", "reportingInstance": "i", "note": "n",
    });
    let lease = json!({"spec": {"holderIdentity": "h", "renewTime": "2026-01-01T00:00:00.000001Z"}});
    let binding = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}],
    });
    let role = json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]});
    let widget = json!({"spec": {"text": "a", "number": 1, "parts": [{"name": "p", "size": 1}], "free": {"x": 1}},
                        "status": {"replicas": 1}});
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    vec![
        kind(
            "/apis/events.k8s.io/v1/namespaces/default/events",
            "events",
            "events.k8s.io/v1",
            "Event",
            event,
        ),
        kind(
            "/apis/coordination.k8s.io/v1/namespaces/default/leases",
            "leases.coordination.k8s.io",
            "coordination.k8s.io/v1",
            "Lease",
            lease,
        ),
        kind(
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            "clusterroles.rbac.authorization.k8s.io",
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            role,
        ),
        kind(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            "clusterrolebindings.rbac.authorization.k8s.io",
            "rbac.authorization.k8s.io/v1",
            "ClusterRoleBinding",
            binding,
        ),
        kind(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "",
            "authorization.k8s.io/v1",
            "SelfSubjectAccessReview",
            review,
        ),
        kind(
            "/apis/fuzz.test/v1/namespaces/default/widgets",
            "widgets.fuzz.test",
            "fuzz.test/v1",
            "Widget",
            widget.clone(),
        ),
        kind("/apis/fuzz.test/v1beta1/namespaces/default/widgets", "", "fuzz.test/v1beta1", "Widget", widget),
        definition(),
    ]
}

fn definition() -> Kind {
    let part = json!({"type": "object", "required": ["name"],
                      "properties": {"name": {"type": "string"}, "size": {"type": "integer", "default": 1}}});
    let spec = json!({"type": "object", "properties": {
        "text": {"type": "string", "pattern": "^[a-z]*$"}, "number": {"type": "integer", "minimum": 0, "default": 3},
        "parts": {"type": "array", "items": part, "x-kubernetes-list-type": "map",
                  "x-kubernetes-list-map-keys": ["name"]},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "inner": {"type": "object", "x-kubernetes-embedded-resource": true,
                  "x-kubernetes-preserve-unknown-fields": true},
    }});
    let status = json!({"type": "object", "properties": {"replicas": {"type": "integer"}}});
    let form = json!({"type": "object", "properties": {"spec": spec, "status": status}});
    let scale = json!({"specReplicasPath": ".spec.number", "statusReplicasPath": ".status.replicas"});
    let version = json!({
        "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": form},
        "subresources": {"status": {}, "scale": scale}, "selectableFields": [{"jsonPath": ".spec.text"}],
        "additionalPrinterColumns": [{"name": "Text", "type": "string", "jsonPath": ".spec.text"}],
    });
    let mut older = version.clone();
    older["name"] = json!("v1beta1");
    older["storage"] = json!(false);
    let names =
        json!({"kind": "Widget", "listKind": "WidgetList", "plural": "widgets", "singular": "widget"});
    let mut definition = kind(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "customresourcedefinitions.apiextensions.k8s.io",
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        json!({
            "spec": {"group": "fuzz.test", "scope": "Namespaced", "names": names, "versions": [version, older],
                     "conversion": {"strategy": "None"}},
            "status": {"acceptedNames": names, "storedVersions": ["v1"],
                       "conditions": [{"type": "Established", "status": "True"}]},
        }),
    );
    definition.object["metadata"]["name"] = json!("widgets.fuzz.test");
    definition
}

/// A server with one object of each kind.
pub(super) fn with_objects() -> Harness {
    let harness = Harness::new();
    for kind in kinds().into_iter().filter(|kind| !kind.storage.is_empty()) {
        let key = Key::new(object::namespace(&kind.object), object::name(&kind.object));
        harness.state.store.force(&kind.storage.into(), &key, kind.object);
    }
    harness.state.refresh_registry();
    harness
}

#[test]
fn every_kind_is_there() {
    let paths = kinds();
    assert!(paths.iter().any(|kind| kind.path.starts_with(DEFAULT)));
    let runtime = super::runtime();
    runtime.block_on(async {
        let harness = with_objects();
        for kind in kinds() {
            let path = format!("{}/{}", kind.path, object::name(&kind.object));
            let expected = if kind.path.ends_with("reviews") { 404 } else { 200 };
            assert_eq!(harness.get(&path).await.0, expected, "{path}");
        }
    });
}
