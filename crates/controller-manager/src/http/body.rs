//! [`reject_body`]: middleware for routes that read no request body.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Rejects a request that has a body.
pub(super) async fn reject_body(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let has_length = headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_length || headers.contains_key(TRANSFER_ENCODING) {
        return (StatusCode::PAYLOAD_TOO_LARGE, "no request body is accepted here\n").into_response();
    }
    next.run(request).await
}
