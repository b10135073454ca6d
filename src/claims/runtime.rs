//! Initialises the runtime in a sandbox (Q6): one HTTP request to the pod itself.
//!
//! The request goes to the address of the pod and nowhere else: no name is resolved, no proxy asked and no redirect
//! followed. The address comes from the status of the sandbox. So that nobody who can write a status makes this process
//! send the token of a sandbox to itself or to the node, addresses that no pod has are refused.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::api::v1alpha1::{
    ANNOTATION_INIT_RUNTIME_REQUEST, ANNOTATION_RUNTIME_ACCESS_TOKEN, ANNOTATION_RUNTIME_INIT_PENDING,
    PodTemplate, Sandbox, annotation,
};

/// Port of the runtime. A template without this port has none.
pub(super) const PORT: u16 = 49983;

/// How long one request may take, and how often it is sent.
const TRY_TIMEOUT: Duration = Duration::from_secs(1);
const TRIES: usize = 5;

/// The pauses after the first failures. A refused connection takes no time, and a program that starts does.
const PAUSES: [Duration; TRIES - 1] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1500),
    Duration::from_secs(3),
];

/// The header with the access token of a runtime.
const ACCESS_TOKEN: &str = "x-access-token";

/// Longest head of a response. Its body is not read.
const MAX_HEAD: usize = 16 << 10;

/// Returns true if a sandbox has a request that initialises its runtime.
pub(super) fn has_request(sandbox: &Sandbox) -> bool {
    annotation(&sandbox.metadata, ANNOTATION_INIT_RUNTIME_REQUEST).is_some()
}

/// Returns the id of the claim or resume that wants the runtime of a sandbox to be initialised; none if it is.
pub(crate) fn pending_init(sandbox: &Sandbox) -> Option<&str> {
    annotation(&sandbox.metadata, ANNOTATION_RUNTIME_INIT_PENDING)
}

/// Notes that the runtime of a sandbox is to be initialised.
pub(super) fn set_pending(sandbox: &mut Sandbox, id: &str) {
    let annotations = sandbox.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_RUNTIME_INIT_PENDING.to_owned(), id.to_owned());
}

/// Notes that the runtime of a sandbox is initialised, or that nobody waits for that.
pub(crate) fn clear_pending(sandbox: &mut Sandbox) {
    if let Some(annotations) = &mut sandbox.metadata.annotations {
        annotations.remove(ANNOTATION_RUNTIME_INIT_PENDING);
    }
}

/// Initialises the runtime of a sandbox with the request in its annotation.
///
/// # Errors
///
/// The reason why the last of all tries failed.
pub(super) async fn initialise(sandbox: &Sandbox) -> Result<(), String> {
    with_retries(|| send(sandbox)).await
}

/// Sends the request in the annotation of a sandbox to its runtime, once. It may be sent again.
///
/// # Errors
///
/// The reason why the runtime is not initialised.
pub(crate) async fn try_initialise(sandbox: &Sandbox) -> Result<(), String> {
    in_time(send(sandbox)).await
}

/// Returns how long to wait after so many tries that have failed; none if that is enough.
pub(crate) fn pause_after(failures: usize) -> Option<Duration> {
    match failures.checked_sub(1) {
        None => Some(Duration::ZERO),
        Some(earlier) => PAUSES.get(earlier).copied(),
    }
}

/// Says why the runtime is not initialised after all tries.
pub(crate) fn gave_up(last: &str) -> String {
    format!("the runtime was not initialised in {TRIES} tries: {last}")
}

async fn send(sandbox: &Sandbox) -> io::Result<()> {
    let address = address(sandbox).map_err(io::Error::other)?;
    let body = annotation(&sandbox.metadata, ANNOTATION_INIT_RUNTIME_REQUEST).unwrap_or("{}");
    let token = annotation(&sandbox.metadata, ANNOTATION_RUNTIME_ACCESS_TOKEN);
    request(TcpStream::connect(address).await?, address, body, token).await
}

/// Returns true if a template has a container with the port of the runtime.
pub(super) fn has_runtime(template: &PodTemplate) -> bool {
    let Some(Ok(spec)) = template.spec_json().map(serde_json::from_str::<Value>) else { return false };
    let containers = ["containers", "initContainers"].map(|field| spec[field].as_array());
    let mut ports =
        containers.into_iter().flatten().flatten().filter_map(|container| container["ports"].as_array());
    ports.any(|ports| ports.iter().any(|port| port["containerPort"].as_u64() == Some(PORT.into())))
}

/// Returns the address of the runtime.
fn address(sandbox: &Sandbox) -> Result<SocketAddr, String> {
    let Some(ip) = sandbox.pod_ip() else { return Err("the pod has no IP address".to_owned()) };
    let Some(address) = ip.address() else { return Err(format!("{ip} is not an IP address")) };
    if is_of_a_pod(address) {
        Ok(SocketAddr::new(address, PORT))
    } else {
        Err(format!("{ip} is not the address of a pod"))
    }
}

/// Returns false for addresses that no pod has: this host, its neighbours, groups of hosts.
fn is_of_a_pod(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let is_this_network = v4.octets()[0] == 0;
            !(v4.is_loopback()
                || is_this_network
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            let embedded = embedded_v4(v6);
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local() || v6.is_multicast())
                && embedded.is_none_or(|v4| is_of_a_pod(v4.into()))
        }
    }
}

/// Returns the IPv4 address to which a request to this address may go: it is mapped, or translated by NAT64 or 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let ([0, 0, 0, 0, 0, 0 | 0xffff, high, low]
    | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
    | [0x2002, high, low, ..]) = address.segments()
    else {
        return None;
    };
    Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
}

