//! The cache as a library, on a real API server.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret};
use kube::api::{DeleteParams, PostParams};
use kube::config::KubeConfigOptions;
use kube::core::ObjectMeta;
use kube::{Api, Client, Config, ResourceExt};
use sandbox_manager::api::v1alpha1::{Checkpoint, Sandbox, SandboxPhase, SandboxSet, crds};
use sandbox_manager::cache::{
    Cache, GetCheckpointOptions, GetClaimedSandboxOptions, ListSandboxesInPoolOptions, ListSandboxesOptions,
    LookupError, PickSandboxSetOptions, Provider, RefreshError, Satisfaction, StartError, WatchedKind,
};
use sandbox_manager::informer::{Event, Subscription};
use sandbox_manager::options::{SandboxManagerOptions, Scope};
use serde_json::json;

use crate::support::fixtures::{
    CheckpointFixture, MetadataFixture, SandboxFixture, checkpoint, create, merge, sandbox, sandbox_set,
};
use crate::support::{ADMIN, ControlPlane, Proxy, SOON, eventually};

/// The scope that these options come to.
fn scope(namespace: &str, selector: &str, system: &str) -> Scope {
    Scope::from_options(&SandboxManagerOptions {
        sandbox_namespace: namespace.into(),
        sandbox_label_selector: selector.into(),
        system_namespace: system.into(),
        ..SandboxManagerOptions::default()
    })
    .unwrap()
}

/// A started cache of a scope.
async fn started(client: Client, scope: Scope) -> Cache {
    let cache = Cache::builder(client).scope(scope).sync_timeout(2 * SOON).build();
    cache.start().await.unwrap();
    cache
}

