//! [`Health`]: what an informer knows of the state of its own watch; the source of readiness and metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::WatchError;

/// How long a watch may be down before what it feeds no longer counts as fresh.
pub const STALE_AFTER: Duration = Duration::from_secs(10);

/// What an informer was doing when it failed; the verb that a permission must name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// A paged list.
    List,
    /// A watch, or a streaming list.
    Watch,
}

impl Verb {
    /// As Kubernetes spells it.
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
pub struct LastError {
    /// What failed.
    pub verb: Verb,
    /// [`WatchError::reason`].
    pub reason: &'static str,
    /// What a person should read.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// The state of one informer at one moment.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Whether the store shows a whole list, and has not been cleared since.
    pub synced: bool,
    /// For how long no watch has fed the store. `None` while one does.
    pub stale_for: Option<Duration>,
    /// The last failure since the watch last worked; `None` while all is well.
    pub last_error: Option<LastError>,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// When the last event came.
    pub last_event: Option<Timestamp>,
    /// When the last bookmark came.
    pub last_bookmark: Option<Timestamp>,
    /// Lists that began after the first was complete.
    pub relists: u64,
    /// Failures so far by verb and reason.
    pub errors: BTreeMap<(Verb, &'static str), u64>,
    /// Objects that exist but can't be decoded, and so are kept out.
    pub undecodable: usize,
}

impl Report {
    /// Whether lookups may be relied upon: synced, and no watch outage longer than [`STALE_AFTER`].
    ///
    /// # Errors
    ///
    /// Why not, for people.
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

#[derive(Default)]
struct State {
    report: Report,
    stale_since: Option<Instant>,
}

/// The health of one informer. Written by its task, read by anyone; no lock is held across either.
#[derive(Default)]
pub struct Health {
    /// Beside the lock, since every lookup asks.
    synced: AtomicBool,
    /// Whether a watch feeds the store now.
    live: watch::Sender<bool>,
    state: Mutex<State>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report().fmt(f)
    }
}

impl Health {
    pub(crate) fn new() -> Self {
        let health = Self::default();
        health.state.lock().stale_since = Some(Instant::now());
        health
    }

    /// Whether the store shows a whole list. Acquire: who sees `true` sees that list.
    #[must_use]
    pub fn has_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// The state now.
    #[must_use]
    pub fn report(&self) -> Report {
        let state = self.state.lock();
        let stale_for = state.stale_since.map(|since| since.elapsed());
        Report { synced: self.has_synced(), stale_for, ..state.report.clone() }
    }

    /// Resolves once a watch feeds the store (`true`), or none does (`false`). Cancel safe.
    pub(crate) async fn until_live(&self, live: bool) {
        // The sender lives as long as `self`.
        let _ = self.live.subscribe().wait_for(|&now| now == live).await;
    }

    pub(crate) fn list_started(&self) {
        if self.has_synced() {
            self.state.lock().report.relists += 1;
        }
    }

    pub(crate) fn list_complete(&self) {
        self.synced.store(true, Ordering::Release);
    }

    /// The store was emptied because its kind is gone.
    pub(crate) fn cleared(&self) {
        self.synced.store(false, Ordering::Release);
    }

    /// A watch feeds the store.
    pub(crate) fn live(&self) {
        let mut state = self.state.lock();
        state.stale_since = None;
        state.report.last_error = None;
        state.report.consecutive_failures = 0;
        drop(state);
        self.live.send_replace(true);
    }

    /// No watch feeds the store any more.
    pub(crate) fn down(&self) {
        self.state.lock().stale_since.get_or_insert_with(Instant::now);
        self.live.send_replace(false);
    }

    /// Notes a failure; whether it is another one than the last since the watch was live.
    pub(crate) fn failed(&self, verb: Verb, error: &WatchError, message: String) -> bool {
        let mut state = self.state.lock();
        *state.report.errors.entry((verb, error.reason())).or_default() += 1;
        state.report.consecutive_failures += 1;
        let last = state.report.last_error.as_ref().map(|last| (last.verb, last.reason));
        state.report.last_error =
            Some(LastError { verb, reason: error.reason(), message, at: Timestamp::now() });
        last != Some((verb, error.reason()))
    }

    pub(crate) fn seen(&self, events: bool, bookmark: bool) {
        let now = Some(Timestamp::now());
        let mut state = self.state.lock();
        if events {
            state.report.last_event = now;
        }
        if bookmark {
            state.report.last_bookmark = now;
        }
    }

    pub(crate) fn undecodable(&self, count: usize) {
        self.state.lock().report.undecodable = count;
    }
}
