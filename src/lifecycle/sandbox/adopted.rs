//! What to remember of a pod that another controller has made (LS8).

use super::made::{Adopted, Made};
use super::observed::{Observed, PodView, Template};
use super::{pod, progress};
use crate::api::v1alpha1::SandboxPhase;

/// Returns what is to be remembered of a sandbox for which there was nothing to do; `None` if that is nothing new.
pub(super) fn adopt(observed: &Observed<'_>) -> Option<Adopted> {
    let sandbox = observed.sandbox;
    let PodView::Ours(pod) = &observed.pod else { return None };
    // In other phases the template may have changed without any look at the pod.
    let is_settled = sandbox.phase() == Some(&SandboxPhase::Running)
        && matches!(observed.template, Template::Inline)
        && observed.generation_is_observed()
        && !progress::is_open(sandbox);
    let generation = sandbox.metadata.generation;
    let is_known = observed.adopted.as_ref().is_some_and(|known| known.generation == generation);
    if !is_settled || is_known || Made::on(pod).is_some() {
        return None;
    }
    let made = Made::of(&pod::spec(sandbox, observed.parts().ok()?));
    Some(Adopted { pod_uid: pod.metadata.uid.clone(), generation, made })
}
