//! The mark of a claim that takes more steps than its lock (Q4): until when its process answers for it.
//!
//! The mark is renewed while the claim goes on, so its time is short: the sandbox of a process that has ended is removed
//! soon, and that of a slow claim is not.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use shared_cache::ObjectKey;

use super::engine::Engine;
use super::error::ClaimError;
use super::write::{REQUEST_TIMEOUT, WriteError};
use crate::api::v1alpha1::{ANNOTATION_CLAIM_UNFINISHED_UNTIL, Sandbox, Time};

/// How long a mark holds. The clocks of replicas may differ by what is left of this time at a renewal.
const HOLDS: SignedDuration = SignedDuration::from_secs(25);

/// How often a mark is renewed.
const RENEWAL: Duration = Duration::from_secs(8);

/// How often the end of a claim is written, and the first pause after a request that failed.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(200);

/// Returns until when a mark holds that is written now.
pub(super) fn until(now: Timestamp) -> Timestamp {
    now.checked_add(HOLDS).unwrap_or(Timestamp::MAX)
}

impl Engine {
    /// Renews the mark of a sandbox until this future is dropped. A renewal that fails is made up for by the next one. If
    /// none succeeds, the sweep removes the sandbox, and the claim sees that it is gone.
    ///
    /// Each renewal requires the version that was read, so one that is late does not mark a complete claim again.
    pub(super) async fn answer_for(&self, sandbox: &Sandbox) -> Infallible {
        loop {
            tokio::time::sleep(RENEWAL).await;
            let Ok(Some(live)) = self.live_again(sandbox).await else { continue };
            let renew = |sandbox: &mut Sandbox| {
                let until = Time::whole_seconds(until(Timestamp::now())).to_string();
                let annotations = sandbox.metadata.annotations.get_or_insert_default();
                annotations.insert(ANNOTATION_CLAIM_UNFINISHED_UNTIL.to_owned(), until);
            };
            if let Err(error) = self.write(&live, renew, REQUEST_TIMEOUT).await {
                tracing::debug!(sandbox = %ObjectKey::of(&*live), ?error, "cannot renew the mark of a claim");
            }
        }
    }

    /// Says that a claim is complete: removes the mark by which the sweep knows the claims that nobody answers for.
    ///
    /// # Errors
    ///
    /// If the mark may be there still. The sweep would then remove the sandbox, so the claim has failed.
    pub(super) async fn finish(&self, sandbox: Arc<Sandbox>) -> Result<Arc<Sandbox>, ClaimError> {
        let (mut sandbox, mut pause) = (sandbox, PAUSE);
        let mut last = WriteError::Outdated;
        for _ in 0..TRIES {
            match self.write(&sandbox, unmark, REQUEST_TIMEOUT).await {
                Ok(written) => return Ok(written),
                // The controllers write the status of a new sandbox all the time.
                Err(WriteError::Outdated) => {}
                Err(error) => {
                    let is_unchanged = matches!(error, WriteError::NothingDone(_));
                    last = error;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(REQUEST_TIMEOUT);
                    if is_unchanged {
                        continue;
                    }
                }
            }
            match self.live_again(&sandbox).await {
                Ok(Some(live)) => sandbox = live,
                Ok(None) => return Err(gone(&sandbox)),
                Err(cause) => last = WriteError::NothingDone(cause),
            }
        }
        Err(ClaimError::Failed {
            sandbox: ObjectKey::of(&*sandbox),
            reason: format!("not completed: {last:?}"),
        })
    }
}

/// Removes the mark of a claim that is not complete.
pub(super) fn unmark(sandbox: &mut Sandbox) {
    if let Some(annotations) = &mut sandbox.metadata.annotations {
        annotations.remove(ANNOTATION_CLAIM_UNFINISHED_UNTIL);
    }
}

fn gone(sandbox: &Sandbox) -> ClaimError {
    ClaimError::Failed { sandbox: ObjectKey::of(sandbox), reason: "it was deleted meanwhile".to_owned() }
}
