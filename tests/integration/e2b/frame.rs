//! The frame (e2b 5.0): keys before everything else, and every error as JSON.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt as _;

use super::client::Request;
use super::{POOL, Rig, of_sandbox};

#[tokio::test]
async fn e2b_5_0_every_error_is_json_with_code_and_message() {
    let rig = Rig::with_pool(1).await;
    for (request, status) in [
        (Request::new("GET", "/nothing"), 404),
        (Request::new("GET", "/sandboxes/nope"), 404),
        (Request::new("PUT", "/sandboxes/nope"), 405),
        (Request::new("GET", "/sandboxes/nope/pause"), 405),
        (Request::new("POST", "/v2/sandboxes").body("{"), 400),
        (Request::new("POST", "/v2/sandboxes").body("[]"), 400),
        (Request::new("POST", "/v2/sandboxes").body(r#"["code-interpreter"]"#), 400),
        (Request::new("POST", "/v2/sandboxes").body("null"), 400),
        (Request::new("POST", "/v2/sandboxes").body(vec![0xff, 0xfe]), 400),
        (Request::new("POST", "/v2/sandboxes").body("{}{}"), 400),
        (Request::new("POST", "/v2/sandboxes"), 400),
        (Request::new("POST", "/v2/sandboxes").body(vec![b' '; (1 << 20) + 1]), 413),
        (Request::new("POST", "/sandboxes/nope/snapshots").body("{}"), 501),
        (Request::new("PUT", "/sandboxes/nope/network").body("{}"), 501),
        (Request::new("GET", "/v2/sandboxes?limit=0"), 400),
    ] {
        rig.send(request).await.error(status);
    }
    let allow = rig.send(Request::new("PUT", "/sandboxes/x")).await;
    assert_eq!(allow.header("allow"), Some("GET, DELETE"));
    assert_eq!(rig.claimed().await.len(), 0, "nothing was claimed by any of these");
}

#[tokio::test]
async fn e2b_5_0_a_body_without_a_content_type_is_read() {
    let rig = Rig::with_pool(1).await;
    let body = json!({"templateID": POOL, "unknown": {"a": 1}, "network": null, "metadata": null});
    let answer = rig.send(Request::new("POST", "/v2/sandboxes").body(body.to_string())).await.ok(201);
    assert_eq!(answer["templateID"], POOL);
}

#[tokio::test]
async fn e2b_5_0_without_a_key_nothing_is_told() {
    let rig = Rig::start(|_| {}).await;
    for path in ["/v2/sandboxes", "/sandboxes/x", "/sandboxes/x/y", "/nothing", "/templates", "/api-keys"] {
        for request in [
            Request::new("GET", path),
            Request::new("PUT", path),
            Request::new("GET", path).key("e2b_00"),
            Request::new("GET", path).key(""),
        ] {
            request.send(rig.address).await.error(401);
        }
    }
    // The body is not even read.
    let large = Request::new("POST", "/sandboxes").body(vec![b' '; 2 << 20]);
    large.send(rig.address).await.error(401);
    assert_eq!(Request::new("GET", "/health").send(rig.address).await.ok(200), json!({"status": "ok"}));
    let document = Request::new("GET", "/openapi.json").send(rig.address).await.ok(200);
    assert!(document["paths"]["/v2/sandboxes"]["post"].is_object());
}

#[tokio::test]
async fn e2b_5_0_an_id_that_the_caller_cannot_use_is_one_and_the_same_404() {
    let rig = Rig::start(|_| {}).await;
    let long = "x".repeat(300);
    for id in ["nope", "a/b", "default--nope", "%2e%2e", "%00", &long] {
        for request in of_sandbox(id) {
            let error = rig.send(request).await.error(404);
            let message = error["message"].as_str().unwrap();
            assert!(message.ends_with("doesn't exist or you don't have access to it"), "{id}: {message}");
        }
    }
}

#[tokio::test]
async fn a_request_id_is_taken_over_or_made() {
    let rig = Rig::start(|_| {}).await;
    let answer = rig.send(Request::new("GET", "/teams").header("X-Request-ID", "abc-1")).await;
    assert_eq!(answer.header("x-request-id"), Some("abc-1"));
    let spoiled = rig.send(Request::new("GET", "/teams").header("X-Request-ID", &"a".repeat(200))).await;
    assert_eq!(spoiled.header("x-request-id").map(str::len), Some(36));
}

#[tokio::test]
async fn a_connection_that_sends_no_head_in_time_does_not_hold_up_others() {
    let rig = Rig::start(|_| {}).await;
    let mut idle = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    rig.get("/teams").await.ok(200);
    // It is still open: the SDKs keep connections for minutes.
    let read = tokio::time::timeout(Duration::from_millis(100), idle.read(&mut [0])).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn the_stop_refuses_new_requests_and_ends() {
    let mut rig = Rig::with_pool(1).await;
    rig.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(20), &mut rig.manager).await;
    ended.unwrap().unwrap().unwrap();
}
