//! Tests behaviours A, B, C, D and K of the whole cache. They run on a scripted API server under paused time.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::indexes::{CLAIMED_SANDBOX_ID, SANDBOX_POOL, UNFINISHED_CLAIM, USER};
use super::test_support::{Feed, Fixture, sandbox};
use super::*;
use crate::api::v1alpha1::{Checkpoint, Sandbox, SandboxSet};
use futures::StreamExt;
use shared_cache::{CacheCollector, Freshness, ObjectKey, SubscriptionEnd};
use tokio_util::sync::CancellationToken;

type Found<K> = Result<Arc<K>, LookupError>;

fn claimed(cache: &Cache, namespace: Option<&str>, sandbox_id: &str) -> Found<Sandbox> {
    cache.get_claimed_sandbox(GetClaimedSandboxOptions { namespace, sandbox_id })
}

fn names(sandboxes: &[Arc<Sandbox>]) -> Vec<&str> {
    let mut names: Vec<_> = sandboxes.iter().map(|sandbox| sandbox.name_or_empty()).collect();
    names.sort_unstable();
    names
}

fn in_pool(cache: &Cache, pool: &str) -> Vec<String> {
    let options = ListSandboxesInPoolOptions { namespace: None, pool };
    let found = cache.list_sandboxes_in_pool(options).unwrap();
    names(&found).into_iter().map(str::to_owned).collect()
}

async fn start(sandboxes: &[Fixture]) -> Feed {
    let listed: Vec<_> = sandboxes.iter().map(Fixture::listed).collect();
    Feed::start(&listed).await
}

fn not_found(kind: &'static str, id: &str) -> LookupError {
    LookupError::NotFound { kind: kind.into(), id: id.into() }
}

#[tokio::test(start_paused = true)]
async fn a1_lookups_hand_out_the_stored_object_itself_and_do_no_io() {
    let mut feed = start(&[sandbox("a").claimed()]).await;
    let held = claimed(&feed.cache, None, "ns--a").unwrap();
    assert!(Arc::ptr_eq(&held, &claimed(&feed.cache, Some("ns"), "ns--a").unwrap()));
    feed.apply(&sandbox("a").claimed().phase("Paused")).await;
    assert_eq!(held.phase().unwrap().as_str(), "Running", "nothing changes under its holder");
    assert_eq!(claimed(&feed.cache, None, "ns--a").unwrap().phase().unwrap().as_str(), "Paused");
    assert!(claimed(&feed.cache, None, "ns--not-there").is_err());
    assert!(feed.server.try_next().is_none(), "nothing was asked for");
}

#[tokio::test(start_paused = true)]
async fn a2_an_id_names_one_claimed_sandbox_or_is_not_found_or_ambiguous() {
    let feed = start(&[
        sandbox("a").claimed().id("x"),
        sandbox("b").claimed().id("twice"),
        sandbox("c").claimed().id("twice").namespace("other"),
        sandbox("free").id("free"),
    ])
    .await;
    assert_eq!(claimed(&feed.cache, None, "x").unwrap().name_or_empty(), "a");
    assert_eq!(claimed(&feed.cache, None, "y").unwrap_err(), not_found("Sandbox", "y"));
    assert_eq!(claimed(&feed.cache, None, "free").unwrap_err(), not_found("Sandbox", "free"));
    let candidates = vec![ObjectKey::new("ns", "b"), ObjectKey::new("other", "c")];
    let error = claimed(&feed.cache, None, "twice").unwrap_err();
    assert_eq!(error.to_string(), "Sandbox \"twice\" is ambiguous: ns/b, other/c");
    assert_eq!(error, LookupError::Ambiguous { kind: "Sandbox".into(), id: "twice".into(), candidates });
    assert_eq!(claimed(&feed.cache, Some("other"), "twice").unwrap().name_or_empty(), "c");
}

