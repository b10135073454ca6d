//! The objects for performance measurements, the same for every implementation and every API server.
//!
//! Sandbox *i* belongs to pool *i mod 10*. Odd sandboxes are claimed by one of fifty users, even sandboxes
//! are free members of their pool. Each is 2.8 KB of JSON before a server adds `managedFields`. Half of that
//! is the pod template, and each pool has one template.

use serde_json::{Value, json};

use crate::api::v1alpha1::{
    ANNOTATION_CLAIM_TIMESTAMP, ANNOTATION_LOCK, ANNOTATION_OWNER, API_VERSION, LABEL_SANDBOX_CLAIMED,
    LABEL_SANDBOX_POOL, LABEL_SANDBOX_TEMPLATE, LABEL_TEMPLATE_HASH,
};

/// Number of pools.
pub const POOLS: usize = 10;

/// Upper limit of the user numbers. Even sandboxes are not claimed, so half of the numbers are used.
pub const USERS: usize = 100;

/// The namespace of all objects.
pub const NAMESPACE: &str = "default";

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
            "app.example.com/tier": "interactive",
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
    use crate::api::v1alpha1::{Sandbox, StateKind};

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
    fn a_template_is_a_kilobyte_and_a_half_and_the_same_within_a_pool() {
        let size = template("pool-1").to_string().len();
        assert!((1400..=1600).contains(&size), "{size}");
        assert_eq!(sandbox(3)["spec"], sandbox(13)["spec"]);
        assert_ne!(sandbox(3)["spec"], sandbox(4)["spec"]);
    }
}
