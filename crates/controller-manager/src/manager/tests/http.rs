//! What the listeners answer, over sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use k8s_openapi::api::core::v1::ConfigMap;
use memory_apiserver::ApiServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::support::{break_kind, cache, load};
use crate::{Action, BindAddress, Manager, ManagerOptions, Observed};

const SOON: Duration = Duration::from_secs(20);

fn any_port() -> BindAddress {
    BindAddress::listen("127.0.0.1", 0)
}

fn manager(server: &ApiServer) -> Manager {
    let options = ManagerOptions {
        metrics_address: any_port(),
        health_address: any_port(),
        debug: true,
        metric_prefix: "program".into(),
        ..ManagerOptions::default()
    };
    Manager::builder(cache(server), options).build().unwrap()
}

/// Status and body of an answer.
async fn call(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Asks until the answer is as expected.
async fn until(address: SocketAddr, path: &str, expected: impl Fn(u16, &str) -> bool) -> String {
    let asked = async {
        loop {
            let (status, body) = call(address, path).await;
            if expected(status, &body) {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let Ok(body) = tokio::time::timeout(SOON, asked).await else {
        panic!("{path} still answers {:?}", call(address, path).await);
    };
    body
}

#[tokio::test]
async fn readiness_follows_the_required_kinds_and_lists_the_optional_ones() {
    let server = ApiServer::new();
    break_kind(&server, "configmaps");
    break_kind(&server, "secrets");
    let bound = manager(&server).bind().await.unwrap();
    let health = bound.health_address().unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(bound.run(stop.clone()));
    let both_failed = |_, body: &str| {
        body.contains("informer/configmaps failed: not synced: ")
            && body.contains("[~]informer/secrets not synced: ")
    };
    until(health, "/readyz", both_failed).await;
    assert_eq!(call(health, "/livez").await, (200, "ok".into()));
    assert_eq!(call(health, "/readyz").await.0, 503);

    server.clear_faults();
    break_kind(&server, "secrets");
    until(health, "/readyz", |status, _| status == 200).await;
    let (_, body) = call(health, "/readyz?verbose").await;
    assert!(
        body.starts_with(
            "[+]ping ok\n[+]shutdown ok\n[+]informer/configmaps ok\n[~]informer/secrets not synced"
        ),
        "{body}"
    );
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_is_not_ready_from_its_begin_and_answers_until_its_end() {
    let server = ApiServer::new();
    load(&server, "a");
    let gate = Arc::new(Semaphore::new(0));
    let (opened, entered) = (Arc::clone(&gate), Arc::new(AtomicBool::new(false)));
    let entering = Arc::clone(&entered);
    let mut manager = manager(&server);
    manager.controller::<ConfigMap>("maps").handler(move |_: Observed<ConfigMap>| {
        entering.store(true, Ordering::SeqCst);
        let gate = Arc::clone(&opened);
        async move {
            gate.acquire().await?.forget();
            Ok(Action::await_change())
        }
    });
    let bound = manager.bind().await.unwrap();
    let health = bound.health_address().unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(bound.run(stop.clone()));
    until(health, "/readyz", |status, _| status == 200 && entered.load(Ordering::SeqCst)).await;
    stop.cancel();
    let expected = "[-]shutdown failed: the process is shutting down";
    until(health, "/readyz", |status, body| status == 503 && body.contains(expected)).await;
    assert_eq!(call(health, "/livez").await.0, 200);
    assert!(!running.is_finished(), "it waits for the handler");
    gate.add_permits(1);
    running.await.unwrap().unwrap();
    TcpStream::connect(health).await.unwrap_err();
}

#[tokio::test]
async fn y7_a_watch_whose_task_has_ended_makes_the_process_not_live() {
    let manager = manager(&ApiServer::new());
    let cache = manager.cache().clone();
    let bound = manager.bind().await.unwrap();
    let health = bound.health_address().unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(bound.run(stop.clone()));
    until(health, "/readyz", |status, _| status == 200).await;
    assert_eq!(call(health, "/livez/watches").await, (200, "ok".into()));
    // Nobody but the manager stops a cache; here it stands for a thread that is gone.
    cache.stop().await;
    let (status, body) = call(health, "/livez").await;
    assert!(status == 503 && body.contains("[-]watches failed: 2 of 2 watches have ended\n"), "{body}");
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn checks_routes_listeners_and_metrics_of_the_user_are_served() {
    let server = ApiServer::new();
    load(&server, "a");
    let well = Arc::new(AtomicBool::new(true));
    let is_well = Arc::clone(&well);
    let mut manager = manager(&server);
    manager
        .add_health_check(
            "mine",
            move || if is_well.load(Ordering::SeqCst) { Ok(()) } else { Err("ill".into()) },
        )
        .add_readiness_check("panics", || panic!("a panic that belongs to the test"))
        .routes(Router::new().route("/one", get(async || "one")))
        .routes(Router::new().route("/two", get(async || "two")))
        .listen("api", any_port(), Router::new().route("/three", get(async || "three")));
    let bound = manager.bind().await.unwrap();
    let [health, metrics] = [bound.health_address(), bound.metrics_address()].map(Option::unwrap);
    let api = bound.address("api").unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(bound.run(stop.clone()));

    assert_eq!(call(health, "/one").await, (200, "one".into()));
    assert_eq!(call(health, "/two").await, (200, "two".into()));
    assert_eq!(call(api, "/three").await, (200, "three".into()));
    assert_eq!(call(api, "/livez").await.0, 404);
    assert_eq!(call(health, "/livez").await.0, 200);
    well.store(false, Ordering::SeqCst);
    let (status, body) = call(health, "/livez").await;
    assert!(status == 503 && body.contains("[-]mine failed: ill\n"), "{body}");
    let body = until(health, "/readyz?exclude=panics", |status, _| status == 200).await;
    assert_eq!(body, "ok");
    let (status, body) = call(health, "/readyz/panics").await;
    assert!(status == 503 && body.contains("failed: the check panicked"), "{body}");
    let (_, body) = call(metrics, "/metrics").await;
    assert!(body.contains("program_cache_objects{resource=\"configmaps\"} 1\n"), "{body}");
    assert!(call(health, "/debug/cache/configmaps").await.1.contains("\"kind\":\"ConfigMap\""));
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_address_in_use_is_an_error_before_anything_starts() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = ManagerOptions {
        health_address: BindAddress::listen("127.0.0.1", port),
        ..ManagerOptions::default()
    };
    let manager = Manager::builder(cache(&ApiServer::new()), options).build().unwrap();
    let error = manager.run(CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("health: cannot listen on 127.0.0.1:{port}: ")), "{error}");
}
