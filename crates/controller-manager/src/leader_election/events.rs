//! [`Announcer`]: an Event on the Lease when its holder changes.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use shared_cache::error_text;

/// An Event is for people only, so nothing waits longer for it.
const TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Announcer {
    recorder: Recorder,
    identity: String,
}

impl Announcer {
    pub(super) fn new(client: Client, identity: &str) -> Self {
        let reporter =
            Reporter { controller: "leader-election".to_owned(), instance: Some(identity.to_owned()) };
        Self { recorder: Recorder::new(client, reporter), identity: identity.to_owned() }
    }

    /// Publishes that this process leads, in the words of controller-runtime. A failure is logged.
    pub(super) async fn became_leader(&self, lease: &Lease) {
        self.publish(lease, "BecameLeader", "became leader").await;
    }

    /// As [`Self::became_leader`], for the end.
    pub(super) async fn stopped_leading(&self, lease: &Lease) {
        self.publish(lease, "StoppedLeading", "stopped leading").await;
    }

    /// The actions differ, because the recorder counts events of one action and reason as one.
    async fn publish(&self, lease: &Lease, action: &str, what: &str) {
        let event = Event {
            type_: EventType::Normal,
            reason: "LeaderElection".to_owned(),
            note: Some(format!("{} {what}", self.identity)),
            action: action.to_owned(),
            secondary: None,
        };
        let reference: ObjectReference = lease.object_ref(&());
        let published = tokio::time::timeout(TIMEOUT, self.recorder.publish(&event, &reference)).await;
        let problem = match published {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error_text(&error),
            Err(_) => "no answer".to_owned(),
        };
        tracing::warn!(error = problem, "cannot publish an event on the lease");
    }
}
