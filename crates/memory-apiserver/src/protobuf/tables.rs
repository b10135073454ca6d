//! The fields of the messages that are read, as in the `generated.proto` files of Kubernetes 1.35.

use super::message::{Field, Message};

const fn text(number: u64, name: &'static str) -> Field {
    Field::text(number, name)
}

const OWNER_REFERENCE: Message = &[
    text(1, "kind"),
    text(3, "name"),
    text(4, "uid"),
    text(5, "apiVersion"),
    Field::truth(6, "controller").given(),
    Field::truth(7, "blockOwnerDeletion").given(),
];

const MANAGED_FIELDS_ENTRY: Message = &[
    text(1, "manager"),
    text(2, "operation"),
    text(3, "apiVersion"),
    Field::time(4, "time"),
    text(6, "fieldsType"),
    Field::json(7, "fieldsV1"),
    text(8, "subresource"),
];

const OBJECT_META: Message = &[
    text(1, "name"),
    text(2, "generateName"),
    text(3, "namespace"),
    text(4, "selfLink"),
    text(5, "uid"),
    text(6, "resourceVersion"),
    Field::whole(7, "generation"),
    Field::time(8, "creationTimestamp"),
    Field::time(9, "deletionTimestamp"),
    Field::whole(10, "deletionGracePeriodSeconds").given(),
    text(11, "labels").map(),
    text(12, "annotations").map(),
    Field::message(13, "ownerReferences", OWNER_REFERENCE).many(),
    text(14, "finalizers").many(),
    Field::message(17, "managedFields", MANAGED_FIELDS_ENTRY).many(),
];

const METADATA: Field = Field::message(1, "metadata", OBJECT_META);

const CONDITION: Message = &[
    text(1, "type"),
    text(2, "status"),
    Field::whole(3, "observedGeneration"),
    Field::time(4, "lastTransitionTime"),
    text(5, "reason"),
    text(6, "message"),
];

const REQUIREMENT: Message = &[text(1, "key"), text(2, "operator"), text(3, "values").many()];

const LABEL_SELECTOR: Message =
    &[text(1, "matchLabels").map(), Field::message(2, "matchExpressions", REQUIREMENT).many()];

const NAMESPACE: Message = &[
    METADATA,
    Field::message(2, "spec", &[text(1, "finalizers").many()]),
    Field::message(
        3,
        "status",
        &[
            text(1, "phase"),
            Field::message(
                2,
                "conditions",
                &[
                    text(1, "type"),
                    text(2, "status"),
                    Field::time(4, "lastTransitionTime"),
                    text(5, "reason"),
                    text(6, "message"),
                ],
            )
            .many(),
        ],
    ),
];

const CONFIG_MAP: Message = &[
    METADATA,
    text(2, "data").map(),
    Field::bytes(3, "binaryData").map(),
    Field::truth(4, "immutable").given(),
];

const SECRET: Message = &[
    METADATA,
    Field::bytes(2, "data").map(),
    text(3, "type"),
    text(4, "stringData").map(),
    Field::truth(5, "immutable").given(),
];

const OBJECT_REFERENCE: Message = &[
    text(1, "kind"),
    text(2, "namespace"),
    text(3, "name"),
    text(4, "uid"),
    text(5, "apiVersion"),
    text(6, "resourceVersion"),
    text(7, "fieldPath"),
];

const SERVICE_ACCOUNT: Message = &[
    METADATA,
    Field::message(2, "secrets", OBJECT_REFERENCE).many(),
    Field::message(3, "imagePullSecrets", &[text(1, "name")]).many(),
    Field::truth(4, "automountServiceAccountToken").given(),
];

const SERVICE_PORT: Message = &[
    text(1, "name"),
    text(2, "protocol"),
    Field::whole(3, "port"),
    Field::int_or_string(4, "targetPort"),
    Field::whole(5, "nodePort"),
    text(6, "appProtocol").given(),
];

const SERVICE_SPEC: Message = &[
    Field::message(1, "ports", SERVICE_PORT).many(),
    text(2, "selector").map(),
    text(3, "clusterIP"),
    text(4, "type"),
    text(5, "externalIPs").many(),
    text(7, "sessionAffinity"),
    text(8, "loadBalancerIP"),
    text(9, "loadBalancerSourceRanges").many(),
    text(10, "externalName"),
    text(11, "externalTrafficPolicy"),
    Field::whole(12, "healthCheckNodePort"),
    Field::truth(13, "publishNotReadyAddresses"),
    Field::message(
        14,
        "sessionAffinityConfig",
        &[Field::message(1, "clientIP", &[Field::whole(1, "timeoutSeconds").given()]).given()],
    )
    .given(),
    text(17, "ipFamilyPolicy").given(),
    text(18, "clusterIPs").many(),
    text(19, "ipFamilies").many(),
    Field::truth(20, "allocateLoadBalancerNodePorts").given(),
    text(21, "loadBalancerClass").given(),
    text(22, "internalTrafficPolicy").given(),
    text(23, "trafficDistribution").given(),
];

