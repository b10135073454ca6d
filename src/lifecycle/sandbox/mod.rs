//! Sandbox -> Pod (docs/lifecycle.md, LS): registration and triggers.
//!
//! | File | What it holds |
//! |---|---|
//! | `observe.rs`, `observed.rs`, `created.rs` | what a decision depends on: from the cache, and by live reads where the cache cannot know |
//! | `decide.rs`, `decision.rs` | pure: what is observed in, steps and next status out |
//! | `starting.rs`, `pausing.rs`, `update.rs`, `timers.rs` | the parts of the decision, by phase |
//! | `pod_state.rs` | what the status of a pod means |
//! | `apply.rs`, `requests.rs`, `refusal.rs` | execute the steps |
//! | `pod.rs` | builds the pod and the volume claims from the template |
//! | `revision.rs`, `fit.rs`, `quantity.rs` | compare a template with a revision, and with a pod |

mod apply;
mod created;
mod decide;
mod decision;
mod fit;
mod observe;
mod observed;
mod pausing;
mod pod;
mod pod_state;
mod quantity;
mod refusal;
mod requests;
mod revision;
mod starting;
mod timers;
mod update;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use controller_manager::{Action, Context, HandlerError, Observed as Shown, ReconcileHandler};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use shared_cache::{Event, KeyRef, ObjectKey, Reader};

use self::apply::Applied;
use self::decide::decide;
use self::observe::{Newest, Observer, UNSEEN_WRITE};
use super::backoff::Backoff;
use super::events::Events;
use super::metrics::LifecycleMetrics;
use crate::api::v1alpha1::{Sandbox, SandboxTemplate};
use crate::cache::indexes::{SANDBOX_TEMPLATE_REF, template_ref_key};
use crate::manager::Manager;

/// Delays after the API server has refused a pod (LC7).
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_mins(5);

/// How often a decision may ask for more in one reconcile: the pod is read, then created, then refused.
const MOST_ROUNDS: usize = 4;

/// Adds the controller to a manager.
pub(super) fn add(manager: &mut Manager, concurrency: usize, metrics: &LifecycleMetrics) {
    let sandboxes = manager.cache().reader::<Sandbox>();
    let controller = manager.controller::<Sandbox>(super::SANDBOX_CONTROLLER);
    controller
        .leader_only()
        .max_concurrent_reconciles(concurrency)
        .owns::<Pod>()
        // A sandbox waits for the end of a volume claim that has the name of its own one.
        .owns_where::<PersistentVolumeClaim>(|event| matches!(event, Event::Deleted { .. }))
        .watches_where::<SandboxTemplate>(
            |event| matches!(event, Event::Applied { old: None, .. }),
            move |template| waiting_for(&sandboxes, template),
        );
    let context = controller.context();
    let events = Events::new(manager, &context, metrics);
    let backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
    let observer = Observer::new(context.cache().clone(), backoff);
    let handler = SandboxLifecycle { context, observer, events, metrics: metrics.clone() };
    manager.controller::<Sandbox>(super::SANDBOX_CONTROLLER).add_reconcile_handler(handler);
}

/// Returns the sandboxes that refer to a template.
fn waiting_for(sandboxes: &Reader<Sandbox>, template: &SandboxTemplate) -> Vec<ObjectKey> {
    let key = template_ref_key(template.namespace_or_empty(), template.name_or_empty());
    // An unsynced cache has nothing to tell: its objects are reconciled when they arrive.
    let waiting = sandboxes.by_index(SANDBOX_TEMPLATE_REF, &key).unwrap_or_default();
    waiting.iter().map(|sandbox| KeyRef::of(&**sandbox).into()).collect()
}

/// The handler: observes, decides, and applies.
struct SandboxLifecycle {
    context: Context,
    observer: Observer,
    events: Events,
    metrics: LifecycleMetrics,
}

impl ReconcileHandler<Sandbox> for SandboxLifecycle {
    async fn reconcile(&self, shown: Shown<Sandbox>) -> Result<Action, HandlerError> {
        match shown {
            Shown::Present(sandbox) => self.run(sandbox).await,
            Shown::Deleted { last_known, .. } => {
                let uid = last_known.as_ref().and_then(|sandbox| sandbox.metadata.uid.as_deref());
                self.observer.forget(uid.unwrap_or_default());
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
        let sandbox = match self.observer.newest(&sandbox).await? {
            Newest::Known(Some(sandbox)) => sandbox,
            Newest::Known(None) => return Ok(Action::await_change()),
            Newest::Behind => return Ok(Action::requeue(UNSEEN_WRITE)),
        };
        let Some(mut observed) = self.observer.observe(&sandbox).await? else {
            return Ok(Action::requeue(UNSEEN_WRITE));
        };
        for _ in 0..MOST_ROUNDS {
            let decision = decide(&observed);
            let wish = decision.requeue.map_or_else(Action::await_change, Action::requeue);
            match self.apply(&sandbox, &mut observed, decision).await? {
                Applied::Done => return Ok(wish),
                Applied::Later(delay) => return Ok(wish.soonest(Action::requeue(delay))),
                Applied::DecideAgain => {}
            }
        }
        Err("the API server keeps changing its answer".into())
    }
}
