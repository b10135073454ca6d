//! Carries out the faults that strike a request: before it is processed, and on its answer.

use axum::body::Body;
use http::Response;

use super::error::ApiError;
use super::faults::{Failure, Interference, RequestFault};
use super::state::ServerState;

/// Carries out the faults that come before a request is processed.
///
/// # Errors
///
/// When a fault takes the place of the answer.
pub(crate) async fn before(interference: &Interference, state: &ServerState) -> Result<(), Failure> {
    for fault in interference.faults() {
        match fault {
            RequestFault::Delay(delay) => tokio::time::sleep(*delay).await,
            RequestFault::Answer { code, retry_after } => {
                return Err(ApiError::of_code(*code, *retry_after).into());
            }
            RequestFault::Drop => return Err(Failure::Dropped),
            RequestFault::Silence => {
                // A restart cuts connections, and this one with them. The sender lives as long as `state`.
                let _ = state.cuts().changed().await;
                return Err(Failure::Dropped);
            }
            RequestFault::DropAnswer
            | RequestFault::OldList { .. }
            | RequestFault::NoBookmarks
            | RequestFault::CutAfter(_) => {}
        }
    }
    Ok(())
}

/// Passes the answer on, unless a fault drops it.
///
/// # Errors
///
/// When a fault drops the connection instead.
pub(crate) fn after(interference: &Interference, answer: Response<Body>) -> Result<Response<Body>, Failure> {
    if interference.drops_answer() { Err(Failure::Dropped) } else { Ok(answer) }
}
