//! Garbage collection, namespaces that drain, and definitions with objects, which controllers do in a cluster.

use serde_json::{Value, json};

use super::PAGE;
use super::writes::Lifecycle;
use crate::harness::{CONFIG_MAPS, DEFINITIONS, Harness, NAMESPACES, definition};
use crate::object;
use crate::store::{DEFINITIONS as DEFINITIONS_STORAGE, Key, NAMESPACES as NAMESPACES_STORAGE};

const HOLD: &str = "example.com/hold";

fn at(name: &str) -> String {
    format!("{CONFIG_MAPS}/{name}")
}

/// A reference to an owner. With `blocks`, a deletion in the foreground waits for the dependent.
fn owner(of: &Value, blocks: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": object::name(of), "uid": object::uid(of),
        "blockOwnerDeletion": blocks,
    })
}

impl Harness {
    async fn owned(&self, name: &str, owners: &[Value]) -> Value {
        self.create(CONFIG_MAPS, json!({"metadata": {"name": name, "ownerReferences": owners}})).await
    }

    async fn held(&self, name: &str, owners: &[Value]) -> Value {
        let metadata = json!({"name": name, "ownerReferences": owners, "finalizers": [HOLD]});
        self.create(CONFIG_MAPS, json!({"metadata": metadata})).await
    }

    /// The names of these config maps that exist, joined.
    async fn left(&self, names: &[&str]) -> String {
        let mut left = String::new();
        for name in names {
            if self.has(&at(name)).await {
                left += name;
            }
        }
        left
    }

    async fn is_deleting(&self, path: &str) -> bool {
        object::is_deleting(&self.get(path).await.1)
    }
}

#[tokio::test]
async fn dependents_go_with_their_owner_over_several_levels() {
    let h = Harness::new();
    let a = h.owned("a", &[]).await;
    let b = h.owned("b", &[owner(&a, false)]).await;
    let c = h.owned("c", &[owner(&b, true)]).await;
    h.owned("d", &[owner(&c, false)]).await;
    h.owned("x", &[]).await;
    h.delete(&at("b")).await;
    assert_eq!(h.left(&["a", "b", "c", "d", "x"]).await, "ax");
    h.delete(&at("a")).await;
    assert_eq!(h.left(&["a", "x"]).await, "x");
}

#[tokio::test]
async fn a_long_chain_of_owners_goes_at_once() {
    let h = Harness::new();
    let mut last = h.owned("o-0", &[]).await;
    for number in 1..300 {
        last = h.owned(&format!("o-{number}"), &[owner(&last, true)]).await;
    }
    h.delete(&format!("{}?propagationPolicy=Foreground", at("o-0"))).await;
    assert_eq!(h.get(CONFIG_MAPS).await.1["items"], json!([]));
}

#[tokio::test]
async fn a_dependent_stays_until_its_last_owner_goes() {
    let h = Harness::new();
    let (a, b) = (h.owned("a", &[]).await, h.owned("b", &[]).await);
    h.owned("c", &[owner(&a, true), owner(&b, true)]).await;
    h.delete(&at("a")).await;
    let (_, c) = h.get(&at("c")).await;
    assert_eq!(c["metadata"]["ownerReferences"], json!([owner(&b, true)]), "it forgets who is gone");
    h.delete(&format!("{}?propagationPolicy=Foreground", at("b"))).await;
    assert_eq!(h.left(&["a", "b", "c"]).await, "");
}

#[tokio::test]
async fn deletion_in_the_foreground_takes_no_more_than_what_nobody_else_holds() {
    let h = Harness::new();
    let (a, b) = (h.owned("a", &[]).await, h.owned("b", &[]).await);
    h.owned("c", &[owner(&a, true), owner(&b, true)]).await;
    h.owned("d", &[owner(&a, true)]).await;
    h.delete(&format!("{}?propagationPolicy=Foreground", at("a"))).await;
    assert_eq!(h.left(&["a", "b", "c", "d"]).await, "bc");
}

