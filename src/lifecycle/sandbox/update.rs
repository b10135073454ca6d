//! A template that changes while its pod runs (LS8, LS9).
//!
//! Labels and annotations are carried to the pod, and images and resources are changed in place where the API server
//! allows it. Everything else needs a new pod, which only `spec.upgradePolicy` allows.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};

use super::decision::{Action, Plan, PodChange};
use super::fit::{self, Fit};
use super::observed::{PodView, Template};
use super::outcome::{fail, show_pod, succeed, uid_of};
use super::pod_state::PodState;
use super::{creating, pod};
use crate::api::v1alpha1::{
    CONDITION_INPLACE_UPDATE, CONDITION_READY, CONDITION_UPGRADING, Condition, ConditionStatus,
    LABEL_POD_TEMPLATE_HASH, REASON_INPLACE_UPDATING, REASON_POD_READY, REASON_RECREATE_NOT_ALLOWED,
    REASON_SUCCEEDED, REASON_UPGRADING, SandboxPhase, Time,
};
use crate::lifecycle::events::Reason;
use crate::lifecycle::revision;

/// The policy that allows a new pod.
const RECREATE: &str = "Recreate";

/// Carries a change of the template to the running pod.
pub(super) fn follow_template(plan: &mut Plan<'_>, pod: &Pod) {
    let observed = plan.observed;
    let Ok(parts) = observed.parts() else { return };
    let ours = revision::of(parts.template);
    if !may_have_changed(plan, &ours) {
        return;
    }
    let wanted = pod::build(observed.sandbox, parts, &ours);
    let fit = match fit::compare(wanted, pod) {
        Ok(fit) => fit,
        Err(error) => return refuse(plan, &format!("the template is no valid pod: {error}")),
    };
    if observed.generation_is_observed() && fit.spec_fits() && fit.metadata_fits() {
        // Another controller has made this pod of this template. Its revision stays.
        return finish_in_place(plan, pod);
    }
    plan.status.update_revision = Some(ours.as_str().into());
    if fit.spec_fits() {
        carry_metadata(plan, pod, fit, &ours);
        return finish_in_place(plan, pod);
    }
    let is_refused = observed.update_refused.as_deref();
    if fit.other.is_empty() && is_refused.is_none() {
        return update_in_place(plan, pod, fit, &ours);
    }
    let mut needs = format!("{} cannot be changed in the running pod", fit.describe());
    if let Some(refusal) = is_refused {
        needs = format!("{needs}: {refusal}");
    }
    carry_metadata(plan, pod, fit, &ours);
    let policy = observed.sandbox.spec.upgrade_policy();
    if policy.and_then(|policy| policy.type_.as_deref()) == Some(RECREATE) {
        plan.phase(SandboxPhase::Upgrading);
        plan.condition(CONDITION_UPGRADING, ConditionStatus::True, REASON_UPGRADING, &needs);
        plan.not_ready(REASON_UPGRADING, "");
        plan.event(Reason::SandboxUpdating, needs);
        return;
    }
    refuse(plan, &needs);
}

/// Returns true if the pod has to be looked at (LS8). A template that is referred to does not count: other changes of the
/// sandbox must not bring a change of the template to its pod. The next pod has the new template.
fn may_have_changed(plan: &Plan<'_>, ours: &str) -> bool {
    let observed = plan.observed;
    if !matches!(observed.template, Template::Inline) {
        return false;
    }
    let status = observed.sandbox.status.as_ref();
    let stored = status.and_then(|status| status.update_revision.as_deref()).unwrap_or_default();
    let is_open = |condition: &Condition| {
        matches!(&*condition.reason, REASON_INPLACE_UPDATING | REASON_RECREATE_NOT_ALLOWED)
    };
    let is_open = observed.sandbox.condition(CONDITION_INPLACE_UPDATE).is_some_and(is_open);
    if !stored.is_empty() {
        // With our revision only other parts of the spec have changed, such as a timer. Admission may have changed the
        // pod, and that is no reason to touch it.
        return is_open || stored != ours;
    }
    let had_status = status.is_some_and(|status| status.observed_generation.is_some());
    is_open || (had_status && !observed.generation_is_observed())
}

/// LS9: labels and annotations never restart a pod.
fn carry_metadata(plan: &mut Plan<'_>, pod: &Pod, fit: Fit, revision: &str) {
    if fit.metadata_fits() {
        return;
    }
    let mut change = PodChange { labels: fit.labels, annotations: fit.annotations, ..PodChange::default() };
    change.labels.insert(LABEL_POD_TEMPLATE_HASH.to_owned(), revision.to_owned());
    plan.act(Action::PatchPod { uid: uid_of(pod), change });
}

