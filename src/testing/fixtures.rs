//! Builds objects for tests by chained calls: `Sandbox::test("a").claimed_by("u").ready()`.
//!
//! The result is the object itself, so a test may change any field.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;

use crate::api::v1alpha1::{
    ANNOTATION_OWNER, API_VERSION, Checkpoint, CheckpointPhase, CheckpointSpec, CheckpointStatus, Condition,
    ConditionStatus, LABEL_SANDBOX_CLAIMED, LABEL_SANDBOX_POOL, LABEL_TRUE, PodInfo, Sandbox, SandboxPhase,
    SandboxSet, SandboxSetSpec, SandboxSetStatus, SandboxSpec, SandboxTemplate, SandboxTemplateSpec, Time,
};

/// An object that has only a name.
pub trait TestObject: Sized {
    /// Creates an object of this name without a namespace. It is created in `default` or in the namespace of
    /// the request.
    fn test(name: &str) -> Self;
}

impl TestObject for Sandbox {
    fn test(name: &str) -> Self {
        Self::new(name, SandboxSpec::default())
    }
}

impl TestObject for SandboxSet {
    fn test(name: &str) -> Self {
        Self::new(name, SandboxSetSpec::default())
    }
}

impl TestObject for SandboxTemplate {
    fn test(name: &str) -> Self {
        Self::new(name, SandboxTemplateSpec::default())
    }
}

impl TestObject for Checkpoint {
    fn test(name: &str) -> Self {
        Self::new(name, CheckpointSpec::default())
    }
}

/// Fixture methods for every object.
pub trait MetadataFixture: Resource + Sized {
    /// Sets the namespace.
    #[must_use]
    fn in_namespace(mut self, namespace: &str) -> Self {
        self.meta_mut().namespace = Some(namespace.into());
        self
    }

    /// Sets a label.
    #[must_use]
    fn label(mut self, key: &str, value: &str) -> Self {
        self.meta_mut().labels.get_or_insert_default().insert(key.into(), value.into());
        self
    }

    /// Sets an annotation.
    #[must_use]
    fn annotation(mut self, key: &str, value: &str) -> Self {
        self.meta_mut().annotations.get_or_insert_default().insert(key.into(), value.into());
        self
    }

    /// Sets the owner, for claimed and unclaimed sandboxes.
    #[must_use]
    fn owned_by(self, user: &str) -> Self {
        self.annotation(ANNOTATION_OWNER, user)
    }

    /// Adds a finalizer, which keeps the object when it is deleted.
    #[must_use]
    fn finalizer(mut self, finalizer: &str) -> Self {
        self.meta_mut().finalizers.get_or_insert_default().push(finalizer.into());
        self
    }
}

impl<K: Resource> MetadataFixture for K {}

/// Fixture methods for sandboxes.
pub trait SandboxFixture: Sized {
    /// Makes the sandbox an unclaimed member of a set.
    #[must_use]
    fn of_set(self, set: &str) -> Self;
    /// Makes the sandbox claimed by a user: labelled, and not owned by a set.
    #[must_use]
    fn claimed_by(self, user: &str) -> Self;
    /// Sets the phase.
    #[must_use]
    fn in_phase(self, phase: SandboxPhase) -> Self;
    /// Sets a condition and replaces one of the same type.
    #[must_use]
    fn condition(self, kind: &str, status: ConditionStatus, reason: &str) -> Self;
    /// Makes the sandbox running, with an address and the condition Ready.
    #[must_use]
    fn ready(self) -> Self;
    /// Makes the sandbox paused, in its spec and its status.
    #[must_use]
    fn paused(self) -> Self;
    /// Makes the sandbox dead from this instant on.
    #[must_use]
    fn shut_down_at(self, at: Timestamp) -> Self;
}

impl SandboxFixture for Sandbox {
    fn of_set(mut self, set: &str) -> Self {
        self.metadata.owner_references = Some(vec![OwnerReference {
            api_version: API_VERSION.into(),
            kind: "SandboxSet".into(),
            name: set.into(),
            uid: "00000000-0000-0000-0000-000000000000".into(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        self.label(LABEL_SANDBOX_POOL, set)
    }

    fn claimed_by(mut self, user: &str) -> Self {
        self.metadata.owner_references = None;
        self.label(LABEL_SANDBOX_CLAIMED, LABEL_TRUE).owned_by(user)
    }

    fn in_phase(mut self, phase: SandboxPhase) -> Self {
        self.status.get_or_insert_default().phase = Some(phase);
        self
    }

    fn condition(mut self, kind: &str, status: ConditionStatus, reason: &str) -> Self {
        let conditions = self.status.get_or_insert_default().conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != *kind);
        conditions.push(Condition {
            type_: kind.into(),
            status,
            reason: reason.into(),
            message: "".into(),
            observed_generation: None,
            last_transition_time: Some(Time::from(Timestamp::UNIX_EPOCH)),
        });
        self
    }

    fn ready(self) -> Self {
        let mut sandbox =
            self.in_phase(SandboxPhase::Running).condition("Ready", ConditionStatus::True, "PodReady");
        let status = sandbox.status.get_or_insert_default();
        status.pod_info = Some(PodInfo { pod_ip: Some("10.0.0.1".into()), ..PodInfo::default() });
        sandbox
    }

    fn paused(mut self) -> Self {
        self.spec.paused = Some(true);
        self.in_phase(SandboxPhase::Paused).condition("SandboxPaused", ConditionStatus::True, "SetPause")
    }

    fn shut_down_at(mut self, at: Timestamp) -> Self {
        self.spec.shutdown_time = Some(Time::from(at));
        self
    }
}

/// Fixture methods for sets.
pub trait SandboxSetFixture: Sized {
    /// Sets the desired number of sandboxes.
    #[must_use]
    fn replicas(self, replicas: i32) -> Self;
    /// Sets the number of sandboxes, and how many of them are available.
    #[must_use]
    fn having(self, replicas: i32, available: i32) -> Self;
}

impl SandboxSetFixture for SandboxSet {
    fn replicas(mut self, replicas: i32) -> Self {
        self.spec.replicas = Some(replicas);
        self
    }

    fn having(mut self, replicas: i32, available: i32) -> Self {
        self.status =
            Some(SandboxSetStatus { replicas, available_replicas: available, ..SandboxSetStatus::default() });
        self
    }
}

/// Fixture methods for checkpoints.
pub trait CheckpointFixture: Sized {
    /// Sets the sandbox of the checkpoint.
    #[must_use]
    fn of_sandbox(self, sandbox: &str) -> Self;
    /// Makes the checkpoint succeeded with this id.
    #[must_use]
    fn saved_as(self, id: &str) -> Self;
}

impl CheckpointFixture for Checkpoint {
    fn of_sandbox(mut self, sandbox: &str) -> Self {
        self.spec.sandbox_name = Some(sandbox.into());
        self
    }

    fn saved_as(mut self, id: &str) -> Self {
        self.status = Some(CheckpointStatus {
            checkpoint_id: Some(id.into()),
            phase: Some(CheckpointPhase::Succeeded),
            ..CheckpointStatus::default()
        });
        self
    }
}
