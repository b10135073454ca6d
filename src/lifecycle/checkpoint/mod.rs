//! Checkpoints (LK2): registration, triggers, and the course of one reconcile.
//!
//! Nothing here saves or pretends to save the content of a sandbox. That is done by an agent on the node, if there is one.

mod apply;
mod decide;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use controller_manager::{Action, HandlerError, Observed, ReconcileHandler};
use jiff::Timestamp;
use shared_cache::{Event, KeyRef, ObjectKey, Reader, Satisfaction, SharedCache};

use self::decide::{View, decide};
use super::backoff::queue_options;
use super::events::{Events, Reason};
use super::metrics::LifecycleMetrics;
use super::requests::UNSEEN_WRITE;
use crate::api::v1alpha1::{Checkpoint, Sandbox};
use crate::cache::indexes::{CHECKPOINT_SANDBOX, template_ref_key};
use crate::manager::Manager;

/// Name of the controller that ends and deletes Checkpoints.
pub const CHECKPOINT_CONTROLLER: &str = "checkpoint-controller";

/// Adds the controller to a manager.
pub(super) fn add(manager: &mut Manager, concurrency: usize, metrics: &LifecycleMetrics) {
    let checkpoints: Reader<Checkpoint> = manager.cache().reader();
    let controller = manager.controller::<Checkpoint>(CHECKPOINT_CONTROLLER);
    controller.leader_only().max_concurrent_reconciles(concurrency).queue_options(queue_options());
    controller.watches_where::<Sandbox>(
        |event| matches!(event, Event::Deleted { .. }),
        move |sandbox| checkpoints_of(sandbox, &checkpoints),
    );
    let context = controller.context();
    let events = Events::new(manager, &context, metrics);
    let cache = context.cache().clone();
    let handler = CheckpointHandler { sandboxes: cache.reader(), cache, events };
    manager.controller::<Checkpoint>(CHECKPOINT_CONTROLLER).add_reconcile_handler(handler);
}

/// Returns the checkpoints that wait for a sandbox.
fn checkpoints_of(sandbox: &Sandbox, checkpoints: &Reader<Checkpoint>) -> Vec<ObjectKey> {
    let key = template_ref_key(sandbox.namespace_or_empty(), sandbox.name_or_empty());
    // Before the first sync there is nothing to do: each checkpoint is reconciled after it.
    let found = checkpoints.by_index(CHECKPOINT_SANDBOX, &key).unwrap_or_default();
    found.iter().map(|checkpoint| ObjectKey::from(KeyRef::of(&**checkpoint))).collect()
}

/// Reconciles checkpoints.
struct CheckpointHandler {
    cache: SharedCache,
    sandboxes: Reader<Sandbox>,
    events: Events,
}

impl ReconcileHandler<Checkpoint> for CheckpointHandler {
    async fn reconcile(&self, observed: Observed<Checkpoint>) -> Result<Action, HandlerError> {
        let Observed::Present(checkpoint) = observed else { return Ok(Action::await_change()) };
        // What could not be read may be the phase. The cache logs and counts such an object.
        if !checkpoint.partially_decoded().is_empty() {
            return Ok(Action::await_change());
        }
        if let Satisfaction::Unsatisfied { .. } = self.cache.is_satisfied(&*checkpoint) {
            return Ok(Action::requeue(UNSEEN_WRITE));
        }
        let sandbox_is_gone = self.sandbox_is_gone(&checkpoint).await?;
        let decision = decide(&View { checkpoint: &checkpoint, sandbox_is_gone, now: Timestamp::now() });
        if let Some(status) = &decision.status {
            let message = status.message.as_deref().unwrap_or_default();
            self.events.publish(&*checkpoint, Reason::CheckpointFailed, message);
        }
        let ttl = checkpoint.spec.ttl_after_finished.as_deref().unwrap_or_default();
        if decision.delete {
            let note = format!("Deleting Checkpoint after TTL of {ttl}");
            self.events.publish(&*checkpoint, Reason::CheckpointExpired, &note);
        }
        if decision.invalid_ttl {
            let note = format!("ttlAfterFinished is {ttl:?}: expected a duration such as 30m or 7d");
            self.events.publish(&*checkpoint, Reason::InvalidTTL, &note);
        }
        apply::apply(&self.cache, &checkpoint, &decision).await?;
        Ok(decision.after.map_or_else(Action::await_change, Action::requeue))
    }
}

impl CheckpointHandler {
    /// Returns true if the API server has no sandbox of the checkpoint. The cache alone cannot say that: a selector may
    /// leave the sandbox out, and the watch may lag behind.
    async fn sandbox_is_gone(&self, checkpoint: &Arc<Checkpoint>) -> Result<bool, HandlerError> {
        let Some(name) = checkpoint.spec.sandbox_name.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(false);
        };
        let namespace = checkpoint.namespace_or_empty();
        if checkpoint.has_started() || self.sandboxes.get(namespace, name)?.is_some() {
            return Ok(false);
        }
        Ok(self.cache.api_reader().get::<Sandbox>(namespace, name).await?.is_none())
    }
}
