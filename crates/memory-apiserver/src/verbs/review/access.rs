//! `SelfSubjectAccessReview` tells a user whether an action is allowed.

use axum::body::Body;
use http::Response;
use serde_json::{Value, json};

use super::exchange::{answer, read};
use crate::access::{self, Attributes};
use crate::call::Call;
use crate::error::{ApiError, FieldError};

/// Answers with the review and its result.
pub(super) fn create(call: &Call) -> Result<Response<Body>, ApiError> {
    let mut review = read(call)?;
    omit_empty_texts(&mut review);
    let spec = &review["spec"];
    let allowed = match (&spec["resourceAttributes"], &spec["nonResourceAttributes"]) {
        (Value::Null, Value::Null) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(refused("spec.resourceAttributes", &Value::Null, why));
        }
        (Value::Null, path) => access::may_read_path(&call.user, path["path"].as_str().unwrap_or_default()),
        (asked, Value::Null) => is_allowed(call, asked),
        (_, path) => {
            let why = "cannot be specified in combination with resourceAttributes";
            return Err(refused("spec.nonResourceAttributes", path, why));
        }
    };
    review["status"] = json!({"allowed": allowed});
    if allowed && call.user.is_master() {
        review["status"]["reason"] = json!("member of system:masters");
    }
    Ok(answer(call, review))
}

/// Removes empty texts, as Go does.
fn omit_empty_texts(review: &mut Value) {
    for attributes in ["/spec/resourceAttributes", "/spec/nonResourceAttributes"] {
        if let Some(fields) = review.pointer_mut(attributes).and_then(Value::as_object_mut) {
            fields.retain(|_, value| value != "");
        }
    }
}

/// kube-apiserver leaves out the kind here.
fn refused(field: &'static str, value: &Value, why: &str) -> ApiError {
    ApiError::invalid("authorization.k8s.io", "", "", &[FieldError::invalid(field, value.clone(), why)])
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
    access::is_allowed(&call.state.store, &call.user, &attributes)
}
