//! Changes of a claimed sandbox that follow its state: decide, write, and decide again if others were faster.

use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::Timestamp;

use super::engine::Engine;
use super::error::{ClaimError, ConflictReason};
use super::lookup::{Activity, activity};
use super::write::{REQUEST_TIMEOUT, WriteError};
use crate::api::v1alpha1::Sandbox;

/// How often one change is decided again, because others have changed the sandbox.
const MAX_TRIES: usize = 8;

/// A change of a sandbox, in its present state.
pub(super) enum Decision {
    /// Write this.
    Write(Box<dyn FnOnce(&mut Sandbox) + Send>),
    /// Nothing is to be written.
    Done,
    Refuse(ConflictReason),
}

impl Decision {
    pub(super) fn write(change: impl FnOnce(&mut Sandbox) + Send + 'static) -> Self {
        Self::Write(Box::new(change))
    }
}

impl Engine {
    /// Changes a sandbox as `decide` says. The first writer wins: a change that meets another one is decided again, by the
    /// state on the API server.
    ///
    /// A write whose outcome is unknown is decided again too. So it must be one that is not wanted in the state after it.
    pub(super) async fn change(
        &self,
        sandbox: Arc<Sandbox>,
        id: &str,
        decide: impl Fn(&Sandbox, Activity, Timestamp) -> Decision,
    ) -> Result<Arc<Sandbox>, ClaimError> {
        let mut sandbox = sandbox;
        for _ in 0..MAX_TRIES {
            let now = Timestamp::now();
            let change = match (activity(&sandbox, now), &sandbox) {
                (Activity::Gone, _) => return Err(ClaimError::NotFound { id: id.to_owned() }),
                (activity, sandbox) => match decide(sandbox, activity, now) {
                    Decision::Write(change) => change,
                    Decision::Done => return Ok(Arc::clone(sandbox)),
                    Decision::Refuse(reason) => return Err(conflict(id, reason)),
                },
            };
            match self.step(&sandbox, id, change).await? {
                ControlFlow::Break(written) => return Ok(written),
                ControlFlow::Continue(read) => sandbox = read,
            }
        }
        Err(conflict(id, ConflictReason::Contended))
    }

    /// Writes once. Returns what the API server has if the write was in vain.
    async fn step(
        &self,
        sandbox: &Arc<Sandbox>,
        id: &str,
        change: impl FnOnce(&mut Sandbox),
    ) -> Result<ControlFlow<Arc<Sandbox>, Arc<Sandbox>>, ClaimError> {
        match self.write(sandbox, change, REQUEST_TIMEOUT).await {
            Ok(written) => Ok(ControlFlow::Break(written)),
            Err(WriteError::Outdated) => Ok(ControlFlow::Continue(self.again(sandbox, id).await?)),
            Err(error @ WriteError::Unknown(_)) => match self.again(sandbox, id).await {
                Err(ClaimError::Unavailable { .. }) => Err(error.into_error(sandbox)),
                read => Ok(ControlFlow::Continue(read?)),
            },
            Err(error) => Err(error.into_error(sandbox)),
        }
    }
}

pub(super) fn conflict(id: &str, reason: ConflictReason) -> ClaimError {
    ClaimError::Conflict { id: id.to_owned(), reason }
}
