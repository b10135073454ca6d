//! The life of an informer: list, watch, resume, relist; what follows from what is decided here.
//!
//! ```text
//!          ┌────────────── expired (410), versions lost ───────────────┐
//!          ▼                                                           │
//!   list (streaming, else paged, else whole) ──▶ watch ──▶ ended ──▶ resume at the last version
//!          ▲                                                           │
//!          └──────────── any failure of the list: back off ◀──────────┘ any failure: back off
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use rand::Rng;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::error::WatchError;
use super::health::{PartitionHealth, Verb};
use super::isolation::Isolation;
use super::list_watch::{Lines, ListWatch, Page};
use super::raw_event::{RawEvent, Stub, split_lines};
use super::state::InformerState;
use crate::kind::{CacheObject, DecodeError};
use crate::object::{Batch, parse_version};
use crate::store::{Change, Partition};

/// Changes applied under one lock; bounds how long readers may have to wait.
const BATCH: usize = 128;

/// Objects in a page unless the options say otherwise; client-go's pager uses the same.
const PAGE_SIZE: u32 = 500;

/// How long the API server is asked to keep a watch open; spread so that the kinds do not renew together.
const WATCH_SECONDS: std::ops::RangeInclusive<u64> = 240..=290;

/// Stale lists in a row after which the server is taken at its word: it was set back to an older state.
const STALE_LISTS: u32 = 2;

/// Answers of "not found" in a row, and the time that they must span, after which the kind counts as gone. A
/// few could be a server that is still starting.
const NOT_FOUND: u32 = 3;
const NOT_FOUND_FOR: Duration = Duration::from_secs(10);

/// Streaming lists in a row that ended before they were complete, after which pages are tried instead.
const INCOMPLETE_LISTS: u32 = 2;

/// How long a server that refused streaming lists is not asked for one again.
const PAGED_FOR: Duration = Duration::from_hours(1);

/// Pages are never made smaller than this, however large they turn out to be.
const SMALLEST_PAGE: u32 = 25;

/// How the next list is to be made.
#[derive(Clone, Copy, Default, PartialEq)]
enum ListMode {
    /// As a watch that sends every object first: nothing is ever held whole.
    #[default]
    Streaming,
    /// Page by page, since then.
    Paged(Instant),
}

/// One run of an informer: what its task remembers from one connection to the next.
pub(super) struct Reflector<'a, K: CacheObject> {
    informer: &'a InformerState<K>,
    partition: Partition,
    isolation: Isolation,
    mode: ListMode,
    /// Where to resume; `None` asks for a list.
    resume: Option<String>,
    /// The highest version that was seen.
    seen: u64,
    /// Since when a watch has fed the store, on this connection.
    live_since: Option<Instant>,
    stale_lists: u32,
    incomplete_lists: u32,
    /// Answers of "not found" in a row, and when the first one came.
    not_found: Option<(u32, Instant)>,
    /// Continue tokens that expired in a row.
    expired_pages: u32,
    /// Pages that were too large lately; each halves the next ones.
    large_pages: u32,
}

/// How a connection ended.
struct Ended {
    verb: Verb,
    /// For how long it has fed the store.
    lived: Duration,
    failure: Option<WatchError>,
}

impl Ended {
    /// It never came about.
    fn at_once(verb: Verb, failure: WatchError) -> Self {
        Self { verb, lived: Duration::ZERO, failure: Some(failure) }
    }
}

impl<'a, K: CacheObject> Reflector<'a, K> {
    pub(super) fn new(informer: &'a InformerState<K>, partition: Partition) -> Self {
        Self {
            informer,
            partition,
            isolation: Isolation::default(),
            mode: ListMode::default(),
            resume: None,
            // What the store shows may stem from an earlier run.
            seen: informer.versions.of(partition),
            live_since: None,
            stale_lists: 0,
            incomplete_lists: 0,
            not_found: None,
            expired_pages: 0,
            large_pages: 0,
        }
    }

