//! [`Action`]: what follows a successful reconcile.

use std::time::Duration;

/// What follows a successful reconcile. The name and the constructors are those of kube's `Action`, whose delay cannot
/// be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Action {
    requeue_after: Option<Duration>,
}

impl Action {
    /// Reconciles again after this time even if nothing changes.
    ///
    /// If something changes earlier, the key runs earlier, and the time is forgotten: handlers ask for it anew.
    ///
    /// For a deletion it means that the handler is not done with it: the deletion is shown again after this time, and
    /// no new object of the name is shown before a handler call for the deletion ends with [`Action::await_change`].
    /// So a handler that runs at intervals must not ask for the next run of a deleted object.
    #[must_use]
    pub const fn requeue(after: Duration) -> Self {
        Self { requeue_after: Some(after) }
    }

    /// Reconciles again when something changes.
    #[must_use]
    pub const fn await_change() -> Self {
        Self { requeue_after: None }
    }

    /// The time after which to reconcile even if nothing changes.
    #[must_use]
    pub const fn requeue_after(self) -> Option<Duration> {
        self.requeue_after
    }

    /// The action of the two that reconciles sooner.
    #[must_use]
    pub fn soonest(self, other: Self) -> Self {
        let both = self.requeue_after.into_iter().chain(other.requeue_after);
        Self { requeue_after: both.min() }
    }
}

impl From<Action> for kube::runtime::controller::Action {
    fn from(action: Action) -> Self {
        action.requeue_after.map_or_else(Self::await_change, Self::requeue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r3_the_soonest_requeue_wins() {
        let (soon, late) = (Action::requeue(Duration::from_secs(1)), Action::requeue(Duration::from_secs(9)));
        for (a, b, expected) in [
            (soon, late, soon),
            (late, soon, soon),
            (Action::await_change(), late, late),
            (late, Action::await_change(), late),
            (Action::await_change(), Action::await_change(), Action::await_change()),
        ] {
            assert_eq!(a.soonest(b), expected);
        }
    }
}
