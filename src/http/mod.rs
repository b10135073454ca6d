//! The two HTTP listeners of the process: health (with debug) and metrics.
//!
//! Routers are plain values, so tests call them without a socket. [`bind`] and [`serve`] do the rest; the manager
//! calls both, and binds before it starts anything, since an address that is taken is an error that no waiting
//! mends. Only GET is answered, no request body is read, and what one client may hold is limited: a probe that
//! hangs must not take the next one's place for long.

mod debug;
mod health;
mod metrics;

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header::CONTENT_LENGTH, header::TRANSFER_ENCODING},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

pub use self::{
    debug::{DebugDump, DebugItem, DebugSource},
    health::{Check, HealthSource},
};
use crate::{metrics::Metrics, options::BindAddress};

/// Connections served at once by one listener; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 256;
/// Time for a request's head, and so also for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for answers under way when the listener closes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one connection may last. A client that reads its answer slowly, or never, keeps a place no longer; one
/// that keeps its connection between requests has to make a new one now and then.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(5);
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Pause after the system could not accept (out of file descriptors), to not spin.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "{field}: cannot listen on {address}: {source}; stop what holds this address, or choose another one (port 0 \
     takes a free port, `0` listens on none)"
)]
pub struct BindError {
    /// The option that holds the address, such as `metrics.bindAddress`.
    pub field: &'static str,
    /// The address as configured.
    pub address: BindAddress,
    /// What the system says.
    pub source: io::Error,
}

/// `/livez`, `/healthz`, `/readyz`, and `/debug` when there is a source for it.
pub fn health_router(health: Arc<dyn HealthSource>, debug: Option<Arc<dyn DebugSource>>) -> Router {
    let router = health::router(health);
    let router = match debug {
        Some(source) => router.merge(debug::router(source)),
        None => router,
    };
    router.layer(middleware::from_fn(refuse_body))
}

/// `/metrics`.
pub fn metrics_router(metrics: Metrics) -> Router {
    metrics::router(metrics).layer(middleware::from_fn(refuse_body))
}

async fn refuse_body(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let has_length = headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_length || headers.contains_key(TRANSFER_ENCODING) {
        return (StatusCode::PAYLOAD_TOO_LARGE, "no request body is accepted here\n").into_response();
    }
    next.run(request).await
}

/// Listens on `address`, or on nothing when it is off. `field` names the option, for the error.
///
/// An empty host means every interface, IPv6 and IPv4, or IPv4 alone where the system has no IPv6.
///
/// # Errors
///
/// When the system refuses the address: taken, not of this machine, unknown name, or not allowed.
pub async fn bind(field: &'static str, address: &BindAddress) -> Result<Option<TcpListener>, BindError> {
    let BindAddress::Listen { host, port } = address else {
        return Ok(None);
    };
    let bound = if host.is_empty() {
        match TcpListener::bind(("::", *port)).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind(("0.0.0.0", *port)).await
            }
            bound => bound,
        }
    } else {
        TcpListener::bind((host.as_str(), *port)).await
    };
    bound.map(Some).map_err(|source| BindError { field, address: address.clone(), source })
}

/// Serves `router` on `listener` until `stop` is cancelled, then waits a short while for answers under way.
///
/// Dropping the future closes the listener; connections under way then go on by themselves until they end.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let connections = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let (stream, slot) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            match tokio::time::timeout(MAX_CONNECTION_AGE, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a connection ended early"),
                Err(_) => tracing::debug!("a connection was closed for its age"),
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.shutdown()).await.is_err() {
        tracing::debug!("connections were still open when the listener closed");
    }
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
    // Never closed, so there is always a permit in the end.
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
                    tracing::warn!(%error, "cannot accept connections, trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Calls a router as a client would, for the tests of this module's files.
#[cfg(test)]
async fn get(router: &Router, uri: &str) -> (StatusCode, String) {
    use tower::ServiceExt as _;

    let request = Request::get(uri).body(axum::body::Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_request_body_is_refused() {
        let router = metrics_router(Metrics::new().unwrap());
        let request =
            Request::get("/metrics").header(CONTENT_LENGTH, 5).body(axum::body::Body::from("hello")).unwrap();
        assert_eq!(router.oneshot(request).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_taken_address_is_named_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = BindAddress::listen("127.0.0.1", taken.local_addr().unwrap().port());
        let error = bind("metrics.bindAddress", &address).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("metrics.bindAddress: cannot listen on {address}: ")), "{error}");
        assert!(error.contains("in use"), "{error}");
        assert!(bind("metrics.bindAddress", &BindAddress::Off).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn every_interface_can_be_bound() {
        let listener = bind("health.bindAddress", &BindAddress::listen("", 0)).await.unwrap().unwrap();
        assert_ne!(listener.local_addr().unwrap().port(), 0);
    }

    #[tokio::test]
    async fn a_listener_serves_until_it_is_stopped() {
        let listener =
            bind("metrics.bindAddress", &BindAddress::listen("127.0.0.1", 0)).await.unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(listener, metrics_router(Metrics::new().unwrap()), stop.clone()));

        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");

        stop.cancel();
        served.await.unwrap();
        TcpStream::connect(address).await.unwrap_err();
    }
}
