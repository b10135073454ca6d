//! Derives the state of a sandbox, and whether the sandbox may be paused or resumed.
//!
//! The functions are pure: they depend on one object and the current time only. Indexes, waits and metrics
//! call them. The rules are tried in order, and the first rule that matches decides.
//!
//! Rule numbers refer to docs/behaviours.md.

use jiff::Timestamp;

use super::{
    ANNOTATION_CLEANUP, ANNOTATION_CLEANUP_ENABLED, ANNOTATION_LOCK, CONDITION_READY,
    CONDITION_SANDBOX_PAUSED, ConditionStatus, LABEL_TRUE, Sandbox, SandboxPhase, Time, annotation,
};

/// The fields that decide the state of a sandbox. If one of them could not be read, the state is unknown (V9).
const STATE_FIELDS: [&str; 10] = [
    "metadata.deletionTimestamp",
    "metadata.ownerReferences",
    "metadata.labels.agents.kruise.io/sandbox-claimed",
    "metadata.annotations.agents.kruise.io/lock",
    "metadata.annotations.agents.kruise.io/cleanup",
    "metadata.annotations.agents.kruise.io/cleanup-enabled",
    "spec.paused",
    "spec.shutdownTime",
    "status.phase",
    "status.conditions",
];

named_enum! {
    /// The states that users and pools distinguish.
    pub enum StateKind {
        /// The sandbox is a ready, unclaimed member of a pool.
        Available => "available",
        /// The sandbox has not become ready yet.
        Creating => "creating",
        /// The sandbox runs and can be used.
        Running => "running",
        /// The sandbox is paused or is being paused.
        Paused => "paused",
        /// The sandbox cannot be used any more.
        Dead => "dead",
        /// The sandbox is being upgraded.
        Upgrading => "upgrading",
        /// The sandbox is being resumed.
        Resuming => "resuming",
        /// The sandbox is being cleaned up for its next use.
        Recycling => "recycling",
        /// A field that decides the state could not be read.
        Unknown => "unknown",
    }
}

named_enum! {
    /// Why a sandbox is in its state.
    pub enum StateReason {
        /// The sandbox is being deleted.
        ResourceDeleted => "ResourceDeleted",
        /// The shutdown time has passed.
        ShutdownTimeReached => "ShutdownTimeReached",
        /// The phase is Pending or absent.
        ResourcePending => "ResourcePending",
        /// The phase is Succeeded.
        ResourceSucceeded => "ResourceSucceeded",
        /// The phase is Failed.
        ResourceFailed => "ResourceFailed",
        /// The phase is Terminating.
        ResourceTerminating => "ResourceTerminating",
        /// A SandboxSet controls the sandbox, and the sandbox is ready.
        ResourceControlledBySbsAndReady => "ResourceControlledBySbsAndReady",
        /// A SandboxSet controls the sandbox, and the sandbox is not ready.
        ResourceControlledBySbsButNotReady => "ResourceControlledBySbsButNotReady",
        /// The phase is Running, and pausing was requested.
        RunningResourceClaimedAndPaused => "RunningResourceClaimedAndPaused",
        /// The phase is Running, and the sandbox is ready.
        RunningResourceClaimedAndReady => "RunningResourceClaimedAndReady",
        /// The phase is Running, and the sandbox is not ready.
        RunningResourceClaimedButNotReady => "RunningResourceClaimedButNotReady",
        /// The phase is Upgrading.
        ResourceUpgrading => "ResourceUpgrading",
        /// The phase is Resuming.
        ResourceResuming => "ResourceResuming",
        /// The phase is Recycling, or the annotations ask for a cleanup.
        ResourceRecycling => "ResourceRecycling",
        /// A field that decides the state could not be read.
        ResourcePartiallyDecoded => "ResourcePartiallyDecoded",
        /// The phase is any other, such as Paused.
        NotRunningResourceClaimed => "NotRunningResourceClaimed",
    }
}

