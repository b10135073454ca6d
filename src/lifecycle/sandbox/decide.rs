//! [`decide`]: the next steps for a sandbox, from what is observed. Pure: no I/O, and no clock but the given one.
//!
//! ```text
//!  none ──▶ Pending ──▶ Running ──▶ Paused ──▶ Resuming ──▶ Running       deletion: the pod, then the finalizer
//!                          ├──▶ Upgrading ──▶ Running
//!                          └──▶ Succeeded, Failed
//!  none, Pending, Resuming, Upgrading ──▶ Paused                            with `spec.paused`
//! ```
//!
//! Rule numbers refer to docs/lifecycle.md.

use super::decision::{Action, Decision, Plan};
use super::observed::{Observed, PodView};
use super::outcome::{POD_NOT_FOUND, fail, show_pod, succeed, uid_of};
use super::pod_state::PodState;
use super::timers::{self, Timer};
use super::{pausing, starting, update, upgrade};
use crate::api::v1alpha1::{
    CONDITION_READY, ConditionStatus, FINALIZER_SANDBOX, REASON_POD_READY, SandboxPhase,
};
use crate::lifecycle::events::Reason;

/// Decides what to do next. Applying the decision and deciding again comes to an end: the last decision has no actions.
pub(super) fn decide(observed: &Observed<'_>) -> Decision {
    let mut plan = Plan::new(observed);
    let sandbox = observed.sandbox;
    if sandbox.metadata.deletion_timestamp.is_some() {
        delete(&mut plan);
        return plan.finish();
    }
    match timers::fired(sandbox, observed.now) {
        // Nothing else matters any more.
        Some(Timer::Shutdown) => {
            plan.act(Action::ShutDown);
            plan.event(Reason::ShutdownTimeReached, "Shutdown time reached");
            return plan.finish();
        }
        // The change of the spec leads to the next decision.
        Some(Timer::Pause) => {
            plan.act(Action::Pause);
            plan.event(Reason::PauseTimeReached, "Pause time reached");
            return plan.finish();
        }
        None => {}
    }
    if let Some(delay) = timers::next(sandbox, observed.now) {
        plan.requeue_within(delay);
    }
    if let Some(delay) = observed.look_again {
        plan.requeue_within(delay);
    }
    match sandbox.phase() {
        // A sandbox that does not run yet need not run before it is paused.
        None | Some(SandboxPhase::Pending | SandboxPhase::Resuming | SandboxPhase::Upgrading)
            if sandbox.spec.paused == Some(true) =>
        {
            pausing::instead_of_starting(&mut plan);
        }
        None | Some(SandboxPhase::Pending) => starting::start(&mut plan, &SandboxPhase::Pending),
        Some(SandboxPhase::Resuming) => starting::start(&mut plan, &SandboxPhase::Resuming),
        Some(SandboxPhase::Upgrading) => upgrade::upgrade(&mut plan),
        Some(SandboxPhase::Running) => run(&mut plan),
        Some(SandboxPhase::Paused) => pausing::paused(&mut plan),
        // Succeeded and Failed are final. Other controllers own the other phases.
        Some(_) => {}
    }
    plan.finish()
}

/// LS1, LS6: deletes the pod, then removes the finalizer.
fn delete(plan: &mut Plan<'_>) {
    let observed = plan.observed;
    let metadata = &observed.sandbox.metadata;
    let has_finalizer = metadata.finalizers.iter().flatten().any(|known| known == FINALIZER_SANDBOX);
    match &observed.pod {
        PodView::Ours(pod) if pod.metadata.deletion_timestamp.is_none() => {
            plan.act(Action::DeletePod { uid: uid_of(pod), grace: None });
        }
        // The deletion of the pod leads to the next decision.
        PodView::Ours(_) => {}
        PodView::Absent | PodView::Foreign(_) if !has_finalizer => {}
        PodView::Absent | PodView::Foreign(_) if !observed.pod_is_live => plan.act(Action::ReadPod),
        PodView::Absent | PodView::Foreign(_) => plan.act(Action::SetFinalizer(false)),
    }
}

/// LS1: a running sandbox follows its pod.
fn run(plan: &mut Plan<'_>) {
    let observed = plan.observed;
    let wants_pause = observed.sandbox.spec.paused == Some(true);
    let pod = match &observed.pod {
        PodView::Ours(pod) => pod,
        PodView::Absent | PodView::Foreign(_) if !observed.pod_is_live => return plan.act(Action::ReadPod),
        // Nothing is lost for a sandbox that is to be paused: its pod would be deleted anyway.
        PodView::Absent | PodView::Foreign(_) if wants_pause => return pausing::begin(plan, None),
        PodView::Absent | PodView::Foreign(_) => return fail(plan, POD_NOT_FOUND),
    };
    match PodState::of(pod) {
        PodState::Failed(message) => return fail(plan, &message),
        PodState::Succeeded(message) => return succeed(plan, &message),
        _ if wants_pause => return pausing::begin(plan, Some(pod)),
        _ if pod.metadata.deletion_timestamp.is_some() => return fail(plan, POD_NOT_FOUND),
        PodState::Ready => {
            plan.phase(SandboxPhase::Running);
            plan.condition(CONDITION_READY, ConditionStatus::True, REASON_POD_READY, "");
        }
        PodState::NotReady { reason, message } => {
            plan.phase(SandboxPhase::Running);
            plan.not_ready(reason, &message);
        }
    }
    show_pod(plan, pod);
    update::follow_template(plan, pod);
}
