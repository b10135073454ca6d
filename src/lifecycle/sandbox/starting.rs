//! Pending and Resuming: a pod is created and becomes ready (LS1).

use k8s_openapi::api::core::v1::Pod;

use super::creating::{create, forget_revision, name_taken};
use super::decision::{Action, Plan};
use super::observed::PodView;
use super::outcome::{fail, show_pod, succeed};
use super::pod_state::PodState;
use super::update;
use crate::api::v1alpha1::{
    CONDITION_READY, CONDITION_SANDBOX_RESUMED, ConditionStatus, FINALIZER_SANDBOX, REASON_POD_READY,
    REASON_RESUME_POD, SandboxPhase,
};
use crate::lifecycle::events::Reason;
use crate::lifecycle::revision;

/// Brings a sandbox to Running. `phase` is Pending or Resuming.
pub(super) fn start(plan: &mut Plan<'_>, phase: &SandboxPhase) {
    plan.phase(phase.clone());
    let observed = plan.observed;
    match &observed.pod {
        PodView::Absent => create(plan, REASON_POD_READY),
        PodView::Foreign(pod) => name_taken(plan, pod),
        // It may have been deleted before the sandbox was ever ready. The next pod gets its name when it is gone.
        PodView::Ours(pod) if pod.metadata.deletion_timestamp.is_some() => {
            forget_revision(plan);
            plan.not_ready(REASON_POD_READY, "the pod is being deleted");
        }
        PodView::Ours(pod) => follow(plan, pod, phase),
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