#[tokio::test]
async fn an_owner_that_is_not_where_it_is_said_to_be_holds_nothing() {
    let h = Harness::new();
    h.create(NAMESPACES, json!({"metadata": {"name": "other"}})).await;
    let elsewhere = h.create("/api/v1/namespaces/other/configmaps", json!({"metadata": {"name": "b"}}));
    let elsewhere = elsewhere.await;
    let a = h.owned("a", &[]).await;
    let mut renamed = owner(&a, false);
    renamed["name"] = json!("z");
    h.owned("c", &[owner(&a, false), owner(&elsewhere, false)]).await;
    h.owned("d", &[owner(&a, false), renamed]).await;
    h.delete(&at("a")).await;
    assert_eq!(h.left(&["c", "d"]).await, "");
    assert!(h.has("/api/v1/namespaces/other/configmaps/b").await);
}

#[tokio::test]
async fn an_owner_of_a_kind_that_nobody_serves_keeps_its_dependent_as_it_is() {
    let h = Harness::new();
    let a = h.owned("a", &[]).await;
    let unknown = json!({"apiVersion": "other.test/v1", "kind": "Other", "name": "o", "uid": "u"});
    h.owned("c", &[owner(&a, false), unknown.clone()]).await;
    h.delete(&at("a")).await;
    assert_eq!(h.get(&at("c")).await.1["metadata"]["ownerReferences"], json!([owner(&a, false), unknown]));
}

#[tokio::test]
async fn in_the_background_the_owner_goes_first_and_finalizers_keep_dependents() {
    let h = Harness::new();
    let a = h.owned("a", &[]).await;
    let b = h.held("b", &[owner(&a, true)]).await;
    h.owned("c", &[owner(&b, true)]).await;
    h.delete(&at("a")).await;
    assert_eq!(h.left(&["a", "b", "c"]).await, "bc");
    assert!(h.is_deleting(&at("b")).await && !h.is_deleting(&at("c")).await);
    h.free(&at("b")).await;
    assert_eq!(h.left(&["b", "c"]).await, "");
}

#[tokio::test]
async fn in_the_foreground_the_owner_waits_for_those_that_block_it() {
    let h = Harness::new();
    let a = h.owned("a", &[]).await;
    h.held("b", &[owner(&a, true)]).await;
    h.held("c", &[owner(&a, false)]).await;
    h.owned("d", &[owner(&a, false)]).await;
    let (code, marked) = h.delete(&format!("{}?propagationPolicy=Foreground", at("a"))).await;
    assert_eq!((code, &marked["metadata"]["finalizers"]), (200, &json!(["foregroundDeletion"])));
    assert_eq!(h.left(&["a", "b", "c", "d"]).await, "abc");
    assert!(h.is_deleting(&at("b")).await && h.is_deleting(&at("c")).await);
    h.free(&at("b")).await;
    assert_eq!(h.left(&["a", "b", "c"]).await, "c", "which never blocked");
}

#[tokio::test]
async fn in_the_foreground_dependents_of_dependents_go_first() {
    let h = Harness::new();
    let a = h.owned("a", &[]).await;
    let b = h.owned("b", &[owner(&a, true)]).await;
    h.held("c", &[owner(&b, true)]).await;
    h.delete(&format!("{}?propagationPolicy=Foreground", at("a"))).await;
    assert_eq!(h.left(&["a", "b", "c"]).await, "abc");
    let (_, b) = h.get(&at("b")).await;
    assert_eq!(b["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    h.free(&at("c")).await;
    assert_eq!(h.left(&["a", "b", "c"]).await, "");
}

#[tokio::test]
async fn an_owner_is_free_when_its_dependent_blocks_it_no_more() {
    for patch in [
        json!({"metadata": {"ownerReferences": null}}),
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]}}),
    ] {
        let h = Harness::new();
        let a = h.owned("a", &[]).await;
        h.held("b", &[owner(&a, true)]).await;
        h.delete(&format!("{}?propagationPolicy=Foreground", at("a"))).await;
        assert!(h.has(&at("a")).await);
        h.merge(&at("b"), patch).await;
        assert_eq!(h.left(&["a", "b"]).await, "b");
    }
}

