//! The in-memory API server: how fast it can be filled, written to and watched. A test of an outage is only as good
//! as the load that it bears.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark ends at the first error, and documents itself above"
)]

use std::future::ready;
use std::pin::Pin;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::{AsyncBufRead, AsyncBufReadExt, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use memory_apiserver::{ApiServer, Kubelet};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// Objects on the server.
const OBJECTS: usize = 2_000;

const MACHINES: &str = "/apis/fleet.test/v1alpha1/machines";

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn server(objects: usize) -> ApiServer {
    let server = ApiServer::new();
    for document in serde_yaml::Deserializer::from_str(include_str!("../tests/data/crds.yaml")) {
        server.load(&Value::deserialize(document).unwrap()).unwrap();
    }
    for i in 0..objects {
        server.load(&machine(i)).unwrap();
    }
    server
}

fn name(i: usize) -> String {
    format!("machine-{i:06}")
}

/// An object of two kilobytes, most of which is the template of a pod.
fn machine(i: usize) -> Value {
    let variables: Vec<_> =
        (0..24).map(|n| json!({ "name": format!("VARIABLE_{n}"), "value": format!("value {n}") })).collect();
    json!({
        "apiVersion": "fleet.test/v1alpha1", "kind": "Machine",
        "metadata": {
            "name": name(i), "namespace": "default",
            "labels": { "fleet.test/claimed": (i % 2 == 1).to_string(), "team": format!("team-{}", i % 7) },
        },
        "spec": {
            "paused": false,
            "template": { "spec": { "containers": [
                { "name": "main", "image": "registry.example.com/main:1.0.0", "env": variables },
            ] } },
        },
        "status": {
            "phase": "Running",
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "PodReady", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
            }],
        },
    })
}

fn machines(server: &ApiServer) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("fleet.test", "v1alpha1", "Machine");
    Api::default_namespaced_with(server.client(), &ApiResource::from_gvk(&kind))
}

/// Filling it directly, and by a request that is followed by the one that deletes the object again.
fn write(c: &mut Criterion) {
    let (runtime, server) = (runtime(), server(OBJECTS));
    let _context = runtime.enter();
    let api = machines(&server);
    c.bench_function("create_and_delete", |b| {
        let object: DynamicObject = serde_json::from_value(machine(OBJECTS)).unwrap();
        b.iter(|| {
            runtime.block_on(async {
                api.create(&PostParams::default(), &object).await.unwrap();
                api.delete(&name(OBJECTS), &DeleteParams::default()).await.unwrap();
            });
        });
    });
    let mut next = OBJECTS;
    c.bench_function("load", |b| {
        b.iter(|| {
            next += 1;
            server.load(&machine(next)).unwrap()
        });
    });
}

/// Everything in one answer.
fn list(c: &mut Criterion) {
    let (runtime, server) = (runtime(), server(OBJECTS));
    let _context = runtime.enter();
    let client = server.client();
    let mut group = c.benchmark_group("list");
    group.throughput(Throughput::Elements(OBJECTS as u64)).sample_size(10);
    group.bench_function("all", |b| {
        b.iter(|| {
            let request = http::Request::get(MACHINES).body(Vec::new()).unwrap();
            runtime.block_on(client.request_text(request)).unwrap()
        });
    });
    group.finish();
}

/// From a patch to the line that tells its watcher.
fn watch(c: &mut Criterion) {
    let (runtime, server) = (runtime(), server(OBJECTS));
    let _context = runtime.enter();
    let (client, api) = (server.client(), machines(&server));
    let target = format!("{MACHINES}?watch=true&resourceVersion={}", server.revision());
    let request = http::Request::get(target).body(Vec::new()).unwrap();
    let stream = runtime.block_on(client.request_stream(request)).unwrap();
    let mut stream: Pin<Box<dyn AsyncBufRead>> = Box::pin(stream);
    let mut change = 0;
    c.bench_function("patch_to_event", |b| {
        b.iter(|| {
            runtime.block_on(async {
                change += 1;
                let patch = Patch::Merge(json!({"status": {"message": change.to_string()}}));
                api.patch_status(&name(0), &PatchParams::default(), &patch).await.unwrap();
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                line
            })
        });
    });
}

/// A pool as a controller fills it: members with a Pod each, five writes of each member, and three clients that watch
/// both kinds. The kubelet makes the Pods ready meanwhile.
fn fill(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("fill");
    group.throughput(Throughput::Elements(MEMBERS as u64)).sample_size(10);
    group.bench_function("pool", |b| b.iter(|| runtime.block_on(fill_pool())));
    group.finish();
}

/// Members of the pool.
const MEMBERS: usize = 1_000;

async fn fill_pool() {
    let kubelet = Kubelet::ready_after(Duration::ZERO);
    let server = ApiServer::builder().kubelet(&kubelet).strict_owners().start().unwrap();
    for document in serde_yaml::Deserializer::from_str(include_str!("../tests/data/crds.yaml")) {
        server.load(&Value::deserialize(document).unwrap()).unwrap();
    }
    // Each Machine is told of seven times: its creation, its first status, and five changes. Each Pod three times.
    let readers: Vec<_> = (0..3)
        .flat_map(|_| [(MACHINES, 7), ("/api/v1/pods", 3)])
        .map(|(path, events)| tokio::spawn(read(server.client(), path, events * MEMBERS)))
        .collect();
    let members = machines(&server);
    let pods: Api<DynamicObject> =
        Api::default_namespaced_with(server.client(), &ApiResource::erase::<Pod>(&()));
    let parameters = (PostParams::default(), PatchParams::default());
    for i in 0..MEMBERS {
        let (object, change) = (machine(i), |status: Value| Patch::Merge(json!({ "status": status })));
        let member =
            members.create(&parameters.0, &serde_json::from_value(object.clone()).unwrap()).await.unwrap();
        pods.create(&parameters.0, &pod(&object, &member)).await.unwrap();
        members.patch_status(&name(i), &parameters.1, &change(object["status"].clone())).await.unwrap();
        for message in 0..4 {
            let change = change(json!({ "message": message.to_string() }));
            members.patch_status(&name(i), &parameters.1, &change).await.unwrap();
        }
        let label = Patch::Merge(json!({ "metadata": { "labels": { "team": "none" } } }));
        members.patch(&name(i), &parameters.1, &label).await.unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

/// Reads so many events of a watch.
async fn read(client: kube::Client, path: &str, events: usize) {
    let request =
        http::Request::get(format!("{path}?watch=true&resourceVersion=1")).body(Vec::new()).unwrap();
    let stream: Pin<Box<dyn AsyncBufRead + Send>> = Box::pin(client.request_stream(request).await.unwrap());
    assert_eq!(stream.lines().take(events).filter(|line| ready(line.is_ok())).count().await, events);
}

/// The Pod of a member.
fn pod(machine: &Value, member: &DynamicObject) -> DynamicObject {
    let metadata = &member.metadata;
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": metadata.name, "ownerReferences": [{
            "apiVersion": machine["apiVersion"], "kind": "Machine", "name": metadata.name, "uid": metadata.uid,
            "controller": true, "blockOwnerDeletion": true,
        }] },
        "spec": machine["spec"]["template"]["spec"],
    }))
    .unwrap()
}

criterion_group!(benches, write, list, watch, fill);
criterion_main!(benches);
