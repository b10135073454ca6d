//! The table of metrics in the README is generated from a manager that runs against a minimal API server.
//!
//! `just generate` writes the table.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::Client;
use kube::client::Body;
use memory_apiserver::{ApiServer, Kubelet};
use prometheus::Registry;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};
use sandbox_manager::api::v1alpha1::{Sandbox, crds};
use sandbox_manager::claims::{ClaimRequest, Claims, Target};
use sandbox_manager::options::{BindAddress, E2bAuth, E2bOptions, SandboxManagerOptions};
use sandbox_manager::testing::TestCache;
use sandbox_manager::{Manager, Provider as _, claims, e2b, lifecycle};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::generated::assert_section;
use crate::support::{SOON, eventually};

/// Returns a text for a Markdown table cell, in which a bar would begin the next cell.
fn cell(text: &str) -> String {
    text.replace('<', "&lt;").replace('|', "\\|")
}

/// Returns an object of the kind that a path ends with.
fn object(plural: &str, version: u32) -> Value {
    let kind = match plural {
        "sandboxes" => "Sandbox",
        _ => "SandboxSet",
    };
    json!({
        "apiVersion": "agents.kruise.io/v1alpha1",
        "kind": kind,
        "metadata": { "namespace": "ns", "name": "a", "uid": "u", "resourceVersion": version.to_string() },
        "spec": { "replicas": 1 },
    })
}

/// Returns the events of an endless watch of a kind. Sandboxes and sets have one object that changes once.
fn watch_events(plural: &str) -> String {
    let bookmark = |version: u32, annotations: Value| {
        let metadata = json!({ "resourceVersion": version.to_string(), "annotations": annotations });
        json!({ "type": "BOOKMARK", "object": { "metadata": metadata } })
    };
    let (listed, later) =
        (bookmark(2, json!({ "k8s.io/initial-events-end": "true" })), bookmark(4, json!({})));
    let events = match plural {
        "sandboxes" | "sandboxsets" => vec![
            json!({ "type": "ADDED", "object": object(plural, 1) }),
            listed,
            json!({ "type": "MODIFIED", "object": object(plural, 3) }),
            later,
        ],
        _ => vec![listed, later],
    };
    let lines: Vec<_> = events.iter().map(|event| format!("{event}\n")).collect();
    lines.concat()
}

/// Returns a client of an API server that allows everything, but rejects `PersistentVolumeClaim`s once.
fn client() -> Client {
    let refused = AtomicBool::new(false);
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().path();
        let refuse = path.ends_with("persistentvolumeclaims") && !refused.swap(true, Ordering::Relaxed);
        std::future::ready(Ok::<_, Infallible>(answer(path, refuse)))
    });
    Client::new(service, "default")
}

/// The body of a response.
type Lines = BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

fn answer(path: &str, refuse: bool) -> Response<StreamBody<Lines>> {
    let plural = path.rsplit('/').next().unwrap_or_default();
    let (status, text) = if refuse {
        (StatusCode::FORBIDDEN, json!({ "kind": "Status", "code": 403 }).to_string())
    } else {
        (StatusCode::OK, watch_events(plural))
    };
    let text = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from(text)))]);
    let ends = stream::pending().take(usize::from(status == StatusCode::OK));
    let mut response = Response::new(StreamBody::new(text.chain(ends).boxed()));
    *response.status_mut() = status;
    response
}

/// Families that appear only after an event. Of families that appear together, the last.
const LATE: [&str; 6] = [
    "sandbox_manager_cache_last_bookmark_timestamp_seconds",
    "sandbox_manager_cache_last_event_timestamp_seconds",
    "sandbox_manager_cache_watch_errors_total",
    "sandbox_manager_sandboxes",
    "sandbox_manager_pool_desired",
    "sandbox_manager_pool_ready",
];

