//! Reviews: questions of users about themselves. They are answered and not stored.

mod access;
mod exchange;
mod own;

use axum::body::Body;
use http::Response;

use crate::call::Call;
use crate::error::ApiError;

/// Answers a request to create a review.
type Review = fn(&Call) -> Result<Response<Body>, ApiError>;

/// Returns the review of a resource, or `None` if the resource is stored.
pub(super) fn of(storage: &str) -> Option<Review> {
    match storage {
        "selfsubjectaccessreviews.authorization.k8s.io" => Some(access::create),
        "selfsubjectrulesreviews.authorization.k8s.io" => Some(own::rules),
        "selfsubjectreviews.authentication.k8s.io" => Some(own::subject),
        _ => None,
    }
}
