//! The server on a TCP port, for programs that are not this one.
//!
//! HTTP/1.1 over TLS, on loopback unless told otherwise, with a certificate that is made for the occasion; clients
//! send tokens, and kubectl sends none without TLS. A cut ends every connection as it is.

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
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::{self, pki_types::PrivateKeyDer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::server::Server;

/// Connections at once; further ones wait in the system's queue. A watch takes one for as long as it lasts.
const MAX_CONNECTIONS: usize = 1024;

/// Time for a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after the system could not accept (out of file descriptors), to not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server shows to be itself by.
pub(crate) struct Identity {
    acceptor: TlsAcceptor,
    /// For clients, in PEM.
    pub(crate) certificate: String,
}

impl Identity {
    /// A new key and a certificate of it for loopback and the address that is listened on.
    ///
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub(crate) fn new(address: SocketAddr) -> io::Result<Self> {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        names.push(address.ip().to_string());
        names.dedup();
        let own = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).map_err(io::Error::other)?;
        let config = rustls::ServerConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                config.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key)
            })
            .map_err(io::Error::other)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate: own.cert.pem() })
    }
}

/// The TLS provider of the process if the program has installed one; otherwise the provider that a feature selects.
fn crypto_provider() -> Arc<CryptoProvider> {
    if let Some(installed) = CryptoProvider::get_default() {
        return Arc::clone(installed);
    }
    #[cfg(feature = "ring")]
    let selected = rustls::crypto::ring::default_provider();
    // Cargo unifies features: when both are on, ring is taken.
    #[cfg(all(feature = "aws-lc-rs", not(feature = "ring")))]
    let selected = rustls::crypto::aws_lc_rs::default_provider();
    Arc::new(selected)
}

/// Accepts connections until `stop` is cancelled, which drops them all.
pub(crate) async fn serve(
    server: Arc<Server>,
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
                let connection = connection(Arc::clone(&server), stream, Arc::clone(&identity));
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

async fn connection(server: Arc<Server>, stream: TcpStream, identity: Arc<Identity>) {
    let mut cuts = server.cuts();
    let serving = async {
        // Small events go out at once.
        stream.set_nodelay(true)?;
        let stream = timeout(HEADER_TIMEOUT, identity.acceptor.accept(stream)).await??;
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            Arc::clone(&server).handle(request.map(Body::new))
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

/// Listens where asked to.
///
/// # Errors
///
/// What the system says.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