const INGRESS: Message = &[
    text(1, "ip"),
    text(2, "hostname"),
    text(3, "ipMode").given(),
    Field::message(4, "ports", &[Field::whole(1, "port"), text(2, "protocol"), text(3, "error").given()])
        .many(),
];

const SERVICE: Message = &[
    METADATA,
    Field::message(2, "spec", SERVICE_SPEC),
    Field::message(
        3,
        "status",
        &[
            Field::message(1, "loadBalancer", &[Field::message(1, "ingress", INGRESS).many()]),
            Field::message(2, "conditions", CONDITION).many(),
        ],
    ),
];

const POLICY_RULES: Field = Field::message(
    2,
    "rules",
    &[
        text(1, "verbs").many(),
        text(2, "apiGroups").many(),
        text(3, "resources").many(),
        text(4, "resourceNames").many(),
        text(5, "nonResourceURLs").many(),
    ],
)
.many();

const ROLE: Message = &[METADATA, POLICY_RULES];

const CLUSTER_ROLE: Message = &[
    METADATA,
    POLICY_RULES,
    Field::message(3, "aggregationRule", &[Field::message(1, "clusterRoleSelectors", LABEL_SELECTOR).many()])
        .given(),
];

const BINDING: Message = &[
    METADATA,
    Field::message(
        2,
        "subjects",
        &[text(1, "kind"), text(2, "apiGroup"), text(3, "name"), text(4, "namespace")],
    )
    .many(),
    Field::message(3, "roleRef", &[text(1, "apiGroup"), text(2, "kind"), text(3, "name")]),
];

const SELECTOR_ATTRIBUTES: Message =
    &[text(1, "rawSelector"), Field::message(2, "requirements", REQUIREMENT).many()];

const RESOURCE_ATTRIBUTES: Message = &[
    text(1, "namespace"),
    text(2, "verb"),
    text(3, "group"),
    text(4, "version"),
    text(5, "resource"),
    text(6, "subresource"),
    text(7, "name"),
    Field::message(8, "fieldSelector", SELECTOR_ATTRIBUTES).given(),
    Field::message(9, "labelSelector", SELECTOR_ATTRIBUTES).given(),
];

/// The status of a review is not read: the server sets it.
const ACCESS_REVIEW: Message = &[
    METADATA,
    Field::message(
        2,
        "spec",
        &[
            Field::message(1, "resourceAttributes", RESOURCE_ATTRIBUTES).given(),
            Field::message(2, "nonResourceAttributes", &[text(1, "path"), text(2, "verb")]).given(),
        ],
    ),
];

const RULES_REVIEW: Message = &[METADATA, Field::message(2, "spec", &[text(1, "namespace")])];

const SUBJECT_REVIEW: Message = &[METADATA];

const DELETE_OPTIONS: Message = &[
    Field::whole(1, "gracePeriodSeconds").given(),
    Field::message(2, "preconditions", &[text(1, "uid").given(), text(2, "resourceVersion").given()]).given(),
    Field::truth(3, "orphanDependents").given(),
    text(4, "propagationPolicy").given(),
    text(5, "dryRun").many(),
    Field::truth(6, "ignoreStoreReadErrorWithClusterBreakingPotential").given(),
];

/// Returns the message of a kind, or `None` if the kind is not read in protobuf.
pub(super) fn message(api_version: &str, kind: &str) -> Option<Message> {
    Some(match (api_version, kind) {
        // Clients send it in the version of the objects that are deleted.
        (_, "DeleteOptions") => DELETE_OPTIONS,
        ("v1", "Namespace") => NAMESPACE,
        ("v1", "ConfigMap") => CONFIG_MAP,
        ("v1", "Secret") => SECRET,
        ("v1", "ServiceAccount") => SERVICE_ACCOUNT,
        ("v1", "Service") => SERVICE,
        ("rbac.authorization.k8s.io/v1", "Role") => ROLE,
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => CLUSTER_ROLE,
        ("rbac.authorization.k8s.io/v1", "RoleBinding" | "ClusterRoleBinding") => BINDING,
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview") => ACCESS_REVIEW,
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => RULES_REVIEW,
        ("authentication.k8s.io/v1", "SelfSubjectReview") => SUBJECT_REVIEW,
        _ => return None,
    })
}