named_enum! {
    /// Why a sandbox may or may not be paused or resumed.
    pub enum VerdictReason {
        /// The sandbox is an unclaimed member of a pool, is recycling, or its state is unknown.
        SandboxStateNotAllowed => "SandboxStateNotAllowed",
        /// The phase does not allow the action.
        SandboxPhaseNotAllowed => "SandboxPhaseNotAllowed",
        /// The phase is Running or Paused.
        SandboxIsRunningOrPaused => "SandboxIsRunningOrPaused",
        /// The phase is Running or Resuming.
        SandboxIsRunningOrResuming => "SandboxIsRunningOrResuming",
        /// The phase is Paused, and pausing is complete.
        SandboxIsPaused => "SandboxIsPaused",
        /// Pausing was requested and is not complete.
        SandboxIsPausing => "SandboxIsPausing",
        /// The phase is Running, and the condition Ready is False.
        SandboxIsRunningButNotReady => "SandboxIsRunningButNotReady",
        /// The sandbox is being deleted.
        SandboxIsDeleting => "SandboxIsDeleting",
        /// The shutdown time has passed.
        SandboxShutdownTimeReached => "SandboxShutdownTimeReached",
    }
}

/// The state of a sandbox at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SandboxState {
    /// The state.
    pub kind: StateKind,
    /// The rule that decided.
    pub reason: StateReason,
}

/// Whether an action on a sandbox is allowed, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// True if the action is allowed.
    pub allowed: bool,
    /// The rule that decided.
    pub reason: VerdictReason,
}

impl Verdict {
    const fn yes(reason: VerdictReason) -> Self {
        Self { allowed: true, reason }
    }

    const fn no(reason: VerdictReason) -> Self {
        Self { allowed: false, reason }
    }
}

