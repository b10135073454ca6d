//! [`Recovery`]: decides from the failures of one list and watch how its next connection is made. Does no
//! I/O.

use std::time::Duration;

use tokio::time::Instant;

use super::error::WatchError;
use super::list_watch::{RESPONSE_TIMEOUT, Sending};

/// Default number of objects in a page. client-go's pager also uses 500.
const PAGE_SIZE: u32 = 500;

/// Smallest page size. Pages are never made smaller, even if they are too large.
const SMALLEST_PAGE: u32 = 25;

/// Number of consecutive stale lists after which a stale list is accepted. The server was then restored to an
/// older state.
const STALE_LISTS: u32 = 2;

/// Number of consecutive "not found" responses, and their minimum duration, before discovery is checked for
/// the kind. Fewer responses could come from a server that is still starting.
const NOT_FOUND: u32 = 3;
const NOT_FOUND_FOR: Duration = Duration::from_secs(20);

/// Limits of the number and duration of consecutive failures at one resume version. Beyond them a new list is
/// made (behaviour V6). A failure without a response counts only for the duration, because it says nothing
/// about the version.
const STUCK: u32 = 5;
const STUCK_FOR: Duration = Duration::from_mins(1);

/// A watch that lived this long shows that its resume version is valid.
const PROVEN: Duration = Duration::from_secs(5);

/// How long no streaming list is tried after a streaming list has failed.
const PAGED_FOR: Duration = Duration::from_hours(1);

/// Longest time that the first byte of a list may take, after any number of slow lists.
const LONGEST_PATIENCE: Duration = Duration::from_mins(5);

/// Consecutive failures of the same sort.
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
    /// Time since which lists are paged. `None` if lists are streamed.
    paged_since: Option<Instant>,
    stale_lists: u32,
    not_found: Option<Streak>,
    /// Failures at one resume version.
    stuck: Option<Streak>,
    /// Number of consecutive continue tokens that expired.
    expired_pages: u32,
    /// Number of recent pages that were too large. Each halves the size of the next pages.
    large_pages: u32,
    /// Number of consecutive lists whose response did not begin in time. Each doubles the time that the next
    /// list may take.
    slow_lists: u32,
}

impl Recovery {
    /// Returns true if the next list should be a streaming list.
    pub(super) fn may_stream(&mut self) -> bool {
        if self.paged_since.is_some_and(|since| since.elapsed() >= PAGED_FOR) {
            self.paged_since = None;
        }
        self.paged_since.is_none()
    }

    /// Returns how the next list request is sent (behaviours V2, V7).
    pub(super) fn sending_list(&self) -> Sending {
        let patience = RESPONSE_TIMEOUT.saturating_mul(1 << self.slow_lists.min(10)).min(LONGEST_PATIENCE);
        Sending { patience, ..self.sending_watch() }
    }

    /// Returns how the next watch request is sent.
    pub(super) fn sending_watch(&self) -> Sending {
        Sending { fresh: self.not_found.is_some(), ..Sending::default() }
    }

    /// Returns the number of objects to request in a page. Returns 0 (all) once continue tokens have expired
    /// twice.
    pub(super) fn page_limit(&self, asked: u32) -> u32 {
        if self.expired_pages >= 2 {
            return 0;
        }
        let size = if asked == 0 { PAGE_SIZE } else { asked };
        (size >> self.large_pages.min(31)).max(SMALLEST_PAGE.min(size))
    }

    /// Records that a page could not be read. `continued` is true if it was not the first page.
    pub(super) fn page_failed(&mut self, failure: &WatchError, limit: u32, continued: bool) {
        if continued && failure.is_expired() {
            self.expired_pages += 1;
        }
        if matches!(failure, WatchError::TooLarge(_)) {
            self.large_pages += u32::from(limit > 0);
            self.expired_pages = 0;
        }
    }

    /// Records that a streaming list has failed. `answered` is true if its response had begun. Returns true
    /// if a paged list should follow at once.
    pub(super) fn streaming_failed(&mut self, failure: &WatchError, answered: bool) -> bool {
        let gives_up = failure.suggests_paging(answered);
        if gives_up {
            self.paged_since = Some(Instant::now());
        }
        gives_up
    }

    /// Records that a list or watch has failed after it fed the store for `lived`. Returns true if the next
    /// connection must begin with a list.
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
        let inconsistent = matches!(failure, WatchError::Inconsistent(_));
        if inconsistent {
            self.reset_versions();
        }
        let stuck = self.stuck.get_or_insert_with(Streak::begin);
        // A busy server that asks for patience has not judged the version.
        let unanswered = matches!(failure, WatchError::Transport(_) | WatchError::ResponseTimeout(_));
        stuck.count += u32::from(!unanswered && failure.retry_after().is_none());
        let stuck = stuck.reached(STUCK, Duration::ZERO) || stuck.reached(0, STUCK_FOR);
        outdated || inconsistent || stuck || failure.is_expired() || self.not_found.is_some()
    }

    /// Requires that the next list replaces all objects, regardless of their versions.
    pub(super) fn reset_versions(&mut self) {
        self.stale_lists = STALE_LISTS;
    }

    /// Records that the resume version has changed.
    pub(super) fn advanced(&mut self) {
        self.stuck = None;
    }

    /// Records that a watch feeds the store.
    pub(super) fn live(&mut self) {
        self.not_found = None;
    }

    /// Records that a list has completed.
    pub(super) fn listed(&mut self) {
        *self = Self {
            paged_since: self.paged_since,
            large_pages: self.large_pages.saturating_sub(1),
            ..Self::default()
        };
    }

    /// Returns true if the kind may be gone: the server has returned "not found" for long enough (behaviour
    /// V2).
    pub(super) fn may_be_gone(&self) -> bool {
        self.not_found.is_some_and(|streak| streak.reached(NOT_FOUND, NOT_FOUND_FOR))
    }

    /// Returns true if the server was restored to an older state. Repeated stale lists show that.
    pub(super) fn versions_reset(&self) -> bool {
        self.stale_lists >= STALE_LISTS
    }
}
