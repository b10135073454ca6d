//! The objects for performance measurements, the same for every implementation and every API server.
//!
//! Sandbox *i* belongs to pool *i mod 10*. Odd sandboxes are claimed by one of fifty users, even sandboxes
//! are free members of their pool. Each is 2.8 KB of JSON before a server adds `managedFields`. Half of that
//! is the pod template. [`Templates`] says how much the templates differ.

use serde_json::{Value, json};

use crate::api::v1alpha1::{
    ANNOTATION_CLAIM_TIMESTAMP, ANNOTATION_LOCK, ANNOTATION_OWNER, API_VERSION, LABEL_SANDBOX_CLAIMED,
    LABEL_SANDBOX_NAME, LABEL_SANDBOX_POOL, LABEL_SANDBOX_TEMPLATE, LABEL_TEMPLATE_HASH, Sandbox, label,
};

/// The annotation in which `kubectl apply` keeps what it applied. The cache does not keep it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Number of fields that each earlier writer owns. They make `managedFields` 5 KB on a server that adds its own.
const EARLIER_FIELDS: usize = 36;

/// How much the pod templates of the sandboxes differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Templates {
    /// All sandboxes of a pool have the same template.
    #[default]
    PerPool,
    /// As in a fleet in use: a claim writes labels of the user and the sandbox into the metadata of the template. The
    /// spec of the template is the same in the whole pool.
    Claimed,
    /// Metadata and spec of each template differ from those of every other template.
    Distinct,
}

/// Number of pools.
pub const POOLS: usize = 10;

/// Upper limit of the user numbers. Even sandboxes are not claimed, so half of the numbers are used.
pub const USERS: usize = 100;

/// The namespace of all objects.
pub const NAMESPACE: &str = "default";

/// The label that every sandbox of the workload has, and no other.
const LABEL_TIER: &str = "app.example.com/tier";

/// Returns true for a sandbox of the workload. In `dev` no controller acts on it: there is no set for its pool and no
/// pod for its status.
#[must_use]
pub fn is_static(sandbox: &Sandbox) -> bool {
    label(&sandbox.metadata, LABEL_TIER).is_some()
}

/// Returns the pool of sandbox `i`.
#[must_use]
pub fn pool(i: usize) -> String {
    format!("pool-{}", i % POOLS)
}

/// Returns the name of sandbox `i`.
#[must_use]
pub fn name(i: usize) -> String {
    format!("{}-{i:06}", pool(i))
}

/// Returns the owner of sandbox `i`, if it is claimed.
#[must_use]
pub fn user(i: usize) -> Option<String> {
    (i % 2 == 1).then(|| format!("user-{}", i % USERS))
}

/// Returns sandbox `i` without a status.
#[must_use]
pub fn sandbox(i: usize) -> Value {
    let pool = pool(i);
    let mut metadata = json!({
        "name": name(i),
        "namespace": NAMESPACE,
        "labels": {
            LABEL_SANDBOX_POOL: pool,
            LABEL_SANDBOX_TEMPLATE: pool,
            LABEL_SANDBOX_CLAIMED: (i % 2 == 1).to_string(),
            LABEL_TEMPLATE_HASH: format!("{:010x}", 0x5eed_0000_u64 + (i % POOLS) as u64),
            "app.example.com/team": format!("team-{}", i % 7),
            LABEL_TIER: "interactive",
        },
    });
    match user(i) {
        Some(user) => {
            metadata["annotations"] = json!({
                ANNOTATION_OWNER: user,
                ANNOTATION_CLAIM_TIMESTAMP: "2026-01-01T00:00:00Z",
                ANNOTATION_LOCK: format!("00000000-0000-4000-8000-{i:012x}"),
            });
        }
        None => {
            metadata["ownerReferences"] = json!([{
                "apiVersion": API_VERSION, "kind": "SandboxSet", "name": pool,
                "uid": format!("00000000-0000-4000-9000-{:012x}", i % POOLS),
                "controller": true, "blockOwnerDeletion": true,
            }]);
        }
    }
    json!({
        "apiVersion": API_VERSION, "kind": "Sandbox", "metadata": metadata,
        "spec": {"template": template(&pool), "persistentContents": ["filesystem"], "runtimes": [{"name": "agent-runtime"}]},
    })
}