/// A client of the administrator that reaches the API server through the proxy.
async fn client_through(proxy: &Proxy, cp: &ControlPlane) -> Client {
    let kubeconfig = proxy.lead(cp.kubeconfig(ADMIN));
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

/// The shared control plane with our kinds, an administrator's client, and a namespace.
async fn prepared(prefix: &str) -> (&'static ControlPlane, Client, String) {
    let cp = ControlPlane::shared().await;
    cp.install_crds(crds()).await;
    (cp, cp.client().await, cp.namespace(prefix).await)
}

fn names<K: WatchedKind>(cache: &Cache) -> Vec<String> {
    let mut names: Vec<_> = cache
        .reader::<K>()
        .list(None)
        .unwrap()
        .iter()
        .map(|k| k.name_any())
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn a_d1_start_returns_once_synced_and_lookups_answer() {
    let (_, client, namespace) = prepared("lookups").await;
    create(
        &client,
        &namespace,
        &sandbox("claimed").claimed_by("alice").ready(),
    )
    .await;
    create(
        &client,
        &namespace,
        &sandbox("failed").owned_by("alice").in_phase(SandboxPhase::Failed),
    )
    .await;
    create(&client, &namespace, &sandbox("free").of_set("pool").ready()).await;
    create(
        &client,
        &namespace,
        &sandbox("over")
            .of_set("pool")
            .ready()
            .shut_down_at(Timestamp::UNIX_EPOCH),
    )
    .await;
    create(&client, &namespace, &sandbox_set("pool", 1)).await;
    create(&client, &namespace, &checkpoint("saved").saved_as("checkpoint-1")).await;

    let cache = Cache::builder(client)
        .scope(scope(&namespace, "", &namespace))
        .build();
    let claimed = |sandbox_id: &str| {
        cache.get_claimed_sandbox(GetClaimedSandboxOptions {
            namespace: None,
            sandbox_id,
        })
    };
    assert!(matches!(claimed("any"), Err(LookupError::NotSynced { .. })), "a6");
    cache.stop().await;
    cache.start().await.unwrap();
    assert!(cache.kinds().iter().all(|kind| kind.report().synced), "{cache:?}");
    assert_eq!(cache.kinds().len(), 8);
    assert_eq!(cache.start().await, Err(StartError::AlreadyStarted), "d3");

    assert_eq!(
        claimed(&format!("{namespace}--claimed")).unwrap().name_any(),
        "claimed"
    );
    assert!(
        matches!(claimed("other"), Err(LookupError::NotFound { .. })),
        "a2"
    );
    let namespace = Some(namespace.as_str());
    let options = GetCheckpointOptions {
        namespace,
        checkpoint_id: "checkpoint-1",
    };
    assert_eq!(cache.get_checkpoint(options).unwrap().name_any(), "saved");
    let options = PickSandboxSetOptions {
        namespace,
        name: "pool",
    };
    assert_eq!(cache.pick_sandbox_set(options).unwrap().name_any(), "pool");
    let options = ListSandboxesInPoolOptions {
        namespace,
        pool: "pool",
    };
    let pool = cache.list_sandboxes_in_pool(options).unwrap();
    assert_eq!(
        pool.iter().map(|sandbox| sandbox.name_any()).collect::<Vec<_>>(),
        ["free"]
    );
    let of_alice = ListSandboxesOptions {
        namespace,
        user: Some("alice"),
    };
    assert_eq!(cache.list_sandboxes(of_alice).unwrap().len(), 2);
    assert_eq!(cache.count_active_sandboxes(of_alice).unwrap(), 1);
    let elsewhere = ListSandboxesOptions {
        namespace: Some("default"),
        user: None,
    };
    assert!(
        matches!(
            cache.list_sandboxes(elsewhere),
            Err(LookupError::OutOfScope { .. })
        ),
        "a4"
    );

    cache.stop().await;
    assert_eq!(
        cache.list_sandboxes(of_alice).unwrap().len(),
        2,
        "what was last seen"
    );
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn d1_start_names_the_forbidden_kind_and_stops_everything() {
    let (cp, _, namespace) = prepared("unsynced").await;
    let user = format!("user-of-{namespace}");
    cp.grant_all_but_secrets(&user).await;
    let timeout = Duration::from_secs(5);
    let cache = Cache::builder(cp.client_for(&user).await)
        .scope(scope(&namespace, "", &namespace))
        .sync_timeout(timeout)
        .build();
    let mut subscription = cache.subscribe::<Sandbox>().unwrap();
    let Err(StartError::NotSynced {
        timeout: waited,
        kinds,
    }) = cache.start().await
    else {
        panic!("it started");
    };
    assert_eq!(waited, timeout);
    let secrets = kinds
        .iter()
        .find(|(kind, _)| kind == "secrets")
        .map(|(_, why)| why.as_str());
    let missing = format!("forbidden: no permission to watch secrets in namespace \"{namespace}\"");
    assert!(secrets.is_some_and(|why| why.starts_with(&missing)), "{kinds:?}");
    // A subscription ends when its watch has.
    assert!(subscription.next().await.is_none());
}

async fn create_cluster_objects(client: &Client, system: &str, name: &str) {
    let metadata = ObjectMeta {
        name: Some(name.into()),
        ..ObjectMeta::default()
    };
    let secret = Secret {
        metadata: metadata.clone(),
        ..Secret::default()
    };
    let config_map = ConfigMap {
        metadata,
        ..ConfigMap::default()
    };
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "hostPath": { "path": "/x" } },
    }))
    .unwrap();
    let parameters = PostParams::default();
    Api::namespaced(client.clone(), system)
        .create(&parameters, &secret)
        .await
        .unwrap();
    Api::namespaced(client.clone(), system)
        .create(&parameters, &config_map)
        .await
        .unwrap();
    Api::all(client.clone())
        .create(&parameters, &volume)
        .await
        .unwrap();
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn c1_c2_c3_c4_scopes_limit_each_kind_as_said_and_compose() {
    let (cp, client, a) = prepared("scope-a").await;
    let (b, system) = (cp.namespace("scope-b").await, cp.namespace("scope-system").await);
    // Other tests make objects, too: these are told by a label that only this test has.
    let run = a.as_str();
    for (namespace, name, tier) in [
        (&a, "plain", "iron"),
        (&a, "golden", "gold"),
        (&b, "other", "iron"),
    ] {
        create(
            &client,
            namespace,
            &sandbox(name).label("run", run).label("tier", tier),
        )
        .await;
        create(
            &client,
            namespace,
            &sandbox_set(name, 1).label("run", run).label("tier", tier),
        )
        .await;
        create(
            &client,
            namespace,
            &checkpoint(name).label("run", run).label("tier", tier),
        )
        .await;
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { "run": run, "tier": tier } },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        }))
        .unwrap();
        let claims = Api::namespaced(client.clone(), namespace);
        claims.create(&PostParams::default(), &claim).await.unwrap();
    }
    create(&client, &a, &sandbox("unlabelled")).await;
    create_cluster_objects(&client, &system, &system).await;
    create_cluster_objects(&client, &b, &b).await;

    let cases: [(&str, String, &[&str], &[&str]); 4] = [
        (
            &a,
            String::new(),
            &["golden", "plain", "unlabelled"],
            &["golden", "plain"],
        ),
        (
            "",
            format!("run={run}"),
            &["golden", "other", "plain"],
            &["golden", "other", "plain"],
        ),
        (
            &a,
            format!("run in ({run}, x),tier notin (gold)"),
            &["plain"],
            &["plain"],
        ),
        (
            "",
            format!("run={run},tier!=iron,!retired"),
            &["golden"],
            &["golden"],
        ),
    ];
    for (namespace, selector, sandboxes, others) in cases {
        for system_namespace in ["", &system] {
            let cache = started(client.clone(), scope(namespace, &selector, system_namespace)).await;
            assert_eq!(names::<Sandbox>(&cache), sandboxes, "{namespace:?} {selector:?}");
            assert_eq!(names::<SandboxSet>(&cache), others, "{namespace:?} {selector:?}");
            assert_eq!(names::<Checkpoint>(&cache), others, "{namespace:?} {selector:?}");
            assert_eq!(
                names::<PersistentVolumeClaim>(&cache),
                others,
                "{namespace:?} {selector:?}"
            );
            let volumes = names::<PersistentVolume>(&cache);
            assert!(
                volumes.contains(&system) && volumes.contains(&b),
                "c4: {volumes:?}"
            );
            if system_namespace.is_empty() {
                let secrets = cache.reader::<Secret>().list(None);
                assert!(
                    matches!(secrets, Err(LookupError::OutOfScope { .. })),
                    "c3: {secrets:?}"
                );
            } else {
                assert_eq!(names::<Secret>(&cache), [system.as_str()], "c3");
                assert!(names::<ConfigMap>(&cache).contains(&system), "c3");
                assert!(!names::<ConfigMap>(&cache).contains(&b), "c3");
            }
            cache.stop().await;
        }
    }
}

