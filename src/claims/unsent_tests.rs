//! Calls whose writes cannot be sent, alone and after a write whose answer is lost: only the first kind may be repeated.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use memory_apiserver::ApiServer;
use parking_lot::Mutex;
use serde_json::{Value, json};
use shared_cache::NotSent;
use tower::{BoxError, service_fn};

use super::{ClaimError, ClaimRequest, Claims, Target, WriteOutcome};
use crate::api::v1alpha1::crds;
use crate::cache::SandboxCache;

/// What happens to a write.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is not processed, but its sender cannot know that.
    Lost,
    /// There is no connection to send it on.
    Unsent,
}

/// An engine whose next writes meet these faults.
struct Bench {
    claims: Claims,
    /// The methods of all requests since the faults began.
    seen: Arc<Mutex<Vec<Method>>>,
    _server: ApiServer,
}

impl Bench {
    async fn start(objects: &[Value], faults: &[Fault]) -> Self {
        let server = ApiServer::builder().objects(crds()).start().unwrap();
        for object in objects {
            server.load(object).unwrap();
        }
        let seen = Arc::<Mutex<Vec<Method>>>::default();
        let cache = SandboxCache::builder(client(&server, faults, &seen)).build();
        cache.spawn().unwrap();
        cache.wait_for_cache_sync().await;
        let claims = Claims::builder(&cache).build().unwrap();
        seen.lock().clear();
        Self { claims, seen, _server: server }
    }
}

fn client(server: &ApiServer, faults: &[Fault], seen: &Arc<Mutex<Vec<Method>>>) -> Client {
    let faults = Mutex::new(faults.iter().copied().collect::<VecDeque<_>>());
    let (inner, seen) = (server.client(), Arc::clone(seen));
    let service = service_fn(move |request: Request<Body>| {
        let is_write = ![Method::GET, Method::HEAD].contains(request.method());
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch="));
        if !is_watch {
            seen.lock().push(request.method().clone());
        }
        let fault = if is_write { faults.lock().pop_front() } else { None };
        let inner = inner.clone();
        async move {
            match fault {
                Some(Fault::Lost) => Err(BoxError::from("connection reset")),
                Some(Fault::Unsent) => Err(BoxError::from(NotSent::new("connection refused"))),
                None => inner.send(request).await.map_err(BoxError::from),
            }
        }
    });
    Client::new(service, "default")
}

fn claimed() -> Value {
    json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "Sandbox",
        "metadata": {
            "name": "a", "namespace": "default",
            "labels": {"agents.kruise.io/sandbox-claimed": "true"},
            "annotations": {"agents.kruise.io/owner": "key"},
        },
        "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}},
        "status": {"phase": "Running", "conditions": [{
            "type": "Ready", "status": "True", "reason": "r", "message": "",
            "lastTransitionTime": "2030-01-01T00:00:00Z",
        }]},
    })
}

fn pool() -> Value {
    json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxSet",
        "metadata": {"name": "pool", "namespace": "default"},
        "spec": {"replicas": 0, "template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}},
    })
}

#[track_caller]
fn outcome<T>(result: Result<T, ClaimError>) -> WriteOutcome {
    match result.err() {
        Some(ClaimError::Unavailable { outcome, .. }) => outcome,
        other => panic!("{other:?}"),
    }
}

const SHORT: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn q2_a_create_that_is_not_sent_reads_nothing_and_may_be_repeated() {
    let bench = Bench::start(&[pool()], &[Fault::Unsent]).await;
    let request = ClaimRequest::from_pool("default", "pool").owner("key");
    let result = bench.claims.claim(request).await;
    assert_eq!(outcome(result), WriteOutcome::NothingDone);
    assert_eq!(*bench.seen.lock(), [Method::POST]);
}

#[tokio::test(start_paused = true)]
async fn q2_a_create_that_is_not_sent_after_a_lost_one_may_not_be_repeated() {
    let bench = Bench::start(&[pool()], &[Fault::Lost, Fault::Unsent]).await;
    let request = ClaimRequest::from_pool("default", "pool").owner("key");
    let result = bench.claims.claim(request).await;
    assert!(matches!(outcome(result), WriteOutcome::Unknown { lock: Some(_), .. }));
}

#[tokio::test(start_paused = true)]
async fn q2_a_change_that_is_not_sent_reads_nothing_and_may_be_repeated() {
    let target = Target::new("default--a").owned_by("key");
    let bench = Bench::start(&[claimed()], &[Fault::Unsent, Fault::Unsent]).await;
    assert_eq!(outcome(bench.claims.pause(&target, SHORT).await), WriteOutcome::NothingDone);
    assert_eq!(outcome(bench.claims.release(&target).await), WriteOutcome::NothingDone);
    assert_eq!(*bench.seen.lock(), [Method::PATCH, Method::DELETE]);
}

#[tokio::test(start_paused = true)]
async fn q2_a_change_that_is_not_sent_after_a_lost_one_may_not_be_repeated() {
    let target = Target::new("default--a").owned_by("key");
    let bench = Bench::start(&[claimed()], &[Fault::Lost, Fault::Unsent]).await;
    assert!(matches!(outcome(bench.claims.pause(&target, SHORT).await), WriteOutcome::Unknown { .. }));
    let bench = Bench::start(&[claimed()], &[Fault::Lost, Fault::Unsent]).await;
    assert!(matches!(outcome(bench.claims.release(&target).await), WriteOutcome::Unknown { .. }));
}