/// Returns sandbox `i` without a status, with a template of this kind.
#[must_use]
pub fn sandbox_with(i: usize, templates: Templates) -> Value {
    let mut object = sandbox(i);
    let template = &mut object["spec"]["template"];
    match (templates, user(i)) {
        (Templates::Claimed, Some(user)) => {
            // A claim writes its owner into an annotation of the sandbox, and into a label of the same key here.
            template["metadata"]["labels"][ANNOTATION_OWNER] = json!(user);
            template["metadata"]["labels"][LABEL_SANDBOX_NAME] = json!(name(i));
        }
        (Templates::Distinct, _) => {
            template["metadata"]["annotations"] = json!({"app.example.com/sandbox": name(i)});
            template["spec"]["containers"][0]["env"][0]["value"] = json!(name(i));
        }
        (Templates::PerPool | Templates::Claimed, _) => {}
    }
    object
}

/// Adds what earlier writers leave on an object, which the cache does not keep: the last-applied annotation, and two
/// entries of `managedFields`. With the entries of kube-apiserver for the creation and for the status, an object is
/// then 9.4 KB of JSON, of which 5 KB are `managedFields`.
pub fn add_history(object: &mut Value) {
    let applied = json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"],
        "metadata": {"name": object["metadata"]["name"]}, "spec": {"template": object["spec"]["template"]},
    });
    object["metadata"]["annotations"][LAST_APPLIED] = json!(applied.to_string());
    // A server removes the fields that the new object has from these entries, so they own other fields.
    let entry = |manager: &str| {
        let fields =
            (0..EARLIER_FIELDS).map(|n| (format!("f:{manager}.example.com/field-{n:02}"), json!({})));
        let fields: serde_json::Map<_, _> = fields.collect();
        json!({
            "manager": manager, "operation": "Update", "apiVersion": API_VERSION, "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": fields}},
        })
    };
    object["metadata"]["managedFields"] = json!([entry("first-writer"), entry("other-writer")]);
}

/// Returns the pod template of a pool.
#[must_use]
pub fn template(pool: &str) -> Value {
    let probe = |path: &str, period: u32| json!({"httpGet": {"path": path, "port": 49_983}, "periodSeconds": period, "failureThreshold": 3});
    json!({
        "metadata": {"labels": {"app": "sandbox", "pool": pool}},
        "spec": {
            "initContainers": [{
                "name": "prepare", "image": "registry.example.com/agents/runtime-init:1.4.2",
                "command": ["/bin/sh", "-c", "cp -r /runtime/. /mnt/runtime/"],
                "volumeMounts": [{"name": "runtime", "mountPath": "/mnt/runtime"}],
            }],
            "containers": [{
                "name": "sandbox", "image": "registry.example.com/agents/code-interpreter:2.11.0",
                "ports": [
                    {"name": "runtime", "containerPort": 49_983, "protocol": "TCP"},
                    {"name": "jupyter", "containerPort": 8888, "protocol": "TCP"},
                ],
                "env": [
                    {"name": "POOL", "value": pool},
                    {"name": "RUNTIME_DIR", "value": "/mnt/runtime"},
                    {"name": "LOG_LEVEL", "value": "info"},
                    {"name": "MAX_IDLE_SECONDS", "value": "600"},
                    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ],
                "resources": {
                    "requests": {"cpu": "250m", "memory": "512Mi"},
                    "limits": {"cpu": "2", "memory": "2Gi"},
                },
                "volumeMounts": [
                    {"name": "runtime", "mountPath": "/mnt/runtime"},
                    {"name": "work", "mountPath": "/home/user"},
                ],
                "startupProbe": probe("/health", 1),
                "readinessProbe": probe("/ready", 5),
            }],
            "volumes": [
                {"name": "runtime", "emptyDir": {}},
                {"name": "work", "emptyDir": {"sizeLimit": "10Gi"}},
            ],
            "tolerations": [{"key": "sandbox", "operator": "Equal", "value": "true", "effect": "NoSchedule"}],
            "nodeSelector": {"node.example.com/pool": "sandbox"},
            "terminationGracePeriodSeconds": 5,
        },
    })
}

