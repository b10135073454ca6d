//! The frame around every operation, on the clock of tokio: panics, limits of time, and bodies that do not come.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, StatusCode};
use memory_apiserver::ApiServer;
use parking_lot::Mutex;
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::api::{Api, Settings};
use super::frame::{Server, framed};
use super::keys::Keys;
use super::metrics::E2bMetrics;
use super::view::Common;
use crate::api::v1alpha1::{LABEL_SANDBOX_CLAIMED, Sandbox, crds};
use crate::cache::SandboxCache;
use crate::claims::Claims;

/// The API without a socket, on an API server in memory whose pods never become ready.
struct Bench {
    api_server: ApiServer,
    registry: Registry,
    server: Server,
}

impl Bench {
    async fn start() -> Self {
        let api_server = ApiServer::builder().objects(crds()).start().unwrap();
        let cache = SandboxCache::builder(api_server.client()).build();
        cache.spawn().unwrap();
        cache.wait_for_cache_sync().await;
        let claims = Claims::builder(&cache).build().unwrap();
        let settings = Settings {
            common: Common { envd_version: "0.2.10".to_owned(), domain: String::new() },
            min_timeout: Duration::from_secs(1),
            max_timeout: Duration::from_hours(1),
            init_runtime: false,
            max_concurrent_claims: 2,
            max_concurrent_claims_per_key: 2,
            is_never_allowed: false,
            create_on_no_stock: true,
            selected_labels: BTreeSet::new(),
        };
        let registry = Registry::new();
        let metrics = E2bMetrics::register(&registry).unwrap();
        let server = Server::new(Api::new(&cache, &claims, Keys::None, settings, metrics));
        Self { api_server, registry, server }
    }

    /// Number of answers of an operation with a status.
    fn answers(&self, operation: &str, code: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == "sandbox_manager_e2b_requests_total");
        let is_asked = |metric: &&prometheus::proto::Metric| {
            let values: Vec<_> = metric.get_label().iter().map(prometheus::proto::LabelPair::value).collect();
            values.contains(&operation) && values.contains(&code)
        };
        let metric = family.unwrap().get_metric().iter().find(is_asked);
        metric.map_or(0.0, |metric| metric.get_counter().get_value())
    }

    async fn send(&self, request: Request<Body>) -> Response {
        self.server.router().oneshot(request).await.unwrap_or_else(|never: Infallible| match never {})
    }

    /// The number of sandboxes that somebody has claimed.
    async fn claimed(&self) -> usize {
        let sandboxes = kube::Api::<Sandbox>::all(self.api_server.client());
        let claimed = kube::api::ListParams::default().labels(&format!("{LABEL_SANDBOX_CLAIMED}=true"));
        sandboxes.list(&claimed).await.unwrap().items.len()
    }
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

/// The body of an error, which has the form that the SDKs read.
async fn error(response: Response, status: StatusCode) -> Value {
    assert_eq!(response.status(), status);
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], status.as_u16());
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    body
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn e2b_5_0_a_panic_is_answered_as_500_and_counted_and_the_server_goes_on() {
    let (bench, log) = (Bench::start().await, Log::default());
    let writer = log.clone();
    // While there is only one subscriber, tracing asks the thread that first reaches a log line whether anybody wants it,
    // and other tests run on threads without one. With two, it asks both.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let logging = tracing::subscriber::set_default(subscriber);
    let answer = framed(&bench.server, get("/teams"), async |_, _, _| panic!("s3cr3t")).await;
    drop(logging);
    assert_eq!(answer.headers()["should-retry"], "false", "the panic may have come after a write");
    assert!(answer.headers().contains_key("x-request-id"));
    let body = error(answer, StatusCode::INTERNAL_SERVER_ERROR).await;
    assert!(!body.to_string().contains("s3cr3t"), "{body}");
    assert_eq!(bench.answers("listTeams", "500").to_string(), "1");
    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    let line = log.lines().find(|line| line.contains("status=500")).expect(&log);
    assert!(line.contains("a panic") && line.contains("listTeams") && !line.contains("s3cr3t"), "{line}");

    assert_eq!(bench.send(get("/teams")).await.status(), StatusCode::OK);
    // The stop waits for no request that has panicked.
    bench.server.drain().await;
}