    fn health(&self) -> PartitionHealth<'a> {
        self.informer.health.partition(self.partition)
    }

    fn list_watch(&self) -> &'a ListWatch {
        &self.informer.list_watches[usize::from(self.partition)]
    }

    fn observe(&self, batch: &Batch<K>) {
        self.informer.observers.observe(batch);
    }

    /// Never returns. Cancel safe: whatever was received has been applied, or will be listed again.
    pub(super) async fn list_and_watch(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            self.live_since = None;
            let ended = self.connect().await;
            self.health().down();
            let pause = backoff.after(ended.lived, ended.failure.as_ref());
            self.account(&ended, pause);
            if matches!(ended.failure, Some(WatchError::Silent(_))) {
                self.check_versions().await;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One list and the watch that follows it, or a watch that resumes.
    async fn connect(&mut self) -> Ended {
        if self.resume.is_none() {
            self.health().list_started();
            if matches!(self.mode, ListMode::Paged(since) if since.elapsed() >= PAGED_FOR) {
                self.mode = ListMode::Streaming;
            }
            if self.mode != ListMode::Streaming
                && let Err(failure) = self.list_pages().await
            {
                return Ended::at_once(Verb::List, failure);
            }
        }
        let listing = self.resume.is_none();
        // A streaming list may take longer than a watch should last; the server ends it within the hour.
        let lifetime = (!listing).then(|| Duration::from_secs(rand::rng().random_range(WATCH_SECONDS)));
        let lines = match self.list_watch().watch(self.resume.as_deref(), lifetime).await {
            Ok(lines) => lines,
            Err(failure) => return Ended::at_once(Verb::Watch, failure),
        };
        let failure = self.follow(lines, listing).await.err();
        // Only what came after the list counts as having lived, or a list that always fails late would be
        // made again and again without a pause.
        let lived = self.live_since.map_or(Duration::ZERO, |since| since.elapsed());
        if self.live_since.is_none() && !matches!(failure, Some(WatchError::Stale { .. })) {
            self.incomplete_lists += 1;
        }
        Ended { verb: Verb::Watch, lived, failure }
    }

    /// Decides what a connection's end means for the next one.
    fn account(&mut self, ended: &Ended, pause: Duration) {
        let Some(failure) = &ended.failure else { return };
        self.not_found = match (failure.code(), self.not_found) {
            (Some(404), None) => Some((1, Instant::now())),
            (Some(404), Some((count, since))) => Some((count + 1, since)),
            _ => None,
        };
        if failure.is_expired() || self.not_found.is_some() {
            self.resume = None;
        }
        if failure.is_version_too_large() || matches!(failure, WatchError::Stale { .. }) {
            self.resume = None;
            self.stale_lists += 1;
        }
        let refused = ended.verb == Verb::Watch && failure.is_unsupported();
        if self.resume.is_none() && (refused || self.incomplete_lists >= INCOMPLETE_LISTS) {
            tracing::info!(kind = %K::kind(&()), %failure, "no streaming lists here, listing page by page");
            self.mode = ListMode::Paged(Instant::now());
            self.incomplete_lists = 0;
        }
        self.tell(ended.verb, failure, pause);
        let gone =
            self.not_found.is_some_and(|(n, since)| n >= NOT_FOUND && since.elapsed() >= NOT_FOUND_FOR);
        if gone && self.health().has_synced() {
            self.clear();
        }
    }

    /// Notes a failure in the health and the log; there as a warning when it is another one than the last.
    fn tell(&self, verb: Verb, failure: &WatchError, pause: Duration) {
        let (kind, message) = (K::kind(&()), self.explain(verb, failure));
        if self.health().failed(verb, failure, message.clone()) {
            tracing::warn!(%kind, verb = verb.as_str(), failure = message, ?pause, "watch interrupted");
        } else {
            tracing::debug!(%kind, verb = verb.as_str(), failure = message, ?pause, "watch interrupted again");
        }
    }

    /// What a person should know of a failure: which permission or kind is missing (behaviour C5).
    fn explain(&self, verb: Verb, failure: &WatchError) -> String {
        let (plural, group) = (K::plural(&()), K::group(&()));
        let resource = if group.is_empty() { plural.to_string() } else { format!("{plural}.{group}") };
        let namespace = self.informer.options.namespaces.get(usize::from(self.partition));
        let place = namespace.map_or(String::new(), |namespace| format!(" in namespace {namespace:?}"));
        match failure.code() {
            Some(403) => {
                format!("forbidden: no permission to {} {resource}{place}: {failure}", verb.as_str())
            }
            Some(404) => format!("not found: {resource} is not served, is its CRD installed? {failure}"),
            _ => format!("{}: {failure}", failure.reason()),
        }
    }

    /// The kind is gone, and its objects with it.
    fn clear(&mut self) {
        tracing::warn!(kind = %K::kind(&()), "kind is no longer served, clearing what was cached of it");
        self.health().cleared();
        self.informer.store.clear(self.partition, |batch| self.observe(&batch));
        self.isolation = Isolation::default();
        self.health().undecodable(0);
    }

    /// After a silence: is the server still where we are? A watch from a version that a restored server has
    /// not reached stays silent for ever, so it is asked for its version.
    async fn check_versions(&mut self) {
        let Ok(page) = self.list_watch().list(1, None).await else {
            return;
        };
        let Ok(content) = page.content() else { return };
        if content.version().is_some_and(|listed| listed < self.seen) {
            self.resume = None;
        }
    }

    /// Whether the server has insisted on an older state for so long that it must have been set back.
    fn versions_reset(&self) -> bool {
        self.stale_lists >= STALE_LISTS
    }

    /// Refuses a list from a server that is behind what was seen before, unless it insists.
    fn check_freshness(&self, listed: Option<u64>) -> Result<(), WatchError> {
        match listed {
            Some(listed) if listed < self.seen && !self.versions_reset() => {
                Err(WatchError::Stale { listed, seen: self.seen })
            }
            _ => Ok(()),
        }
    }

    async fn list_pages(&mut self) -> Result<(), WatchError> {
        self.begin_list();
        let mut token = None;
        loop {
            let limit = self.page_limit();
            let page = match self.list_watch().list(limit, token.clone()).await {
                Ok(page) => page,
                Err(failure) => {
                    self.note_page_failure(&failure, limit, token.is_some());
                    return Err(failure);
                }
            };
            let (version, next) = self.apply_page(&page)?;
            token = next;
            if token.is_none() {
                return self.end_list(&version);
            }
        }
    }

    /// Objects to ask for in one page; 0 for all, once continue tokens have expired twice.
    fn page_limit(&self) -> u32 {
        if self.expired_pages >= 2 {
            return 0;
        }
        let asked = self.informer.options.page_size;
        let size = if asked == 0 { PAGE_SIZE } else { asked };
        (size >> self.large_pages.min(31)).max(SMALLEST_PAGE.min(size))
    }

    fn note_page_failure(&mut self, failure: &WatchError, limit: u32, continued: bool) {
        if continued && failure.is_expired() {
            self.expired_pages += 1;
        }
        if matches!(failure, WatchError::TooLarge(_)) {
            self.large_pages += u32::from(limit > 0);
            self.expired_pages = 0;
        }
    }

    fn apply_page(&mut self, page: &Page) -> Result<(String, Option<String>), WatchError> {
        let content = page.content()?;
        self.check_freshness(content.version())?;
        for items in content.items.chunks(BATCH) {
            let now = Timestamp::now();
            let changes: Vec<_> = items.iter().map(|item| self.decode(item.get(), now)).collect();
            self.observe(&self.informer.store.apply(self.partition, changes));
        }
        let ListMeta { resource_version, continue_, .. } = content.metadata;
        Ok((resource_version.unwrap_or_default(), continue_.filter(|token| !token.is_empty())))
    }

    fn begin_list(&mut self) {
        self.isolation.begin_list();
        self.informer.store.begin_relist(self.partition, self.versions_reset());
    }

    /// Everything that exists has been applied; removes what does not.
    fn end_list(&mut self, version: &str) -> Result<(), WatchError> {
        let number = parse_version(version);
        self.check_freshness(number)?;
        if self.versions_reset() {
            let seen = self.seen;
            tracing::warn!(kind = %K::kind(&()), version, seen, "API server was set back, starting anew");
        }
        self.seen = number.unwrap_or_default();
        self.resume = Some(version.to_owned());
        (self.stale_lists, self.incomplete_lists, self.expired_pages) = (0, 0, 0);
        self.large_pages = self.large_pages.saturating_sub(1);
        self.not_found = None;
        self.isolation.end_list();
        self.health().undecodable(self.isolation.len());
        self.informer.store.sweep(self.partition, number, |batch| self.observe(&batch));
        self.health().list_complete();
        if self.informer.health.has_synced() {
            self.informer.observers.synced();
        }
        self.informer.versions.advance(self.partition, self.seen);
        Ok(())
    }

    /// The watch feeds the store from here on.
    fn live(&mut self) {
        self.live_since = Some(Instant::now());
        self.not_found = None;
        self.health().live();
    }

    /// Reads a watch to its end. `Ok` is a clean end.
    async fn follow(&mut self, mut lines: Lines, mut listing: bool) -> Result<(), WatchError> {
        if listing {
            self.begin_list();
        } else {
            self.live();
        }
        while let Some(chunk) = lines.next().await? {
            self.ingest(&chunk, &mut listing)?;
        }
        if listing {
            return Err(WatchError::Protocol("the list ended before it was complete".into()));
        }
        Ok(())
    }

    /// Applies the events of a chunk in order, in batches.
    fn ingest(&mut self, chunk: &Bytes, listing: &mut bool) -> Result<(), WatchError> {
        let mut pending = Pending::new();
        let (mut events, mut bookmark) = (false, false);
        let result = (|| {
            for line in split_lines(chunk) {
                let event = RawEvent::parse(line)?;
                match &*event.kind {
                    "BOOKMARK" => {
                        bookmark = true;
                        self.flush(&mut pending, *listing);
                        self.bookmark(&Stub::parse(event.object), listing)?;
                    }
                    "ERROR" => return Err(event.error()),
                    kind => {
                        events = true;
                        pending.push(self.change(kind, &event)?);
                        if pending.changes.len() == BATCH {
                            self.flush(&mut pending, *listing);
                        }
                    }
                }
            }
            Ok(())
        })();
        // Also before an error: what came ahead of it is true.
        self.flush(&mut pending, *listing);
        self.health().seen(events, bookmark);
        result
    }

    fn change(&mut self, kind: &str, event: &RawEvent<'_>) -> Result<(Change<K>, String), WatchError> {
        let before = self.isolation.len();
        let params = self.informer.store.params();
        let (mut text, mut decoded) = (event.object, params.decode(event.object));
        if decoded.is_err() {
            text = event.verified_object()?;
            decoded = params.decode(text);
        }
        let change = match (kind, decoded) {
            ("ADDED" | "MODIFIED", decoded) => self.upsert(text, decoded, Timestamp::now()),
            ("DELETED", Ok(object)) => {
                self.isolation.heal(&object);
                Change::Delete(Arc::new(object))
            }
            ("DELETED", Err(_)) => self.isolation.gone(text),
            (other, _) => {
                return Err(WatchError::Protocol(format!("watch event of unknown type {other:?}")));
            }
        };
        if self.isolation.len() != before {
            self.health().undecodable(self.isolation.len());
        }
        let version = match &change {
            Change::Upsert(object, _) | Change::Delete(object) => object.meta().resource_version.clone(),
            Change::Hide { version, .. } => version.map(|version| version.to_string()),
        };
        Ok((change, version.unwrap_or_default()))
    }

    /// The change that an object's text makes.
    fn decode(&mut self, text: &str, now: Timestamp) -> Change<K> {
        let decoded = self.informer.store.params().decode(text);
        self.upsert(text, decoded, now)
    }

    /// Puts a decoded object into the store. An object that cannot be decoded is kept out by itself (E6).
    fn upsert(&mut self, text: &str, decoded: Result<K, DecodeError>, now: Timestamp) -> Change<K> {
        match decoded {
            Ok(object) => {
                self.isolation.heal(&object);
                self.informer.store.upsert(object, now)
            }
            Err(error) => self.isolation.isolate(text, &error),
        }
    }

    fn flush(&mut self, pending: &mut Pending<K>, listing: bool) {
        if pending.changes.is_empty() {
            return;
        }
        let batch = self.informer.store.apply(self.partition, pending.changes.drain(..));
        self.observe(&batch);
        if !listing {
            self.advance(&std::mem::take(&mut pending.version));
        }
    }

    fn bookmark(&mut self, stub: &Stub, listing: &mut bool) -> Result<(), WatchError> {
        let version = &stub.metadata.resource_version;
        if !*listing {
            // Bookmarks only ever rise, or this is not the server that it was.
            self.check_freshness(parse_version(version))?;
            self.advance(version);
        } else if stub.ends_initial_events() {
            self.end_list(version)?;
            self.live();
            *listing = false;
        }
        Ok(())
    }

    /// The store has reached a version; never goes backwards, whatever order events came in.
    fn advance(&mut self, version: &str) {
        let number = parse_version(version);
        if version.is_empty() || number.is_some_and(|number| number < self.seen) {
            return;
        }
        self.resume = Some(version.to_owned());
        self.seen = number.unwrap_or(self.seen);
        self.informer.versions.advance(self.partition, self.seen);
    }
}

/// Changes of one chunk that are not applied yet, and the version after the last of them.
struct Pending<K> {
    changes: Vec<Change<K>>,
    version: String,
}

impl<K> Pending<K> {
    fn new() -> Self {
        Self { changes: Vec::new(), version: String::new() }
    }

    fn push(&mut self, (change, version): (Change<K>, String)) {
        self.changes.push(change);
        self.version = version;
    }
}
