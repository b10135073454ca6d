//! PUT: which kinds are replaced without a version, and which are created by it.

use serde_json::{Value, json};

use super::answer::{text, version};
use super::collection::Collection;
use super::server::{Server, User};

on_every_server![
    leases_and_definitions_are_replaced_only_with_a_version,
    other_built_in_kinds_are_replaced_without_a_version,
    some_built_in_kinds_are_created_by_a_put,
    other_kinds_are_not_created_by_a_put,
    a_version_does_not_matter_to_what_a_put_creates,
    a_uid_is_a_conflict_for_what_a_put_would_create,
    what_a_put_creates_is_validated,
    a_dry_run_of_a_put_creates_nothing,
    a_put_that_creates_needs_the_permission_to_create,
    a_put_creates_nothing_in_a_namespace_that_is_not_there,
    a_patch_creates_nothing,
];

/// The objects of the kinds that a PUT creates, and what such an object needs.
async fn creatable(server: &Server) -> Vec<(Collection, Value)> {
    let rbac = "rbac.authorization.k8s.io/v1";
    let role_ref = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r" });
    let cluster_ref = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r" });
    let namespace = server.namespace().await;
    let event = json!({ "involvedObject": { "namespace": namespace } });
    vec![
        (leases(server).await, json!({})),
        (server.in_namespace(&namespace, "v1", "events", "Event"), event),
        (
            server.namespaced("v1", "services", "Service").await,
            json!({ "spec": { "clusterIP": "None", "selector": { "a": "b" } } }),
        ),
        (server.namespaced(rbac, "roles", "Role").await, json!({ "rules": [] })),
        (server.namespaced(rbac, "rolebindings", "RoleBinding").await, json!({ "roleRef": role_ref })),
        (server.everywhere(rbac, "clusterroles", "ClusterRole"), json!({ "rules": [] })),
        (
            server.everywhere(rbac, "clusterrolebindings", "ClusterRoleBinding"),
            json!({ "roleRef": cluster_ref }),
        ),
    ]
}

async fn leases(server: &Server) -> Collection {
    server.namespaced("coordination.k8s.io/v1", "leases", "Lease").await
}

/// A name that no other test has: some kinds are in no namespace.
fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4())
}

async fn leases_and_definitions_are_replaced_only_with_a_version(server: &Server) {
    let leases = leases(server).await;
    let definition = super::kinds::definition(
        "replaced.conformance.test",
        "Thing",
        &json!({ "schema": super::kinds::any_object() }),
    );
    server.install(definition).await;
    let lease = leases.made("a", json!({ "spec": { "holderIdentity": "x" } })).await;
    for (objects, name) in [(&leases, "a"), (&server.crds(), "things.replaced.conformance.test")] {
        let mut object = objects.get(name).await.ok();
        let version = object["metadata"]["resourceVersion"].take();
        object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        let refused = objects.put(name, object.clone()).await;
        assert_eq!(refused.invalid(), ["metadata.resourceVersion: FieldValueInvalid"]);
        let status = refused.json();
        let plural = objects.path.rsplit('/').next().unwrap();
        assert_eq!(status["details"]["kind"], plural);
        assert!(text(&status, "/message").contains("must be specified for an update"), "{status}");
        object["metadata"]["resourceVersion"] = version;
        object["metadata"]["labels"] = json!({ "l": "x" });
        objects.put(name, object).await.ok();
    }
    let mut stale = lease;
    stale["spec"]["holderIdentity"] = json!("y");
    leases.put("a", stale).await.refused(409, "Conflict");
}

async fn other_built_in_kinds_are_replaced_without_a_version(server: &Server) {
    let rbac = "rbac.authorization.k8s.io/v1";
    for objects in [
        server.config_maps().await,
        server.namespaced("v1", "secrets", "Secret").await,
        server.namespaced("v1", "serviceaccounts", "ServiceAccount").await,
        server.namespaced(rbac, "roles", "Role").await,
    ] {
        objects.made("a", json!({})).await;
        let labelled = objects.object("a", json!({ "metadata": { "labels": { "l": "x" } } }));
        assert_eq!(objects.put("a", labelled).await.ok()["metadata"]["labels"]["l"], "x");
    }
}

async fn some_built_in_kinds_are_created_by_a_put(server: &Server) {
    for (objects, rest) in creatable(server).await {
        let name = unique("put");
        let created = objects.put(&name, objects.object(&name, rest.clone())).await.created();
        let metadata = &created["metadata"];
        assert!(!text(&created, "/metadata/uid").is_empty(), "{created}");
        assert!(text(&created, "/metadata/creationTimestamp").ends_with('Z'), "{created}");
        assert!(version(&created) > 0);
        let operation = &metadata["managedFields"][0]["operation"];
        assert!(operation == "Update" || metadata.get("managedFields").is_none(), "{created}");
        assert_eq!(objects.get(&name).await.ok(), created);
        // It is there now: a second PUT replaces it.
        let mut object = created.clone();
        object["metadata"]["labels"] = json!({ "l": "x" });
        let replaced = objects.put(&name, object).await.ok();
        assert_eq!(replaced["metadata"]["uid"], metadata["uid"]);
        objects.delete(&name).await.ok();
    }
}

