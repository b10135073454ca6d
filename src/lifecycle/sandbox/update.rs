//! A template that changes while its pod runs (LS8, LS9).
//!
//! Labels and annotations are carried to the pod, and images and resources are changed in place where the API server
//! allows it. Everything else needs a new pod, which only `spec.upgradePolicy` allows.

use k8s_openapi::api::core::v1::Pod;

use super::decision::{Action, Plan, PodChange};
use super::fit::{self, Fit};
use super::made::{Made, SameParts};
use super::observed::{Observed, Template};
use super::outcome::uid_of;
use super::pod;
use super::pod_state::PodState;
use super::progress::{self, Progress};
use crate::api::v1alpha1::{
    ANNOTATION_TEMPLATE_SPEC, CONDITION_INPLACE_UPDATE, CONDITION_UPGRADING, Condition, ConditionStatus,
    LABEL_POD_TEMPLATE_HASH, REASON_INPLACE_UPDATING, REASON_POD_UPDATE_FAILED, REASON_RECREATE_NOT_ALLOWED,
    REASON_SUCCEEDED, REASON_UPGRADING, SandboxPhase,
};
use crate::lifecycle::events::Reason;
use crate::lifecycle::revision;

/// The policy that allows a new pod.
const RECREATE: &str = "Recreate";

/// A pod that was compared with the template.
pub(super) struct Comparison {
    pub(super) fit: Fit,
    /// The revision of the template.
    revision: String,
    /// The hashes of the spec of the template.
    made: Made,
    /// Those of the spec that the pod was made of, if they are known.
    known: Option<Made>,
}

impl Comparison {
    /// Compares a pod with the template. `None` if there is no template.
    ///
    /// # Errors
    ///
    /// If the template is no valid pod.
    pub(super) fn of(observed: &Observed<'_>, pod: &Pod) -> Option<Result<Self, serde_json::Error>> {
        let parts = observed.parts().ok()?;
        let revision = revision::of(parts.template);
        let wanted = pod::build(observed.sandbox, parts, &revision);
        let made = Made::of(&wanted["spec"]);
        let adopted = || observed.adopted.as_ref().map(|adopted| adopted.made.clone());
        let known = Made::on(pod).or_else(adopted);
        let same = known.as_ref().map_or_else(SameParts::default, |known| known.same(&made));
        Some(fit::compare(wanted, pod, same).map(|fit| Self { fit, revision, made, known }))
    }

    /// Returns the change of the labels and annotations that differ.
    fn metadata(&self) -> PodChange {
        let Fit { labels, annotations, .. } = &self.fit;
        PodChange { labels: labels.clone(), annotations: annotations.clone(), ..PodChange::default() }
    }

    /// Returns true if the status was written for this template, with one of these reasons of `InplaceUpdate`.
    fn is_shown(&self, observed: &Observed<'_>, reasons: &[&str]) -> bool {
        let status = observed.sandbox.status.as_ref();
        let revision = status.and_then(|status| status.update_revision.as_deref());
        revision == Some(&*self.revision) && progress::has_reason(observed.sandbox, reasons)
    }

    /// Names the fields that an update is about. One that is under way may have done some of them already.
    fn fields(&self, observed: &Observed<'_>) -> String {
        let fits = self.fit.spec_fits();
        let known = observed.sandbox.condition(CONDITION_INPLACE_UPDATE);
        let is_under_way = |known: &&Condition| {
            !progress::names_nothing(known)
                && progress::has_reason(observed.sandbox, &AHEAD)
                && (fits || self.is_shown(observed, &AHEAD))
        };
        match known.filter(is_under_way) {
            Some(known) => fields_of(known).to_owned(),
            None if fits => "labels and annotations".to_owned(),
            None => self.fit.describe(),
        }
    }

    /// Returns true if the pod is marked as one of the template.
    fn has_marked(&self, pod: &Pod) -> bool {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(LABEL_POD_TEMPLATE_HASH)) == Some(&self.revision)
    }

    /// Marks the pod as one of the template.
    fn mark(&self, change: &mut PodChange) {
        change.labels.insert(LABEL_POD_TEMPLATE_HASH.to_owned(), self.revision.clone());
        change.annotations.insert(ANNOTATION_TEMPLATE_SPEC.to_owned(), self.made.to_string());
    }
}

