//! [`serve`]: serves a router on a listener, with limits on what one client can occupy.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Time for the head of a request, and so also for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the answer that is under way when a connection has to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Size of the head of a request in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Pause after the system could not accept a connection, for instance for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Limits of the connections of one listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections that are served at once; further ones wait in the queue of the system.
    connections: usize,
    /// The first answer after this time has the header `Connection: close`, so that the client opens a new connection
    /// for its next request. No request is lost, as it could be if an idle connection were closed.
    age: Duration,
    /// The connection ends this long after its age, whatever it does, so that a client that reads slowly frees its
    /// place. `None` for answers that may stream without end.
    grace: Option<Duration>,
}

impl Limits {
    /// For probes and scrapes: short answers to few clients.
    pub(crate) const PROBES: Self =
        Self { connections: 256, age: Duration::from_mins(5), grace: Some(Duration::from_mins(1)) };
    /// For the routes of the user, which may stream or upgrade.
    pub(crate) const USER: Self = Self { connections: 16_384, age: Duration::from_mins(5), grace: None };
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
        let connection = serve_connection(stream, router.clone(), limits, stop.clone());
        connections.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Serves one connection until it ends. When it is over its age and grace, or `stop` is cancelled, it ends after the
/// answer that is under way, or after [`DRAIN_TIMEOUT`].
async fn serve_connection(stream: TcpStream, router: Router, limits: Limits, stop: CancellationToken) {
    let old = Arc::new(AtomicBool::new(false));
    let is_old = old.clone();
    let service = service_fn(move |request| answer(router.clone(), request, is_old.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
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
        let (address, stop, served) = start(Limits::PROBES).await;
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
        let limits = Limits { connections: 1, age: NOW, grace: None };
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
        let limits = Limits { connections: 1, age: NOW, grace: Some(NOW) };
        let (address, _stop, _served) = start(limits).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        // Is accepted once the first one has ended.
        let mut second = TcpStream::connect(address).await.unwrap();
        request(&mut second).await;
        assert_eq!(idle.read(&mut [0]).await.unwrap(), 0, "the connection is closed");
    }
}
