//! Tests the whole process under faults: it stays alive, reports the fault, and recovers afterwards.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{Kubeconfig, NamedCluster};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxPhase, crds};
use serde_json::{Value, json};

use crate::fleet::{ensure_cached, ensure_counted, install_printed_crds};
use crate::support::fixtures::{SandboxFixture, create, merge, sandbox, sandbox_set, set_status};
use crate::support::{ADMIN, Cluster, Process, Proxy, SOON, eventually};

async fn listed(client: &Client, namespace: &str) -> Vec<Sandbox> {
    let api: Api<Sandbox> = Api::namespaced(client.clone(), namespace);
    api.list(&ListParams::default()).await.unwrap().items
}

/// Waits until the cache and the gauge show the objects that the API server lists.
async fn converges(process: &Process, client: &Client, namespace: &str) {
    let truth = listed(client, namespace).await;
    eventually("the process shows what the API server lists", 2 * SOON, async || {
        ensure_cached(process, &truth).await?;
        ensure_counted(&process.samples().await?, &truth)
    })
    .await;
}

/// Changes seven sandboxes in every way: created, changed, deleted, recreated, labelled, with and without
/// status.
async fn change_everything(client: &Client, namespace: &str) {
    let api: Api<Sandbox> = Api::namespaced(client.clone(), namespace);
    let delete = async |name: &str| {
        api.delete(name, &DeleteParams::default()).await.unwrap();
    };
    create(client, namespace, &sandbox("new").claimed_by("alice").ready()).await;
    merge(&api, "changed", json!({ "metadata": { "annotations": { "agents.kruise.io/owner": "bob" } } }))
        .await;
    set_status(&api, "failing", &json!({ "phase": "Failed" })).await;
    delete("deleted").await;
    delete("replaced").await;
    create(client, namespace, &sandbox("replaced").of_set("pool").in_phase(SandboxPhase::Pending)).await;
    create(client, namespace, &sandbox("short-lived")).await;
    delete("short-lived").await;
}

#[tokio::test]
async fn survives_a_kill_of_the_api_server() {
    let cluster = Cluster::start().await;
    cluster.install_crds(crds()).await;
    let (client, namespace) = (cluster.client().await, cluster.namespace("kill").await);
    for name in ["changed", "failing", "deleted", "replaced", "untouched"] {
        create(&client, &namespace, &sandbox(name).of_set("pool").ready()).await;
    }
    let proxy = Proxy::to(&cluster).await;
    let config = format!("sandboxNamespace: {namespace}\n");
    let mut process = Process::start(&proxy.lead(cluster.kubeconfig(ADMIN).await), &config).await;
    process.becomes_ready().await;
    converges(&process, &client, &namespace).await;

    // The process must not see the changes, so it stays disconnected longer than the server is down.
    proxy.cut();
    cluster.kill_api_server().await;
    cluster.start_api_server().await;
    // Connections of the old server no longer work.
    let client = cluster.client().await;
    change_everything(&client, &namespace).await;
    eventually("the process has noticed", SOON, async || {
        let resource = [("resource", "sandboxes")];
        let stale = process.samples().await?.value("sandbox_manager_cache_stale_seconds", &resource)?;
        ensure!(stale > 0.0, "its watch is up");
        ensure!(process.get("/livez").await?.status == 200, "it is not alive");
        ensure!(process.get("/readyz").await?.status == 200, "v3: it is not ready");
        Ok(())
    })
    .await;
    let entries = process.cached("sandboxes").await.unwrap();
    assert_eq!(entries.len(), 5, "the old view is served meanwhile");

    proxy.restore();
    converges(&process, &client, &namespace).await;
    process.becomes_ready().await;
    process.assert_running();
    assert_eq!(process.terminate().await.code(), Some(0));
}

fn with_template(name: &str, template: &Value) -> DynamicObject {
    DynamicObject::new(name, &ApiResource::erase::<Sandbox>(&()))
        .data(json!({ "spec": { "template": template } }))
}