/// Carries a change of the template to the running pod.
pub(super) fn follow_template(plan: &mut Plan<'_>, pod: &Pod) {
    let observed = plan.observed;
    if !may_have_changed(observed, pod) {
        return;
    }
    let compared = match Comparison::of(observed, pod) {
        None => return,
        Some(Ok(compared)) => compared,
        Some(Err(error)) => return refuse(plan, &format!("the template is no valid pod: {error}")),
    };
    let fit = &compared.fit;
    if observed.generation_is_observed() && fit.spec_fits() && fit.metadata_fits() {
        // Another controller may have made this pod of this template. Its revision stays.
        return finish_in_place(plan, pod, &compared);
    }
    plan.status.update_revision = Some(compared.revision.as_str().into());
    if let Some(why) = &observed.update_held {
        return hold(plan, &compared, why);
    }
    // The condition shows the answer.
    if let Some(held) = observed.held.filter(|_| compared.is_shown(observed, &[REASON_POD_UPDATE_FAILED])) {
        return plan.requeue_within(held);
    }
    if fit.spec_fits() {
        carry_metadata(plan, pod, &compared);
        return finish_in_place(plan, pod, &compared);
    }
    let is_refused = observed.update_refused.as_deref();
    if fit.other.is_empty() && is_refused.is_none() {
        return update_in_place(plan, pod, &compared);
    }
    carry_metadata(plan, pod, &compared);
    needs_new_pod(plan, &fit.describe(), is_refused);
}

/// Returns true if the pod has to be looked at (LS8). A template that is referred to does not count: other changes of the
/// sandbox must not bring a change of the template to its pod. The next pod has the new template.
fn may_have_changed(observed: &Observed<'_>, pod: &Pod) -> bool {
    let sandbox = observed.sandbox;
    let Some(template) = sandbox.spec.template.as_ref() else { return false };
    if !matches!(observed.template, Template::Inline) {
        return false;
    }
    if progress::is_open(sandbox) {
        return true;
    }
    let status = sandbox.status.as_ref();
    let was_looked_at = match status.and_then(|status| status.observed_generation) {
        // The sandbox has just got its pod.
        None => true,
        Some(_) => observed.generation_is_observed(),
    };
    // Before a sandbox runs, its template may have changed without a look at the pod. The look is right if the pod tells
    // of which spec it was made. Any other pod is left as its controller left it.
    if was_looked_at && (is_running(observed) || Made::on(pod).is_none()) {
        return false;
    }
    // With our revision only other parts of the spec have changed, such as a timer.
    let stored = status.and_then(|status| status.update_revision.as_deref()).unwrap_or_default();
    stored.is_empty() || stored != revision::of(template)
}

fn is_running(observed: &Observed<'_>) -> bool {
    observed.sandbox.phase() == Some(&SandboxPhase::Running)
}

/// LS9: labels and annotations never restart a pod. If the spec does not fit, the pod goes on to say what it was made of.
fn carry_metadata(plan: &mut Plan<'_>, pod: &Pod, compared: &Comparison) {
    let observed = plan.observed;
    // The status is written after the patch, but that of an update in place before.
    let is_ahead = progress::has_reason(observed.sandbox, &AHEAD);
    let is_written = observed.generation_is_observed() && is_running(observed) && !is_ahead;
    // If a label differs again, admission has set it back, and will do so again.
    let is_carried = is_written || compared.has_marked(pod);
    if compared.fit.metadata_fits() || is_carried {
        return;
    }
    let mut change = compared.metadata();
    if compared.fit.spec_fits() {
        compared.mark(&mut change);
    } else if let Some(known) = &compared.known {
        // What is remembered of a pod of another controller then survives this process.
        change.annotations.insert(ANNOTATION_TEMPLATE_SPEC.to_owned(), known.to_string());
    }
    plan.act(Action::PatchPod { uid: uid_of(pod), change });
}

/// Changes images and resources. The status is written before the pod is changed: so whoever sees that the template is
/// observed also sees that the containers do not run with it yet. A change that the API server has refused before is tried
/// again without this write: else each try would lead to the next one.
fn update_in_place(plan: &mut Plan<'_>, pod: &Pod, compared: &Comparison) {
    let fields = compared.fields(plan.observed);
    // Each update has a transition time of its own, because a container that has started since then runs with it.
    if !compared.is_shown(plan.observed, &[REASON_INPLACE_UPDATING]) {
        plan.remove_condition(CONDITION_INPLACE_UPDATE);
    }
    plan.condition(CONDITION_INPLACE_UPDATE, ConditionStatus::False, REASON_INPLACE_UPDATING, &fields);
    plan.not_ready(REASON_INPLACE_UPDATING, &fields);
    if !compared.is_shown(plan.observed, &REFUSED) {
        plan.write_status_here();
    }
    let mut change = PodChange { images: compared.fit.images.clone(), ..compared.metadata() };
    compared.mark(&mut change);
    if !compared.fit.resources.is_empty() {
        plan.act(Action::ResizePod { uid: uid_of(pod), resources: compared.fit.resources.clone() });
    }
    plan.act(Action::PatchPod { uid: uid_of(pod), change });
    plan.event(Reason::SandboxUpdating, format!("Updating {fields} in place"));
}

