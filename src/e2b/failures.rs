//! What the failures of the engine are as answers, and whether clients may repeat the request.
//!
//! The SDKs repeat 503 and 504 by themselves. A repetition is only safe if nothing was done, so every such answer says
//! whether it is.

use shared_cache::LookupError;

use super::errors::{ApiError, Retry};
use crate::claims::{ClaimError, ConflictReason, Step};

/// The answer to an operation on a sandbox that has failed.
pub(super) fn of_sandbox(error: ClaimError, id: &str) -> ApiError {
    match error {
        ClaimError::NotFound { .. } => ApiError::no_sandbox(id),
        ClaimError::Conflict { reason, .. } => ApiError::conflict(conflict(id, reason)),
        ClaimError::Failed { reason, .. } => {
            ApiError::internal(format!("Sandbox \"{id}\" has failed: {reason}"))
        }
        error => common(error),
    }
}

/// The answer to a create that has failed.
pub(super) fn of_create(error: ClaimError, template: &str) -> ApiError {
    match error {
        ClaimError::PoolNotFound { .. } => ApiError::no_template(template),
        // A claim that has locked nothing in time is as one without stock.
        ClaimError::NoStock { .. } | ClaimError::Timeout { step: Step::Lock, .. } => no_capacity(template),
        ClaimError::Failed { reason, .. } => ApiError::internal(format!("the sandbox failed: {reason}"))
            .code("sandbox_create_failed")
            .retry(Retry::Never),
        ClaimError::Refused { message, .. } => {
            ApiError::internal(format!("the API server refused the sandbox: {message}"))
                .code("sandbox_create_refused")
                .retry(Retry::Never)
        }
        error => common(error),
    }
}

fn no_capacity(template: &str) -> ApiError {
    ApiError::unavailable(format!("template \"{template}\" has no sandbox available now"))
        .code("sandbox_capacity_unavailable")
        .retry(Retry::After(2))
}

fn common(error: ClaimError) -> ApiError {
    let nothing_done = error.is_nothing_done();
    match error {
        ClaimError::Timeout { .. } => ApiError::gateway_timeout(error.to_string()),
        ClaimError::Invalid(problem) => ApiError::bad_request(problem),
        ClaimError::Unavailable { cause, .. } if nothing_done => ApiError::unavailable(cause),
        ClaimError::Unavailable { cause, .. } => ApiError::unavailable(cause).retry(Retry::Never),
        error => ApiError::internal(error.to_string()),
    }
}

fn conflict(id: &str, reason: ConflictReason) -> String {
    let state = match reason {
        ConflictReason::AlreadyPaused => "is already paused",
        ConflictReason::Paused => "is paused",
        ConflictReason::NotPaused => "is not paused",
        ConflictReason::Resuming => "is being resumed",
        ConflictReason::NotReady => "is not ready",
        ConflictReason::Contended => "is changed by others at the same time",
    };
    format!("Sandbox \"{id}\" {state}")
}

/// The answer if the cache cannot answer.
pub(super) fn of_lookup(error: &LookupError) -> ApiError {
    match error {
        LookupError::NotSynced { .. } => ApiError::unavailable(error.to_string()),
        _ => ApiError::internal(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::response::IntoResponse as _;
    use shared_cache::ObjectKey;

    use super::*;
    use crate::claims::WriteOutcome;

    fn answer(error: ApiError) -> (u16, Option<String>) {
        let response = error.into_response();
        let retry = response.headers().get("should-retry").map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), retry)
    }

    fn unavailable(outcome: WriteOutcome) -> ClaimError {
        ClaimError::Unavailable { outcome, cause: "away".to_owned() }
    }

    fn timeout(step: Step) -> ClaimError {
        ClaimError::Timeout { step, waited: Duration::from_secs(50), reason: "slow".to_owned() }
    }

    #[test]
    fn e2b_1_4_a_repetition_is_asked_for_only_if_nothing_was_done() {
        let unknown = || WriteOutcome::Unknown { sandbox: ObjectKey::new("ns", "a"), lock: None };
        let (namespace, pool) = ("ns".to_owned(), "p".to_owned());
        for (error, expected) in [
            (of_create(ClaimError::NoStock { namespace, pool }, "p"), (503, Some("true"))),
            (of_create(timeout(Step::Lock), "p"), (503, Some("true"))),
            (of_create(timeout(Step::WaitReady), "p"), (504, Some("false"))),
            (of_create(unavailable(WriteOutcome::NothingDone), "p"), (503, Some("true"))),
            (of_create(unavailable(unknown()), "p"), (503, Some("false"))),
            (of_sandbox(unavailable(unknown()), "a"), (503, Some("false"))),
            (of_sandbox(timeout(Step::Pause), "a"), (504, Some("false"))),
            (of_sandbox(timeout(Step::Resume), "a"), (504, Some("false"))),
            (
                of_create(
                    ClaimError::Refused { action: "creating a sandbox", code: 403, message: String::new() },
                    "p",
                ),
                (500, Some("false")),
            ),
        ] {
            assert_eq!(answer(error), (expected.0, expected.1.map(str::to_owned)));
        }
    }

    #[test]
    fn e2b_2_3_states_that_are_in_the_way_are_409() {
        for reason in ConflictReason::ALL {
            let error = ClaimError::Conflict { id: "a".to_owned(), reason: *reason };
            assert_eq!(answer(of_sandbox(error, "a")), (409, None));
        }
        let missing = of_sandbox(ClaimError::NotFound { id: "x".to_owned() }, "x");
        assert_eq!(missing, ApiError::no_sandbox("x"));
    }
}