/// Returns every family that a manager shows after all events.
pub(crate) async fn families() -> Vec<MetricFamily> {
    let mut options = SandboxManagerOptions::default();
    options.metrics.bind_address = BindAddress::Off;
    options.health.bind_address = BindAddress::Off;
    options.leader_election.enabled = true;
    options.leader_election.namespace = "default".to_owned();
    options.lifecycle.enabled = true;
    let (controllers, lifecycle) = (options.controllers.clone(), options.lifecycle.clone());
    let mut manager = Manager::builder(options).client(client()).build().unwrap();
    manager.add_fleet_metrics().unwrap();
    let claims = claims::add(&mut manager).unwrap();
    lifecycle::add(&mut manager, &controllers, &lifecycle, &claims).unwrap();
    let api = E2bOptions {
        enabled: true,
        bind_address: BindAddress::Off,
        auth: E2bAuth::None,
        ..E2bOptions::default()
    };
    e2b::add(&mut manager, &api, "", &claims).unwrap();
    let metrics = manager.metrics().clone();
    // Counted by the clients that a connector creates.
    metrics.rest_client_requests().with_label_values(&["200", "GET", "host:443"]).inc();

    // One wait that is rejected and one that ends at once, on a cache that is not started.
    let (cache, sandbox) = (manager.cache().clone(), Arc::new(Sandbox::default()));
    let pause = cache.sandbox_pause_task(&sandbox).unwrap();
    cache.sandbox_resume_task(&sandbox).unwrap_err();
    pause.wait(Duration::ZERO).await.unwrap_err();

    let stop = CancellationToken::new();
    let run = tokio::spawn(manager.run(stop.clone()));
    let mut families = eventually("all families exist", SOON, async || {
        let families = metrics.registry().gather();
        let names: BTreeSet<_> = families.iter().map(MetricFamily::name).collect();
        let missing: Vec<_> = LATE.iter().filter(|name| !names.contains(*name)).collect();
        ensure!(missing.is_empty(), "missing: {missing:?}");
        Ok(families)
    })
    .await;
    stop.cancel();
    run.await.unwrap().unwrap();
    let known: BTreeSet<_> = families.iter().map(|family| family.name().to_owned()).collect();
    families.extend(of_claims().await.into_iter().filter(|family| !known.contains(family.name())));
    families
}

/// Returns the families of the claim engine. Those with labels appear with the first claim, pause and resume.
async fn of_claims() -> Vec<MetricFamily> {
    let kubelet = Kubelet::ready_after(Duration::from_millis(10));
    let server = ApiServer::builder().objects(crds()).kubelet(&kubelet).start().unwrap();
    let mut options = SandboxManagerOptions::default();
    options.lifecycle.enabled = true;
    let cache = TestCache::builder().server(server.clone()).options(options).build().await.unwrap();
    let registry = Registry::new();
    let claims = Claims::builder(cache.cache()).metrics(&registry).build().unwrap();
    let pod = json!({ "containers": [{ "name": "a", "image": "b" }] });
    let set = json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxSet",
        "metadata": { "name": "p", "namespace": "default" },
        "spec": { "replicas": 0, "template": { "spec": pod } },
    });
    server.load(&set).unwrap();
    let claimed = eventually("a claim", SOON, async || {
        let request = ClaimRequest::from_pool("default", "p").owner("o").timeout(Duration::from_mins(5));
        Ok(claims.claim(request).await?)
    })
    .await;
    let target = Target::new(claimed.sandbox_id());
    claims.pause(&target, SOON).await.unwrap();
    claims.resume(&target, Duration::from_mins(5), SOON).await.unwrap();
    registry.gather()
}

fn type_name(family: &MetricFamily) -> &'static str {
    match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "untyped",
    }
}

fn labels(family: &MetricFamily) -> String {
    let pairs = family.get_metric().iter().flat_map(Metric::get_label);
    let names: BTreeSet<_> = pairs.map(LabelPair::name).collect();
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// Returns the rows of a table of metrics, each with the metric name, sorted by name.
pub(crate) fn metrics_rows(families: &[MetricFamily]) -> Vec<(String, String)> {
    // These families come from the client library and differ between systems.
    let families = families.iter().filter(|family| !family.name().starts_with("process_"));
    let sorted: BTreeMap<_, _> = families.map(|family| (family.name(), family)).collect();
    let row = |(name, family): (&str, &MetricFamily)| {
        let (kind, labels, help) = (type_name(family), labels(family), cell(family.help()));
        (name.to_owned(), format!("| `{name}` | {kind} | {labels} | {help} |\n"))
    };
    sorted.into_iter().map(row).collect()
}

#[tokio::test]
async fn metrics_table_is_that_of_a_running_manager() {
    let mut table = String::from("| Name | Type | Labels | Meaning |\n|---|---|---|---|\n");
    table.extend(metrics_rows(&families().await).into_iter().map(|(_, row)| row));
    assert_section("README.md", "metrics", &table);
}
