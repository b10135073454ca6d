//! [`Watch`]: the events of a watch, one by one.

use bytes::{Buf, BytesMut};
use http::Response;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use tokio::time::timeout;

use super::answer::text;
use crate::support::SOON;

/// A watch that the server has begun to answer. Dropping it ends it.
pub(super) struct Watch {
    request: String,
    pub(super) code: u16,
    body: Body,
    buffer: BytesMut,
}

impl Watch {
    pub(super) fn new(request: String, response: Response<Body>) -> Self {
        let code = response.status().as_u16();
        Self { request, code, body: response.into_body(), buffer: BytesMut::new() }
    }

    /// The next event: type and object; `None` when the server has ended the watch.
    pub(super) async fn next(&mut self) -> Option<(String, Value)> {
        let line = timeout(SOON, self.line()).await;
        let line = line.unwrap_or_else(|_| panic!("{}: no event within {SOON:?}", self.request))?;
        let mut event: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{}: {error}: {line}", self.request));
        let fields: Vec<_> = event.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        assert_eq!(fields, ["object", "type"], "{}: {line}", self.request);
        Some((event["type"].as_str().unwrap_or_default().to_owned(), event["object"].take()))
    }

    /// The object of the next event, which must be of this type and about an object of this name.
    pub(super) async fn expect(&mut self, event_type: &str, name: &str) -> Value {
        let object = self.expect_any(event_type).await;
        assert_eq!(text(&object, "/metadata/name"), name, "{}: {event_type} {object}", self.request);
        object
    }

    /// The object of the next event, which must be of this type. Bookmarks that no test waits for are left out: a server
    /// that may send them does so about once a minute.
    pub(super) async fn expect_any(&mut self, event_type: &str) -> Value {
        loop {
            let Some((seen, object)) = self.next().await else {
                panic!("{}: ended instead of {event_type}", self.request);
            };
            if seen == "BOOKMARK" && event_type != seen && self.is_timely_bookmark(&object) {
                continue;
            }
            assert_eq!(seen, event_type, "{}: {object}", self.request);
            return object;
        }
    }

    /// True for a bookmark of the time that has passed, not for the one that ends the initial events.
    fn is_timely_bookmark(&self, object: &Value) -> bool {
        let is_end = object.pointer("/metadata/annotations/k8s.io~1initial-events-end").is_some();
        self.request.contains("allowWatchBookmarks=true") && !is_end
    }

    /// All events until the server ends the watch.
    pub(super) async fn rest(mut self) -> Vec<(String, Value)> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return Some(String::from_utf8(line.to_vec()).expect("UTF-8"));
            }
            let frame = self.body.frame().await?;
            let frame = frame.unwrap_or_else(|error| panic!("{}: {error}", self.request));
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}