/// An event in short: `+name` added, `~name` changed, `-name` gone, `?name` gone unseen; then the first UID's letter.
fn in_short(event: &Event<Sandbox>, uids: &BTreeMap<String, char>) -> String {
    let mark = match event {
        Event::Applied { old: None, .. } => '+',
        Event::Applied { .. } => '~',
        Event::Deleted {
            final_state_unknown: false,
            ..
        } => '-',
        Event::Deleted {
            final_state_unknown: true,
            ..
        } => '?',
    };
    let object = event.object();
    let uid = object.uid().unwrap();
    format!(
        "{mark}{} {}",
        object.name_any(),
        uids.get(&uid).copied().unwrap_or('n')
    )
}

/// A subscription that has seen all that is there.
fn subscribed(cache: &Cache) -> Subscription<Sandbox> {
    let mut subscription = cache.subscribe().unwrap();
    while subscription.try_next().is_some() {}
    subscription
}

/// The events until the cache shows the sandbox `last`, sorted by name; those of one name stay in order.
async fn events_until(
    subscription: &mut Subscription<Sandbox>,
    last: &str,
    uids: &BTreeMap<String, char>,
) -> Vec<String> {
    let mut events = Vec::new();
    let collect = async {
        loop {
            let event = subscription.next().await.expect("the watch goes on");
            if event.object().name_any() == last {
                break;
            }
            events.push((event.object().name_any(), in_short(&event, uids)));
        }
    };
    let _ = tokio::time::timeout(2 * SOON, collect).await;
    events.sort_by(|(a, _), (b, _)| a.cmp(b));
    events.into_iter().map(|(_, event)| event).collect()
}

/// Four sandboxes and the letter `o` for the UID of each: theirs is the old one.
async fn four(client: &Client, namespace: &str) -> BTreeMap<String, char> {
    let mut uids = BTreeMap::new();
    for name in ["changed", "deleted", "replaced", "untouched"] {
        let created = create(client, namespace, &sandbox(name)).await;
        uids.insert(created.uid().unwrap(), 'o');
    }
    uids
}

