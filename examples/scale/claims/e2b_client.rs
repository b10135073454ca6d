//! [`E2bClient`]: one connection to the E2B API that is kept alive, without an SDK.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The time that claimed sandboxes are given, in seconds. It is longer than any run.
const LIFETIME: u32 = 6 * 3600;

/// One connection.
pub(super) struct E2bClient {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    key: String,
}

/// A claim that was answered.
pub(super) struct Claim {
    pub(super) id: String,
    /// From the request to the end of the answer.
    pub(super) took: Duration,
}

impl E2bClient {
    pub(super) async fn connect(address: SocketAddr, key: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // An error of the connection is also the error of its request.
        tokio::spawn(connection);
        Ok(Self { sender, host: address.to_string(), key: key.to_owned() })
    }

    /// Claims a sandbox of a template.
    pub(super) async fn claim(&mut self, template: &str) -> anyhow::Result<Claim> {
        let body = json!({ "templateID": template, "timeout": LIFETIME, "metadata": { "user": "scale" } });
        let started = Instant::now();
        let (status, answer) = self.send(Method::POST, "/sandboxes", body.to_string()).await?;
        let took = started.elapsed();
        let text = String::from_utf8_lossy(&answer);
        ensure!(status == StatusCode::CREATED, "a claim was answered with {status}: {text}");
        let answer: Value = serde_json::from_slice(&answer)?;
        let id = answer["sandboxID"].as_str().context("a claim was answered without an id")?;
        Ok(Claim { id: id.to_owned(), took })
    }

    pub(super) async fn kill(&mut self, id: &str) -> anyhow::Result<()> {
        let (status, answer) = self.send(Method::DELETE, &format!("/sandboxes/{id}"), String::new()).await?;
        let text = String::from_utf8_lossy(&answer);
        ensure!(status == StatusCode::NO_CONTENT, "the kill of {id} was answered with {status}: {text}");
        Ok(())
    }

    /// Reads a path, and returns the text of an answer of 200.
    pub(super) async fn get(&mut self, path: &str) -> anyhow::Result<String> {
        let (status, answer) = self.send(Method::GET, path, String::new()).await?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        ensure!(status == StatusCode::OK, "{path} was answered with {status}: {text}");
        Ok(text)
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: String,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-api-key", &self.key)
            .body(Full::new(Bytes::from(body)))?;
        let exchange = async {
            self.sender.ready().await?;
            let answer = self.sender.send_request(request).await?;
            let status = answer.status();
            anyhow::Ok((status, answer.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(TIMEOUT, exchange).await.with_context(|| format!("no answer of {path}"))?
    }
}
