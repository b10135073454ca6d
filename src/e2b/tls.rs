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
    current: RwLock<Arc<CertifiedKey>>,
}

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
        let current = RwLock::new(Arc::new(read(&cert, &key)?));
        Ok(Self(Arc::new(Files { cert, key, current })))
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
        let mut seen = self.changed_at().await;
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

    async fn changed_at(&self) -> [Option<SystemTime>; 2] {
        let files = Arc::clone(&self.0);
        let modified = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let times = tokio::task::spawn_blocking(move || [modified(&files.cert), modified(&files.key)]).await;
        times.unwrap_or_default()
    }
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
