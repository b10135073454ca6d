//! [`Observed`]: everything on which the decision about a sandbox depends.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::made::Adopted;
use super::pod::Parts;
use super::volume::Obstacle;
use crate::api::v1alpha1::{Generation, REASON_TEMPLATE_NOT_FOUND, Sandbox, SandboxTemplate};

/// The observed state of a sandbox.
#[derive(Clone, Debug)]
pub(super) struct Observed<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) pod: PodView,
    /// True if `pod` is what the API server has just answered. The cache shows only pods with the label of sandboxes, and
    /// may be behind for a moment. So before a step that cannot be undone, the API server is asked.
    pub(super) pod_is_live: bool,
    pub(super) template: Template,
    /// Why a volume claim of the sandbox cannot be used yet.
    pub(super) obstacle: Option<Obstacle>,
    /// Of which spec the pod was made, if another controller has made it.
    pub(super) adopted: Option<Arc<Adopted>>,
    /// When to look again, because no event may tell of the pod: the cache does not show it yet.
    pub(super) look_again: Option<Duration>,
    /// How long no pod may be created or changed, because the API server has refused that.
    pub(super) held: Option<Duration>,
    /// Why the API server has ruled out to change the spec of the running pod.
    pub(super) update_refused: Option<String>,
    /// Why the API server does not change the running pod now. It is asked again after `held`.
    pub(super) update_held: Option<String>,
    pub(super) now: Timestamp,
}

/// The pod that has the name of a sandbox.
#[derive(Clone, Debug)]
pub(super) enum PodView {
    /// There is none.
    Absent,
    /// The sandbox controls it: its controller reference has the UID of the sandbox (LC3).
    Ours(Arc<Pod>),
    /// It belongs to another object, such as a deleted sandbox of the same name, or to none.
    Foreign(Arc<Pod>),
}

impl PodView {
    /// Tells whose pod this is.
    pub(super) fn of(pod: Option<Arc<Pod>>, sandbox: &Sandbox) -> Self {
        let Some(pod) = pod else { return Self::Absent };
        let owners = pod.metadata.owner_references.iter().flatten();
        let controller = owners.into_iter().find(|owner| owner.controller == Some(true));
        let uid = controller.map(|owner| owner.uid.as_str()).filter(|uid| !uid.is_empty());
        if uid.is_some() && uid == sandbox.metadata.uid.as_deref() {
            Self::Ours(pod)
        } else {
            Self::Foreign(pod)
        }
    }
}

/// The template of a sandbox.
#[derive(Clone, Debug)]
pub(super) enum Template {
    /// It is in the spec of the sandbox, or the sandbox has none.
    Inline,
    /// The object that the spec refers to.
    Referred(Arc<SandboxTemplate>),
    /// The object of this name does not exist.
    Missing(String),
}

impl Observed<'_> {
    /// Returns the parts of the pod, or why there are none, with a reason for a condition.
    pub(super) fn parts(&self) -> Result<Parts<'_>, (&'static str, String)> {
        let spec = &self.sandbox.spec;
        let (template, claims) = match &self.template {
            Template::Inline => (spec.template.as_ref(), None),
            Template::Referred(template) => {
                (template.spec.template.as_ref(), template.spec.volume_claim_templates.as_ref())
            }
            Template::Missing(name) => {
                let message = format!("SandboxTemplate {name} not found");
                return Err((REASON_TEMPLATE_NOT_FOUND, message));
            }
        };
        let claims = spec.volume_claim_templates.as_ref().or(claims);
        let missing =
            || ("TemplateMissing", "the sandbox has neither a template nor a reference to one".to_owned());
        template.map(|template| Parts { template, claims }).ok_or_else(missing)
    }

    /// Returns true if the status describes the current spec.
    pub(super) fn generation_is_observed(&self) -> bool {
        let status = self.sandbox.status.as_ref();
        let observed = status.and_then(|status| status.observed_generation);
        observed.map(Generation::get) == self.sandbox.metadata.generation
    }
}
