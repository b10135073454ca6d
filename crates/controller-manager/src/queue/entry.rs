//! [`Entry`]: what the queue remembers of one key while anything of it is outstanding.

use kube::Resource;
use tokio::time::Instant;

use super::attempt::Owed;

/// Which keys go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// Something has changed.
    High,
    /// Only the initial list asks for the run, or a handler that ran because of it.
    Low,
}

/// Where a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its run is due.
    Queued {
        /// Since when.
        since: Instant,
    },
    /// Its handlers run.
    Running {
        /// True if something has happened since the run began, so that another run must follow.
        again: bool,
    },
    /// It waits for a time.
    Waiting {
        /// The time.
        due: Instant,
    },
}

/// One key. It exists from the first event until nothing is outstanding: it is queued, runs, or waits for a time.
///
/// While a deletion is owed, no object of the key is shown. So handlers know at most one object of the key that is
/// gone, and at most one deletion is owed.
pub(super) struct Entry<K> {
    /// The deletion that handlers have to be told of.
    pub(super) deletion: Option<Owed<K>>,
    pub(super) stage: Stage,
    /// Errors in a row.
    pub(super) failures: u32,
    /// True if the object of the key has to be shown once no deletion is owed.
    pub(super) show_object: bool,
    /// True if no attempt has taken the deletion yet, so that the end of an attempt does not settle it.
    pub(super) deletion_is_new: bool,
    pub(super) priority: Priority,
}

impl<K> Entry<K> {
    pub(super) fn new(stage: Stage, priority: Priority) -> Self {
        Self { deletion: None, stage, failures: 0, show_object: false, deletion_is_new: false, priority }
    }

    /// Records that the object of the key has left the store. Returns true if handlers have to run.
    ///
    /// If the deletion of another object is owed already, handlers have not seen the object that is gone now, so they
    /// need not know. If it is the same object, the final reason replaces one after which the object may still exist.
    pub(super) fn record_deletion(&mut self, owed: Owed<K>) -> bool
    where
        K: Resource,
    {
        self.show_object = false;
        let is_news = self.deletion.as_ref().is_none_or(|known| {
            let same = known.last_known.meta().uid == owed.last_known.meta().uid;
            same && owed.reason.is_final() && !known.reason.is_final()
        });
        if is_news {
            self.deletion = Some(owed);
            self.deletion_is_new = true;
        }
        is_news
    }

    pub(super) fn is_queued(&self, priority: Priority) -> bool {
        self.priority == priority && matches!(self.stage, Stage::Queued { .. })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::queue::key::QueueKey;

    #[test]
    fn a_queued_key_takes_about_240_bytes_with_its_names() {
        let slot = size_of::<(QueueKey, Entry<ConfigMap>)>();
        assert_eq!(slot, 56, "a map's slot");
        // A map is between 7/16 and 7/8 full, and has a byte of control for each slot; a ring is at least half full.
        let map = (slot + 1) * 16 / 7;
        let ring = 2 * size_of::<QueueKey>();
        let names = 2 * size_of::<usize>() + size_of::<shared_cache::ObjectKey>() + "default".len() + 30;
        assert!(map + ring + names <= 250, "{map} + {ring} + {names}");
    }
}
