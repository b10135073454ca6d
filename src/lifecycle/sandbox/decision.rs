//! [`Decision`]: what a decision consists of, and [`Plan`], with which it is made.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fit::ContainerChange;
use super::observed::Observed;
use crate::api::v1alpha1::{
    CONDITION_INPLACE_UPDATE, CONDITION_READY, Condition, ConditionStatus, Generation, SandboxPhase,
    SandboxStatus,
};
use crate::lifecycle::conditions;
use crate::lifecycle::events::Reason;

/// One step. Steps are executed in order, and a failed step ends the execution.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Deletes the sandbox, if its shutdown time is still the same or has passed.
    ShutDown,
    /// Sets `spec.paused`, if the pause time is still the same or has passed.
    Pause,
    /// Asks the API server for the pod, then decides again.
    ReadPod,
    /// Creates the volume claims that are missing, then the pod.
    CreatePod {
        /// The revision of the template.
        revision: String,
    },
    /// Deletes the pod of this UID.
    DeletePod {
        uid: String,
        /// The grace period in seconds, if it is not that of the pod.
        grace: Option<u32>,
    },
    /// Adds the finalizer, or removes it.
    SetFinalizer(bool),
    /// Changes labels, annotations and images of the pod of this UID.
    PatchPod { uid: String, change: PodChange },
    /// Changes the resources of the containers of the pod of this UID.
    ResizePod { uid: String, resources: Vec<ContainerChange> },
    /// Writes the status of the decision.
    WriteStatus,
}

impl Action {
    /// Returns true if the step changes the spec of a running pod.
    pub(super) fn changes_pod_spec(&self) -> bool {
        match self {
            Self::ResizePod { .. } => true,
            Self::PatchPod { change, .. } => !change.images.is_empty(),
            _ => false,
        }
    }
}

/// A change of a running pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PodChange {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) images: Vec<ContainerChange>,
}

/// The result of a decision.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decision {
    pub(super) actions: Vec<Action>,
    /// The next status. [`Action::WriteStatus`] is among the actions if it differs from the current one.
    pub(super) status: SandboxStatus,
    /// Published after all steps have succeeded.
    pub(super) events: Vec<(Reason, String)>,
    /// When to decide again if nothing changes.
    pub(super) requeue: Option<Duration>,
}

/// A decision that is being made.
pub(super) struct Plan<'a> {
    pub(super) observed: &'a Observed<'a>,
    pub(super) status: SandboxStatus,
    actions: Vec<Action>,
    events: Vec<(Reason, String)>,
    requeue: Option<Duration>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(observed: &'a Observed<'a>) -> Self {
        let status = observed.sandbox.status.clone().unwrap_or_default();
        Self { observed, status, actions: Vec::new(), events: Vec::new(), requeue: None }
    }

    /// Adds a step.
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Writes the status before the steps that follow. Without this, the status is written last.
    pub(super) fn write_status_here(&mut self) {
        self.act(Action::WriteStatus);
    }

    /// Adds an event.
    pub(super) fn event(&mut self, reason: Reason, note: impl Into<String>) {
        self.events.push((reason, note.into()));
    }

    /// Decides again after this time at the latest.
    pub(super) fn requeue_within(&mut self, delay: Duration) {
        self.requeue = Some(self.requeue.map_or(delay, |known| known.min(delay)));
    }

    /// Sets the phase. The status then describes the current spec.
    pub(super) fn phase(&mut self, phase: SandboxPhase) {
        self.status.phase = Some(phase);
        self.status.observed_generation = self.observed.sandbox.metadata.generation.map(Generation::from);
    }

    /// Sets a condition.
    pub(super) fn condition(&mut self, type_: &str, status: ConditionStatus, reason: &str, message: &str) {
        let observed = (self.observed.sandbox.metadata.generation, self.observed.now);
        conditions::set(&mut self.status.conditions, type_, status, (reason, message), observed);
    }

    /// Removes a condition.
    pub(super) fn remove_condition(&mut self, type_: &str) {
        conditions::remove(&mut self.status.conditions, type_);
    }

    /// Sets the condition Ready to False.
    pub(super) fn not_ready(&mut self, reason: &str, message: &str) {
        self.condition(CONDITION_READY, ConditionStatus::False, reason, message);
    }

    /// Shows a problem that keeps the sandbox from starting, also to `kubectl get`. Returns true if it is new.
    pub(super) fn problem(&mut self, reason: &str, message: &str) -> bool {
        let known = self.observed.sandbox.condition(CONDITION_READY);
        let is_new = known.is_none_or(|known| known.reason != reason || known.message != message);
        self.not_ready(reason, message);
        self.status.message = Some(message.into());
        is_new
    }

    /// Ends the decision. The status is written last unless it was written before, and not at all if it is the same.
    pub(super) fn finish(self) -> Decision {
        let Self { observed, mut status, mut actions, events, requeue } = self;
        if actions.contains(&Action::ReadPod) {
            // What follows is decided anew from the answer.
            return Decision { actions: vec![Action::ReadPod], status, events: Vec::new(), requeue };
        }
        keep_unchanged(observed.sandbox.conditions(), status.conditions.iter_mut().flatten());
        let unchanged = match &observed.sandbox.status {
            Some(current) => *current == status,
            None => status == SandboxStatus::default(),
        };
        if unchanged {
            actions.retain(|action| *action != Action::WriteStatus);
        } else if !actions.contains(&Action::WriteStatus) {
            actions.push(Action::WriteStatus);
        }
        Decision { actions, status, events, requeue }
    }
}

/// Undoes what a condition shows of steps within one decision: a status that is the same in the end has not changed. The
/// condition `InplaceUpdate` has no such steps, and each new update has a time of its own.
fn keep_unchanged<'c>(before: &[Condition], after: impl Iterator<Item = &'c mut Condition>) {
    for condition in after {
        let known = before.iter().find(|known| known.type_ == condition.type_);
        let is_kept = |known: &&Condition| {
            known.status == condition.status && condition.type_ != CONDITION_INPLACE_UPDATE
        };
        let Some(known) = known.filter(is_kept) else { continue };
        condition.last_transition_time.clone_from(&known.last_transition_time);
        let same = known.reason == condition.reason && known.message == condition.message;
        if same && known.observed_generation.is_none() {
            condition.observed_generation = None;
        }
    }
}
