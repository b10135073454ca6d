//! `SelfSubjectAccessReview`: may I do this? Answered and not stored.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::decode;
use crate::apiserver::access::{self, Attributes};
use crate::apiserver::answer;
use crate::apiserver::error::ApiError;
use crate::apiserver::server::Call;

/// Where it would be stored if it were.
pub(super) const STORAGE: &str = "selfsubjectaccessreviews.authorization.k8s.io";

/// Answers with the question and what the rules say.
pub(super) fn create(call: &Call) -> Result<Response<Body>, ApiError> {
    let (mut review, _) = decode::body(call)?;
    let spec = &review["spec"];
    let allowed = match (&spec["resourceAttributes"], &spec["nonResourceAttributes"]) {
        (Value::Null, Value::Null) => {
            return Err(ApiError::bad_request(
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ));
        }
        (Value::Null, path) => access::may_read_path(&call.user, path["path"].as_str().unwrap_or_default()),
        (asked, _) => is_allowed(call, asked),
    };
    review["status"] = json!({"allowed": allowed});
    if allowed && call.user.is_master() {
        review["status"]["reason"] = json!("member of system:masters");
    }
    review["kind"] = json!(call.resource.names.kind);
    review["apiVersion"] = json!(call.resource.api_version());
    Ok(answer::json(StatusCode::CREATED, review.to_string()))
}

fn is_allowed(call: &Call, asked: &Value) -> bool {
    let text = |field: &str| asked[field].as_str().unwrap_or_default();
    let some = |field: &str| Some(text(field)).filter(|text| !text.is_empty());
    let resource = match some("subresource") {
        Some(subresource) => format!("{}/{subresource}", text("resource")),
        None => text("resource").to_owned(),
    };
    let attributes = Attributes {
        verb: text("verb"),
        group: text("group"),
        resource: &resource,
        namespace: some("namespace"),
        name: some("name"),
    };
    access::is_allowed(&call.server.store, &call.user, &attributes)
}
