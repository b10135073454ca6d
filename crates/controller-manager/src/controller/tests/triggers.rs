//! Owned kinds, watched kinds and predicates.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::api::{ObjectMeta, Patch, PatchParams};
use serde_json::json;
use shared_cache::ObjectKey;
use shared_cache::predicates::changed;

use crate::controller::test_support::{Fixture, NAMESPACE, config_map, owned_secret};

async fn patch_secret(f: &Fixture, name: &str, patch: serde_json::Value) {
    let api = f.api::<Secret>();
    let written = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    f.cached(&written).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_an_owned_object_reconciles_its_owner() {
    let mut f = Fixture::new(&[]).await;
    f.record("");
    f.controller().owns::<Secret>();
    f.run();
    let [a, _b] = [f.apply("a", "0").await, f.apply("b", "0").await];
    f.settle().await;
    f.calls.take();

    f.create(&owned_secret("s", &a)).await;
    assert_eq!(f.calls.next(1).await, ["a=0"]);
    patch_secret(&f, "s", json!({"stringData": {"k": "v"}})).await;
    assert_eq!(f.calls.next(1).await, ["a=0"]);
    f.delete::<Secret>("s").await;
    assert_eq!(f.calls.next(1).await, ["a=0"]);
    f.settle().await;
    assert!(f.calls.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_owned_object_that_moves_reconciles_both_owners() {
    let mut f = Fixture::new(&[]).await;
    f.record("");
    f.controller().owns::<Secret>().max_concurrent_reconciles(2);
    f.run();
    let [a, b] = [f.apply("a", "0").await, f.apply("b", "0").await];
    f.create(&owned_secret("s", &a)).await;
    f.settle().await;
    f.calls.take();
    let owners = owned_secret("s", &b).metadata.owner_references;
    patch_secret(&f, "s", json!({"metadata": {"ownerReferences": owners}})).await;
    let mut calls = f.calls.next(2).await;
    calls.sort();
    assert_eq!(calls, ["a=0", "b=0"]);
}

#[tokio::test(start_paused = true)]
async fn a_watched_object_reconciles_the_keys_that_it_is_mapped_to_and_unknown_keys_are_ignored() {
    let mut f = Fixture::new(&["a", "b"]).await;
    f.record("");
    f.controller().watches::<Secret>(|secret| {
        assert_ne!(secret.name_any(), "panics", "a panic that belongs to the test");
        let names = secret.annotations().get("maps").cloned().unwrap_or_default();
        let mut keys: Vec<_> = names.split(',').map(|name| ObjectKey::new(NAMESPACE, name)).collect();
        keys.extend(keys.clone());
        keys
    });
    f.run();
    f.calls.next(2).await;
    let secret = |name: &str, maps: &str| Secret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            annotations: Some([("maps".into(), maps.into())].into()),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    };
    f.create(&secret("s", "a,none,b")).await;
    let mut calls = f.calls.next(2).await;
    calls.sort();
    assert_eq!(calls, ["a=0", "b=0"]);
    f.create(&secret("panics", "a")).await;
    f.create(&secret("t", "b")).await;
    assert_eq!(f.calls.next(1).await, ["b=0"]);
    f.settle().await;
    assert!(f.calls.all().is_empty());
    assert_eq!(f.results("success"), 5, "a key without an object is no reconcile");
}

#[tokio::test(start_paused = true)]
async fn changes_of_a_secondary_kind_that_its_predicate_does_not_accept_lead_to_no_run() {
    let mut f = Fixture::new(&["w"]).await;
    f.record("");
    let data_changed = || changed(|secret: &Secret| secret.data.clone());
    f.controller()
        .owns_where::<Secret>(data_changed())
        .watches_where::<Secret>(data_changed(), |_| vec![ObjectKey::new(NAMESPACE, "w")]);
    f.run();
    assert_eq!(f.calls.next(1).await, ["w=0"]);
    let a = f.apply("a", "0").await;
    f.create(&owned_secret("s", &a)).await;
    f.settle().await;
    f.calls.take();
    patch_secret(&f, "s", json!({"metadata": {"labels": {"l": "1"}}})).await;
    f.settle().await;
    assert!(f.calls.all().is_empty());
    patch_secret(&f, "s", json!({"stringData": {"k": "v"}})).await;
    let mut calls = f.calls.next(2).await;
    calls.sort();
    assert_eq!(calls, ["a=0", "w=0"]);
}

#[tokio::test(start_paused = true)]
async fn changes_that_a_predicate_does_not_accept_lead_to_no_run() {
    let mut f = Fixture::new(&["a", "hidden"]).await;
    f.record("");
    f.controller()
        .predicate(changed(|map: &ConfigMap| map.data.clone()))
        .predicate(|event| event.key().is_none_or(|key| key.name != "hidden"));
    f.run();
    assert_eq!(f.calls.next(1).await, ["a=0"]);
    let label = |value: &str| {
        let mut map = config_map("a", "0");
        map["metadata"]["labels"] = json!({"l": value});
        map
    };
    let params = PatchParams::apply("labels").force();
    let labelled = f.api::<ConfigMap>().patch("a", &params, &Patch::Apply(label("1"))).await.unwrap();
    f.cached(&labelled).await;
    f.apply("hidden", "1").await;
    f.settle().await;
    assert!(f.calls.all().is_empty());
    f.apply("a", "1").await;
    assert_eq!(f.calls.next(1).await, ["a=1"]);
    f.delete::<ConfigMap>("hidden").await;
    f.delete::<ConfigMap>("a").await;
    assert_eq!(f.calls.next(1).await, ["-a=1 removed"]);
}

#[tokio::test(start_paused = true)]
async fn r6_an_initial_object_runs_though_a_predicate_has_dropped_its_change() {
    let names = ["a", "b", "c"];
    let mut f = Fixture::new(&names).await;
    f.controller().predicate(changed(|map: &ConfigMap| map.data.clone()));
    let gate = f.record_gated();
    f.run();
    let mut calls = f.calls.next(1).await;
    for name in names {
        let labels = Patch::Merge(json!({"metadata": {"labels": {"l": "1"}}}));
        let labelled = f.api::<ConfigMap>().patch(name, &PatchParams::default(), &labels).await.unwrap();
        f.cached(&labelled).await;
    }
    gate.add_permits(10);
    f.settle().await;
    calls.extend(f.calls.take());
    calls.sort();
    assert_eq!(calls, ["a=0", "b=0", "c=0"]);
}
