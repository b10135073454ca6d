//! Tests the cache as a library, on a real API server.

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret};
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client, ResourceExt};
use sandbox_manager::api::v1alpha1::{Checkpoint, Sandbox, SandboxPhase, SandboxSet};
use sandbox_manager::cache::{
    Cache, GetCheckpointOptions, GetClaimedSandboxOptions, ListSandboxesInPoolOptions, ListSandboxesOptions,
    LookupError, PickSandboxSetOptions, Provider, StartError,
};
use sandbox_manager::options::{SandboxManagerOptions, Scope};
use sandbox_manager::shared_cache::{CacheObject, SubscriptionEnd};
use serde_json::json;

use crate::support::fixtures::{
    CheckpointFixture, MetadataFixture, SandboxFixture, checkpoint, create, sandbox, sandbox_set,
};
use crate::support::{SOON, prepared};

/// Returns the scope of these options.
pub(crate) fn scope(namespace: &str, selector: &str, system: &str) -> Scope {
    Scope::from_options(&SandboxManagerOptions {
        sandbox_namespace: namespace.into(),
        sandbox_label_selector: selector.into(),
        system_namespace: system.into(),
        ..SandboxManagerOptions::default()
    })
    .unwrap()
}

/// Returns a started cache of a scope.
pub(crate) async fn started(client: Client, scope: Scope) -> Cache {
    let cache = Cache::builder(client).scope(scope).sync_timeout(2 * SOON).build();
    cache.start().await.unwrap();
    cache
}

pub(crate) fn names<K: CacheObject>(cache: &Cache) -> Vec<String> {
    let mut names: Vec<_> = cache.reader::<K>().list(None).unwrap().iter().map(|k| k.name_any()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_d1_start_returns_once_synced_and_lookups_answer() {
    let (_, client, namespace) = prepared("lookups").await;
    create(&client, &namespace, &sandbox("claimed").claimed_by("alice").ready()).await;
    create(&client, &namespace, &sandbox("failed").owned_by("alice").in_phase(SandboxPhase::Failed)).await;
    create(&client, &namespace, &sandbox("free").of_set("pool").ready()).await;
    create(&client, &namespace, &sandbox("over").of_set("pool").ready().shut_down_at(Timestamp::UNIX_EPOCH))
        .await;
    create(&client, &namespace, &sandbox_set("pool", 1)).await;
    create(&client, &namespace, &checkpoint("saved").saved_as("checkpoint-1")).await;

    let cache = Cache::builder(client).scope(scope(&namespace, "", &namespace)).build();
    let claimed = |sandbox_id: &str| {
        cache.get_claimed_sandbox(GetClaimedSandboxOptions { namespace: None, sandbox_id })
    };
    assert!(matches!(claimed("any"), Err(LookupError::NotSynced { .. })), "a6");
    cache.stop().await;
    cache.start().await.unwrap();
    assert!(cache.kinds().iter().all(|kind| kind.report().synced), "{cache:?}");
    assert_eq!(cache.kinds().len(), 7);
    assert_eq!(cache.start().await, Err(StartError::AlreadyStarted), "d3");

    assert_eq!(claimed(&format!("{namespace}--claimed")).unwrap().name_any(), "claimed");
    assert!(matches!(claimed("other"), Err(LookupError::NotFound { .. })), "a2");
    let namespace = Some(namespace.as_str());
    let options = GetCheckpointOptions { namespace, checkpoint_id: "checkpoint-1" };
    assert_eq!(cache.get_checkpoint(options).unwrap().name_any(), "saved");
    let options = PickSandboxSetOptions { namespace, name: "pool" };
    assert_eq!(cache.pick_sandbox_set(options).unwrap().name_any(), "pool");
    let options = ListSandboxesInPoolOptions { namespace, pool: "pool" };
    let pool = cache.list_sandboxes_in_pool(options).unwrap();
    assert_eq!(pool.iter().map(|sandbox| sandbox.name_any()).collect::<Vec<_>>(), ["free"]);
    let of_alice = ListSandboxesOptions { namespace, user: Some("alice") };
    assert_eq!(cache.list_sandboxes(of_alice).unwrap().len(), 2);
    assert_eq!(cache.count_active_sandboxes(of_alice).unwrap(), 1);
    let elsewhere = ListSandboxesOptions { namespace: Some("default"), user: None };
    assert!(matches!(cache.list_sandboxes(elsewhere), Err(LookupError::OutOfScope { .. })), "a4");

    cache.stop().await;
    assert_eq!(cache.list_sandboxes(of_alice).unwrap().len(), 2, "what was last seen");
}

#[tokio::test]
async fn d1_start_names_the_forbidden_kind_and_stops_everything() {
    let (cluster, _, namespace) = prepared("unsynced").await;
    let user = format!("user-of-{namespace}");
    cluster.grant_all_but_secrets(&user).await;
    let timeout = Duration::from_secs(5);
    let cache = Cache::builder(cluster.client_for(&user).await)
        .scope(scope(&namespace, "", &namespace))
        .sync_timeout(timeout)
        .build();
    let mut subscription = cache.subscribe::<Sandbox>().unwrap();
    let Err(StartError::NotSynced { timeout: waited, kinds }) = cache.start().await else {
        panic!("it started");
    };
    assert_eq!(waited, timeout);
    let secrets = kinds.iter().find(|(kind, _)| kind == "secrets").map(|(_, why)| why.as_str());
    let missing = format!("forbidden: no permission to watch secrets in namespace \"{namespace}\"");
    assert!(secrets.is_some_and(|why| why.starts_with(&missing)), "{kinds:?}");
    // A subscription ends when its watch has ended.
    let ended = async { while subscription.next().await.is_some() {} };
    tokio::time::timeout(SOON, ended).await.expect("the end of the subscription");
    assert_eq!(subscription.end(), Some(SubscriptionEnd::Stopped));
}

async fn create_cluster_objects(client: &Client, system: &str, name: &str) {
    let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    let secret = Secret { metadata: metadata.clone(), ..Secret::default() };
    let config_map = ConfigMap { metadata, ..ConfigMap::default() };
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "hostPath": { "path": "/x" } },
    }))
    .unwrap();
    let parameters = PostParams::default();
    Api::namespaced(client.clone(), system).create(&parameters, &secret).await.unwrap();
    Api::namespaced(client.clone(), system).create(&parameters, &config_map).await.unwrap();
    Api::all(client.clone()).create(&parameters, &volume).await.unwrap();
}

