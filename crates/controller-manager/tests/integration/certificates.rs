//! Certificates of API servers and of clients: the kinds of keys, and the texts for certificates that are rejected.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use kube::Client;
use rcgen::{
    BasicConstraints, ExtendedKeyUsagePurpose, IsCa, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ECDSA_P521_SHA512, PKCS_ED25519, SignatureAlgorithm, date_time_ymd,
};
use serde_json::{Value, json};

use crate::support::tls_server::{Authority, Identity, TlsServer};
use crate::support::{client, try_client};

async fn request(client: &Client) -> Result<String, String> {
    let answer = client.request_text(Request::get("/version").body(Vec::new()).unwrap()).await;
    answer.map_err(|error| controller_manager::shared_cache::error_text(&error))
}

fn cluster(server: &TlsServer, authority: &str) -> Value {
    json!({ "server": server.url(), "certificate-authority-data": base64(authority) })
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

#[tokio::test]
async fn y3_keys_on_every_usual_curve_are_accepted_from_servers_and_for_clients() {
    let algorithms: [&'static SignatureAlgorithm; 4] =
        [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P521_SHA512, &PKCS_ED25519];
    for algorithm in algorithms {
        let authority = Authority::new(algorithm);
        let server = authority.issue(&["localhost"], |_| {});
        let server = TlsServer::start(&server, Some(&authority.certificate())).await;
        let folder = tempfile::tempdir().unwrap();
        let own = authority.issue(&["client"], |_| {});
        let (certificate, key) = (folder.path().join("client.crt"), folder.path().join("client.key"));
        std::fs::write(&certificate, &own.certificate).unwrap();
        std::fs::write(&key, &own.key).unwrap();
        let user = json!({ "client-certificate": certificate, "client-key": key });
        let client = client(folder.path(), &cluster(&server, &authority.certificate()), &user);
        assert_eq!(request(&client).await.as_deref(), Ok("{}"), "{algorithm:?}");
        assert!(server.last_client_is(&own), "{algorithm:?}");
    }
}

/// The text with which a client rejects this certificate.
async fn rejection(identity: &Identity, authority: &str) -> String {
    let server = TlsServer::start(identity, None).await;
    let folder = tempfile::tempdir().unwrap();
    let client = client(folder.path(), &cluster(&server, authority), &json!({}));
    let text = request(&client).await.expect_err("the certificate is accepted");
    assert!(text.contains("the certificate of the API server is rejected: "), "{text}");
    text
}

#[tokio::test]
async fn y3_the_text_names_the_problem_of_a_certificate_and_the_remedy() {
    let authority = Authority::new(&PKCS_ECDSA_P256_SHA256);
    let other = Authority::new(&PKCS_ECDSA_P256_SHA256);
    let ca = authority.certificate();
    for (identity, problem, remedy) in [
        (
            authority.issue(&[], |_| {}),
            "it has no subjectAltName, and its common name (CN) does not count",
            "issue a certificate with subjectAltName localhost",
        ),
        (
            authority.issue(&["api.test"], |_| {}),
            "it is not valid for localhost, only for ",
            "set tls-server-name in the kubeconfig",
        ),
        (
            authority.issue(&["localhost"], |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
            "its extendedKeyUsage does not contain serverAuth",
            "issue a certificate with extendedKeyUsage serverAuth",
        ),
        (
            authority.issue(&["localhost"], |params| {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }),
            "it is the certificate of a CA",
            "issue a certificate with CA:FALSE",
        ),
        (
            authority.issue(&["localhost"], |params| params.not_after = date_time_ymd(2020, 1, 1)),
            "expired",
            "renew the certificate",
        ),
        (
            authority.issue(&["localhost"], |params| params.not_before = date_time_ymd(3000, 1, 1)),
            "not valid yet",
            "correct the clock",
        ),
        (other.issue(&["localhost"], |_| {}), "its signature does not fit", "set certificate-authority"),
    ] {
        let text = rejection(&identity, &ca).await;
        assert!(text.contains(problem) && text.contains(remedy), "{text}");
    }
    let unknown = rejection(&authority.issue(&["localhost"], |_| {}), V1_AUTHORITY).await;
    assert!(unknown.contains("no CA of certificate-authority has issued it"), "{unknown}");
}

#[tokio::test]
async fn y3_a_certificate_of_version_1_is_named() {
    let identity = Identity { certificate: V1_CERTIFICATE.to_owned(), key: V1_KEY.to_owned() };
    let text = rejection(&identity, V1_AUTHORITY).await;
    assert!(
        text.contains("it is of X.509 version 1") && text.contains("issue a certificate of version 3"),
        "{text}"
    );
}

#[tokio::test]
async fn y3_a_client_certificate_that_the_server_rejects_is_named() {
    let authority = Authority::new(&PKCS_ECDSA_P256_SHA256);
    let server = authority.issue(&["localhost"], |_| {});
    let server = TlsServer::start(&server, Some(&authority.certificate())).await;
    let folder = tempfile::tempdir().unwrap();
    let client = client(folder.path(), &cluster(&server, &authority.certificate()), &json!({}));
    let text = request(&client).await.unwrap_err();
    assert!(
        text.contains("the API server rejects the client certificate; renew the client certificate"),
        "{text}"
    );
}

#[tokio::test]
async fn y3_a_client_certificate_that_cannot_be_used_is_named() {
    let authority = Authority::new(&PKCS_ECDSA_P256_SHA256);
    let (own, other) = (authority.issue(&["a"], |_| {}), authority.issue(&["b"], |_| {}));
    let folder = tempfile::tempdir().unwrap();
    for (certificate, key, problem) in [
        (
            own.certificate.as_str(),
            other.key.as_str(),
            "the client certificate and the client key do not belong together",
        ),
        (V1_CERTIFICATE, V1_KEY, "the client certificate is rejected: it is of X.509 version 1"),
    ] {
        let user = json!({ "client-certificate-data": base64(certificate), "client-key-data": base64(key) });
        let Err(error) = try_client(folder.path(), &json!({ "server": "https://localhost" }), &user) else {
            panic!("created a client with {certificate}");
        };
        assert!(error.to_string().contains(problem), "{error}");
    }
}

// A certificate of version 1, which rcgen cannot issue: `openssl x509 -req` without extensions.
const V1_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBIDCBxwIUC1OUsFxnI25krDFJ3e/hCh8HBvEwCgYIKoZIzj0EAwIwEDEOMAwG\n\
A1UEAwwFdjEtY2EwIBcNMjYxMTI5MDAwODA1WhgPMjEyNjExMDUwMDA4MDVaMBQx\n\
EjAQBgNVBAMMCWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAqV\n\
0WQfV2cBzHF7vr2anytSKym0+cqUXS8EfNelLekTzHLq/x6BXdpWJUtut58w37PG\n\
uQojAh/Tgo8Sw7XIXggwCgYIKoZIzj0EAwIDSAAwRQIgN64rHCBNBigF9FSYaU8N\n\
7eCJ1xmetJOpxqh7zlIDCZICIQD4jC2vlA9RA0FuRtQfVcBkXeMNfuilDBPUNXAg\n\
LKwvbw==\n\
-----END CERTIFICATE-----\n\
";
const V1_AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBeDCCAR2gAwIBAgIUUf7uULWiurDS/kDuBm3Cn3HbDOAwCgYIKoZIzj0EAwIw\n\
EDEOMAwGA1UEAwwFdjEtY2EwIBcNMjYxMTI5MDAwODA0WhgPMjEyNjExMDUwMDA4\n\
MDRaMBAxDjAMBgNVBAMMBXYxLWNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n\
672d7H4q4LoPv3nerAQpxl6U71sRFH/Qhtitx/Byffu8/tegwNymOEsYfhXOf0P5\n\
SndlOvdDdsQeToLuf6/UXKNTMFEwHQYDVR0OBBYEFIPTj2nH0BuODFl+l+/V0hsS\n\
Pt8KMB8GA1UdIwQYMBaAFIPTj2nH0BuODFl+l+/V0hsSPt8KMA8GA1UdEwEB/wQF\n\
MAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhALfXr26AR3o6LsJhudKzN0IH6xExTNoV\n\
ZsU1nii3gy3qAiEA18EtF/D3yN2M/UxpAaCvJNZBvvcD+eghw8ynyV9pY2k=\n\
-----END CERTIFICATE-----\n\
";
const V1_KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgpb2fDWG9mYflGlFH\n\
Wj+46s8kF7IMhrZNwAnem4YezlmhRANCAAQKldFkH1dnAcxxe769mp8rUisptPnK\n\
lF0vBHzXpS3pE8xy6v8egV3aViVLbrefMN+zxrkKIwIf04KPEsO1yF4I\n\
-----END PRIVATE KEY-----\n\
";
