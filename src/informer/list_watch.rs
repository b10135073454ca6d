//! The requests of an informer: list a page, open a watch, read its lines. Knows HTTP and JSON framing and
//! nothing of stores.
//!
//! `kube::runtime::watcher` hides bookmarks and versions, fails a whole page for one bad object and notices a
//! dead connection only after five minutes, so the requests are made here on [`kube::Client`] itself.
//! Everything has a deadline ([`RESPONSE_TIMEOUT`], [`SILENCE_TIMEOUT`]) and a bound ([`MAX_LINE`],
//! [`MAX_PAGE`]).

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, RETRY_AFTER};
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::{ListParams, Request, WatchParams};
use kube::client::Body;
use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::error::WatchError;
use super::version::parse_version;
use crate::error_text::error_text;

/// How long response headers may take (behaviour E8).
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a watch may be silent. Bookmarks are due every 60 s, give or take a second; with the time
/// that a new connection then takes to fail, a dead peer is noticed within 90 s (E8).
pub(crate) const SILENCE_TIMEOUT: Duration = Duration::from_secs(75);

/// Longest watch event that is read. etcd takes objects of 1.5 MiB, the API server bodies of 3 MB.
pub(crate) const MAX_LINE: usize = 16 << 20;

/// Largest list page that is read. A page that is larger is asked for again with fewer objects.
pub(crate) const MAX_PAGE: usize = 256 << 20;

/// Longest error body that is read.
const MAX_STATUS: usize = 64 << 10;

/// What one informer asks for: a collection, and which of its objects.
#[derive(Clone)]
pub(crate) struct ListWatch {
    client: kube::Client,
    path: String,
    label_selector: Option<String>,
}

/// One page of a list.
pub(crate) struct Page {
    body: Bytes,
}

#[derive(Deserialize)]
pub(crate) struct PageContent<'a> {
    #[serde(default)]
    pub(crate) metadata: ListMeta,
    #[serde(borrow, default)]
    pub(crate) items: Vec<&'a RawValue>,
}

impl PageContent<'_> {
    /// The version that the list shows.
    pub(crate) fn version(&self) -> Option<u64> {
        self.metadata.resource_version.as_deref().and_then(parse_version)
    }
}

impl Page {
    pub(crate) fn content(&self) -> Result<PageContent<'_>, WatchError> {
        serde_json::from_slice(&self.body).map_err(|error| WatchError::Protocol(error.to_string()))
    }
}

impl ListWatch {
    pub(crate) fn new(client: kube::Client, path: String, label_selector: Option<String>) -> Self {
        Self { client, path, label_selector }
    }

    /// Lists one page from the quorum. `limit` 0 asks for everything at once.
    pub(crate) async fn list(&self, limit: u32, continue_token: Option<String>) -> Result<Page, WatchError> {
        let params = ListParams {
            label_selector: self.label_selector.clone(),
            limit: (limit > 0).then_some(limit),
            continue_token,
            ..ListParams::default()
        };
        let request = Request::new(self.path.as_str()).list(&params);
        let mut body = self.send(request).await?;
        let mut page = BytesMut::new();
        while let Some(chunk) = next_chunk(&mut body).await? {
            if page.len() + chunk.len() > MAX_PAGE {
                return Err(WatchError::TooLarge(MAX_PAGE));
            }
            page.extend_from_slice(&chunk);
        }
        Ok(Page { body: page.freeze() })
    }

    /// Watches from a version on; `None` asks for a streaming list: every object first, then a bookmark that
    /// ends the list, then changes.
    /// `lifetime` is how long the server should keep it open; `None` leaves that to the server.
    pub(crate) async fn watch(
        &self,
        version: Option<&str>,
        lifetime: Option<Duration>,
    ) -> Result<Lines, WatchError> {
        let params = WatchParams {
            label_selector: self.label_selector.clone(),
            timeout: lifetime.and_then(|lifetime| u32::try_from(lifetime.as_secs()).ok()),
            bookmarks: true,
            send_initial_events: version.is_none(),
            ..WatchParams::default()
        };
        // An empty version means "most recent", read from the quorum.
        let request = Request::new(self.path.as_str()).watch(&params, version.unwrap_or_default());
        Ok(Lines { body: self.send(request).await?, buffer: BytesMut::new(), scanned: 0 })
    }

