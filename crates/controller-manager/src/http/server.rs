//! [`serve`]: serves a router on a listener, with limits on what one client can occupy.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time for the head of a request, and so also for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the answer that is under way when a connection has to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Size of the head of a request in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Pause after the system could not accept a connection, for instance for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How much the clients of one listener can occupy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections that are served at once; further ones wait in the queue of the system.
    connections: usize,
    /// How long a connection may last. A client that reads its answer slowly, or never, occupies a place no longer.
    age: Option<Duration>,
}

impl Limits {
    /// For probes and scrapes: short answers to few clients.
    pub(crate) const PROBES: Self = Self { connections: 256, age: Some(Duration::from_mins(5)) };
    /// For the routes of the user, which may stream or upgrade.
    pub(crate) const USER: Self = Self { connections: 16_384, age: None };
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
        let connection = serve_connection(stream, router.clone(), limits.age, stop.clone());
        connections.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Serves one connection until it ends. When it has reached its age, or `stop` is cancelled, it ends after the answer
/// that is under way, or after [`DRAIN_TIMEOUT`].
async fn serve_connection(stream: TcpStream, router: Router, age: Option<Duration>, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = pin!(connection);
    let aged = async {
        match age {
            Some(age) => tokio::time::sleep(age).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { tokio::select! { () = stop.cancelled() => {}, () = aged => {} } } => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
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

    #[tokio::test]
    async fn a_connection_is_closed_at_its_age_and_frees_its_place() {
        let limits = Limits { connections: 1, age: Some(Duration::from_millis(50)) };
        let (address, _stop, _served) = start(limits).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        request(&mut first).await;
        // Is accepted once the first one has ended.
        let mut second = TcpStream::connect(address).await.unwrap();
        request(&mut second).await;
        let mut rest = Vec::new();
        first.read_to_end(&mut rest).await.unwrap();
        assert!(rest.ends_with(b"hello"));
    }
}
