//! Pods and volume claims that the API server refuses (LC7).

use kube::core::Status;

use super::decision::Plan;
use super::observed::Observed;
use crate::api::v1alpha1::{REASON_POD_CREATE_FAILED, SandboxStatus};

/// Returns the status that shows why there is no pod. `status` is the one that would have been written with it.
pub(super) fn status(observed: &Observed<'_>, status: &SandboxStatus, message: &str) -> SandboxStatus {
    let mut plan = Plan::new(observed);
    plan.status = status.clone();
    plan.problem(REASON_POD_CREATE_FAILED, message);
    plan.finish().status
}

/// Returns the label of a metric for an answer. The reasons of the API server are few, but a webhook may answer anything.
pub(super) fn label(answer: &Status) -> &'static str {
    match answer.code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        413 => "RequestEntityTooLarge",
        422 => "Invalid",
        _ => "Other",
    }
}
