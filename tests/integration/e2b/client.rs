//! A plain HTTP client: it sends what no SDK would send, and shows what the server answered.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The lines of the head.
    head: Vec<String>,
    pub(crate) text: String,
}

impl Answer {
    /// None if these bytes are no whole answer.
    fn parse_whole(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let answer = Self::parse(bytes);
        let length = answer.header("content-length").map_or(Ok(0), str::parse);
        (length == Ok(bytes.len() - end)).then_some(answer)
    }

    fn parse(bytes: &[u8]) -> Self {
        let all = String::from_utf8_lossy(bytes);
        let (head, text) = all.split_once("\r\n\r\n").unwrap_or((&all, ""));
        let mut head: Vec<String> = head.lines().map(str::to_owned).collect();
        let first = if head.is_empty() { String::new() } else { head.remove(0) };
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self { status: status.unwrap_or_else(|| panic!("no HTTP: {all}")), head, text: text.to_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let values = self.head.iter().filter_map(|line| line.split_once(": "));
        values.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// All of the answer but what no two answers have in common: its date, and the id of its request.
    pub(crate) fn comparable(&self) -> (u16, Vec<&str>, &str) {
        let is_common = |line: &&str| {
            let line = line.to_ascii_lowercase();
            !line.starts_with("date:") && !line.starts_with("x-request-id:")
        };
        (self.status, self.head.iter().map(String::as_str).filter(is_common).collect(), &self.text)
    }

    /// The body as JSON. Every body is.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that this is an error of a status in the form that the SDKs read, and returns its body.
    #[track_caller]
    pub(crate) fn error(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        let body = self.json();
        assert_eq!(body["code"], status, "{self:?}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        body
    }

    #[track_caller]
    pub(crate) fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        if self.text.is_empty() { Value::Null } else { self.json() }
    }
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Nobody listens.
    #[error("the request was not sent")]
    NotSent,
    /// The connection broke after the request, or before all of its answer.
    #[error("the connection broke before the answer")]
    Broken,
}

/// A request that is not sent yet.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("X-API-Key", key)
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        let request = self.body(body.to_string());
        request.header("Content-Type", "application/json")
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !self.body.is_empty() || self.method != "GET" {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }

    /// Sends the request and reads the whole answer.
    pub(crate) async fn send(&self, to: SocketAddr) -> Answer {
        let mut stream = TcpStream::connect(to).await.unwrap();
        // A server that refuses a body may not read all of it.
        let _ = stream.write_all(&self.bytes()).await;
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while let Ok(length) = stream.read(&mut part).await {
            if length == 0 {
                break;
            }
            answer.extend_from_slice(&part[..length]);
        }
        Answer::parse(&answer)
    }

    /// Sends the request and leaves. Dropping the stream hangs up.
    pub(crate) async fn begin(&self, to: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(&self.bytes()).await.unwrap();
        stream
    }

    /// As [`Self::send`], to a server that may go at any time.
    pub(crate) async fn try_send(&self, to: SocketAddr) -> Result<Answer, Failure> {
        let mut stream = self.try_begin(to).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(|_| Failure::Broken)?;
        Answer::parse_whole(&answer).ok_or(Failure::Broken)
    }

    /// As [`Self::begin`], to a server that may go at any time.
    pub(crate) async fn try_begin(&self, to: SocketAddr) -> Result<TcpStream, Failure> {
        let mut stream = TcpStream::connect(to).await.map_err(|_| Failure::NotSent)?;
        stream.write_all(&self.bytes()).await.map_err(|_| Failure::Broken)?;
        Ok(stream)
    }
}
