//! The in-memory API server: how fast it can be filled, written to and watched. A test of an outage is only as good
//! as the load that it bears.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark ends at the first error, and documents itself above"
)]

use std::pin::Pin;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::{AsyncBufRead, AsyncBufReadExt};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use sandbox_manager::api::v1alpha1::{Sandbox, crds};
use sandbox_manager::apiserver::ApiServer;
use sandbox_manager::dev::workload;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

/// Objects on the server.
const OBJECTS: usize = 2_000;

const SANDBOXES: &str = "/apis/agents.kruise.io/v1alpha1/sandboxes";

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn server(objects: usize) -> ApiServer {
    let server = ApiServer::new();
    for crd in crds() {
        server.load(&serde_json::to_value(crd).unwrap()).unwrap();
    }
    for i in 0..objects {
        server.load(&workload::sandbox_with_status(i)).unwrap();
    }
    server
}

fn sandboxes(server: &ApiServer) -> Api<DynamicObject> {
    Api::default_namespaced_with(server.client(), &ApiResource::erase::<Sandbox>(&()))
}

/// Filling it directly, and by a request that is followed by the one that deletes the object again.
fn write(c: &mut Criterion) {
    let (runtime, server) = (runtime(), server(OBJECTS));
    let _context = runtime.enter();
    let api = sandboxes(&server);
    c.bench_function("create_and_delete", |b| {
        let object: DynamicObject = serde_json::from_value(workload::sandbox(OBJECTS)).unwrap();
        b.iter(|| {
            runtime.block_on(async {
                api.create(&PostParams::default(), &object).await.unwrap();
                api.delete(&workload::name(OBJECTS), &DeleteParams::default()).await.unwrap();
            });
        });
    });
    let mut next = OBJECTS;
    c.bench_function("load", |b| {
        b.iter(|| {
            next += 1;
            server.load(&workload::sandbox_with_status(next)).unwrap()
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
            let request = http::Request::get(SANDBOXES).body(Vec::new()).unwrap();
            runtime.block_on(client.request_text(request)).unwrap()
        });
    });
    group.finish();
}

/// From a patch to the line that tells its watcher.
fn watch(c: &mut Criterion) {
    let (runtime, server) = (runtime(), server(OBJECTS));
    let _context = runtime.enter();
    let (client, api) = (server.client(), sandboxes(&server));
    let target = format!("{SANDBOXES}?watch=true&resourceVersion={}", server.revision());
    let request = http::Request::get(target).body(Vec::new()).unwrap();
    let stream = runtime.block_on(client.request_stream(request)).unwrap();
    let mut stream: Pin<Box<dyn AsyncBufRead>> = Box::pin(stream);
    let mut change = 0;
    c.bench_function("patch_to_event", |b| {
        b.iter(|| {
            runtime.block_on(async {
                change += 1;
                let patch = Patch::Merge(json!({"status": {"message": change.to_string()}}));
                api.patch_status(&workload::name(0), &PatchParams::default(), &patch).await.unwrap();
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                line
            })
        });
    });
}

criterion_group!(benches, write, list, watch);
criterion_main!(benches);