#[tokio::test]
async fn a_circle_of_owners_does_not_wait_for_itself() {
    let h = Harness::new();
    let a = h.owned("a", &[]).await;
    let b = h.owned("b", &[owner(&a, true)]).await;
    h.merge(&at("a"), json!({"metadata": {"ownerReferences": [owner(&b, true)]}})).await;
    h.delete(&format!("{}?propagationPolicy=Foreground", at("a"))).await;
    assert_eq!(h.left(&["a", "b"]).await, "");
}

#[tokio::test]
async fn orphans_stay_and_forget_their_owner() {
    let h = Harness::new();
    let a = h.held("a", &[]).await;
    h.owned("b", &[owner(&a, true)]).await;
    let (_, marked) = h.delete(&format!("{}?propagationPolicy=Orphan", at("a"))).await;
    assert_eq!(marked["metadata"]["finalizers"], json!([HOLD, "orphan"]));
    let (_, b) = h.get(&at("b")).await;
    assert_eq!(b["metadata"].get("ownerReferences"), None);
    assert_eq!(h.get(&at("a")).await.1["metadata"]["finalizers"], json!([HOLD]));
    h.free(&at("a")).await;
    assert_eq!(h.left(&["a", "b"]).await, "b");
}

#[tokio::test]
async fn owners_without_a_namespace_own_in_every_one() {
    let h = Harness::new();
    let node = h.create("/api/v1/nodes", json!({"metadata": {"name": "n"}})).await;
    let reference = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": object::uid(&node)});
    h.owned("a", &[reference]).await;
    h.delete("/api/v1/nodes/n").await;
    assert!(!h.has(&at("a")).await);
}

#[tokio::test]
async fn a_pod_that_is_given_time_is_not_cut_short_by_a_change() {
    let h = Harness::new();
    let pods = "/api/v1/namespaces/default/pods";
    let a = h.owned("a", &[]).await;
    let spec = json!({"nodeName": "n", "containers": [{"name": "c", "image": "i"}]});
    let metadata = json!({"name": "p", "ownerReferences": [owner(&a, false)]});
    h.create(pods, json!({"metadata": metadata, "spec": spec})).await;
    h.delete(&format!("{pods}/p")).await;
    h.delete(&format!("{}?propagationPolicy=Orphan", at("a"))).await;
    let (_, pod) = h.get(&format!("{pods}/p")).await;
    assert_eq!(pod["metadata"].get("ownerReferences"), None);
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 30);
}

#[tokio::test]
async fn a_namespace_takes_all_that_is_in_it_with_it() {
    let h = Harness::new();
    h.create(NAMESPACES, json!({"metadata": {"name": "n"}})).await;
    h.create(DEFINITIONS, definition("drain.test", "Thing")).await;
    let things = "/apis/drain.test/v1/namespaces/n/things";
    let maps = "/api/v1/namespaces/n/configmaps";
    let thing = json!({"apiVersion": "drain.test/v1", "kind": "Thing", "metadata": {"name": "a"}});
    h.create(things, thing).await;
    h.create(maps, json!({"metadata": {"name": "a"}})).await;
    h.create(CONFIG_MAPS, json!({"metadata": {"name": "elsewhere"}})).await;
    h.delete("/api/v1/namespaces/n").await;
    for path in ["/api/v1/namespaces/n".to_owned(), format!("{things}/a"), format!("{maps}/a")] {
        assert!(!h.has(&path).await, "{path}");
    }
    assert!(h.has(&at("elsewhere")).await);
    assert_eq!(h.post(maps, json!({"metadata": {"name": "late"}})).await.0, 404);
}

#[tokio::test]
async fn a_namespace_goes_with_the_last_object_that_a_finalizer_held() {
    let h = Harness::new();
    let namespace = "/api/v1/namespaces/n";
    h.create(NAMESPACES, json!({"metadata": {"name": "n", "finalizers": [HOLD]}})).await;
    let maps = format!("{namespace}/configmaps");
    for name in ["a", "b"] {
        h.create(&maps, json!({"metadata": {"name": name, "finalizers": [HOLD]}})).await;
    }
    h.delete(namespace).await;
    h.free(namespace).await;
    assert_eq!(h.get(namespace).await.1["status"]["phase"], "Terminating");
    for name in ["a", "b"] {
        assert!(h.is_deleting(&format!("{maps}/{name}")).await);
        let (code, status) = h.post(&maps, json!({"metadata": {"name": "late"}})).await;
        assert_eq!((code, &status["reason"]), (403, &json!("Forbidden")));
        assert_eq!(status["details"]["causes"][0]["reason"], "NamespaceTerminating");
        h.free(&format!("{maps}/{name}")).await;
    }
    assert!(!h.has(namespace).await);
    h.create(NAMESPACES, json!({"metadata": {"name": "n"}})).await;
    h.create(&maps, json!({"metadata": {"name": "a"}})).await;
}

