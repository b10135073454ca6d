//! Sandbox -> Pod (docs/lifecycle.md, LS): registration and triggers.
//!
//! | File | What it holds |
//! |---|---|
//! | `handler.rs` | observes, decides and applies |
//! | `observe.rs`, `observed.rs`, `known.rs` | what a decision depends on: from the cache, and by live reads where the cache cannot know |
//! | `decide.rs`, `decision.rs` | pure: what is observed in, steps and next status out |
//! | `starting.rs`, `creating.rs`, `pausing.rs`, `update.rs`, `upgrade.rs`, `outcome.rs`, `timers.rs` | the parts of the decision, by phase |
//! | `pod_state.rs`, `progress.rs` | what the status of a pod means |
//! | `volume.rs` | whether an existing volume claim can be used |
//! | `apply.rs`, `requests.rs`, `refusal.rs` | execute the steps |
//! | `pod.rs` | builds the pod and the volume claims from the template |
//! | `made.rs`, `adopted.rs` | know of which spec a pod was made |
//! | `fit.rs` | compares a template with a pod |

mod adopted;
mod apply;
mod creating;
mod decide;
mod decision;
mod fit;
mod handler;
mod known;
mod made;
mod observe;
mod observed;
mod outcome;
mod pausing;
mod pod;
mod pod_state;
mod progress;
mod refusal;
mod requests;
mod starting;
mod timers;
mod update;
mod upgrade;
mod volume;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod update_tests;

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use shared_cache::{Event, KeyRef, ObjectKey, Reader};

use self::apply::Applier;
use self::handler::SandboxLifecycle;
use self::observe::Observer;
use super::backoff::{Backoff, queue_options};
use super::events::Events;
use super::metrics::LifecycleMetrics;
use crate::api::v1alpha1::{Sandbox, SandboxTemplate};
use crate::cache::indexes::{SANDBOX_TEMPLATE_REF, template_ref_key};
use crate::manager::Manager;

/// Name of the controller that turns Sandboxes into pods. The controller `sandbox` of the manager is another one,
/// because its handlers run on every replica.
pub const SANDBOX_CONTROLLER: &str = "sandbox-controller";

/// Delays after the API server has refused a pod (LC7).
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_mins(5);

/// Adds the controller to a manager.
pub(super) fn add(manager: &mut Manager, concurrency: usize, metrics: &LifecycleMetrics) {
    let sandboxes = manager.cache().reader::<Sandbox>();
    let controller = manager.controller::<Sandbox>(SANDBOX_CONTROLLER);
    controller
        .leader_only()
        .max_concurrent_reconciles(concurrency)
        .queue_options(queue_options())
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
    let applier = Applier { context, observer, events, metrics: metrics.clone() };
    manager.controller::<Sandbox>(SANDBOX_CONTROLLER).add_reconcile_handler(SandboxLifecycle { applier });
}

/// Returns the sandboxes that refer to a template.
fn waiting_for(sandboxes: &Reader<Sandbox>, template: &SandboxTemplate) -> Vec<ObjectKey> {
    let key = template_ref_key(template.namespace_or_empty(), template.name_or_empty());
    // An unsynced cache has nothing to tell: its objects are reconciled when they arrive.
    let waiting = sandboxes.by_index(SANDBOX_TEMPLATE_REF, &key).unwrap_or_default();
    waiting.iter().map(|sandbox| KeyRef::of(&**sandbox).into()).collect()
}
