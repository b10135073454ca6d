//! Tests the whole cache against an API server in memory.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use memory_apiserver::ApiServer;
use serde_json::{Value, json};

use super::*;
use crate::kind::Index;
use crate::subscription::{Event, SubscriptionEnd, predicates};
use crate::wait::{Check, WaitAction, WaitError};

const APP: Index<ConfigMap> = Index::new("app");

/// Returns a config map as a manifest.
fn manifest(namespace: &str, name: &str, app: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "namespace": namespace, "name": name, "labels": {"app": app}, "annotations": {"note": "kept"}},
        "data": {"key": "value"}})
}

/// Returns a server with the namespaces `one`, `two` and `three`.
fn server() -> ApiServer {
    let server = ApiServer::new();
    for name in ["one", "two", "three"] {
        server.load(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).unwrap();
    }
    server
}

fn app(config_map: &ConfigMap, keys: &mut crate::IndexKeys<'_>) {
    keys.extend(config_map.metadata.labels.as_ref().and_then(|labels| labels.get("app")).map(String::as_str));
}

async fn started(server: &ApiServer, watch: Watch) -> SharedCache {
    let cache =
        SharedCache::builder(server.client()).kind::<ConfigMap>(watch).index(APP, app).build().unwrap();
    cache.start().await.unwrap();
    cache
}

fn names(cache: &SharedCache) -> Vec<String> {
    let mut names: Vec<_> = cache
        .reader::<ConfigMap>()
        .list(None)
        .unwrap()
        .iter()
        .map(|map| {
            format!(
                "{}/{}",
                map.metadata.namespace.as_deref().unwrap(),
                map.metadata.name.as_deref().unwrap()
            )
        })
        .collect();
    names.sort();
    names
}

async fn create(server: &ApiServer, manifest: Value) -> ConfigMap {
    let map: ConfigMap = serde_json::from_value(manifest).unwrap();
    let api = Api::namespaced(server.client(), map.metadata.namespace.as_deref().unwrap());
    api.create(&PostParams::default(), &map).await.unwrap()
}

/// Waits until the cache has seen a write.
async fn seen(cache: &SharedCache, written: &ConfigMap) {
    let version = written.metadata.resource_version.as_deref().unwrap();
    cache.await_version::<ConfigMap>(version, Duration::from_secs(30)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_or_several_namespaces_are_watched_and_others_are_out_of_scope() {
    let server = server();
    for namespace in ["one", "two", "three"] {
        server.load(&manifest(namespace, "a", "x")).unwrap();
    }
    let cache = started(&server, Watch::namespaces(["one", "two", "one"])).await;
    assert_eq!(names(&cache), ["one/a", "two/a"]);
    let reader = cache.reader::<ConfigMap>();
    assert_eq!(reader.list(Some("two")).unwrap().len(), 1);
    assert!(matches!(reader.list(Some("three")), Err(LookupError::OutOfScope { .. })));
    // A change and a deletion in each namespace arrive. A relist of one namespace keeps the objects of the
    // others.
    let b = create(&server, manifest("two", "b", "x")).await;
    seen_by_wait(&cache, "two", "b").await;
    server.cut();
    server.compact();
    Api::<ConfigMap>::namespaced(server.client(), "one").delete("a", &DeleteParams::default()).await.unwrap();
    cache.wait_for(("one", "a"), |map: Option<&ConfigMap>| map.is_none()).await.unwrap();
    assert_eq!(names(&cache), ["two/a", "two/b"]);
    assert_eq!(reader.get("two", "b").unwrap().unwrap().metadata.uid, b.metadata.uid);
    cache.stop().await;
}

async fn seen_by_wait(cache: &SharedCache, namespace: &str, name: &str) {
    cache.wait_for((namespace, name), |map: Option<&ConfigMap>| map.is_some()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn label_and_field_selectors_limit_what_is_cached() {
    let server = server();
    server.load(&manifest("one", "a", "x")).unwrap();
    server.load(&manifest("one", "b", "x")).unwrap();
    server.load(&manifest("one", "c", "y")).unwrap();
    let watch = Watch::namespaced("one").labels(&"app=x".parse().unwrap()).fields("metadata.name!=b");
    let cache = started(&server, watch).await;
    assert_eq!(names(&cache), ["one/a"]);
    cache.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_optional_kind_does_not_delay_the_start() {
    let server = server();
    server.load(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}]})).unwrap();
    server
        .load(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "b"}, "subjects": [{"kind": "User", "name": "ann"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}}))
        .unwrap();
    let client = server.client_as("ann");
    let cache = |watch| {
        let builder = SharedCache::builder(client.clone()).kind::<ConfigMap>(Watch::all()).kind::<Pod>(watch);
        builder.sync_timeout(Duration::from_secs(20)).build().unwrap()
    };
    let optional = cache(Watch::all().optional());
    optional.start().await.unwrap();
    assert!(matches!(optional.reader::<Pod>().list(None), Err(LookupError::NotSynced { .. })));
    let pods = optional.kinds().iter().find(|kind| kind.plural() == "pods").unwrap();
    assert!(pods.is_optional() && pods.report().last_error.unwrap().message.contains("no permission"));
    optional.stop().await;
    let StartError::NotSynced { kinds, .. } = cache(Watch::all()).start().await.unwrap_err() else {
        panic!("a required kind must hold up the start");
    };
    assert_eq!(kinds.len(), 1);
    assert_eq!(kinds[0].0, "pods");
}