#[tokio::test]
async fn v9_a_template_that_cannot_be_read_hides_no_sandbox() {
    let cluster = Cluster::shared().await;
    cluster.install_crds(crds()).await;
    let (client, namespace) = (cluster.client().await, cluster.namespace("undecodable").await);
    let raw: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &namespace, &ApiResource::erase::<Sandbox>(&()));
    let write = async |name: &str| {
        raw.create(&PostParams::default(), &with_template(name, &json!({ "spec": "x" }))).await.unwrap();
    };
    create(&client, &namespace, &sandbox("listed").claimed_by("alice").ready()).await;
    write("broken-in-the-list").await;

    let process =
        Process::start(&cluster.kubeconfig(ADMIN).await, &format!("sandboxNamespace: {namespace}\n")).await;
    process.becomes_ready().await;
    let shows = async |names: &[&str], partial: &str| {
        let what = format!("{names:?} are served, {partial} of them partially");
        eventually(&what, SOON, async || {
            let cached = process.cached("sandboxes").await?;
            let mut shown: Vec<_> = cached.iter().filter_map(|entry| entry["name"].as_str()).collect();
            shown.sort_unstable();
            ensure!(shown == names, "{shown:?}");
            let (samples, resource) = (process.samples().await?, [("resource", "sandboxes")]);
            let counted = samples.value("sandbox_manager_cache_partially_decoded_objects", &resource)?;
            ensure!(counted.to_string() == partial, "{counted} are counted");
            let hidden = samples.value("sandbox_manager_cache_undecodable_objects", &resource)?;
            ensure!(hidden.to_string() == "0", "{hidden} are hidden");
            Ok(())
        })
        .await;
    };
    shows(&["broken-in-the-list", "listed"], "1").await;

    write("broken-in-the-watch").await;
    create(&client, &namespace, &sandbox("watched")).await;
    shows(&["broken-in-the-list", "broken-in-the-watch", "listed", "watched"], "2").await;
    process.becomes_ready().await;
    let log = process.log();
    let told =
        log.lines().filter(|line| line.contains("cannot be decoded") && line.contains("spec.template.spec"));
    assert_eq!(told.count(), 2, "each is logged once, with the field: {log}");

    merge(&raw, "broken-in-the-list", with_template("broken-in-the-list", &json!({ "spec": {} })).data).await;
    raw.delete("broken-in-the-watch", &DeleteParams::default()).await.unwrap();
    shows(&["broken-in-the-list", "listed", "watched"], "0").await;
}

#[tokio::test]
async fn c5_a_forbidden_secret_watch_is_named_in_readyz_and_heals_when_granted() {
    let cluster = Cluster::shared().await;
    cluster.install_crds(crds()).await;
    let namespace = cluster.namespace("forbidden").await;
    // The user name is unique, so no other grants apply.
    let user = format!("user-of-{namespace}");
    cluster.grant_all_but_secrets(&user).await;
    let config = format!("sandboxNamespace: {namespace}\nsystemNamespace: {namespace}\n");
    let mut process = Process::start(&cluster.kubeconfig(&user).await, &config).await;

    let missing = format!("no permission to watch secrets in namespace \"{namespace}\"");
    process.becomes_unready(&["[-]informer/secrets failed: ", "forbidden", &missing]).await;
    eventually("all others are well", SOON, async || {
        let body = process.get("/readyz?verbose").await?.body;
        let failed: Vec<_> = body.lines().filter(|line| line.starts_with("[-]")).collect();
        ensure!(failed.len() == 1, "{failed:?}");
        ensure!(
            body.contains("[+]informer/sandboxes ok\n") && body.contains("[+]informer/configmaps ok\n"),
            "{body}"
        );
        Ok(())
    })
    .await;
    let labels = [("resource", "secrets"), ("verb", "watch"), ("reason", "forbidden")];
    let samples = process.samples().await.unwrap();
    assert!(samples.value("sandbox_manager_cache_watch_errors_total", &labels).unwrap() >= 1.0);
    assert!(samples.value("sandbox_manager_cache_synced", &labels[..1]).unwrap() < 0.5);

    cluster.grant_secrets(&user, &namespace).await;
    eventually("heals within 30 s of the grant", Duration::from_secs(30), async || {
        let answer = process.get("/readyz").await?;
        ensure!(answer.status == 200, "{}", answer.body);
        Ok(())
    })
    .await;
    process.assert_running();
}

/// What is told of sandboxes while their definition is missing.
const NOT_SERVED: &str = "not found: sandboxes.agents.kruise.io is not served, is its CRD installed?";

#[tokio::test]
async fn c5_missing_crds_are_waited_for() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let mut process = Process::start(&cluster.kubeconfig(ADMIN).await, "sandboxNamespace: default\n").await;
    process.becomes_unready(&["[-]informer/sandboxes failed: not synced: ", NOT_SERVED]).await;
    eventually("the kinds that are served are well", SOON, async || {
        let body = process.get("/readyz?verbose").await?.body;
        ensure!(body.contains("[+]informer/persistentvolumeclaims ok\n"), "{body}");
        Ok(())
    })
    .await;

    install_printed_crds(&cluster).await;
    process.becomes_ready().await;
    create(&client, "default", &sandbox("first").claimed_by("alice").ready()).await;
    converges(&process, &client, "default").await;

    process.assert_running();
}

