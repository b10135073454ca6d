//! [`SandboxLifecycle`]: the handler of the controller.

use std::sync::Arc;

use controller_manager::{Action, HandlerError, Observed as Shown, ReconcileHandler};

use super::apply::{Applied, Applier};
use super::decide::decide;
use super::observe::Newest;
use crate::api::v1alpha1::Sandbox;
use crate::lifecycle::requests::UNSEEN_WRITE;

/// How often a decision may ask for more in one reconcile: the pod is read, then created, then refused.
const MOST_ROUNDS: usize = 4;

/// The handler: observes, decides, and applies.
pub(super) struct SandboxLifecycle {
    pub(super) applier: Applier,
}

impl ReconcileHandler<Sandbox> for SandboxLifecycle {
    async fn reconcile(&self, shown: Shown<Sandbox>) -> Result<Action, HandlerError> {
        match shown {
            Shown::Present(sandbox) => self.run(sandbox).await,
            Shown::Deleted { last_known, .. } => {
                let uid = last_known.as_ref().and_then(|sandbox| sandbox.metadata.uid.as_deref());
                self.applier.observer.forget(uid.unwrap_or_default());
                Ok(Action::await_change())
            }
        }
    }
}

impl SandboxLifecycle {
    async fn run(&self, sandbox: Arc<Sandbox>) -> Result<Action, HandlerError> {
        // What cannot be read may be what forbids the next step. The cache reports the field. Deleting depends on none.
        if !sandbox.partially_decoded().is_empty() && sandbox.metadata.deletion_timestamp.is_none() {
            return Ok(Action::await_change());
        }
        let sandbox = match self.applier.observer.newest(&sandbox).await? {
            Newest::Known(Some(sandbox)) => sandbox,
            Newest::Known(None) => return Ok(Action::await_change()),
            Newest::Behind => return Ok(Action::requeue(UNSEEN_WRITE)),
        };
        let Some(mut observed) = self.applier.observer.observe(&sandbox).await? else {
            return Ok(Action::requeue(UNSEEN_WRITE));
        };
        for _ in 0..MOST_ROUNDS {
            let decision = decide(&observed);
            let wish = decision.requeue.map_or_else(Action::await_change, Action::requeue);
            if decision.actions.is_empty() {
                self.applier.observer.at_rest(&observed);
            }
            match self.applier.apply(&sandbox, &mut observed, decision).await? {
                Applied::Done => return Ok(wish),
                Applied::Later(delay) => return Ok(wish.soonest(Action::requeue(delay))),
                Applied::DecideAgain => {}
            }
        }
        Err("the API server keeps changing its answer".into())
    }
}