#[tokio::test]
async fn c1_c2_c3_c4_scopes_limit_each_kind_as_said_and_compose() {
    let (cluster, client, a) = prepared("scope-a").await;
    let (b, system) = (cluster.namespace("scope-b").await, cluster.namespace("scope-system").await);
    // Other tests also create objects. Only objects with this test's label are counted.
    let run = a.as_str();
    for (namespace, name, tier) in [(&a, "plain", "iron"), (&a, "golden", "gold"), (&b, "other", "iron")] {
        create(&client, namespace, &sandbox(name).label("run", run).label("tier", tier)).await;
        create(&client, namespace, &sandbox_set(name, 1).label("run", run).label("tier", tier)).await;
        create(&client, namespace, &checkpoint(name).label("run", run).label("tier", tier)).await;
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
        (&a, String::new(), &["golden", "plain", "unlabelled"], &["golden", "plain"]),
        ("", format!("run={run}"), &["golden", "other", "plain"], &["golden", "other", "plain"]),
        (&a, format!("run in ({run}, x),tier notin (gold)"), &["plain"], &["plain"]),
        ("", format!("run={run},tier!=iron,!retired"), &["golden"], &["golden"]),
    ];
    for (namespace, selector, sandboxes, others) in cases {
        for system_namespace in ["", &system] {
            let mut scope = scope(namespace, &selector, system_namespace);
            scope.persistent_volumes = true;
            let cache = started(client.clone(), scope).await;
            assert_eq!(names::<Sandbox>(&cache), sandboxes, "{namespace:?} {selector:?}");
            assert_eq!(names::<SandboxSet>(&cache), others, "{namespace:?} {selector:?}");
            assert_eq!(names::<Checkpoint>(&cache), others, "{namespace:?} {selector:?}");
            assert_eq!(names::<PersistentVolumeClaim>(&cache), others, "{namespace:?} {selector:?}");
            let volumes = names::<PersistentVolume>(&cache);
            assert!(volumes.contains(&system) && volumes.contains(&b), "c4: {volumes:?}");
            if system_namespace.is_empty() {
                let secrets = cache.reader::<Secret>().list(None);
                assert!(matches!(secrets, Err(LookupError::OutOfScope { .. })), "c3: {secrets:?}");
            } else {
                assert_eq!(names::<Secret>(&cache), [system.as_str()], "c3");
                assert!(names::<ConfigMap>(&cache).contains(&system), "c3");
                assert!(!names::<ConfigMap>(&cache).contains(&b), "c3");
            }
            cache.stop().await;
        }
    }
}