/// What happens to the four behind the cache's back. `last` is created last.
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
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn e3_e7_a_cut_watch_resumes_where_it_was() {
    let (cp, client, namespace) = prepared("cut").await;
    let uids = four(&client, &namespace).await;
    let proxy = Proxy::to(cp).await;
    let cache = started(client_through(&proxy, cp).await, scope(&namespace, "", "")).await;
    let mut subscription = subscribed(&cache);

    proxy.cut();
    change_four(&client, &namespace, "last").await;
    proxy.restore();
    let events = events_until(&mut subscription, "last", &uids).await;
    assert_eq!(events, ["~changed o", "-deleted o", "-replaced o", "+replaced n"]);
    let kinds = cache.kinds();
    let sandboxes = kinds.iter().find(|kind| kind.plural() == "sandboxes").unwrap();
    assert_eq!(sandboxes.report().relists, 0, "e7: no list was needed");
    assert!(
        sandboxes.report().errors.values().sum::<u64>() >= 1,
        "the cut was seen"
    );
    cache.stop().await;
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn e3_e7_what_vanished_while_the_api_server_restarted_is_told_as_of_unknown_end() {
    let cp = ControlPlane::start().await;
    cp.install_crds(crds()).await;
    let client = cp.client().await;
    let uids = four(&client, "default").await;
    let proxy = Proxy::to(&cp).await;
    let cache = started(client_through(&proxy, &cp).await, scope("default", "", "")).await;
    let mut subscription = subscribed(&cache);

    proxy.cut();
    cp.kill_api_server().await;
    cp.start_api_server().await;
    let client = cp.client().await;
    change_four(&client, "default", "last").await;
    assert_eq!(
        names::<Sandbox>(&cache),
        ["changed", "deleted", "replaced", "untouched"],
        "e5: the old view"
    );
    proxy.restore();
    // The restarted server has no history: the versions that the watch asks for are gone, and only a list helps.
    let mut events = events_until(&mut subscription, "last", &uids).await;
    eventually("the cache shows what is there", 2 * SOON, async || {
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

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn k1_k3_k4_own_writes_are_read_back() {
    let (cp, writer, namespace) = prepared("writes").await;
    let proxy = Proxy::to(cp).await;
    let cache = started(client_through(&proxy, cp).await, scope(&namespace, "", "")).await;
    let api: Api<Sandbox> = Api::namespaced(writer.clone(), &namespace);

    // K4: once the version of a write has passed, the write can be read.
    let written = create(&writer, &namespace, &sandbox("a").claimed_by("alice")).await;
    cache
        .await_version::<Sandbox>(&written.resource_version().unwrap(), SOON)
        .await
        .unwrap();
    let version =
        |object: Option<std::sync::Arc<Sandbox>>| object.and_then(|object| object.resource_version());
    assert_eq!(
        version(cache.reader::<Sandbox>().get(&namespace, "a").unwrap()),
        written.resource_version()
    );

    // The watches stand still, so that nothing written from here on is seen until they go on.
    proxy.stall();
    let changed = merge(&api, "a", json!({ "spec": { "paused": true } })).await;
    cache.expect(&changed);
    assert!(
        matches!(cache.is_satisfied(&changed), Satisfaction::Unsatisfied { .. }),
        "k1"
    );
    let cached = cache.reader::<Sandbox>().get(&namespace, "a").unwrap();
    assert_eq!(version(cached), written.resource_version(), "the cache is older");
    let refreshed = cache.refresh_sandbox(&written).await.unwrap();
    assert_eq!(
        version(Some(refreshed)),
        changed.resource_version(),
        "k3: a live read"
    );
    let new = create(&writer, &namespace, &sandbox("new")).await;
    assert_eq!(
        cache.refresh_sandbox(&new).await.unwrap().uid(),
        new.uid(),
        "k3: not in the cache"
    );
    let passed = cache
        .await_version::<Sandbox>(&changed.resource_version().unwrap(), Duration::ZERO)
        .await;
    assert!(passed.is_err(), "k4: not before it is seen");

    proxy.resume();
    cache
        .await_version::<Sandbox>(&new.resource_version().unwrap(), SOON)
        .await
        .unwrap();
    assert_eq!(cache.is_satisfied(&changed), Satisfaction::Satisfied, "k1");
    let cached = cache.reader::<Sandbox>().get(&namespace, "a").unwrap();
    assert_eq!(version(cached), changed.resource_version());

    // An expectation of an object that goes is cleared with it, though its version never comes.
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
