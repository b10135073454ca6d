//! Carries out the faults that strike a request: before it is processed, and on its answer.

use axum::body::Body;
use http::Response;

use super::access::{self, User};
use super::error::ApiError;
use super::faults::{Failure, Interference, RequestFault};
use super::request::{Target, Verb};
use super::state::ServerState;
use super::store::Unknown;

/// The request that faults strike.
pub(crate) struct Struck<'a> {
    /// The name of the user who sends it.
    pub(crate) sender: &'a str,
    /// The user that it counts as.
    pub(crate) user: &'a User,
    pub(crate) verb: Option<Verb>,
    pub(crate) target: &'a Target,
}

/// Carries out the faults that come before a request is processed.
///
/// # Errors
///
/// When a fault takes the place of the answer.
pub(crate) async fn before(
    interference: &Interference,
    state: &ServerState,
    request: &Struck<'_>,
) -> Result<(), Failure> {
    for fault in interference.faults() {
        match fault {
            RequestFault::Delay(delay) => tokio::time::sleep(*delay).await,
            RequestFault::Answer { code, retry_after } => {
                return Err(ApiError::of_code(*code, *retry_after).into());
            }
            RequestFault::Drop => return Err(Failure::Dropped),
            RequestFault::Forbid => {
                if let Some(verb) = request.verb {
                    return Err(access::forbid(request.user, verb, request.target).into());
                }
            }
            RequestFault::RevokeTokens => {
                state.access.revoke(request.sender);
                return Err(ApiError::unauthorized().into());
            }
            RequestFault::Rewind { behind } => {
                rewind(state, *behind, interference.since());
                return Err(Failure::Dropped);
            }
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

/// Sets the server back by so many revisions, but not to before `since`, nor to a state that it has forgotten.
fn rewind(state: &ServerState, behind: u64, since: u64) {
    let newest = state.store.revision();
    let wanted = newest.saturating_sub(behind).max(since.min(newest));
    if let Err(Unknown::Expired { oldest }) = state.rewind(wanted) {
        // A write meanwhile may have made the server forget that state, too. Then it stays as it is.
        let _ = state.rewind(oldest);
    }
}

/// Passes the answer on, unless a fault drops it.
///
/// # Errors
///
/// When a fault drops the connection instead.
pub(crate) fn after(interference: &Interference, answer: Response<Body>) -> Result<Response<Body>, Failure> {
    if interference.drops_answer() { Err(Failure::Dropped) } else { Ok(answer) }
}
