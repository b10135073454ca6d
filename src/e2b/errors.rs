//! [`ApiError`]: every error of the API, in the one form that the SDKs read.
//!
//! An SDK raises its own exception only if the body is a JSON object with `code` and `message`. For any other body it
//! raises an error of its JSON parser. So no answer of this server is made without this type.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

/// Tells the SDKs whether to repeat a request. Without this header they repeat 429, 502, 503 and 504.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("should-retry");

/// The longest part of a request that an error repeats.
const LONGEST_ECHO: usize = 100;

/// Whether the client may repeat a request that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// The status says enough: no client repeats it.
    Unsaid,
    /// The request may have had an effect, or a repetition fails too.
    Never,
    /// The request had no effect. Repeat it after this many seconds.
    After(u8),
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
    error_code: Option<&'static str>,
    retry: Retry,
    /// The methods that a path has.
    allow: Option<String>,
}

/// The body of an error answer.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(super) struct ErrorBody {
    /// The HTTP status.
    code: u16,
    /// What is wrong, for people.
    message: String,
    /// What is wrong, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'static str>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), error_code: None, retry: Retry::Unsaid, allow: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The key is missing, unknown or expired. The answer does not say which.
    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Invalid API key")
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// The same for every id that the caller cannot use: unknown, of somebody else, ended, or no id at all.
    pub(super) fn no_sandbox(id: &str) -> Self {
        Self::not_found(format!("Sandbox {} doesn't exist or you don't have access to it", quoted(id)))
    }

    pub(super) fn no_template(id: &str) -> Self {
        Self::not_found(format!("template {} not found", quoted(id)))
    }

    pub(super) fn method_not_allowed(allow: String) -> Self {
        let allow = Some(allow);
        Self { allow, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not have this method") }
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Nothing was done, and a repetition may succeed.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).retry(Retry::After(1))
    }

    /// The request may still take effect. A repetition could do it twice.
    pub(super) fn gateway_timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, message).retry(Retry::Never)
    }

    pub(super) fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    pub(super) fn code(self, error_code: &'static str) -> Self {
        Self { error_code: Some(error_code), ..self }
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, message, error_code, retry, allow } = self;
        let mut response = json(status, &ErrorBody { code: status.as_u16(), message, error_code });
        let headers = response.headers_mut();
        match retry {
            Retry::Unsaid => {}
            Retry::Never => drop(headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"))),
            Retry::After(seconds) => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("true"));
                headers.insert(RETRY_AFTER, HeaderValue::from(u16::from(seconds)));
            }
        }
        if let Some(allow) = allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        response
    }
}

/// An answer with a JSON body.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // The types of this API have texts as keys, so they can be written as JSON.
    let (status, text) = match serde_json::to_vec(body) {
        Ok(text) => (status, text),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            (StatusCode::INTERNAL_SERVER_ERROR, br#"{"code":500,"message":"internal error"}"#.to_vec())
        }
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A text of the request in quotes, cut if it is long.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(LONGEST_ECHO) {
        Some((end, _)) => format!("\"{}…\"", &text[..end]),
        None => format!("\"{text}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(error: ApiError) -> (http::HeaderMap, serde_json::Value) {
        let (parts, body) = error.into_response().into_parts();
        let bytes = axum::body::to_bytes(body, 10_000).await.unwrap();
        (parts.headers, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn e2b_5_0_every_error_is_a_json_object_with_its_status_as_code() {
        let error = ApiError::unavailable("later").code("sandbox_capacity_unavailable");
        let (headers, body) = body(error).await;
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        assert_eq!(
            (&headers[SHOULD_RETRY], &headers[RETRY_AFTER]),
            (&"true".parse().unwrap(), &"1".parse().unwrap())
        );
        assert_eq!(
            body,
            serde_json::json!({"code": 503, "message": "later", "error_code": "sandbox_capacity_unavailable"})
        );
    }

    #[tokio::test]
    async fn e2b_1_4_what_may_have_had_an_effect_is_not_repeated() {
        let (headers, body) = body(ApiError::gateway_timeout("slow")).await;
        assert_eq!(headers[SHOULD_RETRY], "false");
        assert!(!headers.contains_key(RETRY_AFTER));
        assert_eq!(body, serde_json::json!({"code": 504, "message": "slow"}));
    }

    #[test]
    fn an_error_repeats_only_the_beginning_of_a_long_id() {
        let error = ApiError::no_sandbox(&"é".repeat(5000));
        assert!(error.message.len() < 400, "{}", error.message.len());
    }
}