#[tokio::test(start_paused = true)]
async fn a3_checkpoints_by_id_and_sets_by_name_follow_the_same_rules() {
    let checkpoint = |namespace: &str, name: &str, id: &str| {
        let metadata = json!({"namespace": namespace, "name": name, "uid": format!("{namespace}{name}"), "resourceVersion": "1"});
        ("checkpoints", json!({"metadata": metadata, "spec": {}, "status": {"checkpointId": id}}))
    };
    let set = |namespace: &str, name: &str| {
        let metadata = json!({"namespace": namespace, "name": name, "uid": format!("{namespace}{name}"), "resourceVersion": "1"});
        ("sandboxsets", json!({"metadata": metadata, "spec": {"replicas": 1}}))
    };
    let feed = Feed::start(&[
        checkpoint("ns", "a", "one"),
        checkpoint("ns", "b", "two"),
        checkpoint("other", "b", "two"),
        checkpoint("ns", "c", ""),
        set("ns", "s"),
        set("ns", "t"),
        set("other", "t"),
    ])
    .await;
    let checkpoint = |namespace, checkpoint_id| {
        feed.cache.get_checkpoint(GetCheckpointOptions { namespace, checkpoint_id })
    };
    assert_eq!(checkpoint(None, "one").unwrap().name_or_empty(), "a");
    assert_eq!(checkpoint(None, "two").unwrap_err().reason(), "ambiguous");
    assert_eq!(checkpoint(Some("other"), "two").unwrap().namespace_or_empty(), "other");
    assert_eq!(checkpoint(None, "").unwrap_err(), not_found("Checkpoint", ""));
    let set = |namespace, name| feed.cache.pick_sandbox_set(PickSandboxSetOptions { namespace, name });
    assert_eq!(set(None, "s").unwrap().name_or_empty(), "s");
    assert_eq!(set(None, "t").unwrap_err().reason(), "ambiguous");
    assert_eq!(set(Some("other"), "t").unwrap().namespace_or_empty(), "other");
    assert_eq!(set(Some("other"), "s").unwrap_err(), not_found("SandboxSet", "s"));
}

#[tokio::test(start_paused = true)]
async fn a4_a_namespace_filters_and_one_outside_of_the_scope_is_an_error() {
    let scope = Scope { sandbox_namespace: Some("ns".into()), ..Scope::default() };
    let mut feed = Feed::unsynced(|builder| builder.scope(scope));
    feed.sync(&[sandbox("a").claimed().listed()]).await;
    let error = claimed(&feed.cache, Some("other"), "other--a").unwrap_err();
    assert_eq!(error, LookupError::OutOfScope { kind: "Sandbox".into(), namespace: Some("other".into()) });
    for namespace in [None, Some(""), Some("ns")] {
        assert!(claimed(&feed.cache, namespace, "ns--a").is_ok(), "{namespace:?}");
    }
    let options = ListSandboxesOptions { namespace: Some("other"), user: None };
    assert_eq!(feed.cache.list_sandboxes(options).unwrap_err().reason(), "out_of_scope");
}

