//! Sets and members for the tests of this folder.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::blueprint;
use super::decide::{Decision, Observed, decide};
use super::failure_budget::{Backoff, FailureBudget};
use super::members::{Member, Unseen};
use super::memory::Trouble;
use super::revision;
use super::template::Template;
use crate::api::v1alpha1::{
    ANNOTATION_LOCK, ANNOTATION_OWNER, Condition, ConditionStatus, LABEL_SANDBOX_CLAIMED, LABEL_TRUE,
    Sandbox, SandboxPhase, SandboxSet, SandboxTemplate, Time,
};

/// A set named `pool` whose template has this image.
pub(super) fn set(replicas: i32, image: &str) -> SandboxSet {
    let object = json!({
        "metadata": { "namespace": "ns", "name": "pool", "uid": "set-uid", "generation": 1 },
        "spec": {
            "replicas": replicas,
            "template": {
                "metadata": { "labels": { "app": "x" }, "annotations": { "note": "n" } },
                "spec": { "containers": [{ "name": "a", "image": image }] },
            },
        },
    });
    serde_json::from_value(object).unwrap()
}

/// As [`set`], but it refers to the SandboxTemplate `gold`.
pub(super) fn referring_set(replicas: i32) -> SandboxSet {
    let mut set = set(replicas, "");
    set.spec.template = None;
    set.spec.template_ref = serde_json::from_value(json!({ "name": "gold" })).unwrap();
    set
}

/// A SandboxTemplate named `gold`, with the template of [`set`].
pub(super) fn sandbox_template(image: &str) -> SandboxTemplate {
    let object = json!({
        "metadata": {
            "namespace": "ns", "name": "gold", "uid": "template-uid", "resourceVersion": image,
        },
        "spec": { "template": set(0, image).spec.template },
    });
    serde_json::from_value(object).unwrap()
}

/// The instant of the tests, for the times of objects.
pub(super) fn wall() -> Timestamp {
    "2030-01-01T12:00:00Z".parse().unwrap()
}

/// A new member of the set, as the API server returns it.
pub(super) fn member(set: &SandboxSet, name: &str) -> Sandbox {
    let mut sandbox = blueprint::prototype(set, &revision::own(set, &Template::Inline));
    sandbox.metadata.name = Some(name.to_owned());
    sandbox.metadata.uid = Some(format!("uid-{name}"));
    sandbox.metadata.resource_version = Some("1".to_owned());
    sandbox
}

/// Changes of sandboxes.
pub(super) trait SandboxChanges: Sized {
    fn ready(self) -> Self;
    fn failed(self, message: &str) -> Self;
    fn claimed(self) -> Self;
    fn locked_by(self, owner: &str) -> Self;
}

impl SandboxChanges for Sandbox {
    fn ready(mut self) -> Self {
        let status = self.status.get_or_insert_default();
        status.phase = Some(SandboxPhase::Running);
        status.conditions = Some(vec![Condition {
            type_: "Ready".into(),
            status: ConditionStatus::True,
            reason: "PodReady".into(),
            message: "".into(),
            observed_generation: None,
            last_transition_time: Some(Time::from(Timestamp::UNIX_EPOCH)),
        }]);
        self
    }

    fn failed(mut self, message: &str) -> Self {
        let status = self.status.get_or_insert_default();
        (status.phase, status.message) = (Some(SandboxPhase::Failed), Some(message.into()));
        status.conditions = None;
        self
    }

    fn claimed(mut self) -> Self {
        let labels = self.metadata.labels.get_or_insert_default();
        labels.insert(LABEL_SANDBOX_CLAIMED.to_owned(), LABEL_TRUE.to_owned());
        self.metadata.owner_references = None;
        self.locked_by("user")
    }

    fn locked_by(mut self, owner: &str) -> Self {
        let annotations = self.metadata.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION_LOCK.to_owned(), "lock".to_owned());
        annotations.insert(ANNOTATION_OWNER.to_owned(), owner.to_owned());
        self
    }
}

/// What is observed in a test, with the defaults of a quiet pool.
pub(super) struct Pool {
    pub(super) set: SandboxSet,
    pub(super) template: Template,
    /// The revision of another controller that is still right.
    pub(super) known: Option<Arc<str>>,
    pub(super) members: Vec<Member>,
    pub(super) unseen: Unseen,
    pub(super) refusals: Backoff,
    pub(super) budget: FailureBudget,
    pub(super) trouble: Option<Trouble>,
    pub(super) is_out_of_scope: bool,
    pub(super) now: Instant,
}

impl Pool {
    pub(super) fn new(set: SandboxSet, sandboxes: impl IntoIterator<Item = Sandbox>) -> Self {
        let mut pool = Self {
            template: Template::of(&set, None),
            set,
            known: None,
            members: Vec::new(),
            unseen: Unseen::default(),
            refusals: Backoff::default(),
            budget: FailureBudget::default(),
            trouble: None,
            is_out_of_scope: false,
            now: Instant::now(),
        };
        pool.show(sandboxes);
        pool
    }

    pub(super) fn revision(&self) -> Arc<str> {
        self.known.clone().unwrap_or_else(|| revision::own(&self.set, &self.template))
    }

    /// Lets the cache show these sandboxes.
    pub(super) fn show(&mut self, sandboxes: impl IntoIterator<Item = Sandbox>) {
        let revision = self.revision();
        let members = sandboxes.into_iter().map(|sandbox| Member::new(Arc::new(sandbox), &revision, wall()));
        self.members = members.collect();
    }

    pub(super) fn decide(&mut self) -> Decision {
        let revision = self.revision();
        let observed = Observed {
            set: &self.set,
            template: &self.template,
            revision: &revision,
            members: &self.members,
            unseen: self.unseen,
            refusals: &self.refusals,
            trouble: self.trouble.as_ref(),
            is_out_of_scope: self.is_out_of_scope,
            now: self.now,
            wall: wall(),
        };
        decide(&observed, &mut self.budget)
    }
}

/// The names of sandboxes.
pub(super) fn names<'a>(sandboxes: impl IntoIterator<Item = &'a Arc<Sandbox>>) -> Vec<&'a str> {
    sandboxes.into_iter().map(|sandbox| sandbox.name_or_empty()).collect()
}