impl Sandbox {
    /// Returns the state at `now` (J1 to J6, U2, V9).
    ///
    /// The state of an unchanged object changes at most once: when [`shutdown_at`](Self::shutdown_at) has
    /// passed.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> SandboxState {
        let (kind, reason) = self.state_of(now);
        SandboxState { kind, reason }
    }

    fn state_of(&self, now: Timestamp) -> (StateKind, StateReason) {
        use StateKind as Kind;
        use StateReason as Reason;

        if self.is_deleting() {
            return (Kind::Dead, Reason::ResourceDeleted);
        }
        if self.is_shut_down(now) {
            return (Kind::Dead, Reason::ShutdownTimeReached);
        }
        let phase = self.phase();
        match phase {
            Some(SandboxPhase::Pending) => return (Kind::Creating, Reason::ResourcePending),
            Some(SandboxPhase::Succeeded) => return (Kind::Dead, Reason::ResourceSucceeded),
            Some(SandboxPhase::Failed) => return (Kind::Dead, Reason::ResourceFailed),
            Some(SandboxPhase::Terminating) => return (Kind::Dead, Reason::ResourceTerminating),
            _ => {}
        }
        if self.is_recycling() {
            return (Kind::Recycling, Reason::ResourceRecycling);
        }
        if self.has_unread_state() {
            return (Kind::Unknown, Reason::ResourcePartiallyDecoded);
        }
        if self.is_controlled_by_sandbox_set() {
            return if self.is_ready() {
                (Kind::Available, Reason::ResourceControlledBySbsAndReady)
            } else {
                (Kind::Creating, Reason::ResourceControlledBySbsButNotReady)
            };
        }
        match phase {
            Some(SandboxPhase::Running) => self.running_state(),
            Some(SandboxPhase::Upgrading) => (Kind::Upgrading, Reason::ResourceUpgrading),
            Some(SandboxPhase::Resuming) => (Kind::Resuming, Reason::ResourceResuming),
            Some(_) => (Kind::Paused, Reason::NotRunningResourceClaimed),
            None => (Kind::Creating, Reason::ResourcePending),
        }
    }

    /// Returns the state of a sandbox in phase Running that no SandboxSet controls (J4).
    fn running_state(&self) -> (StateKind, StateReason) {
        if self.spec.paused == Some(true) {
            (StateKind::Paused, StateReason::RunningResourceClaimedAndPaused)
        } else if self.is_ready() {
            (StateKind::Running, StateReason::RunningResourceClaimedAndReady)
        } else {
            (StateKind::Dead, StateReason::RunningResourceClaimedButNotReady)
        }
    }

    /// Returns whether a caller may ask for a pause now (J7, U1).
    ///
    /// Ask before `spec.paused` is written. A sandbox that is being paused is no longer ready, so it is not pausable
    /// again. [`can_become_paused`](Self::can_become_paused) is the question after the write.
    #[must_use]
    pub fn pausable(&self) -> Verdict {
        let ready = self.condition(CONDITION_READY).map(|condition| &condition.status);
        match self.can_become_paused() {
            verdict if !verdict.allowed => verdict,
            _ if self.phase() == Some(&SandboxPhase::Running) && ready == Some(&ConditionStatus::False) => {
                Verdict::no(VerdictReason::SandboxIsRunningButNotReady)
            }
            verdict => verdict,
        }
    }

    /// Returns whether a pause that was asked for can complete (J7). A wait for the pause fails if it cannot.
    #[must_use]
    pub fn can_become_paused(&self) -> Verdict {
        if self.is_controlled_by_sandbox_set() || self.is_recycling() || self.has_unread_state() {
            return Verdict::no(VerdictReason::SandboxStateNotAllowed);
        }
        match self.phase() {
            Some(SandboxPhase::Running | SandboxPhase::Paused) => {
                Verdict::yes(VerdictReason::SandboxIsRunningOrPaused)
            }
            _ => Verdict::no(VerdictReason::SandboxPhaseNotAllowed),
        }
    }

    /// Returns whether a caller may ask for a resume at `now` (J8, U1).
    ///
    /// Ask before `spec.paused` is written. [`can_become_resumed`](Self::can_become_resumed) is the question after the
    /// write.
    #[must_use]
    pub fn resumable(&self, now: Timestamp) -> Verdict {
        match self.can_become_resumed(now) {
            verdict if !verdict.allowed => verdict,
            _ if self.phase() == Some(&SandboxPhase::Running) && self.spec.paused == Some(true) => {
                Verdict::no(VerdictReason::SandboxIsPausing)
            }
            verdict => verdict,
        }
    }

    /// Returns whether a resume that was asked for can complete (J8). A wait for the resume fails if it cannot.
    #[must_use]
    pub fn can_become_resumed(&self, now: Timestamp) -> Verdict {
        if self.is_deleting() {
            return Verdict::no(VerdictReason::SandboxIsDeleting);
        }
        if self.is_shut_down(now) {
            return Verdict::no(VerdictReason::SandboxShutdownTimeReached);
        }
        if self.is_recycling() || self.has_unread_state() {
            return Verdict::no(VerdictReason::SandboxStateNotAllowed);
        }
        match self.phase() {
            Some(SandboxPhase::Running | SandboxPhase::Resuming) => {
                Verdict::yes(VerdictReason::SandboxIsRunningOrResuming)
            }
            Some(SandboxPhase::Paused) if self.condition_is_true(CONDITION_SANDBOX_PAUSED) => {
                Verdict::yes(VerdictReason::SandboxIsPaused)
            }
            Some(SandboxPhase::Paused) => Verdict::no(VerdictReason::SandboxIsPausing),
            _ => Verdict::no(VerdictReason::SandboxPhaseNotAllowed),
        }
    }

    /// Returns true if the sandbox is a free member of a pool at `now`, ready or becoming ready (B1, U3). A locked
    /// sandbox is being claimed or removed, so it is not free.
    #[must_use]
    pub fn is_free_member(&self, now: Timestamp) -> bool {
        let is_member = match self.state(now).kind {
            StateKind::Available => true,
            StateKind::Creating => self.is_controlled_by_sandbox_set(),
            _ => false,
        };
        is_member && !self.is_claimed() && !self.is_locked()
    }

    /// Returns true if a claim, or the removal of a surplus sandbox, holds the lock of the sandbox (U3). A claimed
    /// sandbox keeps the lock of its claim.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        annotation(&self.metadata, ANNOTATION_LOCK).is_some()
    }

    /// Returns true if the sandbox is being cleaned up for its next use (U2).
    #[must_use]
    pub fn is_recycling(&self) -> bool {
        let is_true = |key| annotation(&self.metadata, key) == Some(LABEL_TRUE);
        self.phase() == Some(&SandboxPhase::Recycling)
            || is_true(ANNOTATION_CLEANUP) && is_true(ANNOTATION_CLEANUP_ENABLED)
    }

    /// Returns true if a field that decides the state could not be read (V9).
    fn has_unread_state(&self) -> bool {
        STATE_FIELDS.iter().any(|field| self.unread.touch(field))
    }

    /// Returns true if deletion was requested. The object exists until its last finalizer is removed.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Returns the shutdown time, if the sandbox has one. The sandbox is dead after this instant (J1).
    #[must_use]
    pub fn shutdown_at(&self) -> Option<Timestamp> {
        self.spec.shutdown_time.as_ref().map(Time::timestamp)
    }

    /// Returns true if the shutdown time is strictly before `now` (J1).
    fn is_shut_down(&self, now: Timestamp) -> bool {
        self.shutdown_at().is_some_and(|limit| limit < now)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2030-01-01T12:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    /// Returns a sandbox with this phase, this spec and these conditions (type and status).
    fn sandbox(phase: &str, spec: &Value, conditions: &[(&str, &str)]) -> Sandbox {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(type_, status)| {
                json!({
                    "type": type_, "status": status, "reason": "R", "message": "", "lastTransitionTime": NOW
                })
            })
            .collect();
        let object = json!({
            "metadata": { "namespace": "ns", "name": "a" },
            "spec": spec,
            "status": { "phase": phase, "conditions": conditions },
        });
        serde_json::from_value(object).unwrap()
    }

    fn of_phase(phase: &str) -> Sandbox {
        sandbox(phase, &json!({}), &[])
    }

    fn controlled(mut sandbox: Sandbox) -> Sandbox {
        let api_version = "agents.kruise.io/v1alpha1";
        sandbox.metadata.owner_references = serde_json::from_value(json!([
            { "apiVersion": api_version, "kind": "SandboxSet", "name": "s", "uid": "u", "controller": true }
        ]))
        .unwrap();
        sandbox
    }

    fn deleting(mut sandbox: Sandbox) -> Sandbox {
        sandbox.metadata.deletion_timestamp = serde_json::from_value(json!(NOW)).unwrap();
        sandbox
    }

    #[track_caller]
    fn assert_state(sandbox: &Sandbox, expected: &str) {
        let SandboxState { kind, reason } = sandbox.state(now());
        assert_eq!(format!("{kind}/{reason}"), expected);
    }

    #[track_caller]
    fn assert_verdict(verdict: Verdict, expected: &str) {
        let answer = if verdict.allowed { "yes" } else { "no" };
        assert_eq!(format!("{answer}/{}", verdict.reason), expected);
    }

    #[test]
    fn j1_deleting_is_dead_before_anything_else() {
        for phase in ["Running", "Pending", "Failed", ""] {
            assert_state(&deleting(controlled(of_phase(phase))), "dead/ResourceDeleted");
        }
        let both = sandbox("Running", &json!({ "shutdownTime": "2029-01-01T00:00:00Z" }), &[]);
        assert_state(&deleting(both), "dead/ResourceDeleted");
    }

    #[test]
    fn j1_shutdown_time_must_be_strictly_past() {
        let ending = |time: &str| sandbox("Running", &json!({ "shutdownTime": time }), &[("Ready", "True")]);
        assert_state(&ending("2030-01-01T11:59:59Z"), "dead/ShutdownTimeReached");
        assert_state(&ending("2030-01-01T19:59:59.9+08:00"), "dead/ShutdownTimeReached");
        assert_state(&ending(NOW), "running/RunningResourceClaimedAndReady");
        assert_state(&ending("2030-01-01T12:00:01Z"), "running/RunningResourceClaimedAndReady");
        assert_state(&controlled(ending("2030-01-01T11:59:59Z")), "dead/ShutdownTimeReached");
    }

    #[test]
    fn j2_pending_is_creating_and_ended_phases_are_dead() {
        for set in [controlled, |sandbox| sandbox] {
            assert_state(&set(of_phase("Pending")), "creating/ResourcePending");
            assert_state(&set(of_phase("Succeeded")), "dead/ResourceSucceeded");
            assert_state(&set(of_phase("Failed")), "dead/ResourceFailed");
            assert_state(&set(of_phase("Terminating")), "dead/ResourceTerminating");
        }
    }

    #[test]
    fn j3_of_a_set_is_available_when_ready_else_creating() {
        for phase in ["Running", "Upgrading", "Resuming", "Paused", "Novel", ""] {
            let ready = controlled(sandbox(phase, &json!({ "paused": true }), &[("Ready", "True")]));
            assert_state(&ready, "available/ResourceControlledBySbsAndReady");
            assert_state(&controlled(of_phase(phase)), "creating/ResourceControlledBySbsButNotReady");
        }
    }

    #[test]
    fn j3_only_a_controlling_sandbox_set_of_this_version_counts() {
        let field = |change: fn(&mut k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference)| {
            let mut sandbox = controlled(of_phase("Paused"));
            change(&mut sandbox.metadata.owner_references.as_mut().unwrap()[0]);
            sandbox
        };
        assert_eq!(field(|_| ()).controller_sandbox_set_name(), Some("s"));
        assert!(field(|_| ()).is_controlled_by_sandbox_set());
        for sandbox in [
            field(|owner| owner.controller = None),
            field(|owner| owner.controller = Some(false)),
            field(|owner| owner.kind = "SandboxClaim".to_owned()),
            field(|owner| owner.api_version = "agents.kruise.io/v1beta1".to_owned()),
        ] {
            assert_eq!(sandbox.controller_sandbox_set_name(), None);
            assert_state(&sandbox, "paused/NotRunningResourceClaimed");
        }
    }

    #[test]
    fn j4_running_and_paused_is_paused() {
        let sandbox = sandbox("Running", &json!({ "paused": true }), &[("Ready", "True")]);
        assert_state(&sandbox, "paused/RunningResourceClaimedAndPaused");
    }

    #[test]
    fn j4_running_is_running_when_ready_else_dead() {
        let of = |status| sandbox("Running", &json!({ "paused": false }), &[("Ready", status)]);
        assert_state(&of("True"), "running/RunningResourceClaimedAndReady");
        assert_state(&of("False"), "dead/RunningResourceClaimedButNotReady");
        assert_state(&of_phase("Running"), "dead/RunningResourceClaimedButNotReady");
    }

    #[test]
    fn j5_any_other_phase_is_paused() {
        assert_state(&of_phase("Paused"), "paused/NotRunningResourceClaimed");
        assert_state(&of_phase("Novel"), "paused/NotRunningResourceClaimed");
    }

    #[test]
    fn j5_upgrading_and_resuming_are_states_of_their_own() {
        assert_state(&of_phase("Upgrading"), "upgrading/ResourceUpgrading");
        assert_state(&of_phase("Resuming"), "resuming/ResourceResuming");
    }

    #[test]
    fn j5_no_phase_yet_is_creating() {
        assert_state(&of_phase(""), "creating/ResourcePending");
        assert_state(&Sandbox::default(), "creating/ResourcePending");
    }

    #[test]
    fn j6_ready_means_exactly_true() {
        for status in ["False", "Unknown", "true", "TRUE", "Yes", ""] {
            assert!(!sandbox("Running", &json!({}), &[("Ready", status)]).is_ready(), "{status}");
        }
        assert!(sandbox("Running", &json!({}), &[("SandboxPaused", "False"), ("Ready", "True")]).is_ready());
        assert!(!sandbox("Running", &json!({}), &[("SandboxPaused", "True")]).is_ready());
    }

    #[test]
    fn j7_members_of_a_pool_are_not_pausable() {
        for phase in ["Running", "Paused", "Pending", ""] {
            assert_verdict(controlled(of_phase(phase)).pausable(), "no/SandboxStateNotAllowed");
        }
    }

    #[test]
    fn j7_running_and_paused_are_pausable_and_nothing_else() {
        for phase in ["Running", "Paused"] {
            assert_verdict(of_phase(phase).pausable(), "yes/SandboxIsRunningOrPaused");
        }
        for phase in ["Pending", "Resuming", "Upgrading", "Succeeded", "Failed", "Terminating", "Novel", ""] {
            assert_verdict(of_phase(phase).pausable(), "no/SandboxPhaseNotAllowed");
        }
    }

    #[test]
    fn j8_deleting_and_shut_down_are_not_resumable() {
        for phase in ["Running", "Paused"] {
            assert_verdict(deleting(of_phase(phase)).resumable(now()), "no/SandboxIsDeleting");
            let ended = sandbox(phase, &json!({ "shutdownTime": "2030-01-01T11:59:59Z" }), &[]);
            assert_verdict(ended.resumable(now()), "no/SandboxShutdownTimeReached");
        }
        let last_moment = sandbox("Running", &json!({ "shutdownTime": NOW }), &[]);
        assert_verdict(last_moment.resumable(now()), "yes/SandboxIsRunningOrResuming");
    }

    #[test]
    fn j8_running_and_resuming_are_resumable() {
        for phase in ["Running", "Resuming"] {
            assert_verdict(of_phase(phase).resumable(now()), "yes/SandboxIsRunningOrResuming");
        }
    }

    #[test]
    fn j8_paused_is_resumable_once_pausing_is_complete() {
        let of = |status| sandbox("Paused", &json!({}), &[("SandboxPaused", status)]);
        assert_verdict(of("True").resumable(now()), "yes/SandboxIsPaused");
        assert_verdict(of("False").resumable(now()), "no/SandboxIsPausing");
        assert_verdict(of_phase("Paused").resumable(now()), "no/SandboxIsPausing");
    }

    #[test]
    fn j8_no_other_phase_is_resumable() {
        for phase in ["Pending", "Upgrading", "Succeeded", "Failed", "Terminating", "Novel", ""] {
            assert_verdict(of_phase(phase).resumable(now()), "no/SandboxPhaseNotAllowed");
        }
    }

    #[test]
    fn states_print_in_lower_case() {
        let names: Vec<&str> = StateKind::ALL.iter().map(|kind| kind.as_str()).collect();
        let expected = [
            "available",
            "creating",
            "running",
            "paused",
            "dead",
            "upgrading",
            "resuming",
            "recycling",
            "unknown",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn u1_a_running_sandbox_is_pausable_unless_its_condition_ready_is_false() {
        let of =
            |paused: bool, status| sandbox("Running", &json!({ "paused": paused }), &[("Ready", status)]);
        for paused in [false, true] {
            assert_verdict(of(paused, "False").pausable(), "no/SandboxIsRunningButNotReady");
            assert_verdict(of(paused, "True").pausable(), "yes/SandboxIsRunningOrPaused");
            assert_verdict(of(paused, "Unknown").pausable(), "yes/SandboxIsRunningOrPaused");
            assert_verdict(of(paused, "False").can_become_paused(), "yes/SandboxIsRunningOrPaused");
        }
        let paused = sandbox("Paused", &json!({}), &[("Ready", "False")]);
        assert_verdict(paused.pausable(), "yes/SandboxIsRunningOrPaused");
        assert_verdict(controlled(of(false, "False")).pausable(), "no/SandboxStateNotAllowed");
    }

    #[test]
    fn u1_a_running_sandbox_that_is_being_paused_is_not_resumable() {
        let of = |phase, paused| sandbox(phase, &json!({ "paused": paused }), &[("SandboxPaused", "True")]);
        assert_verdict(of("Running", true).resumable(now()), "no/SandboxIsPausing");
        assert_verdict(of("Running", false).resumable(now()), "yes/SandboxIsRunningOrResuming");
        assert_verdict(of("Resuming", true).resumable(now()), "yes/SandboxIsRunningOrResuming");
        assert_verdict(of("Paused", true).resumable(now()), "yes/SandboxIsPaused");
        assert_verdict(of("Running", true).can_become_resumed(now()), "yes/SandboxIsRunningOrResuming");
    }

    fn annotated(mut sandbox: Sandbox, annotations: &[(&str, &str)]) -> Sandbox {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        sandbox.metadata.annotations = Some(annotations.iter().map(own).collect());
        sandbox
    }

    #[test]
    fn u2_recycling_is_a_state_of_its_own() {
        let ready = |phase| sandbox(phase, &json!({}), &[("Ready", "True")]);
        for set in [controlled, |sandbox| sandbox] {
            assert_state(&set(ready("Recycling")), "recycling/ResourceRecycling");
            let both = [(ANNOTATION_CLEANUP, "true"), (ANNOTATION_CLEANUP_ENABLED, "true")];
            assert_state(&set(annotated(ready("Running"), &both)), "recycling/ResourceRecycling");
        }
        let one = |key| annotated(ready("Running"), &[(key, "true")]);
        assert_state(&one(ANNOTATION_CLEANUP), "running/RunningResourceClaimedAndReady");
        assert_state(&one(ANNOTATION_CLEANUP_ENABLED), "running/RunningResourceClaimedAndReady");
        assert_state(&deleting(ready("Recycling")), "dead/ResourceDeleted");
        assert_verdict(ready("Recycling").pausable(), "no/SandboxStateNotAllowed");
        assert_verdict(ready("Recycling").resumable(now()), "no/SandboxStateNotAllowed");
    }

    #[test]
    fn u3_a_locked_or_claimed_sandbox_is_no_free_member() {
        let member = || controlled(sandbox("Running", &json!({}), &[("Ready", "True")]));
        assert!(member().is_free_member(now()) && controlled(of_phase("Running")).is_free_member(now()));
        assert!(!annotated(member(), &[(ANNOTATION_LOCK, "l")]).is_free_member(now()));
        assert!(annotated(member(), &[(ANNOTATION_LOCK, "")]).is_free_member(now()));
        let mut claimed = member();
        claimed.metadata.labels =
            Some([(super::super::LABEL_SANDBOX_CLAIMED.to_owned(), "true".to_owned())].into());
        assert!(!claimed.is_free_member(now()));
        assert!(!of_phase("Pending").is_free_member(now()));
    }

    #[test]
    fn v9_a_state_whose_fields_could_not_be_read_is_unknown_and_never_free() {
        let unread = |field: &str, mut sandbox: Sandbox| {
            let fault = shared_cache::DecodeError { field: field.into(), problem: String::new() };
            sandbox.unread = vec![fault].into();
            sandbox
        };
        let member = || controlled(sandbox("Running", &json!({}), &[("Ready", "True")]));
        let deciding = [
            "metadata.labels",
            "metadata.labels.agents.kruise.io/sandbox-claimed",
            "metadata.annotations",
            "metadata.ownerReferences[0].controller",
            "spec",
            "spec.shutdownTime",
            "status",
            "status.phase",
            "status.conditions[1].type",
        ];
        for field in deciding {
            let sandbox = unread(field, member());
            assert_state(&sandbox, "unknown/ResourcePartiallyDecoded");
            assert!(!sandbox.is_free_member(now()), "{field}");
            assert_state(&unread(field, deleting(member())), "dead/ResourceDeleted");
            let claimed = || unread(field, of_phase("Running"));
            assert_verdict(claimed().pausable(), "no/SandboxStateNotAllowed");
            assert_verdict(claimed().resumable(now()), "no/SandboxStateNotAllowed");
        }
        for field in ["metadata.labels.app", "spec.template", "spec.pauseTime", "status.podInfo.labels"] {
            assert_state(&unread(field, member()), "available/ResourceControlledBySbsAndReady");
        }
    }
}
