//! [`Identity`]: the key and the certificate of a server that listens.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::{self, pki_types::PrivateKeyDer};

/// A key, and a certificate for it that clients are told to trust.
pub(crate) struct Identity {
    pub(crate) acceptor: TlsAcceptor,
    /// In PEM.
    pub(crate) certificate: String,
}

impl Identity {
    /// Creates a key, and a certificate for loopback and this address.
    ///
    /// # Errors
    ///
    /// When the key or the certificate cannot be created.
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

/// The default TLS provider of the process if there is one, otherwise the provider that a feature selects.
fn crypto_provider() -> Arc<CryptoProvider> {
    if let Some(installed) = CryptoProvider::get_default() {
        return Arc::clone(installed);
    }
    #[cfg(feature = "ring")]
    let selected = rustls::crypto::ring::default_provider();
    // If both features are on, because Cargo unifies them, ring is used.
    #[cfg(all(feature = "aws-lc-rs", not(feature = "ring")))]
    let selected = rustls::crypto::aws_lc_rs::default_provider();
    Arc::new(selected)
}
