//! SandboxSet -> Sandboxes (docs/behaviours.md, LP): registration and triggers.
//!
//! | File | What it holds |
//! |---|---|
//! | `decide.rs` | pure: the observed state of a set in, actions and next status out |
//! | `members.rs`, `rollout.rs`, `failure_budget.rs`, `template.rs`, `revision.rs`, `status.rs` | pure: the parts of a decision |
//! | `creations.rs`, `memory.rs` | what this process knows of a set beyond the cache |
//! | `reconciler.rs` | the handler: observes, decides, applies, again and again |
//! | `apply.rs`, `requests.rs` | executes the actions |
//! | `metrics.rs` | how many sandboxes are created and deleted |

mod apply;
mod creations;
mod decide;
#[cfg(test)]
mod decide_tests;
mod failure_budget;
mod members;
mod memory;
mod metrics;
#[cfg(test)]
mod model_tests;
mod reconciler;
mod requests;
mod revision;
mod rollout;
mod status;
mod template;
#[cfg(test)]
mod test_support;

use shared_cache::{KeyRef, ObjectKey, Reader};

use self::apply::Executor;
use self::metrics::PoolMetrics;
use self::reconciler::Reconciler;
use self::requests::Requests;
use super::backoff::queue_options;
use super::events::Events;
use super::metrics::LifecycleMetrics;
use crate::api::v1alpha1::{Sandbox, SandboxSet, SandboxTemplate};
pub(super) use crate::blueprint;
use crate::cache::indexes::{SANDBOX_SET_TEMPLATE_REF, template_ref_key};
use crate::manager::Manager;

/// Name of the controller that keeps the pools of SandboxSets full. The controller `sandboxset` of the manager is another
/// one, because its handlers run on every replica.
pub const SANDBOX_SET_CONTROLLER: &str = "sandboxset-controller";

/// Adds the controller to a manager. A change of a sandbox reconciles the set that controls it, and a change of a
/// SandboxTemplate the sets that refer to it.
///
/// # Errors
///
/// If the metrics are registered already.
pub(super) fn add(
    manager: &mut Manager,
    concurrency: usize,
    metrics: &LifecycleMetrics,
) -> Result<(), prometheus::Error> {
    let pool_metrics = PoolMetrics::register(manager.metrics().registry())?;
    let sets = manager.cache().reader::<SandboxSet>();
    let controller = manager.controller::<SandboxSet>(SANDBOX_SET_CONTROLLER);
    controller
        .leader_only()
        .max_concurrent_reconciles(concurrency)
        .queue_options(queue_options())
        .owns::<Sandbox>()
        .watches::<SandboxTemplate>(move |template| referring_to(&sets, template));
    let context = controller.context();
    let executor = Executor {
        requests: Requests::new(context.client().clone()),
        live: context.cache().api_reader(),
        cache: context.cache().clone(),
        events: Events::new(manager, &context, metrics),
        metrics: pool_metrics,
    };
    let reconciler = Reconciler::new(context, executor);
    manager.controller::<SandboxSet>(SANDBOX_SET_CONTROLLER).add_reconcile_handler(reconciler);
    Ok(())
}

/// Returns the sets that refer to a template.
fn referring_to(sets: &Reader<SandboxSet>, template: &SandboxTemplate) -> Vec<ObjectKey> {
    let key = template_ref_key(template.namespace_or_empty(), template.name_or_empty());
    // An unsynced cache has nothing to tell: its objects are reconciled when they arrive.
    let sets = sets.by_index(SANDBOX_SET_TEMPLATE_REF, &key).unwrap_or_default();
    sets.iter().map(|set| KeyRef::of(&**set).into()).collect()
}
