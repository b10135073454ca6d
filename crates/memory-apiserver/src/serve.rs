//! The server on a TCP port, for other programs.
//!
//! HTTP/1.1 over TLS, because kubectl sends tokens only over TLS. A cut ends every connection without a word.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::router;
use super::state::ServerState;
use super::tls::Identity;

/// Connections at the same time; others wait in the queue of the system. A watch needs one for its whole life.
const MAX_CONNECTIONS: usize = 1024;

/// Time in which the head of a request must arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after accepting has failed (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until `stop` is cancelled, and then drops all of them.
pub(crate) async fn serve(
    state: Arc<ServerState>,
    listener: TcpListener,
    identity: Arc<Identity>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let slot = Arc::clone(&slots).acquire_owned();
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = async { (slot.await, listener.accept().await) } => accepted,
        };
        match accepted {
            (slot, Ok((stream, _))) => {
                let connection = connection(Arc::clone(&state), stream, Arc::clone(&identity));
                let stop = stop.clone();
                connections.spawn(async move {
                    stop.run_until_cancelled(connection).await;
                    drop(slot);
                });
            }
            (_, Err(error)) => {
                tracing::debug!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(state: Arc<ServerState>, stream: TcpStream, identity: Arc<Identity>) {
    let mut cuts = state.cuts();
    let serving = async {
        // Small events are sent at once.
        stream.set_nodelay(true)?;
        let stream = timeout(HEADER_TIMEOUT, identity.acceptor.accept(stream)).await??;
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            router::handle(Arc::clone(&state), request.map(Body::new))
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await
            .map_err(io::Error::other)
    };
    tokio::select! {
        _ = cuts.changed() => {}
        outcome = serving => {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a connection ended early");
            }
        }
    }
}

/// Listens on an address. Returns the address with its port.
///
/// # Errors
///
/// If the system refuses the address.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