#[tokio::test(start_paused = true)]
async fn a_transform_drops_fields_before_they_are_stored() {
    let server = server();
    server.load(&manifest("one", "a", "x")).unwrap();
    let builder = SharedCache::builder(server.client()).kind::<ConfigMap>(Watch::all());
    let cache = builder.transform::<ConfigMap>(|map| map.data = None).build().unwrap();
    cache.start().await.unwrap();
    let stored = cache.reader::<ConfigMap>().get("one", "a").unwrap().unwrap();
    assert_eq!((stored.data.as_ref(), stored.metadata.annotations.is_some()), (None, true));
    cache.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_faults_of_a_builder_are_named() {
    let builder = || SharedCache::builder(ApiServer::new().client());
    let error = |builder: SharedCacheBuilder| builder.build().unwrap_err().to_string();
    assert_eq!(
        error(builder().kind::<Pod>(Watch::all()).kind::<Pod>(Watch::namespaced("one"))),
        "kind Pod was added twice; one watch serves all its readers"
    );
    assert_eq!(
        error(builder().kind::<Pod>(Watch::all()).index("a", |_: &Pod, _| ()).index("a", |_: &Pod, _| ())),
        "kind Pod has two indexes named \"a\"; index names must be unique"
    );
    assert_eq!(
        error(builder().index("a", |_: &Pod, _| ())),
        "index \"a\" was added for kind Pod, which the cache does not have; add the kind first"
    );
    assert_eq!(
        error(builder().kind::<Namespace>(Watch::namespaced("one"))),
        "kind Namespace is cluster-scoped and cannot be watched in a namespace; use Watch::all()"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_a_missing_kind_and_an_unknown_index_are_errors() {
    let cache = started(&server(), Watch::all()).await;
    assert!(!cache.has_kind::<Pod>());
    assert!(matches!(cache.reader::<Pod>().list(None), Err(LookupError::OutOfScope { namespace: None, .. })));
    assert!(cache.subscribe::<Pod>().is_none());
    let error = cache.reader::<ConfigMap>().by_index("none", "x").unwrap_err();
    assert!(matches!(error, LookupError::UnknownIndex { known, .. } if known == ["app"]));
    cache.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_delivers_the_initial_objects_then_the_marker_then_changes_and_says_why_it_ends() {
    let server = server();
    server.load(&manifest("one", "a", "x")).unwrap();
    let cache = started(&server, Watch::all()).await;
    let mut all = cache.subscribe::<ConfigMap>().unwrap();
    let mut relabelled = cache.subscribe::<ConfigMap>().unwrap().filter(predicates::labels_changed());
    let name = |event: Option<Event<ConfigMap>>| match event {
        Some(Event::Applied { old, new }) => {
            format!("{}{}", if old.is_some() { "~" } else { "+" }, new.metadata.name.as_deref().unwrap())
        }
        Some(Event::Deleted { last_known, reason }) => {
            format!("-{} {reason}", last_known.metadata.name.as_deref().unwrap())
        }
        Some(Event::Synced) => "synced".to_owned(),
        None => "end".to_owned(),
    };
    assert_eq!([name(all.next().await), name(all.next().await)], ["+a", "synced"]);
    assert_eq!([name(relabelled.next().await), name(relabelled.next().await)], ["+a", "synced"]);

    let stored = cache.reader::<ConfigMap>().get("one", "a").unwrap().unwrap();
    let written = cache.patch(&stored, |map| map.data = None).await.unwrap();
    seen(&cache, &written).await;
    let relabel =
        |map: &mut ConfigMap| *map.metadata.labels.as_mut().unwrap() = [("app".into(), "y".into())].into();
    assert_eq!(name(all.next().await), "~a");
    assert!(relabelled.try_next().is_none(), "the labels are the same");
    let written = cache.patch(&written, relabel).await.unwrap();
    seen(&cache, &written).await;
    assert_eq!([name(all.next().await), name(relabelled.next().await)], ["~a", "~a"]);
    Api::<ConfigMap>::namespaced(server.client(), "one").delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(name(all.next().await), "-a removed");

    cache.stop().await;
    assert_eq!(name(all.next().await), "end");
    assert_eq!(all.end(), Some(SubscriptionEnd::Stopped));
}

#[tokio::test(start_paused = true)]
async fn w3_a_patch_sends_what_changed_and_keeps_what_is_not_cached() {
    let server = server();
    let mut full = manifest("one", "a", "x");
    full["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!("{}");
    create(&server, full).await;
    let cache = started(&server, Watch::all()).await;
    let stored = cache.reader::<ConfigMap>().get("one", "a").unwrap().unwrap();
    let add = |map: &mut ConfigMap| {
        map.data.as_mut().unwrap().insert("more".into(), "1".into());
    };
    let written = cache.patch(&stored, add).if_unchanged().await.unwrap();
    assert!(
        Arc::ptr_eq(&cache.patch(&stored, |_| ()).await.unwrap(), &stored),
        "nothing changed, nothing sent"
    );
    let live: ConfigMap = Api::namespaced(server.client(), "one").get("a").await.unwrap();
    assert_eq!(live.data.unwrap().len(), 2);
    assert_eq!(
        live.metadata.annotations.unwrap().len(),
        2,
        "the annotation that is not cached is still there"
    );
    assert_eq!(live.metadata.resource_version, written.metadata.resource_version);
    seen(&cache, &written).await;
    assert!(cache.is_satisfied(&*written).is_satisfied());
    // The object has changed since `stored` was read.
    let conflict = cache.patch(&stored, |map| map.data = None).if_unchanged().await.unwrap_err();
    assert!(conflict.is_conflict(), "{conflict}");
    let unconditional = cache.patch(&stored, |map| map.immutable = Some(true)).await.unwrap();
    assert_eq!(unconditional.data.as_ref().unwrap().len(), 2, "other fields are left alone");
    cache.stop().await;
}

#[tokio::test(start_paused = true)]
async fn v5_an_expectation_settles_when_the_event_came_before_the_answer() {
    let server = server();
    let cache = started(&server, Watch::all()).await;
    let written = create(&server, manifest("one", "a", "x")).await;
    seen(&cache, &written).await;
    cache.expect(&written);
    assert_eq!(cache.kinds()[0].outstanding_writes().0, 0, "no later event would settle the expectation");
    let newer = create(&server, manifest("one", "b", "x")).await;
    cache.expect(&newer);
    seen(&cache, &newer).await;
    assert_eq!(cache.kinds()[0].outstanding_writes().0, 0);
    cache.stop().await;
}

/// Runs a future in a task and returns how often it was polled.
async fn polls(future: impl Future + Send + 'static) -> usize {
    let mut future = Box::pin(future);
    let mut polls = 0;
    let counted = std::future::poll_fn(move |cx| {
        polls += 1;
        future.as_mut().poll(cx).map(|_| polls)
    });
    tokio::spawn(counted).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn w4_a_wait_on_a_kind_without_events_runs_only_at_its_start_and_at_its_end() {
    let server = server();
    create(&server, manifest("one", "a", "x")).await;
    let cache = started(&server, Watch::all()).await;
    let stored = cache.reader::<ConfigMap>().get("one", "a").unwrap().unwrap();
    let hour = Duration::from_hours(1);
    let task = cache.wait_task(&stored, WaitAction::new("test"), |_, _| Check::not_yet("never"));
    let name = cache.wait_for(("one", "none"), |map: Option<&ConfigMap>| map.is_some()).timeout(hour);
    let set = cache.wait_until(|_: &Reader<ConfigMap>| None::<()>).timeout(hour);
    // Watches are renewed and send bookmarks during this hour, and another kind changes.
    let (of_task, of_name, of_set, ()) = tokio::join!(
        polls(async move { task.wait(hour).await.unwrap_err() }),
        polls(name.into_future()),
        polls(set.into_future()),
        async {
            for minute in 0..30 {
                tokio::time::sleep(Duration::from_mins(1)).await;
                let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("n-{minute}")}});
                server.load(&namespace).unwrap();
            }
        }
    );
    assert_eq!([of_task, of_name, of_set], [2, 2, 2]);
    cache.stop().await;
}

#[tokio::test(start_paused = true)]
async fn w2_waits_take_closures_conditions_of_kube_and_sets() {
    use kube::runtime::wait::Condition;
    let server = server();
    let cache = started(&server, Watch::all()).await;
    let has = |key: &'static str| {
        move |map: Option<&ConfigMap>| {
            map.and_then(|map| map.data.as_ref()).is_some_and(|data| data.contains_key(key))
        }
    };
    let (waiting, creating) = tokio::join!(
        cache.wait_for(("one", "a"), has("key").and(has("other").not())),
        create(&server, manifest("one", "a", "x")),
    );
    assert_eq!(waiting.unwrap().unwrap().metadata.uid, creating.metadata.uid);

    let missing =
        cache.wait_for(("one", "a"), has("other")).timeout(Duration::from_secs(1)).await.unwrap_err();
    assert!(
        matches!(&missing, WaitError::NotSatisfied { reason, .. } if reason == "the condition does not hold"),
        "{missing}"
    );
    let none = cache.wait_for(("one", "none"), has("key")).timeout(Duration::ZERO).await.unwrap_err();
    assert!(
        matches!(&none, WaitError::NotSatisfied { reason, .. } if reason == "there is no such object"),
        "{none}"
    );

    let three = |cache: &SharedCache| {
        cache.wait_until(|maps: &Reader<ConfigMap>| {
            maps.by_index(APP, "x").ok().map(|maps| maps.len()).filter(|count| *count == 3)
        })
    };
    assert!(matches!(
        three(&cache).timeout(Duration::from_secs(1)).await,
        Err(WaitError::NotSatisfied { .. })
    ));
    let (counted, ..) = tokio::join!(
        three(&cache).timeout(Duration::from_secs(30)),
        create(&server, manifest("one", "b", "x")),
        create(&server, manifest("one", "c", "x")),
    );
    assert_eq!(counted.unwrap(), 3);

    let stored = cache.reader::<ConfigMap>().get("one", "a").unwrap().unwrap();
    let task = cache.wait_task(&stored, WaitAction::new("test"), |_, _| Check::not_yet("never"));
    let (ended, set, ()) = tokio::join!(
        task.wait(Duration::from_mins(1)),
        async { cache.wait_until(|_: &Reader<ConfigMap>| None::<()>).await },
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            cache.stop().await;
        }
    );
    assert!(matches!(ended, Err(WaitError::Stopped(_))), "{ended:?}");
    assert!(matches!(set, Err(WaitError::Stopped(_))), "{set:?}");
}

#[tokio::test(start_paused = true)]
async fn two_actions_cannot_hold_one_object() {
    let server = server();
    create(&server, manifest("one", "a", "x")).await;
    let cache = started(&server, Watch::all()).await;
    let stored = cache.reader::<ConfigMap>().get("one", "a").unwrap().unwrap();
    let acquire = |name| cache.acquire_wait_task(&stored, WaitAction::new(name), |_, _| Check::Satisfied);
    let (first, second) = (acquire("up").unwrap(), acquire("up").unwrap());
    let conflict = acquire("down").unwrap_err();
    assert_eq!(conflict.to_string(), "ConfigMap one/a: down conflicts with up, which is in progress");
    drop(first);
    second.wait(Duration::ZERO).await.unwrap();
    assert!(acquire("down").is_ok());
    cache.stop().await;
}

#[tokio::test(start_paused = true)]
async fn v10_a_wait_does_not_take_an_undecodable_object_for_deleted() {
    let server = server();
    let created = create(&server, manifest("one", "a", "x")).await;
    let cache = started(&server, Watch::all()).await;
    let stored = cache.reader::<ConfigMap>().get("one", "a").unwrap().unwrap();
    let task = cache.wait_task(&stored, WaitAction::new("test"), |_, _| Check::not_yet("never"));
    let mut broken = serde_json::to_value(&created).unwrap();
    broken["apiVersion"] = json!("v1");
    broken["kind"] = json!("ConfigMap");
    broken["data"] = json!(5);
    let breaking = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.force("configmaps", broken);
    };
    let (waited, absent, ()) = tokio::join!(
        task.wait(Duration::from_secs(20)),
        async {
            let absent = cache.wait_for(("one", "a"), |map: Option<&ConfigMap>| map.is_none());
            absent.timeout(Duration::from_secs(20)).await
        },
        breaking,
    );
    for error in [waited.unwrap_err(), absent.unwrap_err()] {
        let text = error.to_string();
        assert!(
            matches!(error, WaitError::NotSatisfied { .. }) && text.contains("cannot be decoded"),
            "{text}"
        );
    }
    // It is still there for a wait that begins now, and gone once it is deleted.
    let absent = || cache.wait_for(("one", "a"), |map: Option<&ConfigMap>| map.is_none());
    assert!(absent().timeout(Duration::ZERO).await.is_err());
    let api = Api::<ConfigMap>::namespaced(server.client(), "one");
    let params = DeleteParams::default();
    let (gone, _) =
        tokio::join!(async { absent().timeout(Duration::from_secs(20)).await }, api.delete("a", &params));
    assert_eq!(gone.unwrap(), None);
    cache.stop().await;
}
