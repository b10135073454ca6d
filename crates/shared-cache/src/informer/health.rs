//! [`Health`]: the state of an informer's watches. Readiness and metrics are computed from it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::WatchError;
use crate::store::Partition;

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
    /// True while the API server answers a list that replaces an older one. Lookups show the older list meanwhile.
    pub relisting: bool,
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
    /// Number of completed consistency checks.
    pub checks: u64,
    /// Number of consistency checks that failed, or that a list has interrupted. They prove nothing.
    pub failed_checks: u64,
    /// Number of consistency checks that found a difference from the API server.
    pub inconsistencies: u64,
    /// Number of panics in the task of the informer, and in functions that the task calls.
    pub panics: u64,
}

impl Report {
    /// Returns how far lookups can be trusted.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        let reason = || self.last_error.as_ref().map(|error| error.message.clone());
        match self.stale_for {
            _ if !self.synced => Freshness::NotSynced { reason: reason() },
            None => Freshness::Fresh,
            Some(age) => Freshness::Stale { age, relisting: self.relisting, reason: reason() },
        }
    }
}

/// How far the lookups of a kind can be trusted (behaviour V3). Its text is one line for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// A watch feeds the store.
    Fresh,
    /// The store contains no complete list, so lookups return an error.
    NotSynced {
        /// The last failure, if there was one.
        reason: Option<String>,
    },
    /// No watch feeds the store. Lookups show the state of `age` ago, or newer.
    Stale {
        /// How long no watch has fed the store.
        age: Duration,
        /// True while the API server answers a list.
        relisting: bool,
        /// The last failure, if there was one.
        reason: Option<String>,
    },
}

impl Freshness {
    /// Returns `Ok` if the kind is synced, and was fed within the last `stale_after` or receives a list. Zero sets no
    /// limit. A list may take any time while it arrives, because otherwise all replicas would become unready together.
    /// A list that no longer arrives fails, and then the watch is down.
    ///
    /// # Errors
    ///
    /// The reason as text for operators.
    pub fn within(&self, stale_after: Duration) -> Result<(), String> {
        match self {
            Self::Fresh | Self::Stale { relisting: true, .. } => Ok(()),
            Self::Stale { age, .. } if stale_after.is_zero() || *age < stale_after => Ok(()),
            Self::Stale { .. } | Self::NotSynced { .. } => Err(self.to_string()),
        }
    }
}

impl fmt::Display for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self {
            Self::Fresh => return f.write_str("fresh"),
            Self::NotSynced { reason: None } => return f.write_str("not synced yet"),
            Self::NotSynced { reason } => {
                f.write_str("not synced")?;
                reason
            }
            Self::Stale { age, relisting: true, reason } => {
                write!(f, "relisting, view of {} s ago", age.as_secs())?;
                reason
            }
            Self::Stale { age, relisting: false, reason } => {
                write!(f, "stale for {} s", age.as_secs())?;
                reason
            }
        };
        reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

/// The result of a consistency check.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// The store equals the API server.
    Equal,
    /// The store differs from the API server.
    Different,
    /// The check was not completed.
    Failed,
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
    /// For each partition, true if a watch feeds it.
    live: Vec<watch::Sender<bool>>,
    panics: Arc<AtomicU64>,
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
            live: (0..partitions).map(|_| watch::Sender::new(false)).collect(),
            panics: Arc::default(),
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
        let panics = self.panics.load(Ordering::Relaxed);
        let mut merged = Report { synced: true, panics, ..Report::default() };
        for state in &*states {
            let stale_for = state.stale_since.map(|since| since.elapsed());
            merged.merge(&Report { synced: state.synced, stale_for, ..state.report.clone() });
        }
        merged
    }

    /// Resolves once a watch feeds a partition (`true`), or none does (`false`). Cancel safe.
    pub(crate) async fn until_live(&self, partition: Partition, live: bool) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.live[usize::from(partition)].subscribe().wait_for(|&now| now == live).await;
    }

    /// The number of panics, for all that count one.
    pub(super) fn panics(&self) -> &Arc<AtomicU64> {
        &self.panics
    }

    /// Records a panic of a function that works for the informer.
    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
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
        // A watch that is down is worse than a list that arrives, and then the oldest view counts, with its reason.
        let badness = |report: &Self| (report.stale_for.is_some() && !report.relisting, report.stale_for);
        let is_worse = badness(other) > badness(self);
        if self.last_error.is_none() || (other.last_error.is_some() && is_worse) {
            self.last_error.clone_from(&other.last_error);
        }
        if is_worse {
            (self.stale_for, self.relisting) = (other.stale_for, other.relisting);
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
        self.checks += other.checks;
        self.failed_checks += other.failed_checks;
        self.inconsistencies += other.inconsistencies;
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
        let live = states[self.index].stale_since.is_none();
        drop(states);
        self.health.live[self.index].send_if_modified(|was| std::mem::replace(was, live) != live);
        result
    }

    pub(super) fn has_synced(self) -> bool {
        self.health.states.lock()[self.index].synced
    }

    pub(super) fn list_started(self) {
        self.update(|state| state.report.relists += u64::from(state.synced));
    }

    /// Records that the API server answers the list.
    pub(super) fn list_arrives(self) {
        self.update(|state| state.report.relisting = state.synced);
    }

    /// Records that the initial list, or a relist, has completed.
    pub(super) fn list_complete(self) {
        self.update(|state| {
            state.synced = true;
            state.report.relisting = false;
        });
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
            state.report.relisting = false;
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

    /// Records the end of a consistency check.
    pub(super) fn checked(self, result: Check) {
        let mut states = self.health.states.lock();
        let report = &mut states[self.index].report;
        report.checks += u64::from(result != Check::Failed);
        report.failed_checks += u64::from(result == Check::Failed);
        report.inconsistencies += u64::from(result == Check::Different);
    }

    /// Records the number of undecodable and of partially decoded objects.
    pub(super) fn not_decoded(self, (undecodable, partial): (usize, usize)) {
        let report = &mut self.health.states.lock()[self.index].report;
        (report.undecodable, report.partially_decoded) = (undecodable, partial);
    }
}
