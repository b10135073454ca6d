//! [`Certificate`]: the certificate of the server, read again when its files change.
//!
//! An issuer in the cluster renews the files of a certificate without a restart. A pair of files that cannot be used is
//! reported, and the pair before it stays in use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

/// Time between two looks at the files.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file cannot be read, or has no certificate or key in PEM.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// Certificate and key do not belong together, or have a form that is not supported.
    #[error("{0}")]
    Pair(#[from] rustls::Error),
}

/// A certificate and the files that it comes from. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Certificate(Arc<Files>);

struct Files {
    cert: PathBuf,
    key: PathBuf,
    /// When the files had changed before they were read first. The reload begins later, and a change between the two
    /// must not be missed.
    changed_at: Changed,
    current: RwLock<Arc<CertifiedKey>>,
}

/// When both files have changed. None for a file that cannot be asked.
type Changed = [Option<SystemTime>; 2];

impl fmt::Debug for Files {
    /// Does not print the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("cert", &self.cert).field("key", &self.key).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read()))
    }
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub(super) fn load(cert: &str, key: &str) -> Result<Self, TlsError> {
        let (cert, key) = (PathBuf::from(cert), PathBuf::from(key));
        let changed_at = changed_at(&cert, &key);
        let current = RwLock::new(Arc::new(read(&cert, &key)?));
        Ok(Self(Arc::new(Files { cert, key, changed_at, current })))
    }

    /// Returns a configuration that always uses the newest certificate.
    ///
    /// # Errors
    ///
    /// [`TlsError::Pair`]; no case is known.
    pub(super) fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&self.0) as _;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Reads the files again when they change.
    pub(super) async fn reload_until(&self, stop: CancellationToken) {
        let mut seen = self.0.changed_at;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
            }
            let changed = self.changed_at().await;
            if changed != seen && self.reload().await {
                seen = changed;
            }
        }
    }

    /// Returns false if the files cannot be used now.
    async fn reload(&self) -> bool {
        let files = Arc::clone(&self.0);
        let read = tokio::task::spawn_blocking(move || read(&files.cert, &files.key)).await;
        match read {
            Ok(Ok(pair)) => {
                *self.0.current.write() = Arc::new(pair);
                tracing::info!(file = %self.0.cert.display(), "the certificate was read again");
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the changed certificate cannot be used, the one before stays in use");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "the certificate was not read");
                false
            }
        }
    }

    async fn changed_at(&self) -> Changed {
        let files = Arc::clone(&self.0);
        let times = tokio::task::spawn_blocking(move || changed_at(&files.cert, &files.key)).await;
        times.unwrap_or_default()
    }
}

fn changed_at(cert: &Path, key: &Path) -> Changed {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    [modified(cert), modified(key)]
}

fn read(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { path, source }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).map_err(file(cert))?.collect();
    let chain = chain.map_err(file(cert))?;
    if chain.is_empty() {
        return Err(file(cert)(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(file(key))?;
    Ok(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?)
}

#[cfg(test)]
mod tests {
    use rustls::DigitallySignedStruct;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{ServerName, UnixTime};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio_rustls::client::TlsStream;

    use super::*;

    /// Writes a new certificate and its key, and returns the certificate.
    fn write(folder: &Path, changed_at: SystemTime) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        for (name, text) in [("cert", made.cert.pem()), ("key", made.signing_key.serialize_pem())] {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::File::options().append(true).open(path).unwrap().set_modified(changed_at).unwrap();
        }
        made.cert.der().to_vec()
    }

    fn load(folder: &Path) -> Result<Certificate, TlsError> {
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        Certificate::load(&path("cert"), &path("key"))
    }

    fn current(certificate: &Certificate) -> Vec<u8> {
        certificate.0.current.read().cert[0].to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_certificate_is_used_and_one_that_is_broken_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |second: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let first = write(folder.path(), at(1));
        let certificate = load(folder.path()).unwrap();
        certificate.server_config().unwrap();
        let (reloading, stop) = (certificate.clone(), CancellationToken::new());
        let ended = stop.clone();
        let task = tokio::spawn(async move { reloading.reload_until(ended).await });
        tokio::time::sleep(RELOAD_INTERVAL / 2).await;

        std::fs::write(folder.path().join("cert"), "nothing").unwrap();
        tokio::time::sleep(3 * RELOAD_INTERVAL).await;
        assert_eq!(current(&certificate), first);

        let second = write(folder.path(), at(2));
        tokio::time::sleep(3 * RELOAD_INTERVAL).await;
        assert_eq!(current(&certificate), second);
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_changes_before_the_reload_begins_is_used() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), SystemTime::UNIX_EPOCH);
        let certificate = load(folder.path()).unwrap();
        let second = write(folder.path(), SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        let (reloading, stop) = (certificate.clone(), CancellationToken::new());
        let _stopped = stop.clone().drop_guard();
        tokio::spawn(async move { reloading.reload_until(stop).await });
        tokio::time::sleep(2 * RELOAD_INTERVAL).await;
        assert_eq!(current(&certificate), second);
    }

    /// Does a handshake with the configuration of a server. Returns the certificate that the server has shown, and the
    /// connection.
    async fn handshake(config: &Arc<ServerConfig>) -> (Vec<u8>, TlsStream<DuplexStream>) {
        let (client, server) = tokio::io::duplex(1 << 16);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(config));
        tokio::spawn(async move {
            let mut stream = acceptor.accept(server).await.unwrap();
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() {
                stream.write_all(&byte).await.unwrap();
                stream.flush().await.unwrap();
            }
        });
        let verifier = Arc::new(AnyCertificate(aws_lc_rs::default_provider()));
        let client_config =
            rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let client_config = client_config.with_safe_default_protocol_versions().unwrap();
        let client_config = client_config.dangerous().with_custom_certificate_verifier(verifier);
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client_config.with_no_client_auth()));
        let stream = connector.connect("localhost".try_into().unwrap(), client).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        (shown, stream)
    }

    /// A client that trusts every server, since the test compares the certificate itself.
    #[derive(Debug)]
    struct AnyCertificate(rustls::crypto::CryptoProvider);

    impl ServerCertVerifier for AnyCertificate {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }

    #[tokio::test]
    async fn a_new_connection_gets_the_new_certificate_and_an_open_one_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let first = write(folder.path(), SystemTime::UNIX_EPOCH);
        let certificate = load(folder.path()).unwrap();
        let config = certificate.server_config().unwrap();
        let (shown, mut open) = handshake(&config).await;
        assert_eq!(shown, first);

        let second = write(folder.path(), SystemTime::UNIX_EPOCH);
        assert!(certificate.reload().await);
        assert_eq!(handshake(&config).await.0, second);
        open.write_all(b"x").await.unwrap();
        open.flush().await.unwrap();
        assert_eq!(open.read_u8().await.unwrap(), b'x');

        std::fs::write(folder.path().join("key"), "nothing").unwrap();
        assert!(!certificate.reload().await);
        assert_eq!(handshake(&config).await.0, second);
    }

    #[test]
    fn files_that_are_no_pair_are_refused_with_the_file() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = SystemTime::now();
        write(one.path(), now);
        write(other.path(), now);
        std::fs::copy(other.path().join("key"), one.path().join("key")).unwrap();
        assert!(matches!(load(one.path()), Err(TlsError::Pair(_))));
        std::fs::write(one.path().join("key"), "").unwrap();
        assert!(load(one.path()).err().unwrap().to_string().contains("/key: "));
        std::fs::write(one.path().join("cert"), "").unwrap();
        assert!(load(one.path()).err().unwrap().to_string().contains("/cert: "));
    }
}
