//! [`RawEvent`]: one line of a watch, split into its type and the text of its object.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Buf, Bytes};
use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::WatchError;

/// Returns the non-empty lines of a chunk.
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

/// One event of a watch. Its object stays text until the event type is known.
pub(crate) struct RawEvent<'a> {
    pub(crate) kind: Cow<'a, str>,
    /// JSON if the line is JSON; see [`Self::verified_object`].
    pub(crate) object: &'a str,
    /// The whole line, until it has been parsed completely.
    unverified: Option<&'a [u8]>,
}

impl<'a> RawEvent<'a> {
    /// Splits a line. Every API server writes the type first and the object last, so the text between them
    /// need not be scanned.
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

    /// Parses the whole line and returns its object. Called if the object cannot be decoded.
    ///
    /// # Errors
    ///
    /// If the line is not an event. That is a fault of the connection and not of the object.
    pub(crate) fn verified_object(&self) -> Result<&'a str, WatchError> {
        match self.unverified {
            Some(line) => Self::parse_whole(line).map(|event| event.object),
            None => Ok(self.object),
        }
    }

    /// Returns the error that an event of type `ERROR` contains.
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

/// The metadata that every object has. Used for bookmarks and for undecodable objects.
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
    /// Any JSON, because annotations of a wrong type must not hide the name of the object.
    #[serde(default)]
    pub(crate) annotations: serde_json::Value,
}

/// Marks the bookmark that ends the initial events of a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

impl Stub {
    pub(crate) fn parse(object: &str) -> Self {
        serde_json::from_str(object).unwrap_or_default()
    }

    /// Returns true if this bookmark ends the initial list.
    pub(crate) fn ends_initial_events(&self) -> bool {
        self.metadata.annotations.get(INITIAL_EVENTS_END).is_some_and(|value| value == "true")
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
