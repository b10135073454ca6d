//! [`Template`]: what the members of a set are made of.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::v1alpha1::{
    PodTemplate, REASON_TEMPLATE_NOT_FOUND, SandboxSet, SandboxTemplate, VolumeClaimTemplates,
};

/// Reason of a condition: there is no template of a pod.
const REASON_TEMPLATE_MISSING: &str = "TemplateMissing";

/// Time between two reads of a SandboxTemplate that the cache does not show.
const READ_INTERVAL: Duration = Duration::from_secs(30);

/// The template of a set.
#[derive(Clone, Debug)]
pub(super) enum Template {
    /// It is in the spec of the set.
    Inline,
    /// The SandboxTemplate that the spec refers to. It has a template of a pod.
    Referred(Arc<SandboxTemplate>),
    /// There is none, so no sandbox could start.
    Absent {
        /// Reason of a condition.
        reason: &'static str,
        /// What is missing, for people.
        message: String,
    },
}

impl Template {
    /// Returns the template of a set. `referred` is the SandboxTemplate of the name that the set refers to.
    pub(super) fn of(set: &SandboxSet, referred: Option<Arc<SandboxTemplate>>) -> Self {
        let missing = |message| Self::Absent { reason: REASON_TEMPLATE_MISSING, message };
        match (&set.spec.template, &set.spec.template_ref, referred) {
            (Some(_), _, _) => Self::Inline,
            (None, None, _) => missing("spec.template or spec.templateRef is needed".to_owned()),
            (None, Some(reference), None) => {
                let message = format!("SandboxTemplate {} not found", reference.name);
                Self::Absent { reason: REASON_TEMPLATE_NOT_FOUND, message }
            }
            (None, Some(reference), Some(template)) if template.spec.template.is_none() => {
                missing(format!("SandboxTemplate {} has no spec.template", reference.name))
            }
            (None, Some(_), Some(template)) => Self::Referred(template),
        }
    }

    /// Returns the SandboxTemplate that the set refers to.
    pub(super) fn referred(&self) -> Option<&SandboxTemplate> {
        match self {
            Self::Referred(template) => Some(template),
            Self::Inline | Self::Absent { .. } => None,
        }
    }

    /// Returns true if there is no template.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    /// Returns the parts of a pod in the SandboxTemplate, for an object that refers to it by this name.
    pub(super) fn parts_for(&self, name: &str) -> (Option<&PodTemplate>, Option<&VolumeClaimTemplates>) {
        let named = self.referred().filter(|template| template.name_or_empty() == name);
        let spec = named.map(|template| &template.spec);
        (
            spec.and_then(|spec| spec.template.as_ref()),
            spec.and_then(|spec| spec.volume_claim_templates.as_ref()),
        )
    }
}

/// A SandboxTemplate that the cache does not show because of its labels. It is read from the API server at intervals.
#[derive(Clone, Debug)]
pub(super) struct Unselected {
    name: String,
    read_at: Instant,
    template: Option<Arc<SandboxTemplate>>,
}

impl Unselected {
    /// Creates it from what was read just now.
    pub(super) fn new(name: &str, template: Option<Arc<SandboxTemplate>>) -> Self {
        Self { name: name.to_owned(), read_at: Instant::now(), template }
    }

    /// Returns true if it has this name.
    pub(super) fn is_of(&self, name: &str) -> bool {
        self.name == name
    }

    /// Returns the time until it is to be read again; zero if it is due.
    pub(super) fn due_in(&self) -> Duration {
        READ_INTERVAL.saturating_sub(self.read_at.elapsed())
    }

    pub(super) fn template(&self) -> Option<Arc<SandboxTemplate>> {
        self.template.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::test_support::{referring_set, sandbox_template, set};
    use super::*;

    fn absent(template: &Template) -> (&str, &str) {
        match template {
            Template::Absent { reason, message } => (reason, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ls2_a_set_without_a_template_of_a_pod_says_what_is_missing() {
        let mut none = set(1, "i");
        none.spec.template = None;
        let template = Template::of(&none, None);
        assert_eq!(absent(&template), ("TemplateMissing", "spec.template or spec.templateRef is needed"));
        let set = referring_set(1);
        let template = Template::of(&set, None);
        assert_eq!(absent(&template), ("TemplateNotFound", "SandboxTemplate gold not found"));
        let mut empty = sandbox_template("i");
        empty.spec.template = None;
        let template = Template::of(&set, Some(empty.into()));
        assert_eq!(absent(&template), ("TemplateMissing", "SandboxTemplate gold has no spec.template"));
    }

    #[test]
    fn ls2_a_template_in_the_set_goes_before_a_reference() {
        let mut both = set(1, "i");
        both.spec.template_ref = serde_json::from_value(json!({ "name": "gold" })).unwrap();
        assert!(matches!(Template::of(&both, Some(sandbox_template("j").into())), Template::Inline));
        let referring = Template::of(&referring_set(1), Some(sandbox_template("j").into()));
        assert!(referring.parts_for("gold").0.is_some() && referring.parts_for("other").0.is_none());
    }
}