#[tokio::test]
async fn a_namespace_that_is_empty_still_waits_for_its_own_finalizers() {
    let h = Harness::new();
    h.create(NAMESPACES, json!({"metadata": {"name": "n", "finalizers": [HOLD]}})).await;
    h.delete("/api/v1/namespaces/n").await;
    let (_, held) = h.get("/api/v1/namespaces/n").await;
    assert_eq!((&held["spec"]["finalizers"], object::finalizers(&held)), (&json!([]), vec![HOLD]));
    h.free("/api/v1/namespaces/n").await;
    assert!(!h.has("/api/v1/namespaces/n").await);
}

/// A kind with an object, and the path of its objects.
async fn with_thing(h: &Harness, finalizers: &Value) -> String {
    h.create(DEFINITIONS, definition("crd.test", "Thing")).await;
    let path = "/apis/crd.test/v1/namespaces/default/things".to_owned();
    h.create(&path, thing("a", finalizers)).await;
    path
}

fn thing(name: &str, finalizers: &Value) -> Value {
    json!({
        "apiVersion": "crd.test/v1", "kind": "Thing", "metadata": {"name": name, "finalizers": finalizers},
    })
}

#[tokio::test]
async fn a_definition_waits_for_objects_that_finalizers_hold() {
    let h = Harness::new();
    let things = with_thing(&h, &json!([HOLD])).await;
    let at_definition = format!("{DEFINITIONS}/things.crd.test");
    h.delete(&at_definition).await;
    assert!(h.is_deleting(&format!("{things}/a")).await);
    let (code, status) = h.post(&things, thing("late", &json!(null))).await;
    assert_eq!((code, &status["reason"]), (403, &json!("Forbidden")));
    let (_, held) = h.get(&at_definition).await;
    let conditions = held["status"]["conditions"].as_array().unwrap();
    let terminating = conditions.iter().find(|condition| condition["type"] == "Terminating").unwrap();
    assert_eq!(terminating["reason"], "InstanceDeletionInProgress");
    h.free(&format!("{things}/a")).await;
    assert!(!h.has(&at_definition).await && !h.has(&things).await);
}

#[tokio::test]
async fn a_definition_goes_though_its_stored_version_is_not_served() {
    let h = Harness::new();
    let things = with_thing(&h, &json!([HOLD])).await;
    let version = |name: &str, served: bool| {
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        json!({"name": name, "served": served, "storage": !served, "schema": {"openAPIV3Schema": schema}})
    };
    let path = format!("{DEFINITIONS}/things.crd.test");
    let change = json!({"spec": {"versions": [version("v1", false), version("v2", true)]}});
    assert_eq!(h.merge(&path, change).await.0, 200);
    assert!(!h.has(&things).await);
    h.delete(&path).await;
    h.free(&format!("{}/a", things.replace("v1", "v2"))).await;
    assert!(!h.has(&path).await);
}

#[tokio::test]
async fn a_definition_that_comes_again_knows_nothing_of_the_objects_before() {
    let h = Harness::new();
    let things = with_thing(&h, &json!(null)).await;
    h.delete(&format!("{DEFINITIONS}/things.crd.test")).await;
    assert_eq!(h.get(&things).await.0, 404);
    with_thing(&h, &json!(null)).await;
    let (code, list) = h.get(&things).await;
    assert_eq!((code, list["items"].as_array().map(Vec::len)), (200, Some(1)));
}