#[tokio::test(start_paused = true)]
async fn a5_lists_filter_by_namespace_and_user_and_may_be_empty() {
    let feed = start(&[
        sandbox("a").owner("u"),
        sandbox("b").owner("v"),
        sandbox("c").owner("u").namespace("other"),
        sandbox("d"),
    ])
    .await;
    let list = |namespace, user| {
        let found = feed.cache.list_sandboxes(ListSandboxesOptions { namespace, user }).unwrap();
        names(&found).join(" ")
    };
    assert_eq!(list(None, None), "a b c d");
    assert_eq!(list(None, Some("u")), "a c");
    assert_eq!(list(Some("ns"), None), "a b d");
    assert_eq!(list(Some("ns"), Some("u")), "a");
    assert_eq!(list(Some("ns"), Some("nobody")), "");
    assert_eq!(list(Some(""), Some("")), "a b c d");
    assert!(feed.cache.list_sandbox_sets(ListSandboxSetsOptions::default()).unwrap().is_empty());
    assert!(feed.cache.list_checkpoints(ListCheckpointsOptions::default()).unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a6_before_the_first_sync_a_lookup_is_an_error_and_never_empty() {
    let mut feed = Feed::unsynced(|builder| builder);
    let not_synced = |kind: &'static str| LookupError::NotSynced { kind: kind.into() };
    assert_eq!(claimed(&feed.cache, None, "x").unwrap_err(), not_synced("Sandbox"));
    let error = feed.cache.list_sandbox_sets(ListSandboxSetsOptions::default()).unwrap_err();
    assert_eq!(error, not_synced("SandboxSet"));
    assert_eq!(feed.cache.reader::<Checkpoint>().len().unwrap_err(), not_synced("Checkpoint"));
    assert_eq!(
        feed.cache.count_active_sandboxes(ListSandboxesOptions::default()).unwrap_err().reason(),
        "not_synced"
    );
    feed.sync(&[]).await;
    assert_eq!(claimed(&feed.cache, None, "x").unwrap_err(), not_found("Sandbox", "x"));
}

#[tokio::test(start_paused = true)]
async fn a7_active_sandboxes_are_counted_and_live_ones_listed_by_owner() {
    let past = Timestamp::UNIX_EPOCH;
    let feed = start(&[
        sandbox("running").owner("u").ready(),
        sandbox("paused").owner("u").phase("Paused").namespace("other"),
        sandbox("dead").owner("u").phase("Failed"),
        sandbox("over").owner("u").ready().shutdown_at(past),
        sandbox("deleting").owner("u").ready().deleting(),
        sandbox("terminating").owner("u").phase("Terminating"),
        sandbox("kept").owner("u").ready().reserved_failed(),
        sandbox("free").ready(),
    ])
    .await;
    let count = |namespace, user| {
        feed.cache.count_active_sandboxes(ListSandboxesOptions { namespace, user }).unwrap()
    };
    assert_eq!(count(None, Some("u")), 2);
    assert_eq!(count(Some("ns"), Some("u")), 1);
    assert_eq!(count(None, None), 3);
    let live = feed.cache.list_live_sandboxes_by_owner("u").unwrap();
    assert_eq!(names(&live), ["dead", "kept", "over", "paused", "running"]);
    assert!(feed.cache.list_live_sandboxes_by_owner("").unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn u2_recycling_sandboxes_are_neither_counted_nor_listed_as_live_nor_in_a_pool() {
    let cleaned = |name: &str| {
        let cleanup = crate::api::v1alpha1::ANNOTATION_CLEANUP;
        let enabled = crate::api::v1alpha1::ANNOTATION_CLEANUP_ENABLED;
        sandbox(name).owner("u").ready().annotation(cleanup, "true").annotation(enabled, "true")
    };
    let feed = start(&[
        sandbox("running").owner("u").ready(),
        sandbox("recycling").owner("u").ready().phase("Recycling").pooled("p"),
        cleaned("cleaned").pooled("p"),
        cleaned("cleaned-alone"),
    ])
    .await;
    let options = ListSandboxesOptions { namespace: None, user: Some("u") };
    assert_eq!(feed.cache.count_active_sandboxes(options).unwrap(), 1);
    assert_eq!(names(&feed.cache.list_live_sandboxes_by_owner("u").unwrap()), ["running"]);
    assert!(in_pool(&feed.cache, "p").is_empty());
}

#[tokio::test(start_paused = true)]
async fn u3_a_locked_sandbox_leaves_its_pool_and_comes_back_when_it_is_unlocked() {
    let lock = crate::api::v1alpha1::ANNOTATION_LOCK;
    let member = |name: &str| sandbox(name).pooled("p").ready();
    let mut feed = start(&[member("free"), member("locked").annotation(lock, "l")]).await;
    let reader = feed.cache.reader::<Sandbox>();
    assert_eq!(in_pool(&feed.cache, "p"), ["free"]);
    assert_eq!(reader.count(SANDBOX_POOL, "p", |_| true).unwrap(), 1);
    feed.apply(&member("free").annotation(lock, "l")).await;
    assert!(reader.find(SANDBOX_POOL, "p", |_| true).unwrap().is_none());
    feed.apply(&member("locked")).await;
    assert_eq!(in_pool(&feed.cache, "p"), ["locked"]);
}

#[tokio::test(start_paused = true)]
async fn a8_sandboxes_kept_after_a_failed_claim_are_not_listed_but_found_by_id() {
    let feed =
        start(&[sandbox("kept").owner("u").claimed().reserved_failed(), sandbox("a").owner("u")]).await;
    let listed =
        feed.cache.list_sandboxes(ListSandboxesOptions { namespace: None, user: Some("u") }).unwrap();
    assert_eq!(names(&listed), ["a"]);
    assert!(claimed(&feed.cache, None, "ns--kept").is_ok());
}

#[tokio::test(start_paused = true)]
async fn q4_claims_that_are_not_complete_are_indexed_until_they_are() {
    let until = crate::api::v1alpha1::ANNOTATION_CLAIM_UNFINISHED_UNTIL;
    let claimed = |name: &str| sandbox(name).owner("u").claimed();
    let mut feed = start(&[
        claimed("unfinished").annotation(until, "2030-01-01T00:00:00Z"),
        claimed("complete"),
        sandbox("free").annotation(until, "2030-01-01T00:00:00Z"),
    ])
    .await;
    let reader = feed.cache.reader::<Sandbox>();
    assert_eq!(names(&reader.by_index(UNFINISHED_CLAIM, "true").unwrap()), ["unfinished"]);
    feed.apply(&claimed("unfinished")).await;
    assert!(reader.by_index(UNFINISHED_CLAIM, "true").unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a9_find_stops_at_the_first_match_and_may_look_things_up() {
    let members: Vec<_> = (0..100).map(|i| sandbox(&format!("s-{i}")).pooled("p").ready()).collect();
    let feed = start(&members).await;
    let reader = feed.cache.reader::<Sandbox>();
    let mut seen = 0;
    let found = reader.find(SANDBOX_POOL, "p", |candidate| {
        seen += 1;
        let again = reader.get("ns", candidate.name_or_empty()).unwrap();
        seen == 3 && again.is_some()
    });
    assert!(found.unwrap().is_some());
    assert_eq!(seen, 3);
    assert!(reader.find(SANDBOX_POOL, "p", |_| false).unwrap().is_none());
    assert_eq!(reader.count(SANDBOX_POOL, "p", |_| true).unwrap(), 100);
}

#[tokio::test(start_paused = true)]
async fn b1_a_pool_holds_the_available_and_those_being_created_for_it() {
    let feed = start(&[
        sandbox("available").pooled("p").ready(),
        sandbox("creating").pooled("p"),
        sandbox("pending").pooled("p").phase("Pending"),
        sandbox("by-template").pooled("p").label(crate::api::v1alpha1::LABEL_SANDBOX_TEMPLATE, "t").ready(),
        sandbox("pending-alone").label(crate::api::v1alpha1::LABEL_SANDBOX_POOL, "p").phase("Pending"),
        sandbox("claimed").label(crate::api::v1alpha1::LABEL_SANDBOX_POOL, "p").ready(),
        sandbox("no-pool").pooled("").ready(),
    ])
    .await;
    assert_eq!(in_pool(&feed.cache, "p"), ["available", "creating", "pending"]);
    assert_eq!(in_pool(&feed.cache, "t"), ["by-template"]);
    assert!(in_pool(&feed.cache, "").is_empty());
    let options = ListSandboxesInPoolOptions { namespace: Some("other"), pool: "p" };
    assert!(feed.cache.list_sandboxes_in_pool(options).unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn b2_a_sandbox_leaves_its_pool_when_claimed_deleting_or_terminal() {
    let pooled = || sandbox("a").pooled("p").ready();
    let mut feed = start(&[pooled()]).await;
    for gone in [
        sandbox("a").label(crate::api::v1alpha1::LABEL_SANDBOX_POOL, "p").claimed().ready(),
        pooled().deleting(),
        pooled().phase("Failed"),
        pooled().shutdown_at(Timestamp::UNIX_EPOCH),
    ] {
        feed.apply(&pooled()).await;
        assert_eq!(in_pool(&feed.cache, "p"), ["a"]);
        feed.apply(&gone).await;
        assert!(in_pool(&feed.cache, "p").is_empty());
    }
}

/// Runs on the real clock, because `shutdownTime` is wall time.
#[tokio::test]
async fn b2_at_its_shutdown_time_a_sandbox_leaves_its_pool_without_an_event() {
    let soon = Timestamp::now() + Duration::from_millis(400);
    let later = Timestamp::now() + Duration::from_hours(1);
    let mut feed = start(&[sandbox("a").pooled("p").ready().shutdown_at(later)]).await;
    feed.apply(&sandbox("b").pooled("p").ready().shutdown_at(soon)).await;
    if Timestamp::now() < soon {
        assert_eq!(in_pool(&feed.cache, "p"), ["a", "b"]);
    }
    let left = async {
        while in_pool(&feed.cache, "p") != ["a"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), left).await.unwrap();
    assert!(Timestamp::now() > soon);
}

#[tokio::test(start_paused = true)]
async fn b3_the_id_is_the_label_or_namespace_and_name_and_moves_with_the_label() {
    let mut feed = start(&[sandbox("a").claimed()]).await;
    assert!(claimed(&feed.cache, None, "ns--a").is_ok());
    feed.apply(&sandbox("a").claimed().id("short")).await;
    assert!(claimed(&feed.cache, None, "ns--a").is_err());
    assert!(claimed(&feed.cache, None, "short").is_ok());
    feed.apply(&sandbox("a").claimed().id("")).await;
    assert!(claimed(&feed.cache, None, "short").is_err());
    assert!(claimed(&feed.cache, None, "ns--a").is_ok());
    feed.apply(&sandbox("a").id("short")).await;
    assert!(claimed(&feed.cache, None, "short").is_err(), "no longer claimed");
}

#[tokio::test(start_paused = true)]
async fn b4_users_own_sandboxes_checkpoints_and_volume_claims() {
    let metadata = |name: &str| {
        json!({"namespace": "ns", "name": name, "uid": name, "resourceVersion": "1",
               "annotations": {crate::api::v1alpha1::ANNOTATION_OWNER: "u"}})
    };
    let feed = Feed::start(&[
        sandbox("free").owner("u").listed(),
        sandbox("claimed").owner("u").claimed().listed(),
        ("checkpoints", json!({"metadata": metadata("cp"), "spec": {}})),
        ("persistentvolumeclaims", json!({"metadata": metadata("claim"), "spec": {"volumeName": "pv-1"}})),
    ])
    .await;
    assert_eq!(feed.cache.reader::<Sandbox>().by_index(USER, "u").unwrap().len(), 2);
    let of_user = ListCheckpointsOptions { namespace: None, user: Some("u") };
    assert_eq!(feed.cache.list_checkpoints(of_user).unwrap().len(), 1);
    let claims = feed.cache.reader::<k8s_openapi::api::core::v1::PersistentVolumeClaim>();
    assert_eq!(claims.by_index(USER, "u").unwrap().len(), 1);
    assert_eq!(claims.by_index(indexes::VOLUME_NAME, "pv-1").unwrap().len(), 1);
    assert_eq!(claims.by_index(indexes::VOLUME_NAME, "pv-2").unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn b5_a_deleting_sandbox_is_found_by_id_and_user_until_it_is_gone() {
    let deleting = sandbox("a").claimed().owner("u").deleting();
    let mut feed = start(std::slice::from_ref(&deleting)).await;
    let reader = feed.cache.reader::<Sandbox>();
    assert!(claimed(&feed.cache, None, "ns--a").is_ok());
    assert_eq!(reader.by_index(USER, "u").unwrap().len(), 1);
    feed.delete(&deleting).await;
    assert!(claimed(&feed.cache, None, "ns--a").is_err());
    assert!(reader.by_index(USER, "u").unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn b6_an_unknown_index_is_an_error_that_names_the_known() {
    let feed = start(&[]).await;
    let error = feed.cache.reader::<Sandbox>().by_index("pool", "p").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Sandbox has no index \"pool\"; it has sandboxPool, sandboxID, user, reservedFailed, unfinishedClaim"
    );
    let error = feed.cache.reader::<SandboxSet>().find("x", "p", |_| true).unwrap_err();
    assert_eq!(error.reason(), "unknown_index");
}

#[tokio::test(start_paused = true)]
async fn b7_pool_and_user_combine() {
    let feed = start(&[
        sandbox("a").pooled("p").ready().owner("u"),
        sandbox("b").pooled("p").ready().owner("v"),
        sandbox("c").pooled("q").ready().owner("u"),
    ])
    .await;
    let both = feed.cache.reader::<Sandbox>().by_indexes((SANDBOX_POOL, "p"), (USER, "u")).unwrap();
    assert_eq!(names(&both), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn c3_without_a_system_namespace_secrets_are_not_watched_at_all() {
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    let feed = start(&[]).await;
    let plurals: Vec<_> = feed.cache.kinds().iter().map(|kind| kind.plural()).collect();
    let expected = ["sandboxes", "sandboxsets", "sandboxtemplates", "checkpoints", "persistentvolumeclaims"];
    assert_eq!(plurals, expected);
    let error = feed.cache.reader::<Secret>().get("kube-system", "s").unwrap_err();
    assert_eq!(error, LookupError::OutOfScope { kind: "Secret".into(), namespace: None });
    assert!(feed.cache.subscribe::<ConfigMap>().is_none());
}

#[tokio::test(start_paused = true)]
async fn c4_all_limits_compose() {
    let scope = Scope {
        sandbox_namespace: Some("team".into()),
        label_selector: Some("a in (b,c),!d".parse().unwrap()),
        system_namespace: Some("sys".into()),
        persistent_volumes: true,
        lifecycle: false,
    };
    let mut feed = Feed::unsynced(|builder| builder.scope(scope));
    let mut asked = std::collections::BTreeMap::new();
    for _ in feed.cache.kinds() {
        let exchange = feed.server.next().await;
        asked.insert(exchange.path.clone(), exchange.query.get("labelSelector").cloned());
    }
    let selector = Some("a+in+%28b%2Cc%29%2C%21d".to_owned());
    let group = "/apis/agents.kruise.io/v1alpha1/namespaces/team";
    for plural in ["sandboxes", "sandboxsets", "sandboxtemplates", "checkpoints"] {
        assert_eq!(asked[&format!("{group}/{plural}")], selector, "{plural}");
    }
    assert_eq!(asked["/api/v1/namespaces/team/persistentvolumeclaims"], selector);
    assert_eq!(asked["/api/v1/namespaces/sys/secrets"], None);
    assert_eq!(asked["/api/v1/namespaces/sys/configmaps"], None);
    assert_eq!(asked["/api/v1/persistentvolumes"], None);
    assert_eq!(asked.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn d1_start_returns_once_every_kind_is_synced() {
    let (client, server) = super::scripted_server::server();
    let cache = Cache::builder(client).build();
    let starting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.start().await }
    });
    let mut feed = Feed::adopt(cache, server);
    feed.sync(&[sandbox("a").claimed().listed()]).await;
    starting.await.unwrap().unwrap();
    assert!(claimed(&feed.cache, None, "ns--a").is_ok());
}

#[tokio::test(start_paused = true)]
async fn d1_a_start_that_times_out_names_each_kind_and_its_error_and_stops_what_it_began() {
    let (client, mut server) = super::scripted_server::server();
    let cache = Cache::builder(client).sync_timeout(Duration::from_secs(7)).build();
    let starting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.start().await }
    });
    let mut open = Vec::new();
    for _ in cache.kinds() {
        let exchange = server.next().await;
        match exchange.path.rsplit('/').next().unwrap() {
            "sandboxes" => exchange.status(403, "Forbidden", &[]),
            "checkpoints" => open.push(exchange.stream()),
            _ => {
                let mut watch = exchange.stream();
                watch.end_of_list("1").await;
                open.push(watch);
            }
        }
    }
    let StartError::NotSynced { timeout, kinds } = starting.await.unwrap().unwrap_err() else {
        panic!("started before")
    };
    assert_eq!(timeout, Duration::from_secs(7));
    let [sandboxes, checkpoints] = &kinds[..] else { panic!("{kinds:?}") };
    assert_eq!(sandboxes.0, "sandboxes");
    assert!(sandboxes.1.contains("no permission to watch sandboxes.agents.kruise.io"), "{}", sandboxes.1);
    assert_eq!((checkpoints.0.as_str(), checkpoints.1.as_str()), ("checkpoints", "the list is not complete"));
    assert_eq!(cache.running_watches(), 0);
}

#[tokio::test(start_paused = true)]
async fn d2_a_watch_that_fails_ends_nothing_and_is_shown() {
    let mut feed = Feed::unsynced(|builder| builder);
    for _ in feed.cache.kinds() {
        feed.server.next().await.status(429, "TooManyRequests", &[]);
    }
    feed.sync(&[]).await;
    for kind in feed.cache.kinds() {
        let report = kind.report();
        assert_eq!(report.errors.values().sum::<u64>(), 1);
        assert_eq!(report.freshness(), Freshness::Fresh);
    }
}

#[tokio::test(start_paused = true)]
async fn d3_stop_returns_when_all_tasks_have_ended_and_a_second_start_is_an_error() {
    let (client, _server) = super::scripted_server::server();
    let cache = Cache::builder(client).build();
    cache.stop().await;
    cache.spawn().unwrap();
    assert_eq!(cache.spawn().unwrap_err(), StartError::AlreadyStarted);
    assert_eq!(cache.running_watches(), cache.kinds().len());
    cache.stop().await;
    assert_eq!(cache.running_watches(), 0);
    assert_eq!(cache.start().await.unwrap_err(), StartError::AlreadyStarted);
    cache.stop().await;
}

#[tokio::test(start_paused = true)]
async fn d3_dropping_the_last_handle_stops_the_watches() {
    let feed = start(&[]).await;
    let mut events = feed.cache.subscribe::<Sandbox>().unwrap();
    drop(feed.cache);
    // The stream ends when the task of its watch has ended.
    while events.next().await.is_some() {}
    assert_eq!(events.end(), Some(SubscriptionEnd::Stopped));
}

#[tokio::test(start_paused = true)]
async fn d4_a_process_of_its_own_can_drive_the_watches() {
    let (client, server) = super::scripted_server::server();
    let cache = Cache::builder(client).build();
    let stop = CancellationToken::new();
    let informers = cache.informers(&stop).unwrap();
    assert_eq!(informers.len(), cache.kinds().len());
    let driver = tokio::spawn(futures::future::join_all(informers));
    let mut feed = Feed::adopt(cache, server);
    feed.sync(&[sandbox("a").claimed().listed()]).await;
    assert!(claimed(&feed.cache, None, "ns--a").is_ok());
    stop.cancel();
    driver.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn k1_an_own_write_is_expected_until_the_cache_has_seen_it() {
    let mut feed = start(&[sandbox("a")]).await;
    let written = sandbox("a").typed(1001);
    feed.cache.expect(&written);
    assert!(matches!(feed.cache.is_satisfied(&written), Satisfaction::Unsatisfied { .. }));
    let other_incarnation = sandbox("a").uid("other").typed(1001);
    assert!(feed.cache.is_satisfied(&other_incarnation).is_satisfied());
    feed.apply(&sandbox("a")).await;
    assert!(feed.cache.is_satisfied(&written).is_satisfied());
    feed.cache.expect(&written);
    assert!(feed.cache.is_satisfied(&written).is_satisfied(), "seen before it was expected");
}

#[tokio::test(start_paused = true)]
async fn k2_expectations_belong_to_one_cache() {
    let (one, other) = (start(&[sandbox("a")]).await, start(&[sandbox("a")]).await);
    let written = sandbox("a").typed(2000);
    one.cache.expect(&written);
    assert!(!one.cache.is_satisfied(&written).is_satisfied());
    assert!(other.cache.is_satisfied(&written).is_satisfied());
}

#[tokio::test(start_paused = true)]
async fn k3_refresh_takes_the_cached_object_unless_an_own_write_is_missing_or_it_is_not_there() {
    let mut feed = start(&[sandbox("a")]).await;
    let asked = sandbox("a").typed(1);
    let cached = feed.cache.refresh_sandbox(&asked).await.unwrap();
    assert_eq!(cached.metadata.resource_version.as_deref(), Some("1"));

    feed.cache.expect(&sandbox("a").typed(2000));
    let cache = feed.cache.clone();
    let live = tokio::spawn(async move { cache.refresh_sandbox(&asked).await });
    let read = feed.server.next().await;
    assert_eq!(read.path, "/apis/agents.kruise.io/v1alpha1/namespaces/ns/sandboxes/a");
    read.json(&serde_json::to_value(sandbox("a").typed(2000)).unwrap());
    assert_eq!(live.await.unwrap().unwrap().metadata.resource_version.as_deref(), Some("2000"));

    let cache = feed.cache.clone();
    let gone = tokio::spawn(async move { cache.refresh_sandbox(&sandbox("gone").typed(1)).await });
    feed.server.next().await.status(404, "NotFound", &[]);
    assert_eq!(gone.await.unwrap().unwrap_err().to_string(), "Sandbox ns/gone not found");
}

#[tokio::test(start_paused = true)]
async fn k3_a_live_read_has_a_deadline() {
    let mut feed = start(&[]).await;
    let cache = feed.cache.clone();
    let read = tokio::spawn(async move { cache.refresh_sandbox(&sandbox("a").typed(1)).await });
    let unanswered = feed.server.next().await;
    let error = read.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "reading Sandbox ns/a: no answer within 30 s");
    drop(unanswered);
}

#[tokio::test(start_paused = true)]
async fn k4_a_version_can_be_awaited() {
    let mut feed = start(&[]).await;
    let cache = feed.cache.clone();
    let second = Duration::from_secs(1);
    let awaited = tokio::spawn(async move { cache.await_version::<Sandbox>("1001", second).await });
    tokio::task::yield_now().await;
    assert!(!awaited.is_finished());
    feed.apply(&sandbox("a")).await;
    awaited.await.unwrap().unwrap();
    feed.cache.await_version::<Sandbox>("7", Duration::ZERO).await.unwrap();
    let error = feed.cache.await_version::<Sandbox>("9999", second).await.unwrap_err();
    assert_eq!(error.to_string(), "cache of Sandbox is at version 1001, not yet at 9999, after 1000 ms");
    let error = feed.cache.await_version::<Sandbox>("x", second).await.unwrap_err();
    assert_eq!(error, VersionError::NotNumeric("x".into()));
    let error =
        feed.cache.await_version::<k8s_openapi::api::core::v1::Secret>("1", second).await.unwrap_err();
    assert_eq!(error, VersionError::NotWatched("Secret".into()));
}

#[tokio::test(start_paused = true)]
async fn the_metrics_are_what_the_cache_knows() {
    let mut feed = start(&[sandbox("a").claimed(), sandbox("b")]).await;
    claimed(&feed.cache, None, "ns--a").unwrap();
    claimed(&feed.cache, None, "nothing").unwrap_err();
    let mut partial = sandbox("c");
    partial.0["spec"] = json!({"template": "text"});
    feed.apply(&partial).await;
    let mut undecodable = sandbox("d");
    undecodable.0["metadata"]["uid"] = json!(5);
    feed.apply(&undecodable).await;
    feed.cache.expect(&sandbox("a").typed(5000));
    let registry = prometheus::Registry::new();
    registry.register(Box::new(CacheCollector::new(&feed.cache, "sandbox_manager").unwrap())).unwrap();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        "sandbox_manager_cache_objects{resource=\"sandboxes\"} 3",
        "sandbox_manager_cache_synced{resource=\"checkpoints\"} 1",
        "sandbox_manager_cache_lookups_total{resource=\"sandboxes\",result=\"hit\"} 1",
        "sandbox_manager_cache_lookups_total{resource=\"sandboxes\",result=\"miss\"} 1",
        "sandbox_manager_cache_undecodable_objects{resource=\"sandboxes\"} 1",
        "sandbox_manager_cache_partially_decoded_objects{resource=\"sandboxes\"} 1",
        "sandbox_manager_cache_relists_total{resource=\"sandboxes\"} 0",
        "sandbox_manager_cache_stale_seconds{resource=\"sandboxes\"} 0",
        "sandbox_manager_cache_outstanding_writes{resource=\"sandboxes\"} 1",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} is missing from\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_dump_shows_every_object_with_its_index_values() {
    let feed = start(&[sandbox("b").pooled("p").ready(), sandbox("a").claimed().id("x").owner("u")]).await;
    let sandboxes = feed.cache.kinds().iter().find(|kind| kind.plural() == "sandboxes").unwrap();
    let dump = sandboxes.dump();
    assert_eq!(dump.iter().map(|object| object.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((dump[0].uid.as_str(), dump[0].resource_version.as_str()), ("a-", "1"));
    assert_eq!(dump[0].indexes[CLAIMED_SANDBOX_ID.name()], ["x"]);
    assert_eq!(dump[0].indexes[USER], ["u"]);
    assert_eq!(dump[1].indexes[SANDBOX_POOL.name()], ["p"]);
    assert!(!dump[1].indexes.contains_key(USER));
}
