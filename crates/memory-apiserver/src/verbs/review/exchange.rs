//! Reads reviews and answers them.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::answer;
use crate::call::Call;
use crate::error::ApiError;
use crate::schema;
use crate::verbs::decode;

/// Reads a review.
pub(super) fn read(call: &Call) -> Result<Value, ApiError> {
    // An answer that the client does not accept is refused before the body is read.
    call.presenter()?;
    let (review, _) = decode::body(call)?;
    match schema::type_error(&review, &call.resource.schema) {
        Some(why) => Err(decode::unreadable(call, &review, None, &why)),
        None => Ok(review),
    }
}

/// Sends a review that has its status.
pub(super) fn answer(call: &Call, mut review: Value) -> Response<Body> {
    review["kind"] = json!(call.resource.names.kind);
    review["apiVersion"] = json!(call.resource.api_version());
    answer::json(StatusCode::CREATED, review.to_string())
}
