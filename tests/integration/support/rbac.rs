//! Permissions for the users of tests.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::Cluster;

const GROUP: &str = "rbac.authorization.k8s.io";

impl Cluster {
    /// Allows a user to watch all that a cache may want, everywhere, but no Secrets.
    pub(crate) async fn grant_all_but_secrets(&self, user: &str) {
        let rules = json!([
            { "apiGroups": ["agents.kruise.io"], "resources": ["*"], "verbs": ["get", "list", "watch"] },
            { "apiGroups": [""], "resources": ["configmaps", "persistentvolumes", "persistentvolumeclaims"],
              "verbs": ["get", "list", "watch"] },
        ]);
        let (role, binding) = role_and_binding("ClusterRole", user, &rules);
        let client = self.client().await;
        let role: ClusterRole = serde_json::from_value(role).expect("a role");
        let binding: ClusterRoleBinding = serde_json::from_value(binding).expect("a binding");
        Api::all(client.clone()).create(&PostParams::default(), &role).await.expect("granting");
        Api::all(client).create(&PostParams::default(), &binding).await.expect("granting");
    }

    /// Allows a user to watch the Secrets of a namespace.
    pub(crate) async fn grant_secrets(&self, user: &str, namespace: &str) {
        let rules = json!([{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"] }]);
        self.grant_in(user, namespace, &rules).await;
    }

    /// Allows a user to do everything in a namespace.
    pub(crate) async fn grant_all_in(&self, user: &str, namespace: &str) {
        self.grant_in(user, namespace, &json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }]))
            .await;
    }

    async fn grant_in(&self, user: &str, namespace: &str, rules: &Value) {
        let (role, binding) = role_and_binding("Role", user, rules);
        let client = self.client().await;
        let role: Role = serde_json::from_value(role).expect("a role");
        let binding: RoleBinding = serde_json::from_value(binding).expect("a binding");
        Api::namespaced(client.clone(), namespace)
            .create(&PostParams::default(), &role)
            .await
            .expect("granting");
        Api::namespaced(client, namespace).create(&PostParams::default(), &binding).await.expect("granting");
    }
}

/// A role and its binding to a user, both of the user's name.
fn role_and_binding(kind: &str, user: &str, rules: &Value) -> (Value, Value) {
    let role = json!({ "metadata": { "name": user }, "rules": rules });
    let binding = json!({
        "metadata": { "name": user },
        "roleRef": { "apiGroup": GROUP, "kind": kind, "name": user },
        "subjects": [{ "apiGroup": GROUP, "kind": "User", "name": user }],
    });
    (role, binding)
}