/// In memory the same is tested on a clock that does not have to be waited for: `faults`.
#[tokio::test]
#[ignore = "takes half a minute, and a real API server: tests/e2e.sh"]
async fn c5_a_kind_that_goes_is_cleared_and_that_comes_again_is_shown() {
    let cluster = Cluster::start().await;
    cluster.install_crds(crds()).await;
    let client = cluster.client().await;
    let mut process = Process::start(&cluster.kubeconfig(ADMIN).await, "sandboxNamespace: default\n").await;
    process.becomes_ready().await;
    create(&client, "default", &sandbox("first").claimed_by("alice").ready()).await;
    converges(&process, &client, "default").await;

    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.delete("sandboxes.agents.kruise.io", &DeleteParams::default()).await.unwrap();
    process.becomes_unready(&["[-]informer/sandboxes failed: not synced: ", NOT_SERVED]).await;
    eventually("what was cached of it is cleared", SOON, async || {
        ensure_cached(&process, &[]).await?;
        ensure_counted(&process.samples().await?, &[])
    })
    .await;

    eventually("the definition is gone", SOON, async || {
        let left = definitions.get_opt("sandboxes.agents.kruise.io").await?;
        ensure!(left.is_none(), "it is still there");
        Ok(())
    })
    .await;
    cluster.install_crds(crds()).await;
    process.becomes_ready().await;
    create(&client, "default", &sandbox("second").ready()).await;
    converges(&process, &client, "default").await;
    process.assert_running();
}

