//! [`serve`]: serves a router on a listener, with limits on what one client can occupy.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use futures::FutureExt;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::head_deadline::HeadDeadline;
use super::stall_limit::StallLimit;

/// Time for the head of a request, from its first byte on, and for the handshake of TLS.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may read nothing of what it is sent.
const STALL_TIMEOUT: Duration = Duration::from_mins(5);
/// Time for the answer that is under way when a connection has to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Size of the head of a request in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Pause after the system could not accept a connection, for instance for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How a listener treats its connections.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// How long a connection may be idle between two requests.
    pub idle_timeout: Duration,
    /// Serves TLS with this configuration. `None`: plain text.
    pub tls: Option<Arc<ServerConfig>>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { idle_timeout: HEADER_TIMEOUT, tls: None }
    }
}

/// Limits of the connections of one listener.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Connections that are served at once; further ones wait in the queue of the system.
    connections: usize,
    /// The first answer after this time has the header `Connection: close`, so that the client opens a new connection
    /// for its next request. No request is lost, as it could be if an idle connection were closed.
    age: Duration,
    /// The connection ends this long after its age, whatever it does, so that a client that reads slowly frees its
    /// place. `None` for answers that may stream without end.
    grace: Option<Duration>,
    options: ListenOptions,
}

impl Limits {
    /// For probes and scrapes: short answers to few clients.
    pub(crate) fn probes() -> Self {
        Self {
            connections: 256,
            age: Duration::from_mins(5),
            grace: Some(Duration::from_mins(1)),
            options: ListenOptions::default(),
        }
    }

    /// For the routes of the user, which may stream or upgrade.
    pub(crate) fn user(options: ListenOptions) -> Self {
        Self { connections: 16_384, age: Duration::from_mins(5), grace: None, options }
    }
}

/// Serves `router` on `listener` until `stop` is cancelled, then waits a short time for answers that are under way.
///
/// Dropping the future closes the listener; its connections end when `stop` is cancelled.
pub(crate) async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(limits.connections));
    loop {
        let (stream, slot) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let connection = accept_and_serve(stream, router.clone(), limits.clone(), stop.clone());
        connections.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Serves one connection, after the handshake of TLS if the listener has it.
async fn accept_and_serve(stream: TcpStream, router: Router, limits: Limits, stop: CancellationToken) {
    let Some(config) = limits.options.tls.clone() else {
        return serve_connection(stream, router, limits, stop).await;
    };
    let handshake = tokio::time::timeout(HEADER_TIMEOUT, TlsAcceptor::from(config).accept(stream));
    match stop.run_until_cancelled(handshake).await {
        Some(Ok(Ok(stream))) => serve_connection(stream, router, limits, stop).boxed().await,
        Some(Ok(Err(error))) => tracing::debug!(%error, "a handshake has failed"),
        Some(Err(_)) => tracing::debug!("a handshake has taken too long"),
        None => {}
    }
}

/// Serves one connection until it ends. When it is over its age and grace, or `stop` is cancelled, it ends after the
/// answer that is under way, or after [`DRAIN_TIMEOUT`].
async fn serve_connection<S>(stream: S, router: Router, limits: Limits, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let old = Arc::new(AtomicBool::new(false));
    let is_old = old.clone();
    let (stream, head) = HeadDeadline::new(StallLimit::new(stream, STALL_TIMEOUT), HEADER_TIMEOUT);
    let service = service_fn(move |request| {
        head.complete();
        let (answer, head) = (answer(router.clone(), request, is_old.clone()), head.clone());
        async move {
            let answer = answer.await;
            head.answered();
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.options.idle_timeout.max(HEADER_TIMEOUT))
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let over = async {
        tokio::time::sleep(limits.age).await;
        old.store(true, Ordering::Relaxed);
        match limits.grace {
            Some(grace) => tokio::time::sleep(grace).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { tokio::select! { () = stop.cancelled() => {}, () = over => {} } } => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Answers a request. The answer of an old connection is its last.
async fn answer(
    router: Router,
    request: Request<Incoming>,
    is_old: Arc<AtomicBool>,
) -> Result<Response, Infallible> {
    let mut response = router.oneshot(request).await?;
    // An upgraded connection is no HTTP connection any more.
    if is_old.load(Ordering::Relaxed) && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// The next connection, once there is a slot for it.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so a permit comes.
    let slot = slots.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) => {
                let of_one_connection = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::Interrupted
                );
                if !of_one_connection {
                    tracing::warn!(%error, "cannot accept connections, retrying");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start(limits: Limits) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().route("/hello", get(async || "hello"));
        let served = tokio::spawn(serve(listener, router, limits, stop.clone()));
        (address, stop, served)
    }

    async fn request(stream: &mut TcpStream) {
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
    }

    #[tokio::test]
    async fn a_listener_serves_until_it_is_stopped() {
        let (address, stop, served) = start(Limits::probes()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        request(&mut stream).await;

        stop.cancel();
        served.await.unwrap();
        TcpStream::connect(address).await.unwrap_err();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.ends_with(b"hello"), "the open connection was closed");
    }

    const NOW: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn y7_a_connection_over_its_age_answers_once_more_and_says_that_it_closes() {
        let limits = Limits { connections: 1, age: NOW, grace: None, options: ListenOptions::default() };
        let (address, _stop, _served) = start(limits).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut answers = String::new();
        // Answers come until the connection is old, and never is a request left without one.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !answers.to_ascii_lowercase().contains("connection: close") {
            assert!(std::time::Instant::now() < deadline, "the connection stays open");
            first.write_all(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            answers.clear();
            while !answers.ends_with("hello") {
                answers.push(char::from(first.read_u8().await.unwrap()));
            }
        }
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0, "the connection is closed");
    }

    #[tokio::test]
    async fn y7_a_connection_over_its_grace_frees_its_place() {
        let limits = Limits { connections: 1, age: NOW, grace: Some(NOW), options: ListenOptions::default() };
        let (address, _stop, _served) = start(limits).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        // Is accepted once the first one has ended.
        let mut second = TcpStream::connect(address).await.unwrap();
        request(&mut second).await;
        assert_eq!(idle.read(&mut [0]).await.unwrap(), 0, "the connection is closed");
    }

    /// A configuration of a server with a new certificate, and one of a client that trusts it.
    fn tls() -> (Arc<ServerConfig>, Arc<rustls::ClientConfig>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (made.cert.der().clone(), made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone());
        let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let server = server.with_single_cert(vec![cert.clone()], key.try_into().unwrap()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(cert).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider);
        let client = client.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        (Arc::new(server), Arc::new(client.with_no_client_auth()))
    }

    #[tokio::test]
    async fn a_listener_with_a_certificate_serves_tls_and_no_plain_text() {
        let (server, client) = tls();
        let options = ListenOptions { tls: Some(server), ..ListenOptions::default() };
        let (address, _stop, _served) = start(Limits::user(options)).await;
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(client);
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");

        let mut plain = TcpStream::connect(address).await.unwrap();
        plain.write_all(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
}
