//! [`Fence`]: until when this process may write as the leader.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::clock::Clock;

/// A write was refused, because this process does not lead or may not lead any more.
///
/// A request that was on its way when the time was up may have been executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused to write: this process does not hold the lease {lease}")]
pub struct NotLeader {
    /// Namespace and name of the lease.
    pub lease: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The lease was not won yet.
    NotYet,
    /// Open until this time of the clock.
    OpenUntil(Duration),
    /// Shut for good.
    Closed,
}

/// Answers whether this process may write as the leader. Cheap to clone; clones are one fence.
///
/// # Guarantees
///
/// - It is open only from a successful renewal until the renew deadline after the moment at which that renewal was
///   sent. Other processes wait for the lease duration, which is longer, and from a later moment.
/// - It reads the clock each time. So a process that was stopped finds it shut when it goes on, before any task has
///   noticed.
/// - Once closed it never opens again: a process leads at most once. A fence that is only shut, because its time is up,
///   may be opened again by a renewal.
#[derive(Clone)]
pub(crate) struct Fence {
    clock: Clock,
    lease: Arc<str>,
    state: Arc<watch::Sender<State>>,
}

impl Fence {
    pub(crate) fn lease(&self) -> &str {
        &self.lease
    }

    pub(crate) fn new(lease: &str, clock: Clock) -> Self {
        Self { clock, lease: lease.into(), state: Arc::new(watch::Sender::new(State::NotYet)) }
    }

    /// # Errors
    ///
    /// [`NotLeader`].
    pub(crate) fn check(&self) -> Result<(), NotLeader> {
        if self.remaining().is_zero() { Err(NotLeader { lease: self.lease.to_string() }) } else { Ok(()) }
    }

    /// How long it stays open without a further renewal.
    pub(crate) fn remaining(&self) -> Duration {
        match *self.state.borrow() {
            State::OpenUntil(until) => until.saturating_sub(self.clock.now()),
            State::NotYet | State::Closed => Duration::ZERO,
        }
    }

    /// Opens it until this time, unless it was closed.
    pub(crate) fn open_until(&self, until: Duration) {
        self.state.send_if_modified(|state| {
            let opens = *state != State::Closed;
            if opens {
                *state = State::OpenUntil(until);
            }
            opens
        });
    }

    /// Shuts it for good.
    pub(crate) fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    /// Resolves once [`Self::check`] fails, because the time is up or the fence was closed. Cancel safe.
    pub(crate) async fn wait_until_shut(&self) {
        let mut changes = self.state.subscribe();
        loop {
            let remaining = self.remaining();
            if remaining.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(remaining) => {}
                // The sender lives as long as this fence.
                _ = changes.changed() => {}
            }
        }
    }
}