#[tokio::test]
async fn unreachable_api_server_keeps_the_process_live_and_not_ready() {
    let cluster = Cluster::shared().await;
    cluster.install_crds(crds()).await;
    let namespace = cluster.namespace("unreachable").await;
    let proxy = Proxy::to(&cluster).await;
    proxy.cut();
    let kubeconfig = proxy.lead(cluster.kubeconfig(ADMIN).await);
    let mut process = Process::start(&kubeconfig, &format!("sandboxNamespace: {namespace}\n")).await;
    process.becomes_unready(&["[-]informer/sandboxes failed: not synced: transport: "]).await;
    proxy.restore();
    process.becomes_ready().await;
    assert_eq!(process.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn v3_an_outage_keeps_the_process_ready_until_the_limit_of_the_options() {
    let cluster = Cluster::shared().await;
    cluster.install_crds(crds()).await;
    let namespace = cluster.namespace("outage").await;
    let proxy = Proxy::to(&cluster).await;
    let kubeconfig = proxy.lead(cluster.kubeconfig(ADMIN).await);
    let health = "health: { bindAddress: \"127.0.0.1:0\", staleAfter: 8s }";
    let config = format!("sandboxNamespace: {namespace}\n{health}\n");
    let mut process = Process::start(&kubeconfig, &config).await;
    process.becomes_ready().await;
    proxy.cut();
    eventually("the outage is shown, and the process is ready", SOON, async || {
        let answer = process.get("/readyz?verbose").await?;
        ensure!(answer.body.contains("[~]informer/sandboxes stale for "), "{}", answer.body);
        ensure!(answer.status == 200, "{}", answer.body);
        Ok(())
    })
    .await;
    process.becomes_unready(&["[-]informer/sandboxes failed: stale for ", " s: transport: "]).await;
    proxy.restore();
    process.becomes_ready().await;
    assert_eq!(process.terminate().await.code(), Some(0));
}

/// One series and its labels of each family that dashboards use.
const FAMILIES: &[(&str, &[&str])] = &[
    ("controller_runtime_reconcile_total", &["controller", "result"]),
    ("controller_runtime_reconcile_errors_total", &["controller"]),
    ("controller_runtime_reconcile_time_seconds_bucket", &["controller", "le"]),
    ("controller_runtime_reconcile_time_seconds_count", &["controller"]),
    ("controller_runtime_active_workers", &["controller"]),
    ("controller_runtime_max_concurrent_reconciles", &["controller"]),
    ("workqueue_depth", &["controller", "name", "priority"]),
    ("workqueue_adds_total", &["controller", "name"]),
    ("workqueue_retries_total", &["controller", "name"]),
    ("rest_client_requests_total", &["code", "host", "method"]),
    ("process_cpu_seconds_total", &[]),
    ("process_resident_memory_bytes", &[]),
    ("process_open_fds", &[]),
    ("process_start_time_seconds", &[]),
    ("sandbox_manager_build_info", &["revision", "version"]),
    ("sandbox_manager_cache_objects", &["resource"]),
    ("sandbox_manager_cache_synced", &["resource"]),
    ("sandbox_manager_cache_last_event_timestamp_seconds", &["resource"]),
    ("sandbox_manager_cache_last_bookmark_timestamp_seconds", &["resource"]),
    ("sandbox_manager_cache_relists_total", &["resource"]),
    ("sandbox_manager_cache_undecodable_objects", &["resource"]),
    ("sandbox_manager_cache_partially_decoded_objects", &["resource"]),
    ("sandbox_manager_cache_lookups_total", &["resource", "result"]),
    ("sandbox_manager_sandboxes", &["namespace", "pool", "state"]),
    ("sandbox_manager_pool_replicas", &["name", "namespace"]),
    ("sandbox_manager_pool_available", &["name", "namespace"]),
    ("sandbox_manager_pool_desired", &["name", "namespace"]),
];

#[tokio::test]
async fn health_and_every_metric_are_served_under_their_names_and_labels() {
    let cluster = Cluster::shared().await;
    cluster.install_crds(crds()).await;
    let (client, namespace) = (cluster.client().await, cluster.namespace("metrics").await);
    create(&client, &namespace, &sandbox("a").of_set("s").ready()).await;
    create(&client, &namespace, &sandbox_set("s", 1)).await;
    let process =
        Process::start(&cluster.kubeconfig(ADMIN).await, &format!("sandboxNamespace: {namespace}\n")).await;
    process.becomes_ready().await;

    for path in ["/livez", "/healthz", "/readyz"] {
        let answer = process.get(path).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{path}");
    }
    let verbose = process.get("/readyz?verbose").await.unwrap().body;
    assert!(verbose.contains("[+]informer/sandboxes ok\n"), "{verbose}");
    eventually("every metric exists", SOON, async || {
        let samples = process.samples().await?;
        for (name, labels) in FAMILIES {
            ensure!(!samples.all(name).is_empty(), "{name} is not there");
            let shown: Vec<_> = samples.label_names(name).into_iter().collect();
            ensure!(shown == *labels, "{name} has {shown:?}");
        }
        for controller in ["sandbox", "sandboxset"] {
            let labels = [("controller", controller), ("result", "success")];
            ensure!(samples.value("controller_runtime_reconcile_total", &labels)? >= 1.0, "{controller}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn y7_two_signals_right_after_each_other_are_one() {
    let cluster = Cluster::shared().await;
    cluster.install_crds(crds()).await;
    let namespace = cluster.namespace("signals").await;
    let mut process =
        Process::start(&cluster.kubeconfig(ADMIN).await, &format!("sandboxNamespace: {namespace}\n")).await;
    process.becomes_ready().await;
    // The process is stopped while both signals are sent, so that it cannot exit before the second signal.
    for signal in ["STOP", "TERM", "INT", "CONT"] {
        process.signal(signal).await;
    }
    let code = process.ended().await.code();
    assert_eq!(code, Some(0), "{}", process.log());
}

/// Returns a kubeconfig whose server does not exist.
fn unreachable_kubeconfig() -> Kubeconfig {
    let cluster: NamedCluster =
        serde_json::from_value(json!({ "name": "c", "cluster": { "server": "http://127.0.0.1:1" } }))
            .unwrap();
    Kubeconfig {
        clusters: vec![cluster],
        contexts: vec![
            serde_json::from_value(json!({ "name": "c", "context": { "cluster": "c", "user": "u" } }))
                .unwrap(),
        ],
        auth_infos: vec![serde_json::from_value(json!({ "name": "u", "user": {} })).unwrap()],
        current_context: Some("c".into()),
        ..Kubeconfig::default()
    }
}

#[tokio::test]
async fn address_in_use_is_one_clear_line_and_exit_2() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    for (taken, free) in [("metrics", "health"), ("health", "metrics")] {
        let config = format!(
            "{taken}: {{ bindAddress: \"{address}\" }}\n{free}: {{ bindAddress: \"127.0.0.1:0\" }}\n"
        );
        let (status, text) = Process::refused(&unreachable_kubeconfig(), &config).await;
        assert_eq!(status.code(), Some(2), "{text}");
        let told: Vec<_> = text.lines().filter(|line| !line.starts_with('{')).collect();
        let expected = format!(
            "error: {taken}: cannot listen on {address}: Address already in use (os error 98); stop the program \
             that uses this address, or choose another address (port 0 takes a free port, `0` disables the \
             listener)"
        );
        assert_eq!(told, [expected]);
    }
}
