//! Paused: the pod is deleted, its volumes stay, and a new pod is created later (LS1).

use k8s_openapi::api::core::v1::Pod;

use super::creating;
use super::decision::{Action, Plan};
use super::observed::PodView;
use super::outcome::{fail, succeed, uid_of};
use super::pod_state::PodState;
use crate::api::v1alpha1::{
    CONDITION_SANDBOX_PAUSED, CONDITION_SANDBOX_RESUMED, CONDITION_UPGRADING, ConditionStatus,
    FINALIZER_SANDBOX, PauseStrategyType, REASON_CREATE_POD, REASON_DELETE_POD,
    REASON_HIBERNATE_NOT_SUPPORTED, REASON_POD_READY, REASON_STOP_PAUSE_SUCCEED, SandboxPhase,
};
use crate::lifecycle::events::Reason;

/// Grace period of the pod of a sandbox that is paused, in seconds.
const GRACE: u32 = 5;

/// Begins to pause a sandbox that does not run yet, or not again. A pod that has ended by itself still ends its sandbox.
pub(super) fn instead_of_starting(plan: &mut Plan<'_>) {
    let observed = plan.observed;
    let PodView::Ours(pod) = &observed.pod else { return begin(plan, None) };
    // The containers of a pod that is being deleted end, too.
    if pod.metadata.deletion_timestamp.is_some() {
        return begin(plan, Some(pod));
    }
    match PodState::of(pod) {
        PodState::Failed(message) => fail(plan, &message),
        PodState::Succeeded(message) => succeed(plan, &message),
        PodState::Ready | PodState::NotReady { .. } => begin(plan, Some(pod)),
    }
}

/// Begins to pause a sandbox. The status is written before the pod is deleted: so whoever sees that the pod is gone also
/// sees why.
pub(super) fn begin(plan: &mut Plan<'_>, pod: Option<&Pod>) {
    let metadata = &plan.observed.sandbox.metadata;
    if !metadata.finalizers.iter().flatten().any(|known| known == FINALIZER_SANDBOX) {
        plan.act(Action::SetFinalizer(true));
    }
    plan.phase(SandboxPhase::Paused);
    plan.condition(CONDITION_SANDBOX_PAUSED, ConditionStatus::False, REASON_DELETE_POD, "");
    plan.remove_condition(CONDITION_SANDBOX_RESUMED);
    if plan.observed.sandbox.condition_is_true(CONDITION_UPGRADING) {
        // The pod that is created for the resume has the current template.
        plan.remove_condition(CONDITION_UPGRADING);
    }
    plan.not_ready(REASON_POD_READY, "");
    plan.status.message = None;
    plan.write_status_here();
    if let Some(pod) = pod.filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        plan.act(Action::DeletePod { uid: uid_of(pod), grace: Some(GRACE) });
    }
    plan.event(Reason::SandboxPaused, "Pause sandbox");
    if hibernates(plan) {
        plan.event(
            Reason::HibernateNotSupported,
            "Hibernate is not supported here: the pod is deleted, and only its volumes are kept",
        );
    }
}

/// A sandbox in the phase Paused. Pausing finishes before resuming begins.
pub(super) fn paused(plan: &mut Plan<'_>) {
    let observed = plan.observed;
    plan.phase(SandboxPhase::Paused);
    if !observed.sandbox.condition_is_true(CONDITION_SANDBOX_PAUSED) {
        return finish(plan);
    }
    if observed.sandbox.spec.paused != Some(true) {
        return resume(plan);
    }
    // A pod that was created for a resume which the user has taken back. A hibernating pod of another controller stays.
    if let PodView::Ours(pod) = &observed.pod
        && pod.metadata.deletion_timestamp.is_none()
        && !hibernates(plan)
    {
        plan.act(Action::DeletePod { uid: uid_of(pod), grace: Some(GRACE) });
    }
}

/// Waits until the pod is gone.
fn finish(plan: &mut Plan<'_>) {
    let observed = plan.observed;
    match &observed.pod {
        PodView::Ours(pod) if pod.metadata.deletion_timestamp.is_some() => {}
        PodView::Ours(pod) => {
            plan.condition(CONDITION_SANDBOX_PAUSED, ConditionStatus::False, REASON_DELETE_POD, "");
            plan.write_status_here();
            plan.act(Action::DeletePod { uid: uid_of(pod), grace: Some(GRACE) });
        }
        PodView::Absent | PodView::Foreign(_) if !observed.pod_is_live => plan.act(Action::ReadPod),
        PodView::Absent | PodView::Foreign(_) => {
            let reason =
                if hibernates(plan) { REASON_HIBERNATE_NOT_SUPPORTED } else { REASON_STOP_PAUSE_SUCCEED };
            plan.condition(CONDITION_SANDBOX_PAUSED, ConditionStatus::True, reason, "");
            plan.not_ready(REASON_POD_READY, "");
            plan.remove_condition(CONDITION_SANDBOX_RESUMED);
            // The address may belong to another pod now.
            let status = &mut plan.status;
            (status.pod_info, status.sandbox_ip, status.node_name) = (None, None, None);
        }
    }
}

/// Begins to resume a paused sandbox.
fn resume(plan: &mut Plan<'_>) {
    // The cache may still show the pod that was deleted for the pause.
    if matches!(plan.observed.pod, PodView::Ours(_)) && !plan.observed.pod_is_live {
        return plan.act(Action::ReadPod);
    }
    plan.phase(SandboxPhase::Resuming);
    // LS4: the template may have changed during the pause, and the status has described the current spec all the time.
    plan.status.update_revision = None;
    plan.remove_condition(CONDITION_SANDBOX_PAUSED);
    plan.condition(CONDITION_SANDBOX_RESUMED, ConditionStatus::False, REASON_CREATE_POD, "");
    plan.event(Reason::SandboxResuming, "Resume sandbox");
    match &plan.observed.pod {
        PodView::Absent => creating::create(plan, REASON_POD_READY),
        // It was created before the status could be written.
        PodView::Ours(_) => plan.not_ready(REASON_POD_READY, ""),
        PodView::Foreign(pod) => creating::name_taken(plan, pod),
    }
}

/// Returns true if the spec asks for a pause that nothing here can do.
fn hibernates(plan: &Plan<'_>) -> bool {
    let strategy = plan.observed.sandbox.spec.pause_strategy();
    strategy.and_then(|strategy| strategy.type_.as_ref()) == Some(&PauseStrategyType::Hibernate)
}
