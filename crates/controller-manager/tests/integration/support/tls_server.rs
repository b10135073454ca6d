//! [`TlsServer`]: an HTTPS server with any certificate; [`Authority`]: issues them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SignatureAlgorithm,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::sign::any_supported_type;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection};

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A CA with a key of any kind.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    algorithm: &'static SignatureAlgorithm,
}

impl Authority {
    pub(crate) fn new(algorithm: &'static SignatureAlgorithm) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(algorithm).unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap(), algorithm }
    }

    /// In PEM.
    pub(crate) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate for these names, which `change` alters first.
    pub(crate) fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "localhost");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate_for(self.algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// Answers every request with `{}`. Each connection carries one request. Ends with the runtime.
pub(crate) struct TlsServer {
    pub(crate) address: SocketAddr,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    /// The certificates that clients have presented, one for each request.
    clients: Arc<Mutex<Vec<Option<CertificateDer<'static>>>>>,
}

impl TlsServer {
    /// `client_authority` is a CA in PEM whose client certificates are accepted.
    pub(crate) async fn start(identity: &Identity, client_authority: Option<&str>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            config: Arc::new(Mutex::new(config(identity, client_authority))),
            clients: Arc::default(),
        };
        let (config, clients) = (server.config.clone(), server.clients.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(config.lock().clone());
                tokio::spawn(answer(acceptor, stream, clients.clone()));
            }
        });
        server
    }

    /// Uses another certificate for new connections.
    pub(crate) fn replace(&self, identity: &Identity, client_authority: Option<&str>) {
        *self.config.lock() = config(identity, client_authority);
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Whether the last request came with this client certificate.
    pub(crate) fn last_client_is(&self, identity: &Identity) -> bool {
        let expected = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        self.clients.lock().last() == Some(&Some(expected))
    }
}

fn config(identity: &Identity, client_authority: Option<&str>) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let builder = ServerConfig::builder();
    let builder = match client_authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
        }
    };
    // Not `with_single_cert`, which rejects what clients are to reject.
    let key = any_supported_type(&key).unwrap();
    let certified = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    Arc::new(builder.with_cert_resolver(Arc::new(certified)))
}

async fn answer(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    clients: Arc<Mutex<Vec<Option<CertificateDer<'static>>>>>,
) {
    // A client that refuses the certificate ends the connection.
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    clients.lock().push(client(stream.get_ref().1));
    let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    if stream.write_all(answer.as_bytes()).await.is_ok() {
        // The client may have closed the connection first.
        let _ = stream.shutdown().await;
    }
}

fn client(connection: &ServerConnection) -> Option<CertificateDer<'static>> {
    Some(connection.peer_certificates()?.first()?.clone().into_owned())
}
