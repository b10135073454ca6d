//! The creation of a pod, and why it has to wait (LS2, LC3, LC7).

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::decision::{Action, Plan};
use super::volume::Obstacle;
use crate::api::v1alpha1::REASON_POD_NAME_TAKEN;
use crate::lifecycle::events::Reason;
use crate::lifecycle::revision;

/// Reason of the condition Ready: a volume claim of the sandbox is being deleted.
const REASON_VOLUME_CLAIM_ENDING: &str = "VolumeClaimEnding";

/// Reason of the condition Ready: a volume claim of another sandbox has the name of one of this sandbox.
const REASON_VOLUME_CLAIM_NAME_TAKEN: &str = "VolumeClaimNameTaken";

/// When to look again for something whose change leads to no decision by itself: a foreign pod without our label, or a
/// template that a selector hides.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// LS4: the status goes on to describe the current spec while no pod is made of it. The revision that is known then is
/// that of an older spec.
pub(super) fn forget_revision(plan: &mut Plan<'_>) {
    if !plan.observed.generation_is_observed() {
        plan.status.update_revision = None;
    }
}

/// LC3: waits until the name is free.
pub(super) fn name_taken(plan: &mut Plan<'_>, pod: &Pod) {
    forget_revision(plan);
    let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let owner = owner.map_or_else(
        || "no controller".to_owned(),
        |owner| format!("{} {} (UID {})", owner.kind, owner.name, owner.uid),
    );
    let name = plan.observed.sandbox.name_or_empty();
    let message = format!("pod {name} exists and belongs to {owner}; waiting until it is gone");
    if plan.problem(REASON_POD_NAME_TAKEN, &message) {
        plan.event(Reason::PodNameTaken, message);
    }
    plan.requeue_within(LOOK_AGAIN);
}

/// LS3: waits until the name of a volume claim is free. A pod that used the claim would lose its data with it.
fn claim_unusable(plan: &mut Plan<'_>, obstacle: &Obstacle) {
    match obstacle {
        Obstacle::Ending(claim) => {
            plan.problem(REASON_VOLUME_CLAIM_ENDING, &format!("volume claim {claim} is being deleted"));
        }
        Obstacle::Taken { claim, owner } => {
            let message = format!("volume claim {claim} belongs to {owner}; waiting until it is gone");
            if plan.problem(REASON_VOLUME_CLAIM_NAME_TAKEN, &message) {
                plan.event(Reason::VolumeClaimNameTaken, message);
            }
        }
    }
    plan.requeue_within(LOOK_AGAIN);
}

/// Creates the pod, unless something is missing. `reason` is that of the condition Ready until the pod is ready.
pub(super) fn create(plan: &mut Plan<'_>, reason: &str) {
    forget_revision(plan);
    let observed = plan.observed;
    let parts = match observed.parts() {
        Ok(parts) => parts,
        Err((reason, message)) => {
            plan.problem(reason, &message);
            return plan.requeue_within(LOOK_AGAIN);
        }
    };
    if let Some(obstacle) = &observed.obstacle {
        return claim_unusable(plan, obstacle);
    }
    // The condition shows the failure.
    if let Some(held) = observed.held {
        return plan.requeue_within(held);
    }
    // LS4: the revision of another controller stays as long as it describes the template.
    let status = &mut plan.status;
    let revision = match status.update_revision.clone().filter(|known| !known.is_empty()) {
        Some(revision) => revision.to_string(),
        None => revision::of(parts.template),
    };
    status.update_revision = Some(revision.as_str().into());
    status.message = None;
    plan.not_ready(reason, "");
    plan.act(Action::CreatePod { revision });
    if observed.sandbox.phase().is_none() {
        plan.event(Reason::SandboxPending, "Start sandbox");
    }
}
