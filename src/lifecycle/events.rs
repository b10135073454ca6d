//! [`Events`]: Kubernetes events of the lifecycle controllers, sent beside the reconciles (LC5).
//!
//! An event is a request of its own, and nothing depends on it. So a handler only queues it. One task per controller
//! sends the events one after the other: of the requests that the client may send each second, they take the share of one
//! handler. A full queue drops events and counts them, as client-go does.

use std::sync::Arc;

use controller_manager::{CancellationToken, Context};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};
use prometheus::IntCounter;
use tokio::sync::mpsc;

use super::metrics::LifecycleMetrics;
use super::requests::REQUEST_TIMEOUT;
use crate::manager::Manager;

/// Number of events that wait at most.
pub const EVENT_QUEUE: usize = 4096;

/// The longest note that the API server accepts is 1 kB.
const LONGEST_NOTE: usize = 1000;

/// Declares the reasons of events.
macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident = $type_:ident, $action:literal;)+) => {
        /// The reasons of the events of the lifecycle controllers. The names are those of OpenKruise Agents, where it has
        /// such an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])+ $name,)+
        }

        impl Reason {
            /// Returns the reason as it is written.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// Returns what the controller did or tried.
            const fn action(self) -> &'static str {
                match self { $(Self::$name => $action,)+ }
            }

            const fn type_(self) -> EventType {
                match self { $(Self::$name => EventType::$type_,)+ }
            }
        }
    };
}

reasons! {
    /// On a Sandbox: the sandbox was accepted, and its pod was created.
    SandboxPending = Normal, "CreatePod";
    /// On a Sandbox: the pod is ready, for the first time or after a resume.
    SandboxRunning = Normal, "ObservePod";
    /// On a Sandbox: pausing has begun.
    SandboxPaused = Normal, "DeletePod";
    /// On a Sandbox: resuming has begun.
    SandboxResuming = Normal, "CreatePod";
    /// On a Sandbox: the sandbox has ended with an error.
    SandboxFailed = Warning, "ObservePod";
    /// On a Sandbox: the API server refused the pod or one of its volume claims.
    PodCreateFailed = Warning, "CreatePod";
    /// On a Sandbox: a pod that does not belong to the sandbox has its name.
    PodNameTaken = Warning, "CreatePod";
    /// On a Sandbox: a volume claim that belongs to another sandbox has the name of one of its volume claims.
    VolumeClaimNameTaken = Warning, "CreatePod";
    /// On a Sandbox: the API server refused to delete or change the pod.
    PodUpdateFailed = Warning, "UpdatePod";
    /// On a Sandbox: the shutdown time has passed, and the sandbox is deleted.
    ShutdownTimeReached = Normal, "DeleteSandbox";
    /// On a Sandbox: the pause time has passed, and the sandbox is paused.
    PauseTimeReached = Normal, "Pause";
    /// On a Sandbox: the sandbox is paused by deleting its pod, because nothing here can hibernate it.
    HibernateNotSupported = Warning, "DeletePod";
    /// On a Sandbox: the template has changed in a part that needs a new pod, and the policy does not allow one.
    RecreateNotAllowed = Warning, "UpdatePod";
    /// On a Sandbox: the pod is updated in place or created anew, because the template has changed.
    SandboxUpdating = Normal, "UpdatePod";
    /// On a SandboxSet: a member was created.
    SandboxCreated = Normal, "CreateSandbox";
    /// On a SandboxSet: a member could not be created.
    CreateSandboxFailed = Warning, "CreateSandbox";
    /// On a SandboxSet: a member was deleted, because the set has too many.
    SandboxScaledDown = Normal, "DeleteSandbox";
    /// On a SandboxSet: a dead member was deleted.
    FailedSandboxDeleted = Normal, "DeleteSandbox";
    /// On a SandboxSet: members of an old revision are replaced.
    RollingUpdate = Normal, "DeleteSandbox";
    /// On a SandboxClaim: sandboxes were claimed.
    SandboxClaimed = Normal, "ClaimSandbox";
    /// On a SandboxClaim: the set has no available sandbox for the claim.
    NoAvailableSandboxes = Warning, "ClaimSandbox";
    /// On a SandboxClaim: the API server refused to claim, to create or to mark a sandbox.
    ClaimSandboxFailed = Warning, "ClaimSandbox";
    /// On a SandboxClaim: a claimed sandbox has failed or did not become ready, and is removed or kept for inspection, or
    /// the API server refuses that.
    ClaimedSandboxFailed = Warning, "DiscardSandbox";
    /// On a SandboxClaim: a field has no effect.
    FieldNotSupported = Warning, "ClaimSandbox";
    /// On a SandboxClaim: the claim has ended.
    ClaimCompleted = Normal, "Complete";
    /// On a SandboxClaim: the time to live after the completion is over, and the claim is deleted.
    SandboxClaimTTLDelete = Normal, "DeleteClaim";
    /// On a Checkpoint: its sandbox is gone, and nothing was saved.
    CheckpointFailed = Warning, "Fail";
    /// On a Checkpoint: the time to live after the end is over, and the checkpoint is deleted.
    CheckpointExpired = Normal, "DeleteCheckpoint";
    /// On a Checkpoint: the time to live is no duration, so the checkpoint is kept.
    InvalidTTL = Warning, "DeleteCheckpoint";
}

