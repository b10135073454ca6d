//! Garbage collection: an object goes with its owners, and does not come without one.
//!
//! A cluster collects some time later, so a test waits for what is to happen. For what is not to happen, it waits until
//! an object is collected that came later ([`Dependents::fence`]).

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::collection::Collection;
use super::server::Server;
use crate::support::eventually;

on_every_collecting_server![
    a_dependent_goes_with_its_owner,
    a_dependent_that_comes_after_its_owner_has_gone_goes,
    an_owner_of_another_uid_is_no_owner,
    an_owner_in_another_namespace_is_no_owner,
    an_owner_of_another_name_or_kind_is_no_owner,
    of_several_owners_only_those_that_are_gone_are_forgotten,
    an_owner_that_an_update_adds_must_exist,
    an_owner_without_a_namespace_owns_in_every_namespace,
    a_dependent_without_a_namespace_is_kept_for_an_owner_with_one,
    an_owner_of_an_unknown_kind_keeps_its_dependent,
    a_collected_object_waits_for_its_finalizers,
    in_the_foreground_an_owner_waits_for_dependents_that_block_it,
    in_the_foreground_another_owner_keeps_a_dependent,
    orphans_forget_their_owner,
];

/// How long to wait for the collector. That of kube-controller-manager begins only when it knows all objects.
const DEADLINE: Duration = Duration::from_mins(2);

const HOLD: &str = "example.com/hold";

/// The config maps of a namespace, which own one another.
struct Dependents(Collection);

impl Dependents {
    async fn new(server: &Server) -> Self {
        Self(server.namespaced("v1", "configmaps", "ConfigMap").await)
    }

    async fn made(&self, name: &str, owners: &[Value]) -> Value {
        self.0.made(name, json!({ "metadata": { "ownerReferences": owners } })).await
    }

    /// A dependent that a finalizer holds.
    async fn held(&self, name: &str, owners: &[Value]) -> Value {
        self.0.made(name, json!({ "metadata": { "ownerReferences": owners, "finalizers": [HOLD] } })).await
    }

    async fn free(&self, name: &str) {
        self.0.merge(name, json!({ "metadata": { "finalizers": null } })).await.ok();
    }

    async fn delete(&self, name: &str, policy: &str) {
        self.0.delete_with(name, json!({ "propagationPolicy": policy })).await.ok();
    }

    /// Waits until an object has gone.
    async fn gone(&self, name: &str) {
        eventually("an object is collected", DEADLINE, async || {
            let answer = self.0.get(name).await;
            anyhow::ensure!(answer.code == 404, "{name} is still there: {answer:?}");
            Ok(())
        })
        .await;
    }

    /// Waits until an object passes a check.
    async fn becomes(&self, name: &str, check: impl Fn(&Value) -> bool) {
        eventually("an object changes", DEADLINE, async || {
            let object = self.0.get(name).await.ok();
            anyhow::ensure!(check(&object), "{object}");
            Ok(())
        })
        .await;
    }

    async fn exists(&self, name: &str) -> bool {
        self.0.get(name).await.code == 200
    }

    /// Waits until the collector has seen everything before this call.
    async fn fence(&self) {
        self.made("fence", &[absent()]).await;
        self.gone("fence").await;
    }
}

fn reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    })
}

fn blocking(owner: &Value) -> Value {
    let mut reference = reference(owner);
    reference["blockOwnerDeletion"] = json!(true);
    reference
}

fn absent() -> Value {
    let uid = "11111111-2222-4333-8444-555555555555";
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "absent", "uid": uid })
}

