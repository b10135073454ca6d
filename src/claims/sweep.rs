//! [`Sweeper`]: removes the sandboxes of claims that nobody answers for (Q4).
//!
//! A claim that takes more steps than its lock writes with the lock until when its process answers for it, renews that, and
//! removes it before it tells its caller. So a sandbox whose time is over was given to nobody: its process has ended in the middle. The
//! API server compares the version, so a claim that completes at this moment wins.
//!
//! An ordinary claim is complete with its lock. It has no mark, takes one write, and is never swept.

use std::sync::Arc;
use std::time::Duration;

use controller_manager::{CancellationToken, Runnable};
use jiff::Timestamp;
use shared_cache::{LookupError, ObjectKey};
use tokio::time::{MissedTickBehavior, interval};

use super::engine::Engine;
use crate::api::v1alpha1::{ANNOTATION_CLAIM_UNFINISHED_UNTIL, LABEL_TRUE, Sandbox, annotation};
use crate::cache::indexes::UNFINISHED_CLAIM;

/// How often the claims that are not complete are looked through.
const INTERVAL: Duration = Duration::from_secs(15);

/// Removes the sandboxes of claims that nobody answers for. Created by [`Claims::sweeper`](super::Claims::sweeper).
#[must_use = "the sweep runs when it is added to a manager"]
pub struct Sweeper {
    engine: Arc<Engine>,
}

impl Sweeper {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Removes what nobody answers for now. Returns the number of sandboxes.
    async fn sweep(&self, now: Timestamp) -> usize {
        // The cost is by the claims under way, not by the sandboxes of the cluster.
        let unfinished = match self.engine.sandboxes.by_index(UNFINISHED_CLAIM, LABEL_TRUE) {
            Ok(unfinished) => unfinished,
            Err(LookupError::NotSynced { .. }) => return 0,
            Err(error) => {
                tracing::warn!(%error, "cannot look for abandoned sandboxes");
                return 0;
            }
        };
        let mut removed = 0;
        for sandbox in unfinished.iter().filter(|sandbox| is_abandoned(sandbox, now)) {
            let key = ObjectKey::of(&**sandbox);
            match self.engine.delete_if(sandbox, sandbox.metadata.resource_version.clone()).await {
                Ok(true) => {
                    tracing::warn!(sandbox = %key, "removed a sandbox whose claim was never completed");
                    self.engine.shared.metrics.swept();
                    removed += 1;
                }
                // It has changed: its claim was completed, or the next sweep sees it.
                Ok(false) => {}
                Err(error) => tracing::warn!(sandbox = %key, ?error, "cannot remove an abandoned sandbox"),
            }
        }
        removed
    }
}

/// Returns true if the claim of a sandbox is not complete, and its time is over. A time that cannot be read is that of
/// somebody else.
fn is_abandoned(sandbox: &Sandbox, now: Timestamp) -> bool {
    let until = annotation(&sandbox.metadata, ANNOTATION_CLAIM_UNFINISHED_UNTIL);
    let until = until.and_then(|until| until.parse::<Timestamp>().ok());
    sandbox.is_claimed() && !sandbox.is_deleting() && until.is_some_and(|until| until < now)
}

impl Runnable for Sweeper {
    async fn run(self, stop: CancellationToken) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.sweep(Timestamp::now()).await;
        }
        Ok(())
    }

    fn name(&self) -> std::borrow::Cow<'static, str> {
        "claim sweep".into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::LABEL_SANDBOX_CLAIMED;

    #[test]
    fn q4_only_a_claim_that_is_not_complete_and_late_is_abandoned() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let sandbox = |until: &str, claimed: &str| -> Sandbox {
            let annotations = json!({ ANNOTATION_CLAIM_UNFINISHED_UNTIL: until });
            let labels = json!({ LABEL_SANDBOX_CLAIMED: claimed });
            serde_json::from_value(
                json!({ "metadata": { "annotations": annotations, "labels": labels }, "spec": {} }),
            )
            .unwrap()
        };
        assert!(is_abandoned(&sandbox("2029-12-31T23:59:59Z", "true"), now));
        assert!(!is_abandoned(&sandbox("2030-01-01T00:00:01Z", "true"), now));
        assert!(!is_abandoned(&sandbox("2029-12-31T23:59:59Z", "false"), now));
        for until in ["", "soon"] {
            assert!(!is_abandoned(&sandbox(until, "true"), now), "{until}");
        }
    }
}