#[tokio::test(start_paused = true)]
async fn e2b_1_2_every_answer_comes_in_under_55_seconds() {
    let bench = Bench::start().await;
    let begun = Instant::now();
    let never = framed(&bench.server, get("/teams"), async |_, _, _| std::future::pending().await).await;
    assert!(begun.elapsed() < Duration::from_secs(55), "{:?}", begun.elapsed());
    assert_eq!(never.headers()["should-retry"], "false");
    error(never, StatusCode::GATEWAY_TIMEOUT).await;
}

#[tokio::test(start_paused = true)]
async fn e2b_5_1_a_create_that_never_becomes_ready_is_answered_in_time_and_undone() {
    let bench = Bench::start().await;
    let set = json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxSet",
        "metadata": {"name": "pool", "namespace": "default"},
        "spec": {"replicas": 0, "template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}},
    });
    bench.api_server.load(&set).unwrap();
    while bench.send(get("/templates/pool")).await.status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    let create = Request::post("/v2/sandboxes").body(Body::from(r#"{"templateID":"pool"}"#)).unwrap();
    let answer = bench.send(create).await;
    let took = begun.elapsed();
    assert!((Duration::from_secs(45)..Duration::from_secs(55)).contains(&took), "{took:?}");
    assert_eq!(answer.headers()["should-retry"], "false");
    error(answer, StatusCode::GATEWAY_TIMEOUT).await;
    while bench.claimed().await > 0 {
        assert!(begun.elapsed() < Duration::from_mins(2), "the sandbox is left");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn create_with(body: Body) -> Request<Body> {
    Request::post("/v2/sandboxes").body(body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn e2b_5_0_a_body_that_does_not_arrive_in_time_is_408() {
    let bench = Bench::start().await;
    let begun = Instant::now();
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{"))]);
    let answer = bench.send(create_with(Body::from_stream(first.chain(stream::pending())))).await;
    assert_eq!(begun.elapsed().as_secs(), 20);
    assert_eq!(answer.headers()["should-retry"], "false");
    error(answer, StatusCode::REQUEST_TIMEOUT).await;
}

/// Each byte comes after 5 s: none is late, but the whole is.
#[tokio::test(start_paused = true)]
async fn e2b_5_0_the_limit_of_time_is_that_of_the_whole_body() {
    let bench = Bench::start().await;
    let trickle = stream::repeat(Bytes::from_static(b" ")).then(async |byte| {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok::<_, Infallible>(byte)
    });
    let answer = bench.send(create_with(Body::from_stream(Box::pin(trickle)))).await;
    error(answer, StatusCode::REQUEST_TIMEOUT).await;
}

#[tokio::test(start_paused = true)]
async fn e2b_5_0_a_body_without_an_end_is_413_after_a_bounded_number_of_bytes() {
    let (bench, read) = (Bench::start().await, Arc::new(Mutex::new(0_usize)));
    let counted = Arc::clone(&read);
    let endless = stream::repeat_with(move || {
        *counted.lock() += 1;
        Ok::<_, Infallible>(Bytes::from(vec![b' '; 1 << 16]))
    });
    error(bench.send(create_with(Body::from_stream(endless))).await, StatusCode::PAYLOAD_TOO_LARGE).await;
    let mebibytes = *read.lock() >> 4;
    assert!((1..=9).contains(&mebibytes), "{mebibytes} MiB");
}

#[tokio::test]
async fn e2b_5_0_a_body_that_breaks_off_is_400() {
    let bench = Bench::start().await;
    let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(io::Error::other("reset"))]);
    error(bench.send(create_with(Body::from_stream(broken))).await, StatusCode::BAD_REQUEST).await;
}
