//! Objects for tests, put together link by link: `Sandbox::test("a").claimed_by("u").ready()`.
//!
//! What comes out is the object itself, so a test may change any field of it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;

use crate::api::v1alpha1::{
    ANNOTATION_OWNER, API_VERSION, Checkpoint, CheckpointPhase, CheckpointSpec, CheckpointStatus, Condition,
    ConditionStatus, LABEL_SANDBOX_CLAIMED, LABEL_SANDBOX_POOL, LABEL_TRUE, PodInfo, Sandbox, SandboxPhase,
    SandboxSet, SandboxSetSpec, SandboxSetStatus, SandboxSpec, SandboxTemplate, SandboxTemplateSpec, Time,
};

/// An object that nothing is known of yet but its name.
pub trait TestObject: Sized {
    /// An object of this name in no namespace: it is created in `default`, or where it is created.
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

/// What any object can be given.
pub trait MetadataFixture: Resource + Sized {
    /// In this namespace.
    #[must_use]
    fn in_namespace(mut self, namespace: &str) -> Self {
        self.meta_mut().namespace = Some(namespace.into());
        self
    }

    /// With this label.
    #[must_use]
    fn label(mut self, key: &str, value: &str) -> Self {
        self.meta_mut().labels.get_or_insert_default().insert(key.into(), value.into());
        self
    }

    /// With this annotation.
    #[must_use]
    fn annotation(mut self, key: &str, value: &str) -> Self {
        self.meta_mut().annotations.get_or_insert_default().insert(key.into(), value.into());
        self
    }

    /// Belonging to this user, claimed or not.
    #[must_use]
    fn owned_by(self, user: &str) -> Self {
        self.annotation(ANNOTATION_OWNER, user)
    }

    /// Kept by this finalizer when it is deleted.
    #[must_use]
    fn finalizer(mut self, finalizer: &str) -> Self {
        self.meta_mut().finalizers.get_or_insert_default().push(finalizer.into());
        self
    }
}

impl<K: Resource> MetadataFixture for K {}

/// What a sandbox can be given.
pub trait SandboxFixture: Sized {
    /// Made by a set, and not claimed yet.
    #[must_use]
    fn of_set(self, set: &str) -> Self;
    /// Claimed by a user: labelled, and no set's any more.
    #[must_use]
    fn claimed_by(self, user: &str) -> Self;
    /// In this phase.
    #[must_use]
    fn in_phase(self, phase: SandboxPhase) -> Self;
    /// With this condition, in place of one of the same type.
    #[must_use]
    fn condition(self, kind: &str, status: ConditionStatus, reason: &str) -> Self;
    /// Running with an address, and its condition Ready says so.
    #[must_use]
    fn ready(self) -> Self;
    /// Asked to pause, and paused.
    #[must_use]
    fn paused(self) -> Self;
    /// Dead from this instant on.
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
            last_transition_time: Time::from(Timestamp::UNIX_EPOCH),
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

/// What a set can be given.
pub trait SandboxSetFixture: Sized {
    /// How many sandboxes it is to keep.
    #[must_use]
    fn replicas(self, replicas: i32) -> Self;
    /// How many it has, and how many of them are available.
    #[must_use]
    fn having(self, replicas: i32, available: i32) -> Self;
}

impl SandboxSetFixture for SandboxSet {
    fn replicas(mut self, replicas: i32) -> Self {
        self.spec.replicas = replicas;
        self
    }

    fn having(mut self, replicas: i32, available: i32) -> Self {
        self.status =
            Some(SandboxSetStatus { replicas, available_replicas: available, ..SandboxSetStatus::default() });
        self
    }
}

/// What a checkpoint can be given.
pub trait CheckpointFixture: Sized {
    /// Of this sandbox.
    #[must_use]
    fn of_sandbox(self, sandbox: &str) -> Self;
    /// Saved under this id.
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
