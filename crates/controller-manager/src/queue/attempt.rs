//! [`Attempt`]: one run of the handlers for one key, and how it ended.

use std::sync::Arc;
use std::time::Duration;

use shared_cache::DeletionReason;

use super::initial::InitialVersion;
use super::key::QueueKey;

/// A deletion that handlers have to be told of until they have succeeded with it.
#[derive(Debug)]
pub(crate) struct Owed<K> {
    pub(crate) last_known: Arc<K>,
    pub(crate) reason: DeletionReason,
}

impl<K> Clone for Owed<K> {
    fn clone(&self) -> Self {
        Self { last_known: Arc::clone(&self.last_known), reason: self.reason }
    }
}

/// What an attempt shows to the handlers.
#[derive(Debug)]
pub(crate) enum Work<K> {
    /// A deletion.
    Deletion(Owed<K>),
    /// The object of the key, if the store has one.
    Present {
        /// The version of the object in the initial list, if only that list asks for the run.
        initial: Option<InitialVersion>,
    },
}

/// One run of a key. It ends with [`WorkQueue::finish`](super::WorkQueue::finish).
#[derive(Debug)]
pub(crate) struct Attempt<K> {
    pub(crate) key: QueueKey,
    pub(crate) work: Work<K>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done until something changes.
    Done,
    /// Done, and a handler wants to run again after this time.
    Requeue(Duration),
    /// A handler failed.
    Failed {
        /// The soonest time after which an earlier handler wants to run again.
        wish: Option<Duration>,
    },
    /// Nothing could be told yet; try again after this time without counting an error.
    Postponed(Duration),
}