    async fn send(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Body, WatchError> {
        let mut request = request.map_err(|error| WatchError::Protocol(error_text(&error)))?;
        // From 1.37 on the API server compresses each event by itself, which no client of ours decodes.
        request.headers_mut().insert(ACCEPT_ENCODING, http::HeaderValue::from_static("identity"));
        let response = timeout(RESPONSE_TIMEOUT, self.client.send(request.map(Body::from)))
            .await
            .map_err(|_| WatchError::ResponseTimeout(RESPONSE_TIMEOUT))?
            .map_err(|error| WatchError::Transport(error_text(&error)))?;
        if response.status().is_success() {
            Ok(response.into_body())
        } else {
            Err(read_status(response).await)
        }
    }
}

async fn read_status(response: http::Response<Body>) -> WatchError {
    let code = response.status().as_u16();
    let seconds =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = next_chunk(&mut body).await {
        text.extend_from_slice(&chunk);
        if text.len() > MAX_STATUS {
            break;
        }
    }
    let mut status: Status = serde_json::from_slice(&text).unwrap_or_else(|_| {
        let message: String = String::from_utf8_lossy(&text).trim().chars().take(200).collect();
        Status::failure(&message, "")
    });
    status.code = code;
    WatchError::Status { status: status.boxed(), retry_after: seconds.map(Duration::from_secs) }
}

async fn next_chunk(body: &mut Body) -> Result<Option<Bytes>, WatchError> {
    loop {
        let frame =
            timeout(SILENCE_TIMEOUT, body.frame()).await.map_err(|_| WatchError::Silent(SILENCE_TIMEOUT))?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(WatchError::Transport(error_text(&error))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The lines of an open watch.
pub(crate) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    scanned: usize,
}

impl Lines {
    /// The next chunk of whole lines, at least one; `None` at the clean end of the watch. Cancel safe.
    ///
    /// A last line without its end is dropped: its event comes again when the watch is resumed.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, WatchError> {
        loop {
            if let Some(end) = memchr::memrchr(b'\n', &self.buffer[self.scanned..]) {
                let lines = self.buffer.split_to(self.scanned + end + 1).freeze();
                self.scanned = self.buffer.len();
                return Ok(Some(lines));
            }
            self.scanned = self.buffer.len();
            if self.scanned > MAX_LINE {
                return Err(WatchError::TooLarge(MAX_LINE));
            }
            match next_chunk(&mut self.body).await? {
                None => return Ok(None),
                Some(chunk) if self.buffer.is_empty() && chunk.last() == Some(&b'\n') => {
                    return Ok(Some(chunk));
                }
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
            }
        }
    }
}

/// The lines of a chunk, without those that are empty.
pub(crate) fn split_lines(chunk: &Bytes) -> impl Iterator<Item = &[u8]> {
    let mut rest = chunk.chunk();
    std::iter::from_fn(move || {
        loop {
            let end = memchr::memchr(b'\n', rest)?;
            let (line, tail) = rest.split_at(end);
            rest = &tail[1..];
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(line);
            }
        }
    })
}

/// One event of a watch. Its object stays text until it is known what to do with it.
pub(crate) struct RawEvent<'a> {
    pub(crate) kind: Cow<'a, str>,
    /// JSON, if the line is: see [`Self::verified_object`].
    pub(crate) object: &'a str,
    /// The whole line, while nobody has looked at all of it.
    unverified: Option<&'a [u8]>,
}

