//! [`Health`]: the state of an informer's watches. Readiness and metrics are computed from it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::WatchError;
use crate::store::Partition;

/// How long a watch may be down before its kind is no longer ready.
pub const STALE_AFTER: Duration = Duration::from_secs(10);

/// The request that failed. It is also the verb that a permission must name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// A paged list.
    List,
    /// A watch, or a streaming list.
    Watch,
}

impl Verb {
    /// Returns the verb as Kubernetes spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

/// The last failure of a watch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LastError {
    /// The request that failed.
    pub verb: Verb,
    /// [`WatchError::reason`].
    pub reason: &'static str,
    /// The failure as text for operators.
    pub message: String,
    /// The time of the failure.
    pub at: Timestamp,
}

/// The state of one informer at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// True if the store contains a complete list and has not been cleared since.
    pub synced: bool,
    /// How long no watch has fed the store. `None` while a watch feeds it.
    pub stale_for: Option<Duration>,
    /// The last failure since the watch last worked. `None` if the watch works.
    pub last_error: Option<LastError>,
    /// Number of consecutive failures.
    pub consecutive_failures: u32,
    /// Time of the last event.
    pub last_event: Option<Timestamp>,
    /// Time of the last bookmark.
    pub last_bookmark: Option<Timestamp>,
    /// Number of lists that began after the first list had completed.
    pub relists: u64,
    /// Number of failures by verb and reason.
    pub errors: BTreeMap<(Verb, &'static str), u64>,
    /// Number of objects that exist but cannot be decoded and are therefore not stored.
    pub undecodable: usize,
    /// Number of objects that are stored without the fields that cannot be decoded.
    pub partially_decoded: usize,
}

impl Report {
    /// Returns `Ok` if lookups may be trusted: synced, and no watch outage longer than [`STALE_AFTER`].
    ///
    /// # Errors
    ///
    /// The reason as text for operators.
    pub fn ready(&self) -> Result<(), String> {
        let why = || self.last_error.as_ref().map(|error| error.message.clone());
        if !self.synced {
            return Err(why().map_or("not synced yet".into(), |why| format!("not synced: {why}")));
        }
        match self.stale_for {
            Some(down) if down >= STALE_AFTER => {
                let why = why().unwrap_or_else(|| "connecting".into());
                Err(format!("watch down for {} s: {why}", down.as_secs()))
            }
            _ => Ok(()),
        }
    }
}

/// The state of one list and watch.
#[derive(Clone, Default)]
struct State {
    report: Report,
    synced: bool,
    stale_since: Option<Instant>,
}

/// The health of one informer. The informer's task writes it and any thread may read it; neither holds a lock
/// across an await.
pub struct Health {
    /// True if every partition is synced. Stored outside the lock because every lookup reads it.
    synced: AtomicBool,
    /// True if a watch feeds every partition of the store.
    live: watch::Sender<bool>,
    /// The state of each partition.
    states: Mutex<Vec<State>>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report().fmt(f)
    }
}

impl Health {
    pub(crate) fn new(partitions: usize) -> Self {
        let state = State { stale_since: Some(Instant::now()), ..State::default() };
        Self {
            synced: AtomicBool::new(false),
            live: watch::Sender::new(false),
            states: Mutex::new(vec![state; partitions]),
        }
    }

    /// Returns true if the store contains a complete list. Acquire: a caller that sees `true` sees that list.
    #[must_use]
    pub fn has_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Returns the current state. For a kind that is watched in several namespaces, returns the worst state.
    #[must_use]
    pub fn report(&self) -> Report {
        let states = self.states.lock();
        let mut merged = Report { synced: true, ..Report::default() };
        for state in &*states {
            let stale_for = state.stale_since.map(|since| since.elapsed());
            merged.merge(&Report { synced: state.synced, stale_for, ..state.report.clone() });
        }
        merged
    }