/// Sends a request until it succeeds, each time with a deadline.
async fn with_retries<F: Future<Output = io::Result<()>>>(mut send: impl FnMut() -> F) -> Result<(), String> {
    let mut failures = 0;
    loop {
        let Err(error) = in_time(send()).await else { return Ok(()) };
        failures += 1;
        let Some(pause) = pause_after(failures) else { return Err(gave_up(&error)) };
        sleep(pause).await;
    }
}

/// Waits for one try.
async fn in_time(request: impl Future<Output = io::Result<()>>) -> Result<(), String> {
    match timeout(TRY_TIMEOUT, request).await {
        Ok(answered) => answered.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", TRY_TIMEOUT.as_secs())),
    }
}

/// Sends one request over a connection. Dropping the future closes the connection.
async fn request(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    body: &str,
    token: Option<&str>,
) -> io::Result<()> {
    let mut request = Request::post("/init")
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close");
    // A runtime that an earlier request has given the token asks for it from then on.
    if let Some(mut token) = token.and_then(|token| HeaderValue::from_str(token).ok()) {
        token.set_sensitive(true);
        request = request.header(ACCESS_TOKEN, token);
    }
    let request =
        request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).map_err(io::Error::other)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let mut exchange = pin!(sender.send_request(request));
    let response = tokio::select! {
        biased;
        response = &mut exchange => response,
        // The end of the connection may bring the response.
        _ = connection => exchange.await,
    };
    match response.map_err(io::Error::other)?.status() {
        StatusCode::NO_CONTENT => Ok(()),
        status => Err(io::Error::other(format!("HTTP {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;

    fn with_address(ip: &str) -> Sandbox {
        serde_json::from_value(
            json!({ "metadata": {}, "spec": {}, "status": { "podInfo": { "podIP": ip } } }),
        )
        .unwrap()
    }

    async fn answered(answer: &'static [u8]) -> (io::Result<()>, String) {
        let (ours, mut theirs) = tokio::io::duplex(64 << 10);
        let server = tokio::spawn(async move {
            let (mut seen, mut part) = (String::new(), [0; 1024]);
            while !seen.ends_with("{\"a\":1}") {
                let count = theirs.read(&mut part).await.unwrap();
                seen.push_str(std::str::from_utf8(&part[..count]).unwrap());
            }
            theirs.write_all(answer).await.unwrap();
            (seen, theirs)
        });
        let answer = request(ours, "10.0.0.1:49983".parse().unwrap(), "{\"a\":1}", Some("secret")).await;
        (answer, server.await.unwrap().0)
    }

    #[tokio::test]
    async fn q6_the_runtime_gets_one_post_and_must_answer_204() {
        let (answer, seen) = answered(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        answer.unwrap();
        assert!(seen.starts_with("POST /init HTTP/1.1\r\nhost: 10.0.0.1:49983\r\n"), "{seen}");
        assert!(seen.contains("\r\nx-access-token: secret\r\n"), "{seen}");
        for answer in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1/\r\n\r\n",
            b"nonsense\r\n\r\n",
        ] {
            answered(answer).await.0.unwrap_err();
        }
    }

    #[tokio::test]
    async fn q6_a_response_without_an_end_is_bounded() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        let server = tokio::spawn(async move {
            theirs.write_all(b"HTTP/1.1 204 No Content\r\nx: ").await?;
            loop {
                theirs.write_all(&[b'y'; 1024]).await?;
            }
            #[expect(unreachable_code, reason = "gives the type")]
            io::Result::Ok(())
        });
        request(ours, "10.0.0.1:49983".parse().unwrap(), "{}", None).await.unwrap_err();
        server.await.unwrap().unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn q6_a_silent_runtime_fails_after_five_tries_of_a_second() {
        let start = Instant::now();
        let mut tries = 0;
        let failed = with_retries(|| {
            tries += 1;
            std::future::pending()
        });
        assert_eq!(
            failed.await.unwrap_err(),
            "the runtime was not initialised in 5 tries: no answer within 1 s"
        );
        assert_eq!((tries, start.elapsed()), (5, Duration::from_secs(10)));
        let mut tries = 0;
        let late = with_retries(|| {
            tries += 1;
            std::future::ready(if tries < 5 { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(()) })
        });
        late.await.unwrap();
    }

    #[test]
    fn q6_the_token_is_sent_to_pods_only() {
        for ip in ["10.1.2.3", "fd00::1", "192.168.1.1", "100.64.0.1", "64:ff9b::10.1.2.3"] {
            assert_eq!(address(&with_address(ip)).unwrap().port(), PORT, "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::1",
            "0.1.2.3",
            "255.255.255.255",
            "ff02::1",
            "::",
            "127.1",
            "0x7f000001",
            "2130706433",
            "10.1.2.3:80",
            "10.1.2.3/",
            "10.1.2.3\r\nX: y",
            "fe80::1%eth0",
            "localhost",
            "",
            "224.0.0.1",
            "a.b",
        ] {
            address(&with_address(ip)).unwrap_err();
        }
        address(&Sandbox::default()).unwrap_err();
    }

    #[test]
    fn q6_a_template_without_the_port_has_no_runtime() {
        let template = |ports: Value| -> PodTemplate {
            serde_json::from_value(
                json!({ "spec": { "containers": [{ "name": "a" }, { "name": "b", "ports": ports }] } }),
            )
            .unwrap()
        };
        assert!(has_runtime(&template(json!([{ "containerPort": 80 }, { "containerPort": 49983 }]))));
        assert!(!has_runtime(&template(json!([{ "containerPort": 80 }]))));
        assert!(!has_runtime(&template(json!(null))));
    }
}
