//! Changes of a claimed sandbox that follow its state: decide, write, and decide again if others were faster.

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

/// What one write of a change has led to.
enum Step {
    Written(Arc<Sandbox>),
    /// Others have changed the sandbox, which is this now.
    Outdated(Arc<Sandbox>),
    /// The outcome of the write is unknown. The API server has this now, and may make the write later.
    Lost(Arc<Sandbox>, ClaimError),
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
        let (mut sandbox, mut lost) = (sandbox, None);
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
            match self.step(&sandbox, id, change).await {
                Ok(Step::Written(written)) => return Ok(written),
                Ok(Step::Outdated(read)) => sandbox = read,
                Ok(Step::Lost(read, error)) => (sandbox, lost) = (read, Some(error)),
                // This step has changed nothing. A lost one before it may have.
                Err(error @ ClaimError::Unavailable { .. }) => return Err(lost.unwrap_or(error)),
                Err(error) => return Err(error),
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
    ) -> Result<Step, ClaimError> {
        match self.write(sandbox, change, REQUEST_TIMEOUT).await {
            Ok(written) => Ok(Step::Written(written)),
            Err(WriteError::Outdated) => Ok(Step::Outdated(self.again(sandbox, id).await?)),
            Err(error @ WriteError::Unknown(_)) => {
                let error = error.into_error(sandbox);
                match self.again(sandbox, id).await {
                    Err(ClaimError::Unavailable { .. }) => Err(error),
                    read => Ok(Step::Lost(read?, error)),
                }
            }
            Err(error) => Err(error.into_error(sandbox)),
        }
    }
}

pub(super) fn conflict(id: &str, reason: ConflictReason) -> ClaimError {
    ClaimError::Conflict { id: id.to_owned(), reason }
}