/// Returns the status of sandbox `i`: running and ready.
#[must_use]
pub fn status(i: usize) -> Value {
    let address = format!("10.{}.{}.{}", (i >> 16) & 255, (i >> 8) & 255, i & 255);
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
        })
    };
    let node = format!("node-{}", i % 50);
    json!({
        "phase": "Running", "observedGeneration": 1, "nodeName": node, "sandboxIp": address,
        "updateRevision": format!("{:010x}", 0x5eed_0000_u64 + (i % POOLS) as u64),
        "conditions": [condition("Ready", "True", "PodReady"), condition("InplaceUpdate", "True", "Succeeded")],
        "podInfo": {
            "podIP": address, "nodeName": node, "podUID": format!("00000000-0000-4000-a000-{i:012x}"),
            "labels": {"app": "sandbox"},
        },
    })
}

/// Returns sandbox `i` with its status, for [`ApiServer::load`](memory_apiserver::ApiServer::load).
#[must_use]
pub fn sandbox_with_status(i: usize) -> Value {
    let mut object = sandbox(i);
    object["status"] = status(i);
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::StateKind;

    fn typed(i: usize) -> Sandbox {
        serde_json::from_value(sandbox_with_status(i)).unwrap()
    }

    #[test]
    fn even_sandboxes_are_free_and_odd_ones_claimed() {
        let now = jiff::Timestamp::now();
        let (free, claimed) = (typed(42), typed(43));
        assert_eq!(
            (free.pool(), free.state(now).kind, free.owner()),
            (Some("pool-2"), StateKind::Available, None)
        );
        assert_eq!((claimed.state(now).kind, claimed.owner()), (StateKind::Running, Some("user-43")));
        assert_eq!(claimed.metadata.name.as_deref(), Some("pool-3-000043"));
    }

    #[test]
    fn the_static_sandboxes_are_those_of_the_workload() {
        let sample = crate::dev::sample::objects().into_iter().filter(|object| object["kind"] == "Sandbox");
        let sample: Vec<Sandbox> = sample.map(|object| serde_json::from_value(object).unwrap()).collect();
        assert!(is_static(&typed(42)) && is_static(&typed(43)));
        assert_eq!(sample.len(), 1);
        assert!(!sample.iter().any(is_static));
    }

    #[test]
    fn a_template_is_a_kilobyte_and_a_half_and_the_same_within_a_pool() {
        let size = template("pool-1").to_string().len();
        assert!((1400..=1600).contains(&size), "{size}");
        assert_eq!(sandbox(3)["spec"], sandbox(13)["spec"]);
        assert_ne!(sandbox(3)["spec"], sandbox(4)["spec"]);
    }

    #[test]
    fn templates_of_a_claimed_fleet_differ_in_metadata_only_and_distinct_ones_in_everything() {
        let part = |i, templates, part: &str| sandbox_with(i, templates)["spec"]["template"][part].clone();
        let (claimed, distinct) = (Templates::Claimed, Templates::Distinct);
        assert_eq!(part(4, claimed, "metadata"), part(14, claimed, "metadata"), "free members");
        assert_ne!(part(3, claimed, "metadata"), part(13, claimed, "metadata"));
        assert_eq!(part(3, claimed, "spec"), part(13, claimed, "spec"));
        assert_ne!(part(4, distinct, "metadata"), part(14, distinct, "metadata"));
        assert_ne!(part(4, distinct, "spec"), part(14, distinct, "spec"));
        assert_eq!(sandbox_with(3, Templates::PerPool), sandbox(3));
    }

    #[tokio::test]
    async fn a_server_keeps_the_history_of_an_object() {
        use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};

        let server = memory_apiserver::ApiServer::new();
        for crd in crate::api::v1alpha1::crds() {
            server.load(&serde_json::to_value(crd).unwrap()).unwrap();
        }
        let resource = ApiResource::erase::<Sandbox>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(server.client(), NAMESPACE, &resource);
        for i in [42, 43] {
            let mut object = sandbox(i);
            add_history(&mut object);
            let object = serde_json::from_value(object).unwrap();
            api.create(&PostParams::default(), &object).await.unwrap();
            let status = Patch::Merge(json!({"status": status(i)}));
            let object = api.patch_status(&name(i), &PatchParams::default(), &status).await.unwrap();
            let size = |value: &Value| value.to_string().len();
            let object = serde_json::to_value(&object).unwrap();
            let (all, managed) = (size(&object), size(&object["metadata"]["managedFields"]));
            assert!((4_700..=5_300).contains(&managed), "{managed}");
            assert!((9_100..=9_700).contains(&all), "{all}");
        }
    }
}