fn update_in_place(plan: &mut Plan<'_>, pod: &Pod, fit: Fit, revision: &str) {
    let fields = fit.describe();
    let mut change = PodChange { labels: fit.labels, annotations: fit.annotations, images: fit.images };
    change.labels.insert(LABEL_POD_TEMPLATE_HASH.to_owned(), revision.to_owned());
    if !fit.resources.is_empty() {
        plan.act(Action::ResizePod { uid: uid_of(pod), resources: fit.resources });
    }
    plan.act(Action::PatchPod { uid: uid_of(pod), change });
    plan.condition(CONDITION_INPLACE_UPDATE, ConditionStatus::False, REASON_INPLACE_UPDATING, &fields);
    plan.not_ready(REASON_INPLACE_UPDATING, &fields);
    plan.event(Reason::SandboxUpdating, format!("Updating {fields} in place"));
}

/// Ends an update in place when the pod has done it. Ends a refusal when the template fits again.
fn finish_in_place(plan: &mut Plan<'_>, pod: &Pod) {
    let known = plan.observed.sandbox.condition(CONDITION_INPLACE_UPDATE);
    let is_open = |known: &&Condition| !known.is_true() || known.reason == REASON_INPLACE_UPDATING;
    let Some(known) = known.filter(is_open) else { return };
    let since = known.last_transition_time.as_ref().map(Time::timestamp);
    let is_done = known.reason != REASON_INPLACE_UPDATING
        || (PodState::of(pod) == PodState::Ready && is_updated(pod, since));
    if is_done {
        plan.condition(CONDITION_INPLACE_UPDATE, ConditionStatus::True, REASON_SUCCEEDED, "");
    } else if matches!(PodState::of(pod), PodState::Ready) {
        let message = known.message.clone();
        plan.not_ready(REASON_INPLACE_UPDATING, &message);
    }
}

/// Returns true if every container runs the image of the spec, and no resize is under way.
fn is_updated(pod: &Pod, since: Option<jiff::Timestamp>) -> bool {
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { return false };
    let resizing = status.conditions.iter().flatten().any(|condition| {
        matches!(&*condition.type_, "PodResizePending" | "PodResizeInProgress") && condition.status == "True"
    });
    let runs = |container: &Container| {
        let mut statuses = status.container_statuses.iter().flatten();
        statuses.find(|status| status.name == container.name).is_some_and(|status| {
            let image = container.image.as_deref().unwrap_or_default();
            is_image(&status.image, image) || started_after(status, since)
        })
    };
    !resizing && spec.containers.iter().all(runs)
}

/// Returns true if the image in a status is that of a spec. Runtimes add the registry and the tag that are the default.
fn is_image(actual: &str, wanted: &str) -> bool {
    let ends = |wanted: &str| {
        actual == wanted || actual.strip_suffix(wanted).is_some_and(|registry| registry.ends_with('/'))
    };
    ends(wanted) || ends(&format!("{wanted}:latest"))
}

fn started_after(status: &ContainerStatus, since: Option<jiff::Timestamp>) -> bool {
    let running = status.state.as_ref().and_then(|state| state.running.as_ref());
    let started = running.and_then(|running| running.started_at.as_ref()).map(|time| time.0);
    started.zip(since).is_some_and(|(started, since)| started > since)
}

/// Shows that the change needs a new pod, and that none may be made.
fn refuse(plan: &mut Plan<'_>, needs: &str) {
    let condition = |known: &Condition| known.reason == REASON_RECREATE_NOT_ALLOWED && known.message == needs;
    let is_known = plan.observed.sandbox.condition(CONDITION_INPLACE_UPDATE).is_some_and(condition);
    plan.condition(CONDITION_INPLACE_UPDATE, ConditionStatus::False, REASON_RECREATE_NOT_ALLOWED, needs);
    if !is_known {
        plan.event(Reason::RecreateNotAllowed, needs);
    }
}

/// The phase Upgrading: the old pod is deleted, and a pod of the new template is created.
pub(super) fn upgrade(plan: &mut Plan<'_>) {
    let observed = plan.observed;
    plan.phase(SandboxPhase::Upgrading);
    let pod = match &observed.pod {
        PodView::Absent => return creating::create(plan, REASON_UPGRADING),
        PodView::Foreign(pod) => return creating::name_taken(plan, pod),
        // A new pod is created when it is gone.
        PodView::Ours(pod) if pod.metadata.deletion_timestamp.is_some() => return,
        PodView::Ours(pod) => pod,
    };
    let fits = observed.parts().ok().is_none_or(|parts| {
        let wanted = pod::build(observed.sandbox, parts, &revision::of(parts.template));
        // A template that is no pod is no reason to delete one.
        fit::compare(wanted, pod).map_or(true, |fit| fit.spec_fits())
    });
    if !fits {
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
