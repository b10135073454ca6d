//! [`BUILTINS`]: the table of the built-in kinds.

use serde::Serialize;
use serde::de::DeserializeOwned;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{SelfSubjectAccessReview, SelfSubjectRulesReview};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::events::v1 as events;
use k8s_openapi::api::rbac::v1 as rbac;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::{Builtin, data, event, namespace, pod, rules, service, typed, volume};
use crate::crds;
use crate::names::NameRule;
use crate::request::Verb;
use crate::store::{DEFINITIONS, NAMESPACES};

/// The collection of the Events of both groups.
const EVENTS: &str = "events";

/// The verbs of namespaces, which cannot be deleted as a collection.
const NAMESPACE_VERBS: &[Verb] =
    &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];

/// The rules of most kinds. Each entry of the table says where it differs.
pub(crate) const fn plain<K: DeserializeOwned + Serialize>(
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
        storage: None,
        verbs: &Verb::ALL,
        status: false,
        has_generation: false,
        unconditional_update: true,
        create_on_update: false,
        returns_deleted: false,
        name_rule: NameRule::Subdomain,
        blank: r#"{"metadata": {}}"#,
        typed: typed::<K>,
        default: |_| {},
        prepare: |_, _, _| {},
        validate: |_, _| Vec::new(),
        resize: None,
    }
}

const BLANK_ROLE: &str = r#"{"metadata": {}, "rules": null}"#;
const BLANK_BINDING: &str = r#"{"metadata": {}, "roleRef": {"apiGroup": "", "kind": "", "name": ""}}"#;

const fn role<K: DeserializeOwned + Serialize>(
    binding: bool,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
) -> Builtin {
    Builtin {
        group: "rbac.authorization.k8s.io",
        name_rule: NameRule::PathSegment,
        create_on_update: true,
        default: if binding { super::rbac::default_binding } else { |_| {} },
        validate: if binding { super::rbac::validate_binding } else { super::rbac::validate_role },
        blank: if binding { BLANK_BINDING } else { BLANK_ROLE },
        ..plain::<K>(kind, plural, namespaced)
    }
}

/// Every built-in kind.
pub(crate) static BUILTINS: &[Builtin] = &[
    Builtin {
        short_names: &["ns"],
        storage: Some(NAMESPACES),
        status: true,
        name_rule: NameRule::Label,
        verbs: NAMESPACE_VERBS,
        default: namespace::default,
        prepare: namespace::prepare,
        blank: r#"{"metadata": {}, "spec": {}, "status": {}}"#,
        ..plain::<core::Namespace>("Namespace", "namespaces", false)
    },
    Builtin {
        short_names: &["cm"],
        validate: data::validate_config_map,
        ..plain::<core::ConfigMap>("ConfigMap", "configmaps", true)
    },
    Builtin {
        default: data::default_secret,
        validate: data::validate_secret,
        ..plain::<core::Secret>("Secret", "secrets", true)
    },
    Builtin {
        short_names: &["ev"],
        storage: Some(EVENTS),
        create_on_update: true,
        validate: event::validate,
        blank: r#"{"metadata": {}, "involvedObject": {}, "source": {}, "firstTimestamp": null, "lastTimestamp": null, "eventTime": null, "reportingComponent": "", "reportingInstance": ""}"#,
        ..plain::<core::Event>("Event", "events", true)
    },
    Builtin {
        group: "events.k8s.io",
        short_names: &["ev"],
        storage: Some(EVENTS),
        create_on_update: true,
        validate: event::validate_new,
        blank: r#"{"metadata": {}, "eventTime": null, "regarding": {}, "deprecatedSource": {}, "deprecatedFirstTimestamp": null, "deprecatedLastTimestamp": null}"#,
        ..plain::<events::Event>("Event", "events", true)
    },
    Builtin {
        group: "coordination.k8s.io",
        unconditional_update: false,
        create_on_update: true,
        validate: rules::validate_lease,
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
        default: pod::default,
        prepare: pod::prepare,
        validate: pod::validate,
        resize: Some(pod::RESIZE),
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
        create_on_update: true,
        default: service::default,
        prepare: service::prepare,
        validate: service::validate,
        blank: r#"{"metadata": {}, "spec": {}, "status": {"loadBalancer": {}}}"#,
        ..plain::<core::Service>("Service", "services", true)
    },
    Builtin {
        short_names: &["pv"],
        status: true,
        returns_deleted: true,
        default: volume::default,
        prepare: volume::prepare,
        validate: volume::validate,
        blank: r#"{"metadata": {}, "spec": {}, "status": {}}"#,
        ..plain::<core::PersistentVolume>("PersistentVolume", "persistentvolumes", false)
    },
    Builtin {
        short_names: &["pvc"],
        status: true,
        returns_deleted: true,
        default: volume::default_claim,
        prepare: volume::prepare_claim,
        validate: volume::validate_claim,
        blank: r#"{"metadata": {}, "spec": {"resources": {}}, "status": {}}"#,
        ..plain::<core::PersistentVolumeClaim>("PersistentVolumeClaim", "persistentvolumeclaims", true)
    },
    Builtin {
        group: "authorization.k8s.io",
        verbs: &[Verb::Create],
        ..plain::<SelfSubjectAccessReview>("SelfSubjectAccessReview", "selfsubjectaccessreviews", false)
    },
    Builtin {
        group: "authorization.k8s.io",
        verbs: &[Verb::Create],
        ..plain::<SelfSubjectRulesReview>("SelfSubjectRulesReview", "selfsubjectrulesreviews", false)
    },
    Builtin {
        group: "authentication.k8s.io",
        verbs: &[Verb::Create],
        ..plain::<SelfSubjectReview>("SelfSubjectReview", "selfsubjectreviews", false)
    },
    Builtin {
        group: "apiextensions.k8s.io",
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        storage: Some(DEFINITIONS),
        unconditional_update: false,
        status: true,
        has_generation: true,
        default: crds::default,
        prepare: crds::prepare,
        validate: crds::validate,
        blank: r#"{"metadata": {}, "spec": {"group": "", "names": {"plural": "", "kind": ""}, "scope": "", "versions": null}, "status": {"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": null}}"#,
        ..plain::<CustomResourceDefinition>("CustomResourceDefinition", "customresourcedefinitions", false)
    },
    role::<rbac::ClusterRole>(false, "ClusterRole", "clusterroles", false),
    role::<rbac::ClusterRoleBinding>(true, "ClusterRoleBinding", "clusterrolebindings", false),
    role::<rbac::Role>(false, "Role", "roles", true),
    role::<rbac::RoleBinding>(true, "RoleBinding", "rolebindings", true),
];

#[cfg(test)]
mod tests {
    use super::BUILTINS;

    #[test]
    fn blank_objects_are_objects() {
        for builtin in BUILTINS {
            assert!(builtin.blank()["metadata"].is_object(), "{}", builtin.kind);
        }
    }
}
