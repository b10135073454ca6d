//! Pending and Resuming: a pod is created and becomes ready (LS1).

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::decide::{fail, show_pod, succeed};
use super::decision::{Action, Plan};
use super::observed::PodView;
use super::pod_state::PodState;
use super::{revision, update};
use crate::api::v1alpha1::{
    CONDITION_READY, CONDITION_SANDBOX_RESUMED, ConditionStatus, FINALIZER_SANDBOX, REASON_POD_NAME_TAKEN,
    REASON_POD_READY, REASON_RESUME_POD, SandboxPhase,
};
use crate::lifecycle::events::Reason;

/// When to look again for something whose change leads to no decision by itself: a foreign pod without our label, or a
/// template that a selector hides.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Brings a sandbox to Running. `phase` is Pending or Resuming.
pub(super) fn start(plan: &mut Plan<'_>, phase: SandboxPhase) {
    plan.phase(phase.clone());
    let observed = plan.observed;
    match &observed.pod {
        PodView::Absent => create(plan, REASON_POD_READY),
        PodView::Foreign(pod) => name_taken(plan, pod),
        // It may have been deleted before the sandbox was ever ready. The next pod gets its name when it is gone.
        PodView::Ours(pod) if pod.metadata.deletion_timestamp.is_some() => {
            plan.not_ready(REASON_POD_READY, "the pod is being deleted");
        }
        PodView::Ours(pod) => follow(plan, pod, &phase),
    }
}

/// LS1: the sandbox follows the pod that it has.
fn follow(plan: &mut Plan<'_>, pod: &Pod, phase: &SandboxPhase) {
    if plan.status.update_revision.is_none()
        && let Ok(parts) = plan.observed.parts()
    {
        plan.status.update_revision = Some(revision::of(parts.template).into());
    }
    match PodState::of(pod) {
        PodState::Failed(message) => fail(plan, &message),
        PodState::Succeeded(message) => succeed(plan, &message),
        PodState::NotReady { reason, message } if reason == REASON_POD_READY => {
            plan.not_ready(reason, &message);
            plan.status.message = None;
            update::follow_template(plan, pod);
        }
        PodState::NotReady { reason, message } => {
            plan.problem(reason, &message);
            update::follow_template(plan, pod);
        }
        PodState::Ready => {
            ready(plan, pod, phase);
            update::follow_template(plan, pod);
        }
    }
}

fn ready(plan: &mut Plan<'_>, pod: &Pod, phase: &SandboxPhase) {
    let note = if *phase == SandboxPhase::Resuming {
        let finalizers = plan.observed.sandbox.metadata.finalizers.iter().flatten();
        // Its pod is collected through the owner reference from now on (LS6).
        if finalizers.into_iter().any(|known| known == FINALIZER_SANDBOX) {
            plan.act(Action::SetFinalizer(false));
        }
        plan.condition(CONDITION_SANDBOX_RESUMED, ConditionStatus::True, REASON_RESUME_POD, "");
        "Sandbox resumed"
    } else {
        "Sandbox started"
    };
    plan.phase(SandboxPhase::Running);
    plan.condition(CONDITION_READY, ConditionStatus::True, REASON_POD_READY, "");
    plan.status.message = None;
    show_pod(plan, pod);
    plan.event(Reason::SandboxRunning, note);
}

/// LC3: waits until the name is free.
pub(super) fn name_taken(plan: &mut Plan<'_>, pod: &Pod) {
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

/// Creates the pod, unless something is missing. `reason` is that of the condition Ready until the pod is ready.
pub(super) fn create(plan: &mut Plan<'_>, reason: &str) {
    let observed = plan.observed;
    let parts = match observed.parts() {
        Ok(parts) => parts,
        Err((reason, message)) => {
            plan.problem(reason, &message);
            return plan.requeue_within(LOOK_AGAIN);
        }
    };
    if let Some(claim) = &observed.ending_claim {
        plan.problem("VolumeClaimEnding", &format!("volume claim {claim} is being deleted"));
        return plan.requeue_within(LOOK_AGAIN);
    }
    // The condition shows the failure.
    if let Some(held) = observed.held {
        return plan.requeue_within(held);
    }
    // LS4: the revision of another controller stays as long as it describes the template.
    let status = &mut plan.status;
    let foreign = status.update_revision.clone().filter(|known| !known.is_empty());
    let revision = match foreign.filter(|_| observed.generation_is_observed()) {
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
