//! [`ChangeSignal`]: wakes the waits on sets of a kind after every batch.

use tokio::sync::watch;

use crate::kind::CacheObject;
use crate::object::{Batch, Observer};

/// The changes of a kind so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Number of the last batch.
    sequence: u64,
    synced: bool,
    /// True if no batch will come.
    pub(super) closed: bool,
}

/// An observer that wakes the callers that wait for any change of its kind. Costs nothing without waiters.
pub(crate) struct ChangeSignal {
    changes: watch::Sender<Changes>,
}

impl ChangeSignal {
    pub(crate) fn new() -> Self {
        Self { changes: watch::Sender::new(Changes::default()) }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Changes> {
        self.changes.subscribe()
    }
}

impl<K: CacheObject> Observer<K> for ChangeSignal {
    fn observe(&self, batch: &Batch<K>) {
        self.changes.send_modify(|changes| changes.sequence = batch.sequence);
    }

    fn synced(&self) {
        self.changes.send_modify(|changes| changes.synced = true);
    }

    fn closed(&self, _stopped: bool) {
        self.changes.send_modify(|changes| changes.closed = true);
    }
}