    /// Resolves once a watch feeds the whole store (`true`), or part of it is not fed (`false`). Cancel safe.
    pub(crate) async fn until_live(&self, live: bool) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.live.subscribe().wait_for(|&now| now == live).await;
    }

    /// Returns the health of one list and watch.
    pub(super) fn partition(&self, partition: Partition) -> PartitionHealth<'_> {
        PartitionHealth { health: self, index: usize::from(partition) }
    }

    /// Records that no watch feeds the store any more.
    pub(super) fn all_down(&self) {
        // The lock is released first because each step acquires it.
        let partitions = self.states.lock().len();
        for partition in 0..partitions {
            PartitionHealth { health: self, index: partition }.down();
        }
    }
}

impl Report {
    /// Keeps the worse value of each field of the two reports, and adds the counts.
    fn merge(&mut self, other: &Self) {
        self.synced &= other.synced;
        self.stale_for = self.stale_for.max(other.stale_for);
        if self.last_error.is_none() {
            self.last_error.clone_from(&other.last_error);
        }
        self.consecutive_failures = self.consecutive_failures.max(other.consecutive_failures);
        self.last_event = self.last_event.max(other.last_event);
        self.last_bookmark = self.last_bookmark.max(other.last_bookmark);
        self.relists += other.relists;
        for (key, count) in &other.errors {
            *self.errors.entry(*key).or_default() += count;
        }
        self.undecodable += other.undecodable;
        self.partially_decoded += other.partially_decoded;
    }
}

/// The health of one list and watch, as its task reports it.
#[derive(Clone, Copy)]
pub(super) struct PartitionHealth<'a> {
    health: &'a Health,
    index: usize,
}

impl PartitionHealth<'_> {
    fn update<R>(self, update: impl FnOnce(&mut State) -> R) -> R {
        let mut states = self.health.states.lock();
        let result = update(&mut states[self.index]);
        self.health.synced.store(states.iter().all(|state| state.synced), Ordering::Release);
        let live = states.iter().all(|state| state.stale_since.is_none());
        drop(states);
        self.health.live.send_if_modified(|was| std::mem::replace(was, live) != live);
        result
    }

    pub(super) fn has_synced(self) -> bool {
        self.health.states.lock()[self.index].synced
    }

    pub(super) fn list_started(self) {
        self.update(|state| state.report.relists += u64::from(state.synced));
    }

    /// Records that the initial list, or a relist, has completed.
    pub(super) fn list_complete(self) {
        self.update(|state| state.synced = true);
    }

    /// Records that the partition was emptied because its kind is no longer served.
    pub(super) fn cleared(self) {
        self.update(|state| state.synced = false);
    }

    /// Records that a watch feeds the partition.
    pub(super) fn live(self) {
        self.update(|state| {
            state.stale_since = None;
            state.report.last_error = None;
            state.report.consecutive_failures = 0;
        });
    }

    /// Records that no watch feeds the partition any more.
    pub(super) fn down(self) {
        self.update(|state| {
            state.stale_since.get_or_insert_with(Instant::now);
        });
    }

    /// Records a failure. Returns true if it differs from the last one since the watch was live.
    pub(super) fn failed(self, verb: Verb, error: &WatchError, message: String) -> bool {
        self.update(|state| {
            let report = &mut state.report;
            *report.errors.entry((verb, error.reason())).or_default() += 1;
            report.consecutive_failures += 1;
            let last = report.last_error.as_ref().map(|last| (last.verb, last.reason));
            report.last_error =
                Some(LastError { verb, reason: error.reason(), message, at: Timestamp::now() });
            last != Some((verb, error.reason()))
        })
    }

    pub(super) fn seen(self, events: bool, bookmark: bool) {
        let now = Some(Timestamp::now());
        let mut states = self.health.states.lock();
        let report = &mut states[self.index].report;
        if events {
            report.last_event = now;
        }
        if bookmark {
            report.last_bookmark = now;
        }
    }

    /// Records the number of undecodable and of partially decoded objects.
    pub(super) fn not_decoded(self, (undecodable, partial): (usize, usize)) {
        let report = &mut self.health.states.lock()[self.index].report;
        (report.undecodable, report.partially_decoded) = (undecodable, partial);
    }
}