impl<'a> RawEvent<'a> {
    /// Takes a line apart. Every API server writes the type first and the object last, so that what is between them
    /// need not be scanned to be found.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, WatchError> {
        let rest =
            line.strip_prefix(b"{\"type\":\"").and_then(|rest| rest.trim_ascii_end().strip_suffix(b"}"));
        for kind in ["ADDED", "MODIFIED", "DELETED"] {
            let object = rest.and_then(|rest| rest.strip_prefix(kind.as_bytes()));
            let object = object.and_then(|rest| rest.strip_prefix(b"\",\"object\":"));
            if let Some(object) = object.and_then(|object| std::str::from_utf8(object).ok()) {
                return Ok(Self { kind: kind.into(), object, unverified: Some(line) });
            }
        }
        Self::parse_whole(line)
    }

    fn parse_whole(line: &'a [u8]) -> Result<Self, WatchError> {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
            #[serde(borrow)]
            object: &'a RawValue,
        }
        let parsed = serde_json::from_slice::<Envelope<'_>>(line);
        let Envelope { kind, object } =
            parsed.map_err(|error| WatchError::Protocol(format!("watch event: {error}")))?;
        Ok(Self { kind, object: object.get(), unverified: None })
    }

    /// The object as the whole line has it: to be asked for when it can't be decoded.
    ///
    /// # Errors
    ///
    /// When the line is no event at all, which is a fault of the connection and not of the object.
    pub(crate) fn verified_object(&self) -> Result<&'a str, WatchError> {
        match self.unverified {
            Some(line) => Self::parse_whole(line).map(|event| event.object),
            None => Ok(self.object),
        }
    }

    /// The error that an event of type `ERROR` carries.
    pub(crate) fn error(&self) -> WatchError {
        match serde_json::from_str::<Status>(self.object) {
            Ok(status) => {
                let seconds =
                    status.details.as_ref().map(|details| details.retry_after_seconds).filter(|&s| s > 0);
                let retry_after = seconds.map(|seconds| Duration::from_secs(seconds.into()));
                WatchError::Status { status: status.boxed(), retry_after }
            }
            Err(error) => WatchError::Protocol(format!("error event: {error}")),
        }
    }
}

/// As much of an object as every object has; for bookmarks, and for objects that can't be read.
#[derive(Deserialize, Default)]
pub(crate) struct Stub {
    #[serde(default)]
    pub(crate) metadata: StubMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StubMeta {
    #[serde(default)]
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) resource_version: String,
    #[serde(default)]
    pub(crate) annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// Marks the bookmark that ends the initial events of a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

impl Stub {
    pub(crate) fn parse(object: &str) -> Self {
        serde_json::from_str(object).unwrap_or_default()
    }

    /// Whether this bookmark says that the list is complete.
    pub(crate) fn ends_initial_events(&self) -> bool {
        let annotations = self.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(INITIAL_EVENTS_END)).is_some_and(|value| value == "true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart_in_whichever_way_it_is_written() {
        for line in [
            r#"{"type":"ADDED","object":{"a":[1,"}"]}}"#,
            r#"{"type":"ADDED","object":{"a":[1,"}"]}} "#,
            r#" { "object": {"a":[1,"}"]}, "type": "ADDED" }"#,
            r#"{"type":"ADDED","object":{"a":[1,"}"]},"more":{}}"#,
        ] {
            let event = RawEvent::parse(line.as_bytes()).unwrap();
            assert_eq!(&*event.kind, "ADDED", "{line}");
            assert_eq!(event.verified_object().unwrap(), r#"{"a":[1,"}"]}"#, "{line}");
        }
        let torn =
            RawEvent::parse(br#"{"type":"ADDED","object":{"a":1}"#).and_then(|event| event.verified_object());
        assert!(matches!(torn, Err(WatchError::Protocol(_))));
        assert!(RawEvent::parse(b"[]").is_err());
    }
}