#[tokio::test]
async fn watches_of_a_kind_that_is_removed_tell_what_was_deleted_and_end() {
    let h = Harness::new();
    let things = with_thing(&h, &json!(null)).await;
    h.create(&things, thing("b", &json!(null))).await;
    let path = format!("{things}?watch=true");
    let told = async {
        // Once the watch has begun.
        tokio::task::yield_now().await;
        h.delete(&format!("{DEFINITIONS}/things.crd.test")).await;
    };
    let (events, ()) = tokio::join!(h.watch(&path), told);
    let texts: Vec<_> = events.iter().map(|(kind, name)| format!("{kind} {name}")).collect();
    assert_eq!(texts, ["ADDED a", "ADDED b", "DELETED a", "DELETED b"]);
}

#[tokio::test]
async fn a_definition_gets_its_names_when_the_other_one_goes() {
    let h = Harness::new();
    h.create(DEFINITIONS, definition("crd.test", "Thing")).await;
    let mut second = definition("crd.test", "Item");
    second["spec"]["names"]["kind"] = json!("Thing");
    second["spec"]["names"]["singular"] = json!("item");
    h.create(DEFINITIONS, second).await;
    h.create(DEFINITIONS, definition("other.test", "Thing")).await;
    let items = "/apis/crd.test/v1/items";
    assert!(!h.has(items).await && h.has("/apis/other.test/v1/things").await);
    h.delete(&format!("{DEFINITIONS}/things.crd.test")).await;
    assert!(h.has(items).await);
    let (_, accepted) = h.get(&format!("{DEFINITIONS}/items.crd.test")).await;
    assert_eq!(accepted["status"]["acceptedNames"], accepted["spec"]["names"]);
}

#[tokio::test]
async fn a_definition_gets_a_short_name_that_another_one_gives_up() {
    let h = Harness::new();
    let with_short = |kind: &str| {
        let mut definition = definition("crd.test", kind);
        definition["spec"]["names"]["shortNames"] = json!(["t"]);
        definition
    };
    h.create(DEFINITIONS, with_short("Thing")).await;
    h.create(DEFINITIONS, with_short("Other")).await;
    assert!(!h.has("/apis/crd.test/v1/others").await);
    let path = format!("{DEFINITIONS}/things.crd.test");
    h.merge(&path, json!({"spec": {"names": {"shortNames": null}}})).await;
    assert!(h.has("/apis/crd.test/v1/others").await && h.has("/apis/crd.test/v1/things").await);
}

/// Carries out what follows from the deletion of an object; returns how many tasks waited at most.
fn longest_queue(h: &Harness, storage: &str, key: &Key) -> usize {
    let deleted = h.state.store.get(storage, key).unwrap();
    let mut lifecycle = Lifecycle::new(&h.state);
    lifecycle.follow_up(&storage.into(), None, &deleted, false);
    let mut longest = 0;
    while let Some(task) = lifecycle.tasks.pop() {
        lifecycle.carry_out(task);
        longest = longest.max(lifecycle.tasks.len());
    }
    longest
}

#[tokio::test]
async fn many_objects_are_deleted_by_pages() {
    let h = Harness::new();
    h.create(DEFINITIONS, definition("many.test", "Thing")).await;
    let put = |storage: &str, key: &Key, object: Value| {
        h.state.store.force(&storage.into(), key, object);
    };
    for i in 0..4 * PAGE {
        let name = format!("t{i}");
        let object = json!({"metadata": {"name": name, "namespace": "default", "uid": name}});
        put("things.many.test", &Key::new("default", &name), object.clone());
        put("configmaps", &Key::new("default", &name), object);
    }
    for (storage, name) in [(DEFINITIONS_STORAGE, "things.many.test"), (NAMESPACES_STORAGE, "default")] {
        let key = Key::new("", name);
        let mut object = h.state.store.get(storage, &key).unwrap().value();
        object::metadata_mut(&mut object)
            .insert("deletionTimestamp".to_owned(), json!("2026-01-01T00:00:00Z"));
        put(storage, &key, object);
        let longest = longest_queue(&h, storage, &key);
        assert!(longest <= PAGE + 2, "{storage}: {longest}");
        assert!(h.state.store.get(storage, &key).is_none(), "{storage}");
    }
    assert_eq!((h.state.store.len("things.many.test"), h.state.store.len("configmaps")), (0, 0));
}
