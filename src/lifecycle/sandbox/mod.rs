//! Sandbox -> Pod (docs/behaviours.md, LS): registration and triggers.
//!
//! | File | What it holds |
//! |---|---|
//! | `decide.rs` | pure: the observed state of a sandbox in, actions and next status out |
//! | `observe.rs` | gathers the observed state from the cache, and by live reads where the cache cannot know |
//! | `apply.rs` | executes the actions of a decision |
//! | `pod.rs` | builds the pod and the volume claims from the template |
//! | `revision.rs`, `fit.rs`, `quantity.rs` | compare a template with a revision, and with a pod |

use k8s_openapi::api::core::v1::Pod;

use super::metrics::LifecycleMetrics;
use crate::api::v1alpha1::Sandbox;
use crate::manager::Manager;

/// Adds the controller to a manager.
pub(super) fn add(manager: &mut Manager, concurrency: usize, metrics: &LifecycleMetrics) {
    let controller = manager.controller::<Sandbox>(super::SANDBOX_CONTROLLER);
    controller.leader_only().max_concurrent_reconciles(concurrency).owns::<Pod>();
    let context = controller.context();
    let events = super::events::Events::new(manager, &context, metrics);
    let _ = (context, events);
}