/// One event that waits to be sent.
struct Queued {
    object: ObjectReference,
    event: Event,
}

/// Queues the events of one controller. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<Queued>,
    dropped: IntCounter,
}

impl Events {
    /// Creates the queue of a controller, and adds the task that sends its events to the manager. The events are sent by
    /// the client of the context, so only by the leader if the controller is leader-only.
    pub(crate) fn new(manager: &mut Manager, context: &Context, metrics: &LifecycleMetrics) -> Self {
        let (queue, queued) = mpsc::channel(EVENT_QUEUE);
        let recorder = context.recorder().clone();
        manager.add_runnable(move |stop: CancellationToken| async move {
            send(queued, recorder, stop).await;
            Ok(())
        });
        Self { queue, dropped: metrics.events_dropped.clone() }
    }

    /// Queues an event. Returns at once.
    pub(crate) fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, reason: Reason, note: &str) {
        let mut note = note.to_owned();
        if note.len() > LONGEST_NOTE {
            note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        }
        let event = Event {
            type_: reason.type_(),
            reason: reason.as_str().to_owned(),
            note: Some(note).filter(|note| !note.is_empty()),
            action: reason.action().to_owned(),
            secondary: None,
        };
        // The resource version would make each state of the object an object of its own for the recorder.
        let object = ObjectReference { resource_version: None, ..object.object_ref(&()) };
        if self.queue.try_send(Queued { object, event }).is_err() {
            self.dropped.inc();
        }
    }
}

/// Sends events until `stop` is cancelled.
async fn send(mut queued: mpsc::Receiver<Queued>, recorder: Recorder, stop: CancellationToken) {
    let recorder = Arc::new(recorder);
    while let Some(Some(Queued { object, event })) = stop.run_until_cancelled(queued.recv()).await {
        // A request without an answer must not hold up all later events.
        let request = tokio::time::timeout(REQUEST_TIMEOUT, recorder.publish(&event, &object));
        let error = match stop.run_until_cancelled(request).await {
            Some(Ok(Err(error))) => shared_cache::error_text(&error),
            Some(Err(_)) => "no answer".to_owned(),
            Some(Ok(Ok(()))) | None => continue,
        };
        tracing::debug!(error, reason = event.reason, "cannot send an event");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lc5_reasons_are_written_as_named() {
        assert_eq!(Reason::SandboxPending.as_str(), "SandboxPending");
        assert_eq!(Reason::ShutdownTimeReached.as_str(), "ShutdownTimeReached");
    }
}
