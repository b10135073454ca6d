//! What comes over the wire before the frame sees a request: heads and bodies that no SDK sends, and slow clients.

use std::time::Duration;

use anyhow::ensure;
use memory_apiserver::{FaultPlan, On, RequestFault, Times, Verb};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Answer, Request};
use super::{POOL, Rig};
use crate::support::{SOON, eventually};

/// Sends bytes as they are, and reads until the server closes the connection.
async fn raw(rig: &Rig, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answers = Vec::new();
    // A server that refuses a head closes the connection while a part of it is unread, which may reset the connection.
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answers)).await;
    assert!(read.is_ok(), "the connection stays open: {}", String::from_utf8_lossy(&answers));
    String::from_utf8_lossy(&answers).into_owned()
}

fn head(rig: &Rig, line: &str, headers: &str) -> String {
    format!("{line}\r\nHost: x\r\nX-API-Key: {}\r\nConnection: close\r\n{headers}\r\n", rig.key)
}

fn create() -> String {
    json!({ "templateID": POOL }).to_string()
}

#[tokio::test]
async fn e2b_5_0_a_chunked_body_without_a_length_is_read() {
    let rig = Rig::with_pool(1).await;
    let (body, chunked) = (create(), "Transfer-Encoding: chunked\r\n");
    let chunks: Vec<_> = body.bytes().map(|byte| format!("1\r\n{}\r\n", char::from(byte))).collect();
    let request =
        format!("{}{}0\r\n\r\n", head(&rig, "POST /v2/sandboxes HTTP/1.1", chunked), chunks.concat());
    let answer = raw(&rig, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
}

#[tokio::test]
async fn e2b_5_0_a_wrong_length_of_a_body_claims_nothing() {
    let rig = Rig::with_pool(1).await;
    let line = "POST /v2/sandboxes HTTP/1.1";
    // Too short: the rest of the body is no request.
    let short = format!("{}{}", head(&rig, line, "Content-Length: 5\r\n"), create());
    let answer = raw(&rig, short.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(r#"{"code":400"#), "{answer}");
    // Too long: the client ends before its body does.
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let long = format!("{}{}", head(&rig, line, "Content-Length: 5000\r\n"), create());
    stream.write_all(long.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // Two lengths.
    let two = head(&rig, line, "Content-Length: 5\r\nContent-Length: 6\r\n");
    let answer = raw(&rig, two.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(rig.claimed().await.len(), 0);
}

/// The HTTP library refuses these before there is a request. Its answers have no body.
#[tokio::test]
async fn e2b_5_0_a_head_that_is_no_http_or_too_large_ends_its_connection_only() {
    let rig = Rig::with_pool(1).await;
    let long = format!("X-Long: {}\r\n", "x".repeat(20 * 1024));
    let many: Vec<_> = (0..200).map(|number| format!("X-{number}: x\r\n")).collect();
    let get = "GET /v2/sandboxes HTTP/1.1";
    for (bytes, status) in [
        (head(&rig, get, &long), "431"),
        (head(&rig, get, &many.concat()), "431"),
        (head(&rig, &format!("GET /sandboxes/{} HTTP/1.1", "x".repeat(20 * 1024)), ""), "431"),
        ("GET\r\n\r\n".to_owned(), "400"),
        ("GET /teams HTTP/9.9\r\n\r\n".to_owned(), "400"),
        ("GET /te ams HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "400"),
        ("GET /teams HTTP/1.1\r\nHo st: x\r\n\r\n".to_owned(), "400"),
        ("\u{16}\u{3}\u{1} a handshake of TLS\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = raw(&rig, bytes.as_bytes()).await;
        let line = bytes.lines().next().unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line:.60}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{line:.60}: {answer}");
    }
    // An API key and an SDK's headers leave room for many of the user's own.
    let usual: Vec<_> = (0..80).map(|number| format!("X-{number}: {}\r\n", "x".repeat(100))).collect();
    let answer = raw(&rig, head(&rig, get, &usual.concat()).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn e2b_5_0_a_client_that_asks_before_it_sends_a_body_is_told() {
    let rig = Rig::with_pool(1).await;
    let expect = |key: &str, length: usize| {
        let head = "POST /v2/sandboxes HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n";
        format!("{head}X-API-Key: {key}\r\nContent-Length: {length}\r\n\r\n")
    };
    let body = create();
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(expect(&rig.key, body.len()).as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&go_on), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");

    // A client without a key is told so at once, and sends no body.
    let answer = raw(&rig, expect("e2b_00", 1 << 20).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains(r#"{"code":401"#), "{answer}");
}

#[tokio::test]
async fn e2b_5_0_every_method_and_every_path_has_an_answer_in_json() {
    let rig = Rig::start(|_| {}).await;
    let long = format!("/sandboxes/{}", "x".repeat(8 * 1024));
    for (method, path, status) in [
        ("BREW", "/v2/sandboxes", 405),
        ("OPTIONS", "/v2/sandboxes", 405),
        ("TRACE", "/sandboxes/x", 405),
        ("BREW", "/nothing", 404),
        ("OPTIONS", "*", 404),
        ("GET", "//teams", 404),
        ("GET", "/teams//", 404),
        ("GET", "/./teams", 404),
        ("GET", "/sandboxes/../teams", 404),
        ("GET", "/sandboxes/%2e%2e%2fteams", 404),
        ("GET", "/templates/../teams", 501),
        ("GET", "/templates/%2e%2e%2fteams", 404),
        ("GET", "/sandboxes/%", 404),
        ("GET", "/sandboxes/%zz", 404),
        ("GET", "/sandboxes/x;y=z", 404),
        ("GET", "/sandboxes/x%3Flimit=1", 404),
        ("DELETE", "/sandboxes/", 405),
        ("GET", "/V2/SANDBOXES", 404),
        ("GET", "/kruise/api//teams", 404),
        ("GET", "/kruise/api/kruise/api/teams", 404),
        ("GET", &long, 404),
        ("GET", "/v2/sandboxes?metadata=%", 400),
        ("GET", "/v2/sandboxes?limit=%31%30%31", 400),
    ] {
        let answer = rig.send(Request::new(method, path)).await;
        assert_eq!(answer.status, status, "{method} {path:.60}: {answer:?}");
        answer.error(status);
    }
    for path in ["http://example.com/teams", "/teams/", "/kruise/api/teams", "/teams?x=y", "/v2/sandboxes?%"]
    {
        rig.get(path).await.ok(200);
    }
    for (path, status) in [("/teams", 200), ("/nothing", 404)] {
        let answer = rig.send(Request::new("HEAD", path)).await;
        assert_eq!((answer.status, answer.text.as_str()), (status, ""), "a HEAD has no body: {answer:?}");
    }
}

#[tokio::test]
async fn requests_that_follow_each_other_at_once_are_answered_in_their_order() {
    let rig = Rig::start(|_| {}).await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n\r\n", rig.key);
    let last = head(&rig, "GET /nothing HTTP/1.1", "");
    let all = [request("/teams"), request("/sandboxes/none"), request("/health"), last].concat();
    let answers = raw(&rig, all.as_bytes()).await;
    let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "404", "200", "404"], "{answers}");
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_everything_and_holds_up_nobody() {
    const REQUESTS: usize = 400;
    let rig = Rig::start(|_| {}).await;
    let document = Request::new("GET", "/openapi.json").send(rig.address).await.text.len();
    // More than the buffers of both sockets hold.
    assert!(document * REQUESTS > 6 << 20, "{document}");
    let mut slow = TcpStream::connect(rig.address).await.unwrap();
    let one = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(REQUESTS - 1);
    let all = format!("{one}GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let (mut reader, mut writer) = slow.split();
    let write = async {
        writer.write_all(all.as_bytes()).await.unwrap();
    };
    let others = async {
        for _ in 0..20 {
            rig.get("/teams").await.ok(200);
        }
    };
    tokio::join!(write, others);
    let mut answers = Vec::new();
    tokio::time::timeout(SOON, reader.read_to_end(&mut answers)).await.unwrap().unwrap();
    let answers = String::from_utf8(answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), REQUESTS);
}

/// Begins a create, and leaves its answer unread.
async fn begin_create(rig: &Rig) -> TcpStream {
    Request::new("POST", "/v2/sandboxes").key(&rig.key).body(create()).begin(rig.address).await
}

#[tokio::test]
async fn e2b_5_0_clients_that_hang_up_give_back_their_slots() {
    let rig = Rig::start(|options| options.e2b.max_concurrent_claims = 2).await;
    rig.pool(POOL, 4).await;
    let slow = RequestFault::Delay(Duration::from_secs(3));
    rig.server.inject(&FaultPlan::request(On::request(Verb::Patch, "sandboxes"), Times::Always, slow));
    let underway = [begin_create(&rig).await, begin_create(&rig).await];
    eventually("both locks are on their way", SOON, async || {
        ensure!(rig.server.faults_fired()[0].1 == 2, "{:?}", rig.server.faults_fired());
        Ok(())
    })
    .await;
    let refused: Answer = rig.post("/v2/sandboxes", json!({ "templateID": POOL })).await;
    refused.error(429);
    assert_eq!(refused.header("should-retry"), Some("true"));
    // Only creates are limited.
    rig.get("/v2/sandboxes").await.ok(200);
    drop(underway);
    rig.server.clear_faults();
    eventually("there are slots again", SOON, async || {
        let answer = rig.post("/v2/sandboxes", json!({ "templateID": POOL })).await;
        ensure!(answer.status == 201, "{answer:?}");
        Ok(())
    })
    .await;
    eventually("nothing is left of the others", SOON, async || {
        let claimed = rig.claimed().await.len();
        ensure!(claimed == 1, "{claimed} are claimed");
        Ok(())
    })
    .await;
}
