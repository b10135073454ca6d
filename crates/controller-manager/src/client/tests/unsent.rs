//! Which errors of a request prove that the request was not sent, over real connections.

use std::net::SocketAddr;

use http::Request;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, Client, Config};
use shared_cache::{error_text, is_not_sent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{Connector, ConnectorOptions};
use crate::metrics::Metrics;

fn client(url: &str) -> Client {
    let config = Config::new(url.parse().unwrap());
    Connector::new(config, &ConnectorOptions::default(), &Metrics::new().unwrap()).unwrap().client().unwrap()
}

async fn create(client: Client) -> kube::Error {
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let map = ConfigMap::default();
    maps.create(&PostParams::default(), &map).await.unwrap_err()
}

/// Listens, and does this with each connection.
async fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    address
}

/// Reads a request of few bytes.
async fn read(stream: &mut TcpStream) -> usize {
    let mut request = [0; 4096];
    stream.read(&mut request).await.unwrap()
}

#[tokio::test]
async fn a_refused_connection_proves_that_nothing_was_sent() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = create(client(&format!("http://{address}"))).await;
    assert!(is_not_sent(&error), "{error:?}");
    assert!(error_text(&error).contains("Connection refused"), "{}", error_text(&error));
}

#[tokio::test]
async fn a_name_that_no_address_has_proves_that_nothing_was_sent() {
    let error = create(client("http://api.invalid:1")).await;
    assert!(is_not_sent(&error), "{error:?}");
}

#[tokio::test]
async fn a_handshake_that_fails_proves_that_nothing_was_sent() {
    let address = listen(async |mut stream: TcpStream| {
        read(&mut stream).await;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let error = create(client(&format!("https://{}", address.await))).await;
    assert!(is_not_sent(&error), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_ends_after_the_request_proves_nothing() {
    let address = listen(async |mut stream: TcpStream| {
        assert!(read(&mut stream).await > 0);
    });
    let error = create(client(&format!("http://{}", address.await))).await;
    assert!(!is_not_sent(&error), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_proves_nothing() {
    let address = listen(async |mut stream: TcpStream| {
        read(&mut stream).await;
        stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\n{").await.unwrap();
    });
    let error = create(client(&format!("http://{}", address.await))).await;
    assert!(!is_not_sent(&error), "{error:?}");
}

/// kube repeats a request after a 504, which may have been processed. The server is gone by then.
#[tokio::test]
async fn the_error_of_a_client_that_repeats_requests_proves_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
    assert!(config.default_retry, "kube repeats by itself");
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        drop(listener);
        read(&mut stream).await;
        let answer = b"HTTP/1.1 504 Gateway Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    });
    let client = Client::try_from(config).unwrap();
    let error = client.request_text(Request::post("/x").body(b"{}".to_vec()).unwrap()).await.unwrap_err();
    served.await.unwrap();
    assert!(error_text(&error).contains("Connection refused"), "the repetition has failed: {error:?}");
    assert!(!is_not_sent(&error), "{error:?}");
}
