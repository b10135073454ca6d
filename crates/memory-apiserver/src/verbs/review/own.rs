//! `SelfSubjectRulesReview` lists the rights of a user, `SelfSubjectReview` names the user.

use axum::body::Body;
use http::Response;
use serde_json::{Value, json};

use super::exchange::{answer, read};
use crate::access::{self, User};
use crate::call::Call;
use crate::clock::whole_seconds;
use crate::error::ApiError;

/// The paths that every known user may read: the rule of the default role `system:discovery`.
const DISCOVERY: [&str; 11] = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
];

/// The paths that everyone may read: the rule of the default role `system:public-info-viewer`.
const PUBLIC: [&str; 5] = ["/healthz", "/livez", "/readyz", "/version", "/version/"];

/// Lists the rights of the user in a namespace.
pub(super) fn rules(call: &Call) -> Result<Response<Body>, ApiError> {
    let mut review = read(call)?;
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let granted = access::granted_rules(&call.state.store, &call.user, namespace);
    let resource_rules: Vec<_> =
        defaults(&call.user).into_iter().chain(granted).filter(|rule| rule["resources"].is_array()).collect();
    review["status"] = json!({
        "resourceRules": resource_rules, "nonResourceRules": paths(&call.user), "incomplete": false,
    });
    // The real server leaves the question out of the answer.
    review["spec"] = json!({});
    Ok(answer(call, review))
}

/// The rules that a cluster has by default.
fn defaults(user: &User) -> Vec<Value> {
    let mut rules = Vec::new();
    if user.is_master() {
        rules.push(json!({ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }));
    }
    if user.is_known() {
        let create = |group: &str, plurals: &[&str]| json!({ "verbs": ["create"], "apiGroups": [group], "resources": plurals });
        rules.push(create("authorization.k8s.io", &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]));
        rules.push(create("authentication.k8s.io", &["selfsubjectreviews"]));
    }
    rules
}

fn paths(user: &User) -> Vec<Value> {
    let mut rules = Vec::new();
    if user.is_master() {
        rules.push(json!({ "verbs": ["*"], "nonResourceURLs": ["*"] }));
    }
    if user.is_known() {
        rules.push(json!({ "verbs": ["get"], "nonResourceURLs": DISCOVERY }));
    }
    rules.push(json!({ "verbs": ["get"], "nonResourceURLs": PUBLIC }));
    rules
}

/// Returns the name and the groups of the user.
pub(super) fn subject(call: &Call) -> Result<Response<Body>, ApiError> {
    let mut review = read(call)?;
    let User { name, groups } = &call.user;
    review["status"] = json!({ "userInfo": { "username": name, "groups": groups } });
    review["metadata"] = json!({ "creationTimestamp": whole_seconds(call.state.clock.now()) });
    Ok(answer(call, review))
}
