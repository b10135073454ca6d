//! The lines of a watch: one JSON document for each event.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::ApiError;
use crate::store::Unknown;

/// The error for a version whose events are forgotten.
pub(crate) fn expired(asked: u64, unknown: Unknown) -> ApiError {
    match unknown {
        Unknown::Expired { oldest } => {
            ApiError::expired(format!("too old resource version: {asked} ({oldest})"))
        }
        Unknown::Future { current } => ApiError::version_too_large(asked, current),
    }
}

/// The only line of a watch that cannot begin.
pub(crate) fn refusal(error: &ApiError) -> Bytes {
    line("ERROR", error.status().to_string().as_bytes())
}

pub(super) fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::new();
    put_line(&mut line, kind, object);
    line.freeze()
}

pub(super) fn put_line(chunk: &mut BytesMut, kind: &str, object: &[u8]) {
    chunk.reserve(object.len() + 40);
    chunk.put_slice(b"{\"type\":\"");
    chunk.put_slice(kind.as_bytes());
    chunk.put_slice(b"\",\"object\":");
    chunk.put_slice(object);
    chunk.put_slice(b"}\n");
}
