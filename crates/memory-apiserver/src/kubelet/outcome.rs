//! [`PodOutcome`]: the state that a Pod reaches.

use std::time::Duration;

/// The state that a Pod reaches, and in which it stays until a rule says another one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PodOutcome {
    /// Running and ready, this long after the Pod was created.
    ReadyAfter(Duration),
    /// Running, but never ready.
    Unready,
    /// Pending on a node: its containers are being created (`ContainerCreating`), without an end.
    Starting,
    /// Its containers wait for this reason, such as `ImagePullBackOff` or `CreateContainerConfigError`.
    Waiting {
        /// The reason in the state of each container.
        reason: String,
        /// The message in the state of each container.
        message: String,
    },
    /// Its containers ended with an error, were restarted, and wait (`CrashLoopBackOff`).
    CrashLoop,
    /// Its containers ended well: phase `Succeeded`. Such a Pod never runs again.
    Succeeded,
    /// Its containers ended with an error: phase `Failed`. Such a Pod never runs again.
    Failed {
        /// The reason in the status, such as `Evicted`; may be empty.
        reason: String,
        /// The message in the status.
        message: String,
    },
    /// Pending without a node. A Pod that has a node keeps its node and its state.
    Unschedulable {
        /// The message in the condition `PodScheduled`.
        message: String,
    },
}

impl PodOutcome {
    /// [`PodOutcome::Waiting`] with this reason and message.
    #[must_use]
    pub fn waiting(reason: &str, message: &str) -> Self {
        Self::Waiting { reason: reason.to_owned(), message: message.to_owned() }
    }

    /// [`PodOutcome::Failed`] with this message and no reason.
    #[must_use]
    pub fn failed(message: &str) -> Self {
        Self::Failed { reason: String::new(), message: message.to_owned() }
    }

    /// [`PodOutcome::Unschedulable`] with this message.
    #[must_use]
    pub fn unschedulable(message: &str) -> Self {
        Self::Unschedulable { message: message.to_owned() }
    }
}