fn is_marked(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

async fn a_dependent_goes_with_its_owner(server: &Server) {
    let maps = Dependents::new(server).await;
    let owner = maps.made("owner", &[]).await;
    let child = maps.made("child", &[reference(&owner)]).await;
    maps.made("grandchild", &[reference(&child)]).await;
    maps.fence().await;
    assert!(maps.exists("grandchild").await);
    maps.delete("owner", "Background").await;
    maps.gone("child").await;
    maps.gone("grandchild").await;
}

async fn a_dependent_that_comes_after_its_owner_has_gone_goes(server: &Server) {
    let maps = Dependents::new(server).await;
    let owner = maps.made("owner", &[]).await;
    maps.delete("owner", "Background").await;
    maps.made("late", &[reference(&owner)]).await;
    maps.gone("late").await;
}

async fn an_owner_of_another_uid_is_no_owner(server: &Server) {
    let maps = Dependents::new(server).await;
    let first = maps.made("owner", &[]).await;
    maps.delete("owner", "Background").await;
    maps.made("owner", &[]).await;
    maps.made("late", &[reference(&first)]).await;
    maps.gone("late").await;
    assert!(maps.exists("owner").await);
}

async fn an_owner_in_another_namespace_is_no_owner(server: &Server) {
    let (maps, others) = (Dependents::new(server).await, Dependents::new(server).await);
    let owner = others.made("owner", &[]).await;
    maps.made("far", &[reference(&owner)]).await;
    maps.gone("far").await;
    assert!(others.exists("owner").await);
}

async fn an_owner_of_another_name_or_kind_is_no_owner(server: &Server) {
    let maps = Dependents::new(server).await;
    let owner = maps.made("owner", &[]).await;
    for (field, value) in [("name", "other"), ("kind", "Secret")] {
        let mut wrong = reference(&owner);
        wrong[field] = json!(value);
        maps.made("wrong", &[wrong]).await;
        maps.gone("wrong").await;
    }
    assert!(maps.exists("owner").await);
}

async fn of_several_owners_only_those_that_are_gone_are_forgotten(server: &Server) {
    let maps = Dependents::new(server).await;
    let (first, second) = (maps.made("first", &[]).await, maps.made("second", &[]).await);
    maps.made("child", &[reference(&first), reference(&second), absent()]).await;
    maps.becomes("child", |child| {
        child["metadata"]["ownerReferences"] == json!([reference(&first), reference(&second)])
    })
    .await;
    maps.delete("first", "Background").await;
    maps.becomes("child", |child| child["metadata"]["ownerReferences"] == json!([reference(&second)])).await;
    maps.delete("second", "Background").await;
    maps.gone("child").await;
}

async fn an_owner_that_an_update_adds_must_exist(server: &Server) {
    let maps = Dependents::new(server).await;
    maps.made("child", &[]).await;
    maps.0.merge("child", json!({ "metadata": { "ownerReferences": [absent()] } })).await.ok();
    maps.gone("child").await;
}

/// Cluster-scoped objects that do nothing.
async fn cluster_role(server: &Server, owners: &[Value]) -> (Collection, Value) {
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let roles = server.at(path, "rbac.authorization.k8s.io/v1", "ClusterRole");
    let object =
        json!({ "metadata": { "generateName": "garbage-", "ownerReferences": owners }, "rules": [] });
    let created = roles.create(object).await.created();
    (roles, created)
}

async fn an_owner_without_a_namespace_owns_in_every_namespace(server: &Server) {
    let maps = Dependents::new(server).await;
    let (roles, owner) = cluster_role(server, &[]).await;
    maps.made("child", &[reference(&owner)]).await;
    maps.fence().await;
    assert!(maps.exists("child").await);
    roles.delete(owner["metadata"]["name"].as_str().unwrap()).await.ok();
    maps.gone("child").await;
    maps.made("late", &[reference(&owner)]).await;
    maps.gone("late").await;
}

async fn a_dependent_without_a_namespace_is_kept_for_an_owner_with_one(server: &Server) {
    let maps = Dependents::new(server).await;
    let owner = maps.made("owner", &[]).await;
    let (roles, role) = cluster_role(server, &[reference(&owner)]).await;
    maps.delete("owner", "Background").await;
    maps.fence().await;
    let name = role["metadata"]["name"].as_str().unwrap();
    assert_eq!(roles.get(name).await.ok()["metadata"]["ownerReferences"], json!([reference(&owner)]));
    roles.delete(name).await.ok();
}

async fn an_owner_of_an_unknown_kind_keeps_its_dependent(server: &Server) {
    let maps = Dependents::new(server).await;
    let unknown = json!({ "apiVersion": "nowhere.test/v1", "kind": "Nothing", "name": "n", "uid": "u" });
    maps.made("child", &[absent(), unknown.clone()]).await;
    maps.fence().await;
    assert_eq!(maps.0.get("child").await.ok()["metadata"]["ownerReferences"], json!([absent(), unknown]));
}

async fn a_collected_object_waits_for_its_finalizers(server: &Server) {
    let maps = Dependents::new(server).await;
    maps.held("child", &[absent()]).await;
    maps.becomes("child", is_marked).await;
    maps.free("child").await;
    maps.gone("child").await;
}

async fn in_the_foreground_an_owner_waits_for_dependents_that_block_it(server: &Server) {
    let maps = Dependents::new(server).await;
    let owner = maps.made("owner", &[]).await;
    maps.held("blocks", &[blocking(&owner)]).await;
    maps.held("other", &[reference(&owner)]).await;
    // The collector must know the dependents before it sees the deletion.
    maps.fence().await;
    maps.delete("owner", "Foreground").await;
    maps.becomes("blocks", is_marked).await;
    maps.becomes("other", is_marked).await;
    let waiting = maps.0.get("owner").await.ok();
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    maps.free("blocks").await;
    maps.gone("owner").await;
    assert!(maps.exists("other").await, "it does not block its owner");
    maps.free("other").await;
    maps.gone("other").await;
}

async fn in_the_foreground_another_owner_keeps_a_dependent(server: &Server) {
    let maps = Dependents::new(server).await;
    let (first, second) = (maps.made("first", &[]).await, maps.made("second", &[]).await);
    maps.made("child", &[blocking(&first), blocking(&second)]).await;
    maps.fence().await;
    maps.delete("first", "Foreground").await;
    maps.gone("first").await;
    let child = maps.0.get("child").await.ok();
    assert_eq!(child["metadata"]["ownerReferences"], json!([blocking(&second)]));
}

async fn orphans_forget_their_owner(server: &Server) {
    let maps = Dependents::new(server).await;
    let owner = maps.made("owner", &[]).await;
    maps.made("child", &[blocking(&owner)]).await;
    maps.fence().await;
    let path = format!("{}?propagationPolicy=Orphan", maps.0.path_of("owner"));
    server.http(Method::DELETE, &path, &[], "").await.ok();
    maps.gone("owner").await;
    let child = maps.0.get("child").await.ok();
    assert_eq!((&child["metadata"]["ownerReferences"], is_marked(&child)), (&Value::Null, false));
}
