//! TLS from the options to the wire. `src/e2b/tls.rs` tests that the files are read again.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use memory_apiserver::ApiServer;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use sandbox_manager::api::v1alpha1::crds;
use sandbox_manager::options::{E2bAuth, SandboxManagerOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{options, serve};
use crate::support::{SOON, eventually};

/// Writes a new certificate and its key, and returns the certificate.
fn write_certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn with_tls(folder: &Path) -> SandboxManagerOptions {
    let mut options = options();
    options.e2b.auth = E2bAuth::None;
    options.e2b.tls.cert_file = folder.join("tls.crt").to_str().unwrap().to_owned();
    options.e2b.tls.key_file = folder.join("tls.key").to_str().unwrap().to_owned();
    options
}

async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
}

/// Asks for the teams. The connection must end with a notice, so that nobody can cut off an answer.
async fn teams(mut stream: TlsStream<TcpStream>) -> Result<String> {
    stream.write_all(b"GET /teams HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn the_api_is_served_by_tls_and_not_in_plain_text() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = write_certificate(folder.path());
    let server = ApiServer::builder().objects(crds()).start().unwrap();
    let (address, _stop, manager) = serve(&server, with_tls(folder.path())).await;
    eventually("the API answers", SOON, async || {
        let answer = teams(connect(address, &certificate, &[]).await?).await?;
        ensure!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("application/json"), "{answer}");
        Ok(())
    })
    .await;

    // The SDKs offer HTTP/2 first.
    let stream = connect(address, &certificate, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(teams(stream).await.unwrap().starts_with("HTTP/1.1 200 "));
    let error = connect(address, &certificate, &["h2"]).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");

    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /teams HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The server may reset the connection, of which it has not read everything.
    let read = tokio::time::timeout(SOON, plain.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open");
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    connect(address, stranger.cert.der(), &[]).await.unwrap_err();
    assert!(teams(connect(address, &certificate, &[]).await.unwrap()).await.unwrap().contains("200 OK"));
    manager.abort();
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_refused_at_the_start_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    write_certificate(folder.path());
    std::fs::write(folder.path().join("tls.key"), "nothing").unwrap();
    let server = ApiServer::builder().objects(crds()).start().unwrap();
    let options = with_tls(folder.path());
    let api = options.e2b.clone();
    let mut manager =
        sandbox_manager::manager::Manager::builder(options).client(server.client()).build().unwrap();
    let claims = sandbox_manager::claims::add(&mut manager).unwrap();
    let error = sandbox_manager::e2b::add(&mut manager, &api, "", &claims).unwrap_err().to_string();
    assert!(error.starts_with("e2b.tls: ") && error.contains("/tls.key: "), "{error}");
}
