//! Tests the recovery of the whole cache against an API server in memory, under paused time (behaviours V).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use memory_apiserver::{ApiServer, FaultPlan, On, RequestFault, Times, Verb};
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::informer::{Freshness, Report};
use crate::object::DeletionReason;
use crate::subscription::Event;

fn load(server: &ApiServer, namespace: &str, name: &str) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": "x"}}, "data": {"key": "old"}});
    server.load(&map).unwrap();
}

async fn started(server: &ApiServer, watch: Watch) -> SharedCache {
    let cache = SharedCache::builder(server.client()).kind::<ConfigMap>(watch).build().unwrap();
    cache.start().await.unwrap();
    cache
}

fn report(cache: &SharedCache) -> Report {
    cache.kinds()[0].report()
}

async fn change(server: &ApiServer, name: &str, patch: serde_json::Value) {
    let maps: Api<ConfigMap> = Api::namespaced(server.client_without_faults(), "default");
    maps.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// Returns name, UID, version and content of the objects in the cache, and of those on the server.
async fn views(server: &ApiServer, cache: &SharedCache) -> [Vec<[String; 4]>; 2] {
    let show = |map: &ConfigMap| {
        let meta = &map.metadata;
        [
            meta.name.clone().unwrap(),
            meta.uid.clone().unwrap(),
            meta.resource_version.clone().unwrap(),
            format!("{:?}", map.data),
        ]
    };
    let maps: Api<ConfigMap> = Api::namespaced(server.client_without_faults(), "default");
    let listed = maps.list(&ListParams::default()).await.unwrap();
    let mut views = [
        cache.reader::<ConfigMap>().list(None).unwrap().iter().map(|map| show(map)).collect(),
        listed.iter().map(show).collect::<Vec<_>>(),
    ];
    for view in &mut views {
        view.sort();
    }
    views
}

/// Asserts that the cache equals the server within two minutes.
async fn equals_soon(server: &ApiServer, cache: &SharedCache) {
    let start = Instant::now();
    loop {
        let [cached, listed] = views(server, cache).await;
        if cached == listed {
            return;
        }
        assert!(start.elapsed() <= Duration::from_mins(2), "cached {cached:#?}, listed {listed:#?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A server with the objects `kept`, `changed` and `deleted`, a synced cache, and the version of the backup. After
/// the backup `changed` was changed, `deleted` was deleted and `ghost` was created.
async fn backed_up() -> (ApiServer, SharedCache, u64) {
    let server = ApiServer::new();
    for name in ["kept", "changed", "deleted"] {
        load(&server, "default", name);
    }
    let backup = server.revision();
    let cache = started(&server, Watch::all()).await;
    for _ in 0..3 {
        change(&server, "changed", json!({"data": {"key": format!("{:?}", Instant::now())}})).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let maps: Api<ConfigMap> = Api::namespaced(server.client_without_faults(), "default");
    maps.delete("deleted", &DeleteParams::default()).await.unwrap();
    load(&server, "default", "ghost");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let [cached, listed] = views(&server, &cache).await;
    assert_eq!(cached, listed);
    (server, cache, backup)
}

#[tokio::test(start_paused = true)]
async fn v4_the_cache_equals_a_restored_server_that_is_behind() {
    let (server, cache, backup) = backed_up().await;
    server.rewind(backup).unwrap();
    equals_soon(&server, &cache).await;
    cache.stop().await;
}

#[tokio::test(start_paused = true)]
async fn v4_the_cache_equals_a_restored_server_that_has_overtaken_it() {
    let (server, cache, backup) = backed_up().await;
    server.rewind(backup).unwrap();
    for number in 0..20 {
        load(&server, "default", &format!("new-{number}"));
    }
    equals_soon(&server, &cache).await;
    let report = report(&cache);
    assert_eq!(report.inconsistencies, 1, "the object whose version went back was found by the check");
    assert_eq!(report.freshness(), Freshness::Fresh);
    cache.stop().await;
}

#[tokio::test(start_paused = true)]
async fn v4_a_cache_that_equals_the_server_is_checked_every_ten_minutes_and_left_alone() {
    let server = ApiServer::new();
    for number in 0..1200 {
        load(&server, "default", &format!("map-{number}"));
    }
    let cache = started(&server, Watch::all()).await;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_mins(1)).await;
        change(&server, "map-7", json!({"data": {"at": format!("{:?}", Instant::now())}})).await;
    }
    let report = report(&cache);
    assert!((5..=6).contains(&report.checks), "{}", report.checks);
    assert_eq!((report.inconsistencies, report.relists), (0, 0));
    cache.stop().await;
}

#[tokio::test(start_paused = true)]
async fn v4_a_lost_connection_leads_to_one_check_soon() {
    let server = ApiServer::new();
    load(&server, "default", "a");
    let cache = started(&server, Watch::all()).await;
    server.cut();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!((report(&cache).checks, report(&cache).inconsistencies), (1, 0));
    tokio::time::sleep(Duration::from_mins(7)).await;
    assert_eq!(report(&cache).checks, 1, "the ordinary end of a watch is no lost connection");
    cache.stop().await;
}

/// A server with one object, and a synced cache whose transform panics while the flag is set.
async fn panicking_on_demand() -> (ApiServer, SharedCache, Arc<AtomicBool>) {
    let server = ApiServer::new();
    load(&server, "default", "a");
    let panics = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&panics);
    let builder = SharedCache::builder(server.client()).kind::<ConfigMap>(Watch::all());
    let builder = builder.transform::<ConfigMap>(move |_| assert!(!now.load(Ordering::SeqCst), "on demand"));
    let cache = builder.build().unwrap();
    cache.start().await.unwrap();
    (server, cache, panics)
}

#[tokio::test(start_paused = true)]
async fn v12_a_panic_in_a_transform_restarts_the_informer_and_is_counted() {
    let (server, cache, panics) = panicking_on_demand().await;
    let mut events = cache.subscribe::<ConfigMap>().unwrap();
    panics.store(true, Ordering::SeqCst);
    change(&server, "a", json!({"data": {"key": "new"}})).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let during = report(&cache);
    assert!((2..=6).contains(&during.panics), "{} panics: the pause grows", during.panics);
    assert!(matches!(during.freshness(), Freshness::Stale { .. }), "{}", during.freshness());
    panics.store(false, Ordering::SeqCst);
    equals_soon(&server, &cache).await;
    let mut last = None;
    while let Some(event) = events.try_next() {
        last = event.object().cloned();
    }
    assert_eq!(last.unwrap().data.as_ref().unwrap()["key"], "new", "subscriptions go on");
    cache.stop().await;
}

#[tokio::test(start_paused = true)]
async fn v12_a_panic_in_a_live_read_restarts_only_the_reads() {
    let (server, cache, panics) = panicking_on_demand().await;
    let is_new = |map: Option<&ConfigMap>| map.is_some_and(|map| map.data.as_ref().unwrap()["key"] == "new");
    let wait = cache.wait_for::<ConfigMap>(("default", "a"), is_new).timeout(Duration::from_mins(10));
    let wait = tokio::spawn(wait.into_future());
    let away = |verb| FaultPlan::request(On::request(verb, "configmaps"), Times::Always, RequestFault::Drop);
    server.inject(&away(Verb::Watch).and(away(Verb::List)));
    server.cut();
    panics.store(true, Ordering::SeqCst);
    change(&server, "a", json!({"data": {"key": "new"}})).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(report(&cache).panics >= 1);
    assert_eq!(cache.running_watches(), 1);
    panics.store(false, Ordering::SeqCst);
    assert!(wait.await.unwrap().is_ok(), "a later live read satisfied the wait");
    cache.stop().await;
}

#[tokio::test(start_paused = true)]
async fn f13_a_namespace_whose_watch_is_down_causes_no_reads_in_the_others() {
    let server = ApiServer::new();
    for namespace in ["one", "two"] {
        let metadata = json!({"name": "maps", "namespace": namespace});
        for object in [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
                "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "maps"},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "tenant"}]}),
        ] {
            server.load(&object).unwrap();
        }
    }
    let builder = SharedCache::builder(server.client_as("tenant"));
    let cache = builder.kind::<ConfigMap>(Watch::namespaces(["one", "two"])).build().unwrap();
    cache.start().await.unwrap();
    let roles: Api<Role> = Api::namespaced(server.client(), "two");
    roles.delete("maps", &DeleteParams::default()).await.unwrap();
    server.cut();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(
        matches!(report(&cache).freshness(), Freshness::Stale { .. }),
        "the watch of one namespace is down"
    );
    let wait = cache.wait_for::<ConfigMap>(("one", "a"), |map: Option<&ConfigMap>| map.is_some());
    let wait = tokio::spawn(wait.timeout(Duration::from_mins(10)).into_future());
    tokio::time::sleep(Duration::from_mins(1)).await;
    let reads = || server.requests().iter().filter(|request| request.verb == Verb::Get).count();
    assert_eq!(reads(), 0, "the watch of the namespace works");
    load(&server, "one", "a");
    assert!(wait.await.unwrap().is_ok());
    cache.stop().await;
}

#[tokio::test(start_paused = true)]
async fn x3_an_object_that_leaves_the_selection_is_not_removed_and_a_deletion_timestamp_proves_a_removal() {
    let server = ApiServer::new();
    for name in ["leaves", "finalized", "at-once"] {
        load(&server, "default", name);
    }
    change(&server, "finalized", json!({"metadata": {"finalizers": ["test/hold"]}})).await;
    let cache = started(&server, Watch::all().labels(&"app=x".parse().unwrap())).await;
    assert!(cache.has_selector::<ConfigMap>());
    let labels = |app: &str| [("app".to_owned(), app.to_owned())].into();
    assert!(cache.selects_labels::<ConfigMap>(&labels("x")));
    assert!(!cache.selects_labels::<ConfigMap>(&labels("y")));
    let mut events = cache.subscribe::<ConfigMap>().unwrap();
    let mut next_deletion = async || loop {
        if let Event::Deleted { last_known, reason } = events.next().await.unwrap() {
            return (last_known, reason);
        }
    };
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "default");
    change(&server, "leaves", json!({"metadata": {"labels": {"app": "y"}}})).await;
    let (left, reason) = next_deletion().await;
    assert_eq!(reason, DeletionReason::LeftScope);
    assert!(!reason.is_final());
    assert!(cache.api_reader().still_has(&*left).await.unwrap());

    maps.delete("finalized", &DeleteParams::default()).await.unwrap();
    change(&server, "finalized", json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(next_deletion().await.1, DeletionReason::Removed);

    maps.delete("at-once", &DeleteParams::default()).await.unwrap();
    let (gone, reason) = next_deletion().await;
    assert_eq!(reason, DeletionReason::LeftScope, "the event cannot tell");
    assert!(!cache.api_reader().still_has(&*gone).await.unwrap(), "a live read can");
    cache.stop().await;
}