/// Ends an update in place when the pod has done it. Ends a refusal when the template fits again.
fn finish_in_place(plan: &mut Plan<'_>, pod: &Pod, compared: &Comparison) {
    let known = plan.observed.sandbox.condition(CONDITION_INPLACE_UPDATE);
    let is_unfinished = |known: &&Condition| !known.is_true() || known.reason == REASON_INPLACE_UPDATING;
    let Some(known) = known.filter(is_unfinished) else { return };
    let is_ready = PodState::of(pod) == PodState::Ready;
    // The API server has changed the pod after all, and the status could not be written.
    let is_changed = compared.is_shown(plan.observed, &REFUSED) && !progress::names_nothing(known);
    match Progress::of(pod, known) {
        Progress::Infeasible(why) => infeasible(plan, pod, known, &why),
        Progress::Updating | Progress::Deferred if is_changed => {
            let (fields, status) = (fields_of(known), ConditionStatus::False);
            plan.condition(CONDITION_INPLACE_UPDATE, status, REASON_INPLACE_UPDATING, fields);
        }
        // It was a refusal, and the template fits again.
        _ if known.reason != REASON_INPLACE_UPDATING => succeeded(plan),
        Progress::Done if is_ready => succeeded(plan),
        Progress::Updating if is_ready => plan.not_ready(REASON_INPLACE_UPDATING, &known.message),
        // The readiness is that of the pod.
        Progress::Done | Progress::Updating | Progress::Deferred => {}
    }
}

fn succeeded(plan: &mut Plan<'_>) {
    plan.condition(CONDITION_INPLACE_UPDATE, ConditionStatus::True, REASON_SUCCEEDED, "");
}

/// The API server has accepted new resources that the node can never have.
fn infeasible(plan: &mut Plan<'_>, pod: &Pod, known: &Condition, why: &str) {
    if known.reason == REASON_RECREATE_NOT_ALLOWED && !may_recreate(plan) {
        return;
    }
    needs_new_pod(plan, fields_of(known), Some(why));
    if plan.status.phase == Some(SandboxPhase::Upgrading) {
        // The spec of this pod fits, so nothing later would delete it.
        plan.write_status_here();
        plan.act(Action::DeletePod { uid: uid_of(pod), grace: None });
    }
}

/// Follows the names of the fields in the message of a change that needs a new pod.
const CANNOT_BE_CHANGED: &str = " cannot be changed in the running pod";

/// The reasons with which the condition may be written before the pod is changed.
const AHEAD: [&str; 2] = [REASON_INPLACE_UPDATING, REASON_POD_UPDATE_FAILED];

/// The reasons with which the condition shows that the pod was not changed.
const REFUSED: [&str; 2] = [REASON_POD_UPDATE_FAILED, REASON_RECREATE_NOT_ALLOWED];

/// Returns the names of the fields that a condition is about.
fn fields_of(known: &Condition) -> &str {
    known.message.split(CANNOT_BE_CHANGED).next().unwrap_or_default()
}

/// LC7: shows why the API server does not change the pod now. An update that is under way goes on to be shown.
fn hold(plan: &mut Plan<'_>, compared: &Comparison, why: &str) {
    let fields = compared.fields(plan.observed);
    let message = format!("{fields}{CANNOT_BE_CHANGED}: {why}");
    plan.condition(CONDITION_INPLACE_UPDATE, ConditionStatus::False, REASON_POD_UPDATE_FAILED, &message);
    if let Some(held) = plan.observed.held {
        plan.requeue_within(held);
    }
}

/// A change of these fields needs a new pod. `why` is the answer of those who have refused to change the running one.
fn needs_new_pod(plan: &mut Plan<'_>, fields: &str, why: Option<&str>) {
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    let needs = format!("{fields}{CANNOT_BE_CHANGED}{why}");
    if !may_recreate(plan) {
        return refuse(plan, &needs);
    }
    plan.phase(SandboxPhase::Upgrading);
    plan.condition(CONDITION_UPGRADING, ConditionStatus::True, REASON_UPGRADING, &needs);
    plan.not_ready(REASON_UPGRADING, "");
    plan.event(Reason::SandboxUpdating, needs);
}

fn may_recreate(plan: &Plan<'_>) -> bool {
    let policy = plan.observed.sandbox.spec.upgrade_policy();
    policy.and_then(|policy| policy.type_.as_deref()) == Some(RECREATE)
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