async fn other_kinds_are_not_created_by_a_put(server: &Server) {
    let pod = json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    for (objects, rest) in [
        (server.config_maps().await, json!({})),
        (server.namespaced("v1", "pods", "Pod").await, pod),
        (server.namespaced("v1", "serviceaccounts", "ServiceAccount").await, json!({})),
        (server.widgets().await, json!({})),
        (server.everywhere("v1", "nodes", "Node"), json!({})),
        (server.everywhere("v1", "namespaces", "Namespace"), json!({})),
    ] {
        let name = unique("none");
        objects.put(&name, objects.object(&name, rest)).await.refused(404, "NotFound");
        objects.get(&name).await.refused(404, "NotFound");
    }
    let name = "things.never.conformance.test";
    let definition = super::kinds::definition(
        "never.conformance.test",
        "Thing",
        &json!({ "schema": super::kinds::any_object() }),
    );
    server.crds().put(name, definition).await.refused(404, "NotFound");
}

async fn a_version_does_not_matter_to_what_a_put_creates(server: &Server) {
    let leases = leases(server).await;
    let object = leases.object("a", json!({ "metadata": { "resourceVersion": "1" } }));
    let created = leases.put("a", object).await.created();
    assert_ne!(created["metadata"]["resourceVersion"], "1");
}

async fn a_uid_is_a_conflict_for_what_a_put_would_create(server: &Server) {
    let leases = leases(server).await;
    let uid = "00000000-0000-0000-0000-000000000000";
    let object = leases.object("a", json!({ "metadata": { "uid": uid } }));
    let status = leases.put("a", object).await.refused(409, "Conflict");
    let expected = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: ");
    assert!(text(&status, "/message").contains(&expected), "{status}");
    leases.get("a").await.refused(404, "NotFound");
}

async fn what_a_put_creates_is_validated(server: &Server) {
    let leases = leases(server).await;
    let wrong = leases.object("a", json!({ "spec": { "leaseDurationSeconds": -1 } }));
    assert_eq!(leases.put("a", wrong).await.invalid(), ["spec.leaseDurationSeconds: FieldValueInvalid"]);
    leases.put("a", leases.object("b", json!({}))).await.refused(400, "BadRequest");
    leases.get("a").await.refused(404, "NotFound");
}

async fn a_dry_run_of_a_put_creates_nothing(server: &Server) {
    let leases = leases(server).await;
    leases.put("a?dryRun=All", leases.object("a", json!({}))).await.created();
    leases.get("a").await.refused(404, "NotFound");
}

async fn a_put_that_creates_needs_the_permission_to_create(server: &Server) {
    const USER: &str = "updater-of-conformance";
    let leases = leases(server).await;
    let namespace = leases.path.split('/').nth(5).unwrap().to_owned();
    let rbac = "rbac.authorization.k8s.io/v1";
    let rule = json!({ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["update"] });
    let roles = server.in_namespace(&namespace, rbac, "roles", "Role");
    roles.made("updater", json!({ "rules": [rule] })).await;
    let bindings = server.in_namespace(&namespace, rbac, "rolebindings", "RoleBinding");
    let role_ref = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "updater" });
    let subject = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER });
    bindings.made("updater", json!({ "roleRef": role_ref, "subjects": [subject] })).await;
    leases.made("a", json!({})).await;
    let user = server.asked_by(User::Named(USER)).await;
    let of_user = user.at(&leases.path, "coordination.k8s.io/v1", "Lease");
    crate::support::eventually("the grant counts", crate::support::SOON, async || {
        let answer = of_user.put("a", leases.get("a").await.ok()).await;
        anyhow::ensure!(answer.code == 200, "{answer:?}");
        Ok(())
    })
    .await;
    let status = of_user.put("b", leases.object("b", json!({}))).await.refused(403, "Forbidden");
    assert!(text(&status, "/message").contains("cannot create resource \"leases\""), "{status}");
    leases.get("b").await.refused(404, "NotFound");
}

async fn a_put_creates_nothing_in_a_namespace_that_is_not_there(server: &Server) {
    let leases = server.in_namespace(&unique("none"), "coordination.k8s.io/v1", "leases", "Lease");
    leases.put("a", leases.object("a", json!({}))).await.refused(404, "NotFound");
}

async fn a_patch_creates_nothing(server: &Server) {
    let leases = leases(server).await;
    leases.merge("a", json!({ "metadata": { "labels": { "l": "x" } } })).await.refused(404, "NotFound");
}
