//! Removes what a claim has left: the sandbox of a claim that failed or that nobody takes, and a lock that the API server
//! may write later (Q4).
//!
//! All of this runs in tasks that outlive the caller. They go on until the API server has done it or has refused it many
//! times, or the process ends.

use std::sync::Arc;
use std::time::Duration;

use shared_cache::{ObjectKey, WaitAction};

use super::engine::Engine;
use super::lost::{Fate, LATEST, LostLock, holds};
use super::unfinished::unmark;
use super::write::{REQUEST_TIMEOUT, WriteError};
use crate::api::v1alpha1::Sandbox;

/// The first and the longest pause after a request that failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// After so many refusals, in about five minutes, a sandbox is left alone: a task for each would fill the memory.
const MOST_REFUSALS: u32 = 16;

/// Waits until a lock whose answer was lost is decided.
const LOST_LOCK: WaitAction = WaitAction::new("LostLock");

impl Engine {
    /// Removes a sandbox of a claim that failed, or keeps it for inspection.
    pub(super) fn discard(self: &Arc<Self>, sandbox: Arc<Sandbox>, reserve: bool) {
        let engine = Arc::clone(self);
        self.spawn(async move {
            let (mut pause, mut refusals) = (RETRY.0, 0);
            loop {
                let done = if reserve { engine.reserve(&sandbox).await } else { engine.remove(&sandbox).await };
                let Err(error) = done else { return };
                let key = ObjectKey::of(&*sandbox);
                refusals += u32::from(matches!(error, WriteError::Refused { .. } | WriteError::Unreadable(_)));
                if refusals == MOST_REFUSALS {
                    tracing::error!(sandbox = %key, ?error, "a sandbox whose claim failed is left to its timeout");
                    return;
                }
                tracing::warn!(sandbox = %key, ?error, "cannot remove a sandbox whose claim failed; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
        });
    }

    /// Deletes a sandbox, and sees that it is gone if the API server has answered so.
    async fn remove(&self, sandbox: &Arc<Sandbox>) -> Result<bool, WriteError> {
        let was_there = self.delete(sandbox).await?;
        if was_there {
            return Ok(true);
        }
        match self.live_again(sandbox).await {
            Ok(Some(live)) if !live.is_deleting() => Err(WriteError::Outdated),
            Ok(_) => Ok(false),
            Err(cause) => Err(WriteError::Unknown(cause)),
        }
    }

    /// Marks a sandbox as kept for inspection. Returns false if it is gone.
    async fn reserve(&self, sandbox: &Arc<Sandbox>) -> Result<bool, WriteError> {
        let Some(live) = self.live_again(sandbox).await.map_err(WriteError::NothingDone)? else {
            return Ok(false);
        };
        let reserve = |sandbox: &mut Sandbox| {
            sandbox.reserve_failed();
            unmark(sandbox);
        };
        self.write(&live, reserve, REQUEST_TIMEOUT).await.map(|_| true)
    }

    /// Looks for a lock whose answer is lost, and undoes it. The API server may write it until the request has ended, or
    /// until another write of the sandbox makes it impossible.
    pub(super) fn undo_when_made(self: &Arc<Self>, lost: LostLock) {
        let (engine, expected) = (Arc::clone(self), lost.clone());
        self.spawn(async move {
            let is_decided =
                move |seen: Option<&Sandbox>| seen.is_some_and(|seen| expected.is_decided_by(seen));
            let wait = engine.cache.wait_for::<Sandbox>(lost.key(), is_decided);
            // A wait that ends without an answer is no error: the live read decides.
            let decided = wait.action(LOST_LOCK).timeout(LATEST).await;
            if let Ok(Some(sandbox)) = decided
                && !holds(&sandbox, lost.lock())
            {
                return;
            }
            let mut pause = RETRY.0;
            loop {
                match engine.fate(&lost).await {
                    Ok(Fate::Made(sandbox)) => {
                        if !engine.is_found_by_key(&sandbox).await {
                            engine.discard(sandbox, false);
                        }
                        return;
                    }
                    Ok(Fate::Void) => return,
                    Ok(Fate::Open) => {}
                    Err(error) => {
                        let sandbox = lost.key();
                        tracing::warn!(%sandbox, %error, "cannot see if a lost lock was written; trying again");
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
        });
    }
}
