//! Creates answers: bodies, statuses, headers.

use std::collections::HashSet;

use axum::body::Body;
use bytes::Bytes;
use futures::Stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WARNING};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::error::{ApiError, Details};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

pub(crate) fn value(value: &Value) -> Response<Body> {
    json(StatusCode::OK, value.to_string())
}

/// An answer in JSON whose body is created while it is sent.
pub(crate) fn stream<S, E>(chunks: S) -> Response<Body>
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<axum::BoxError> + 'static,
{
    json(StatusCode::OK, Body::from_stream(chunks))
}

pub(crate) fn text(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// The answer to an unknown path.
pub(crate) fn not_served() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// The answer for an error.
pub(crate) fn error(error: &ApiError) -> Response<Body> {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, error.status().to_string());
    if let Some(seconds) = error.details.retry_after_seconds {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// The status of a success that has no object to return.
pub(crate) fn success(details: &Details) -> Value {
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    status["details"] = details.json();
    status
}

/// Adds warnings, each once, that the client shows to its user.
///
/// As in kube-apiserver: warnings of more than 4,096 characters together are cut to 256 characters each, and end once
/// there are 4,096.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    const MAX_TOTAL: usize = 4096;
    const MAX_EACH: usize = 256;
    let mut seen = HashSet::new();
    let warnings = warnings.iter().filter(|warning| seen.insert(warning.as_str())).collect::<Vec<_>>();
    let is_too_long = warnings.iter().map(|warning| warning.chars().count()).sum::<usize>() > MAX_TOTAL;
    let mut total = 0;
    for warning in warnings {
        if is_too_long && total >= MAX_TOTAL {
            return;
        }
        let length = if is_too_long { MAX_EACH } else { usize::MAX };
        let text: String = warning.chars().take(length).collect();
        total += text.chars().count();
        let quoted = text.replace('\\', r"\\").replace('"', "\\\"");
        // A header cannot contain control characters. kube-apiserver leaves out such a warning, too.
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}
