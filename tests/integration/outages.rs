//! Tests the cache as a library while the API server is down or unreachable. Also tests the tracking of own
//! writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use futures::StreamExt;
use kube::api::{DeleteParams, ListParams};
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config, ResourceExt};
use sandbox_manager::api::v1alpha1::{Sandbox, crds};
use sandbox_manager::cache::{Cache, RefreshError, Satisfaction};
use sandbox_manager::shared_cache::{DeletionReason, Event, Subscription};
use serde_json::json;

use crate::cache::{names, scope, started};
use crate::support::fixtures::{SandboxFixture, create, merge, sandbox};
use crate::support::{ADMIN, Cluster, Proxy, SOON, eventually, prepared};

/// Returns a client of the administrator that connects to the API server through the proxy.
async fn client_through(proxy: &Proxy, cluster: &Cluster) -> Client {
    let kubeconfig = proxy.lead(cluster.kubeconfig(ADMIN).await);
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Returns a short form of an event: `+name` added, `~name` changed, `-name` deleted, `?name` deleted without
/// an event; then the letter of the first UID.
fn in_short(event: &Event<Sandbox>, uids: &BTreeMap<String, char>) -> String {
    let mark = match event {
        Event::Applied { old: None, .. } => '+',
        Event::Applied { .. } => '~',
        Event::Deleted { reason: DeletionReason::Removed, .. } => '-',
        _ => '?',
    };
    let object = event.object().unwrap();
    let uid = object.uid().unwrap();
    format!("{mark}{} {}", object.name_any(), uids.get(&uid).copied().unwrap_or('n'))
}

/// Returns a subscription that has received all existing objects.
fn subscribed(cache: &Cache) -> Subscription<Sandbox> {
    let mut subscription = cache.subscribe().unwrap();
    while subscription.try_next().is_some() {}
    subscription
}

/// Returns the events until the cache shows the sandbox `last`, sorted by name. Events of one name stay in
/// order.
async fn events_until(
    subscription: &mut Subscription<Sandbox>,
    last: &str,
    uids: &BTreeMap<String, char>,
) -> Vec<String> {
    let mut events = Vec::new();
    let collect = async {
        loop {
            let event = subscription.next().await.expect("the watch goes on");
            let Some(name) = event.object().map(|object| object.name_any()) else { continue };
            if name == last {
                break;
            }
            events.push((name, in_short(&event, uids)));
        }
    };
    let _ = tokio::time::timeout(2 * SOON, collect).await;
    events.sort_by(|(a, _), (b, _)| a.cmp(b));
    events.into_iter().map(|(_, event)| event).collect()
}

/// Creates four sandboxes. Returns the letter `o` (old) for the UID of each.
async fn four(client: &Client, namespace: &str) -> BTreeMap<String, char> {
    let mut uids = BTreeMap::new();
    for name in ["changed", "deleted", "replaced", "untouched"] {
        let created = create(client, namespace, &sandbox(name)).await;
        uids.insert(created.uid().unwrap(), 'o');
    }
    uids
}

/// Changes the four sandboxes while the cache is disconnected. `last` is created last.
async fn change_four(client: &Client, namespace: &str, last: &str) {
    let api: Api<Sandbox> = Api::namespaced(client.clone(), namespace);
    merge(&api, "changed", json!({ "spec": { "paused": true } })).await;
    for name in ["deleted", "replaced"] {
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }
    create(client, namespace, &sandbox("replaced")).await;
    create(client, namespace, &sandbox(last)).await;
}

#[tokio::test]
async fn e3_e7_a_cut_watch_resumes_where_it_was() {
    let (cluster, client, namespace) = prepared("cut").await;
    let uids = four(&client, &namespace).await;
    let proxy = Proxy::to(&cluster).await;
    let cache = started(client_through(&proxy, &cluster).await, scope(&namespace, "", "")).await;
    let mut subscription = subscribed(&cache);

    proxy.cut();
    change_four(&client, &namespace, "last").await;
    proxy.restore();
    let events = events_until(&mut subscription, "last", &uids).await;
    assert_eq!(events, ["~changed o", "-deleted o", "-replaced o", "+replaced n"]);
    let kinds = cache.kinds();
    let sandboxes = kinds.iter().find(|kind| kind.plural() == "sandboxes").unwrap();
    assert_eq!(sandboxes.report().relists, 0, "e7: no list was needed");
    assert!(sandboxes.report().errors.values().sum::<u64>() >= 1, "the cut was seen");
    cache.stop().await;
}

#[tokio::test]
async fn e3_e7_what_vanished_while_the_api_server_restarted_is_told_as_of_unknown_end() {
    let cluster = Cluster::start().await;
    cluster.install_crds(crds()).await;
    let client = cluster.client().await;
    let uids = four(&client, "default").await;
    let proxy = Proxy::to(&cluster).await;
    let cache = started(client_through(&proxy, &cluster).await, scope("default", "", "")).await;
    let mut subscription = subscribed(&cache);

    proxy.cut();
    cluster.kill_api_server().await;
    cluster.start_api_server().await;
    let client = cluster.client().await;
    change_four(&client, "default", "last").await;
    assert_eq!(names::<Sandbox>(&cache), ["changed", "deleted", "replaced", "untouched"], "e5: the old view");
    proxy.restore();
    // The restarted server has no history. The versions of the watch are gone, so only a list helps.
    let mut events = events_until(&mut subscription, "last", &uids).await;
    eventually("the cache shows the existing objects", 2 * SOON, async || {
        let shown = names::<Sandbox>(&cache);
        ensure!(shown == ["changed", "last", "replaced", "untouched"], "{shown:?}");
        Ok(())
    })
    .await;
    while let Some(event) = subscription.try_next() {
        events.push(in_short(&event, &uids));
    }
    events.sort_by_key(|event| event[1..].split(' ').next().map(str::to_owned));
    assert_eq!(events, ["~changed o", "?deleted o", "?replaced o", "+replaced n"]);
    cache.stop().await;
}

/// Writes until the API server gives versions newer than this one.
async fn overtake(client: &Client, namespace: &str, version: &str) {
    let api: Api<Sandbox> = Api::namespaced(client.clone(), namespace);
    let passed: u64 = version.parse().unwrap();
    let mut writes = 0;
    loop {
        writes += 1;
        let written =
            merge(&api, "untouched", json!({ "metadata": { "labels": { "write": writes.to_string() } } }));
        if written.await.resource_version().unwrap().parse::<u64>().unwrap() > passed {
            return;
        }
    }
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn v4_the_cache_equals_an_api_server_whose_etcd_was_restored_from_a_backup() {
    for overtaken in [false, true] {
        let cluster = Cluster::start().await;
        let Cluster::Real(server) = &cluster else { panic!("TEST_API_SERVER is not real") };
        cluster.install_crds(crds()).await;
        four(&cluster.client().await, "default").await;
        let backup = server.back_up().await;
        let client = cluster.client().await;
        let proxy = Proxy::to(&cluster).await;
        let cache = started(client_through(&proxy, &cluster).await, scope("default", "", "")).await;
        change_four(&client, "default", "lost").await;
        let newest = create(&client, "default", &sandbox("newest")).await.resource_version().unwrap();
        cache.await_version::<Sandbox>(&newest, SOON).await.unwrap();

        proxy.cut();
        server.restore(&backup).await;
        let client = cluster.client().await;
        let api: Api<Sandbox> = Api::namespaced(client.clone(), "default");
        create(&client, "default", &sandbox("after")).await;
        if overtaken {
            overtake(&client, "default", &newest).await;
        }
        proxy.restore();
        eventually("the cache equals the API server", Duration::from_mins(2), async || {
            let versions =
                |objects: Vec<(String, Option<String>)>| objects.into_iter().collect::<BTreeMap<_, _>>();
            let listed = api.list(&ListParams::default()).await?.items;
            let listed = versions(listed.iter().map(|o| (o.name_any(), o.resource_version())).collect());
            let cached = cache.reader::<Sandbox>().list(None)?;
            let cached = versions(cached.iter().map(|o| (o.name_any(), o.resource_version())).collect());
            ensure!(cached == listed, "overtaken: {overtaken}: {cached:?} is not {listed:?}");
            Ok(())
        })
        .await;
        assert_eq!(names::<Sandbox>(&cache), ["after", "changed", "deleted", "replaced", "untouched"]);
        cache.stop().await;
    }
}

#[tokio::test]
async fn k1_k3_k4_own_writes_are_read_back() {
    let (cluster, writer, namespace) = prepared("writes").await;
    let proxy = Proxy::to(&cluster).await;
    let cache = started(client_through(&proxy, &cluster).await, scope(&namespace, "", "")).await;
    let api: Api<Sandbox> = Api::namespaced(writer.clone(), &namespace);

    // K4: once the cache has passed the version of a write, it returns the written object.
    let written = create(&writer, &namespace, &sandbox("a").claimed_by("alice")).await;
    cache.await_version::<Sandbox>(&written.resource_version().unwrap(), SOON).await.unwrap();
    let version = |object: Option<Arc<Sandbox>>| object.and_then(|object| object.resource_version());
    assert_eq!(version(cache.reader::<Sandbox>().get(&namespace, "a").unwrap()), written.resource_version());

    // The watches are stalled, so that the cache sees later writes only after they resume.
    proxy.stall();
    let changed = merge(&api, "a", json!({ "spec": { "paused": true } })).await;
    cache.expect(&changed);
    assert!(matches!(cache.is_satisfied(&changed), Satisfaction::Unsatisfied { .. }), "k1");
    let cached = cache.reader::<Sandbox>().get(&namespace, "a").unwrap();
    assert_eq!(version(cached), written.resource_version(), "the cache is older");
    let refreshed = cache.refresh_sandbox(&written).await.unwrap();
    assert_eq!(version(Some(refreshed)), changed.resource_version(), "k3: a live read");
    let new = create(&writer, &namespace, &sandbox("new")).await;
    assert_eq!(cache.refresh_sandbox(&new).await.unwrap().uid(), new.uid(), "k3: not in the cache");
    let passed = cache.await_version::<Sandbox>(&changed.resource_version().unwrap(), Duration::ZERO).await;
    assert!(passed.is_err(), "k4: not before it is seen");

    proxy.resume();
    cache.await_version::<Sandbox>(&new.resource_version().unwrap(), SOON).await.unwrap();
    assert_eq!(cache.is_satisfied(&changed), Satisfaction::Satisfied, "k1");
    let cached = cache.reader::<Sandbox>().get(&namespace, "a").unwrap();
    assert_eq!(version(cached), changed.resource_version());

    // An expectation of a deleted object is cleared with the object, even if its version is never seen.
    let mut never = changed.clone();
    never.metadata.resource_version = Some(u64::MAX.to_string());
    cache.expect(&never);
    assert!(!cache.is_satisfied(&never).is_satisfied());
    api.delete("a", &DeleteParams::default()).await.unwrap();
    eventually("the expectation is cleared", SOON, async || {
        ensure!(cache.is_satisfied(&never).is_satisfied(), "it is kept");
        Ok(())
    })
    .await;
    let gone = cache.refresh_sandbox(&changed).await;
    assert!(matches!(gone, Err(RefreshError::NotFound { .. })), "k3: {gone:?}");
    cache.stop().await;
}
