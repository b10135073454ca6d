//! The phase Upgrading: the old pod is deleted, and a pod of the new template is created (LS9).

use super::creating;
use super::decision::{Action, Plan};
use super::observed::PodView;
use super::outcome::{fail, show_pod, succeed, uid_of};
use super::pod_state::PodState;
use super::update::Comparison;
use crate::api::v1alpha1::{
    CONDITION_READY, CONDITION_UPGRADING, ConditionStatus, REASON_POD_READY, REASON_SUCCEEDED,
    REASON_UPGRADING, SandboxPhase,
};
use crate::lifecycle::events::Reason;

/// Brings a sandbox from the old pod to a new one. A pod that this controller has made of the current template is the new
/// one, whatever admission has changed in it: a pod that is replaced again and again would never be ready.
pub(super) fn upgrade(plan: &mut Plan<'_>) {
    let observed = plan.observed;
    plan.phase(SandboxPhase::Upgrading);
    let pod = match &observed.pod {
        PodView::Absent => return creating::create(plan, REASON_UPGRADING),
        PodView::Foreign(pod) => return creating::name_taken(plan, pod),
        // A new pod is created when it is gone.
        PodView::Ours(pod) if pod.metadata.deletion_timestamp.is_some() => {
            return creating::forget_revision(plan);
        }
        PodView::Ours(pod) => pod,
    };
    // A template that is missing, or is no pod, is no reason to delete one.
    let compared = Comparison::of(observed, pod).and_then(Result::ok);
    if compared.is_some_and(|compared| !compared.fit.spec_fits()) {
        creating::forget_revision(plan);
        return plan.act(Action::DeletePod { uid: uid_of(pod), grace: None });
    }
    match PodState::of(pod) {
        PodState::Failed(message) => fail(plan, &message),
        PodState::Succeeded(message) => succeed(plan, &message),
        PodState::NotReady { reason, message } if reason != REASON_POD_READY => {
            plan.problem(reason, &message);
        }
        PodState::NotReady { .. } => plan.not_ready(REASON_UPGRADING, ""),
        PodState::Ready => {
            plan.phase(SandboxPhase::Running);
            plan.status.message = None;
            plan.condition(CONDITION_READY, ConditionStatus::True, REASON_POD_READY, "");
            plan.condition(CONDITION_UPGRADING, ConditionStatus::False, REASON_SUCCEEDED, "");
            show_pod(plan, pod);
            plan.event(Reason::SandboxRunning, "Sandbox upgraded");
        }
    }
}
