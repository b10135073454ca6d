//! [`Recovery`]: what the failures of one list and watch mean for its next connection. Pure: it does no I/O.

use std::time::Duration;

use tokio::time::Instant;

use super::error::WatchError;
use super::list_watch::{RESPONSE_TIMEOUT, Sending};

/// Objects in a page unless the options say otherwise; client-go's pager uses the same.
const PAGE_SIZE: u32 = 500;

/// Pages are never made smaller than this, however large they turn out to be.
const SMALLEST_PAGE: u32 = 25;

/// Stale lists in a row after which they are believed: the server was set back to an older state.
const STALE_LISTS: u32 = 2;

/// Answers of "not found" in a row, and the time that they must span, before discovery is asked whether the kind is
/// gone. Fewer could come from a server that is still starting.
const NOT_FOUND: u32 = 3;
const NOT_FOUND_FOR: Duration = Duration::from_secs(20);

/// Failures in a row at one resume version, and the time that they may span, after which a new list is made
/// (behaviour V6). Failures without an answer count for the time only: they say nothing about the version.
const STUCK: u32 = 5;
const STUCK_FOR: Duration = Duration::from_mins(1);

/// A watch that lived this long shows that its resume version is good.
const PROVEN: Duration = Duration::from_secs(5);

/// How long no streaming list is tried after one has failed.
const PAGED_FOR: Duration = Duration::from_hours(1);

/// A list may take this long to its first byte at most, whatever happened before.
const LONGEST_PATIENCE: Duration = Duration::from_mins(5);

/// Failures of one sort in a row.
#[derive(Clone, Copy)]
struct Streak {
    count: u32,
    since: Instant,
}

impl Streak {
    fn begin() -> Self {
        Self { count: 0, since: Instant::now() }
    }

    fn reached(self, count: u32, span: Duration) -> bool {
        self.count >= count && self.since.elapsed() >= span
    }
}

/// Counts failures and decides how the next request is made.
#[derive(Default)]
pub(super) struct Recovery {
    /// Since when lists are made page by page; `None`: as streams.
    paged_since: Option<Instant>,
    stale_lists: u32,
    not_found: Option<Streak>,
    /// Failures at one resume version.
    stuck: Option<Streak>,
    /// Continue tokens that expired in a row.
    expired_pages: u32,
    /// Pages that were too large lately; each halves the next ones.
    large_pages: u32,
    /// Lists in a row whose answer did not begin in time; each doubles the patience.
    slow_lists: u32,
}

impl Recovery {
    /// True if the next list is to be a streaming list.
    pub(super) fn may_stream(&mut self) -> bool {
        if self.paged_since.is_some_and(|since| since.elapsed() >= PAGED_FOR) {
            self.paged_since = None;
        }
        self.paged_since.is_none()
    }

    /// How the next request of a list is sent (behaviours V2, V7).
    pub(super) fn sending_list(&self) -> Sending {
        let patience = RESPONSE_TIMEOUT.saturating_mul(1 << self.slow_lists.min(10)).min(LONGEST_PATIENCE);
        Sending { patience, ..self.sending_watch() }
    }

    /// How the next request of a watch is sent.
    pub(super) fn sending_watch(&self) -> Sending {
        Sending { fresh: self.not_found.is_some(), ..Sending::default() }
    }

    /// Objects to ask for in one page; 0 for all, once continue tokens have expired twice.
    pub(super) fn page_limit(&self, asked: u32) -> u32 {
        if self.expired_pages >= 2 {
            return 0;
        }
        let size = if asked == 0 { PAGE_SIZE } else { asked };
        (size >> self.large_pages.min(31)).max(SMALLEST_PAGE.min(size))
    }

    /// A page could not be read. `continued`: it was not the first.
    pub(super) fn page_failed(&mut self, failure: &WatchError, limit: u32, continued: bool) {
        if continued && failure.is_expired() {
            self.expired_pages += 1;
        }
        if matches!(failure, WatchError::TooLarge(_)) {
            self.large_pages += u32::from(limit > 0);
            self.expired_pages = 0;
        }
    }

    /// A streaming list has failed; `answered`: after its answer had begun. Returns true if the list is to be made page
    /// by page, at once.
    pub(super) fn streaming_failed(&mut self, failure: &WatchError, answered: bool) -> bool {
        let gives_up = failure.speaks_against_streaming(answered);
        if gives_up {
            self.paged_since = Some(Instant::now());
        }
        gives_up
    }

    /// A list or watch has failed after it has fed the store for `lived`. Returns true if the next connection has to
    /// begin with a list.
    pub(super) fn failed(&mut self, failure: &WatchError, listing: bool, lived: Duration) -> bool {
        if lived >= PROVEN {
            self.stuck = None;
        }
        self.not_found = match failure.code() {
            Some(404) => Some(self.not_found.unwrap_or_else(Streak::begin)),
            _ => None,
        };
        if let Some(streak) = &mut self.not_found {
            streak.count += 1;
        }
        if listing {
            self.slow_lists += u32::from(matches!(failure, WatchError::ResponseTimeout(_)));
        }
        let outdated = failure.is_version_too_large() || matches!(failure, WatchError::Stale { .. });
        self.stale_lists += u32::from(outdated);
        let stuck = self.stuck.get_or_insert_with(Streak::begin);
        stuck.count +=
            u32::from(!matches!(failure, WatchError::Transport(_) | WatchError::ResponseTimeout(_)));
        let stuck = stuck.reached(STUCK, Duration::ZERO) || stuck.reached(0, STUCK_FOR);
        outdated || stuck || failure.is_expired() || self.not_found.is_some()
    }

    /// The resume version has changed.
    pub(super) fn advanced(&mut self) {
        self.stuck = None;
    }

    /// A watch feeds the store.
    pub(super) fn live(&mut self) {
        self.not_found = None;
    }

    /// A list has completed.
    pub(super) fn listed(&mut self) {
        *self = Self {
            paged_since: self.paged_since,
            large_pages: self.large_pages.saturating_sub(1),
            ..Self::default()
        };
    }

    /// True if the kind may be gone: "not found" has been answered for long enough (behaviour V2).
    pub(super) fn may_be_gone(&self) -> bool {
        self.not_found.is_some_and(|streak| streak.reached(NOT_FOUND, NOT_FOUND_FOR))
    }

    /// True if the server has shown an older state so often that it must have been set back.
    pub(super) fn versions_reset(&self) -> bool {
        self.stale_lists >= STALE_LISTS
    }
}
