//! A document of `OpenAPI` v2 that describes nothing.
//!
//! kubectl reads it if a kind is not in the documents of v3. An error makes kubectl report that it can't validate. An
//! empty document makes it report that the server does not have the kind.

use axum::body::Body;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::json;

use super::answer;

/// The media type that kubectl asks for, as the answer names it.
const PROTOBUF: HeaderValue =
    HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf");

/// The document in protobuf: `swagger` is field 1, and `info` field 2 with `title` and `version`.
const DOCUMENT: &[u8] = b"\x0a\x032.0\x12\x10\x0a\x0aKubernetes\x12\x02v1";

/// Returns the document in the form that the client accepts.
pub(crate) fn document(headers: &HeaderMap) -> Response<Body> {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if !accepts.into_iter().any(|accept| accept.contains("proto-openapi.spec.v2")) {
        return answer::value(&json!({
            "swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1"}, "paths": {},
        }));
    }
    let mut response = answer::json(StatusCode::OK, DOCUMENT);
    response.headers_mut().insert(CONTENT_TYPE, PROTOBUF);
    response
}
