//! Tokens, CAs and client certificates that are replaced while the process runs.

use std::pin::pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt, TryStreamExt};
use http::Request;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PostParams, WatchParams};
use kube::config::Kubeconfig;
use kube::core::WatchEvent;
use kube::{Api, Client, ResourceExt};
use memory_apiserver::ApiServer;
use rcgen::PKCS_ECDSA_P256_SHA256;
use serde_json::{Value, json};

use crate::support::client;
use crate::support::tls_server::{Authority, TlsServer};

/// The cluster and the token of a generated kubeconfig.
fn parts(kubeconfig: &Kubeconfig) -> (Value, String) {
    let value = serde_json::to_value(kubeconfig).unwrap();
    let token = value["users"][0]["user"]["token"].as_str().unwrap().to_owned();
    (value["clusters"][0]["cluster"].clone(), token)
}

fn config_map(name: &str) -> ConfigMap {
    let mut config_map = ConfigMap::default();
    config_map.metadata.name = Some(name.to_owned());
    config_map
}

#[tokio::test]
async fn y2_after_a_token_was_rotated_watches_go_on_and_new_requests_use_the_new_token() {
    let server = ApiServer::new();
    let serving = server.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let (cluster, token) = parts(&serving.kubeconfig());
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let api: Api<ConfigMap> =
        Api::default_namespaced(client(folder.path(), &cluster, &json!({ "tokenFile": file })));
    let version = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut watch = pin!(api.watch(&WatchParams::default(), &version).await.unwrap());

    server.revoke_tokens("admin");
    std::fs::write(&file, format!("{}\n", parts(&serving.kubeconfig()).1)).unwrap();
    // The body of the first, refused attempt is sent again.
    api.create(&PostParams::default(), &config_map("a")).await.unwrap();
    let event = watch.next().await.unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Added(added) if added.name_any() == "a"));
    let mut watch = pin!(api.watch(&WatchParams::default(), &version).await.unwrap());
    assert!(watch.try_next().await.unwrap().is_some());
}

async fn works(client: &Client) -> bool {
    client.request_text(Request::get("/version").body(Vec::new()).unwrap()).await.is_ok()
}

#[tokio::test]
async fn y2_after_the_ca_was_rotated_new_connections_trust_the_new_ca() {
    let (old, new) = (Authority::new(&PKCS_ECDSA_P256_SHA256), Authority::new(&PKCS_ECDSA_P256_SHA256));
    let server = TlsServer::start(&old.issue(&["localhost"], |_| {}), None).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.crt"), old.certificate()).unwrap();
    let cluster = json!({ "server": server.url(), "certificate-authority": "ca.crt" });
    let client = client(folder.path(), &cluster, &json!({}));
    assert!(works(&client).await);

    server.replace(&new.issue(&["localhost"], |_| {}), None);
    assert!(!works(&client).await, "the old CA vouches for the new certificate");
    std::fs::write(folder.path().join("ca.crt"), new.certificate()).unwrap();
    assert!(works(&client).await);
}

#[tokio::test]
async fn y2_after_the_client_certificate_was_rotated_new_connections_present_the_new_one() {
    let (old, new) = (Authority::new(&PKCS_ECDSA_P256_SHA256), Authority::new(&PKCS_ECDSA_P256_SHA256));
    let identity = old.issue(&["localhost"], |_| {});
    let server = TlsServer::start(&identity, Some(&old.certificate())).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |authority: &Authority| {
        let own = authority.issue(&["client"], |_| {});
        std::fs::write(folder.path().join("client.crt"), &own.certificate).unwrap();
        std::fs::write(folder.path().join("client.key"), &own.key).unwrap();
        own
    };
    let first = write(&old);
    let cluster = json!({
        "server": server.url(),
        "certificate-authority-data": STANDARD.encode(old.certificate()),
    });
    let user = json!({ "client-certificate": "client.crt", "client-key": "client.key" });
    let client = client(folder.path(), &cluster, &user);
    assert!(works(&client).await && server.last_client_is(&first));

    server.replace(&identity, Some(&new.certificate()));
    assert!(!works(&client).await, "the server accepts the old client certificate");
    let second = write(&new);
    assert!(works(&client).await && server.last_client_is(&second));
}
