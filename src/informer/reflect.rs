//! The life of an informer: list, watch, resume, relist; what follows from what is decided here.
//!
//! ```text
//!          ┌────────────── expired (410), versions lost ───────────────┐
//!          ▼                                                           │
//!   list (streaming, else paged, else whole) ──▶ watch ──▶ ended ──▶ resume at the last version
//!          ▲                                                           │
//!          └──────────── any failure of the list: back off ◀──────────┘ any failure: back off
//! ```

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use rand::Rng;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::Informer;
use super::backoff::Backoff;
use super::error::WatchError;
use super::health::Verb;
use super::isolation::Isolation;
use super::list_watch::{Lines, Page, RawEvent, Stub, split_lines};
use super::resource::CachedResource;
use super::store::Change;
use super::version::parse_version;

/// Changes applied under one lock; bounds how long readers may have to wait.
const BATCH: usize = 128;

/// Objects in a page unless the options say otherwise; client-go's pager uses the same.
const PAGE_SIZE: u32 = 500;

/// How long the API server is asked to keep a watch open; spread so that the kinds do not renew together.
const WATCH_SECONDS: std::ops::RangeInclusive<u64> = 240..=290;

/// Stale lists in a row after which the server is taken at its word: it was set back to an older state.
const STALE_LISTS: u32 = 2;

/// Answers of "not found" in a row after which the kind counts as gone. One could be a server that is
/// still starting.
const NOT_FOUND: u32 = 3;

/// How the next list is to be made.
#[derive(Clone, Copy, Default, PartialEq)]
enum ListMode {
    /// As a watch that sends every object first: nothing is ever held whole.
    #[default]
    Streaming,
    /// Page by page.
    Paged,
}

/// What the task remembers from one connection to the next.
#[derive(Default)]
pub(crate) struct TaskState {
    isolation: Isolation,
    mode: ListMode,
    /// Where to resume; `None` asks for a list.
    resume: Option<String>,
    /// The highest version that was seen.
    seen: u64,
    stale_lists: u32,
    not_found: u32,
    /// Continue tokens that expired in a row.
    expired_pages: u32,
    /// Pages that were too large in a row; each halves the next ones.
    large_pages: u32,
}

impl TaskState {
    /// Whether the server has insisted on an older state for so long that it must have been set back.
    fn versions_reset(&self) -> bool {
        self.stale_lists >= STALE_LISTS
    }
}

/// How a connection ended.
struct Ended {
    verb: Verb,
    lived: Duration,
    failure: Option<WatchError>,
}

impl<K: CachedResource> Informer<K> {
    /// Never returns. Cancel safe: whatever was received has been applied, or will be listed again.
    pub(super) async fn list_and_watch(&self) {
        let mut backoff = Backoff::default();
        self.task.lock().resume = None;
        loop {
            let ended = self.connect().await;
            self.health.down();
            let pause = backoff.after(ended.lived, ended.failure.as_ref());
            self.account(&ended, pause);
            if matches!(ended.failure, Some(WatchError::Silent(_))) {
                self.check_versions().await;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One list and the watch that follows it, or a watch that resumes.
    async fn connect(&self) -> Ended {
        let (resume, mode) = {
            let task = self.task.lock();
            (task.resume.clone(), task.mode)
        };
        if resume.is_none() {
            self.health.list_started();
        }
        if resume.is_none()
            && mode == ListMode::Paged
            && let Err(failure) = self.list_pages().await
        {
            return Ended {
                verb: Verb::List,
                lived: Duration::ZERO,
                failure: Some(failure),
            };
        }
        let resume = self.task.lock().resume.clone();
        let lifetime = Duration::from_secs(rand::rng().random_range(WATCH_SECONDS));
        let lines = match self.list_watch.watch(resume.as_deref(), lifetime).await {
            Ok(lines) => lines,
            Err(failure) => {
                return Ended {
                    verb: Verb::Watch,
                    lived: Duration::ZERO,
                    failure: Some(failure),
                };
            }
        };
        let connected = Instant::now();
        let failure = self.follow(lines, resume.is_none()).await.err();
        Ended {
            verb: Verb::Watch,
            lived: connected.elapsed(),
            failure,
        }
    }

    /// Decides what a connection's end means for the next one.
    fn account(&self, ended: &Ended, pause: Duration) {
        let Some(failure) = &ended.failure else { return };
        let mut task = self.task.lock();
        let not_found = failure.code() == Some(404);
        task.not_found = if not_found { task.not_found + 1 } else { 0 };
        if failure.is_expired() {
            task.resume = None;
        }
        if failure.is_version_too_large() || matches!(failure, WatchError::Stale { .. }) {
            task.resume = None;
            task.stale_lists += 1;
        }
        if task.resume.is_none() && ended.verb == Verb::Watch && failure.is_unsupported() {
            tracing::info!(kind = %K::kind(&()), %failure, "no streaming lists here, listing page by page");
            task.mode = ListMode::Paged;
        }
        let gone = not_found && task.not_found >= NOT_FOUND;
        if not_found {
            task.resume = None;
        }
        drop(task);
        self.health
            .failed(ended.verb, failure, self.explain(ended.verb, failure));
        tracing::debug!(kind = %K::kind(&()), verb = ended.verb.as_str(), %failure, ?pause, "watch interrupted");
        if gone && self.has_synced() {
            self.clear();
        }
    }

    /// What a person should know of a failure: which permission or kind is missing (behaviour C5).
    fn explain(&self, verb: Verb, failure: &WatchError) -> String {
        let (plural, group) = (K::plural(&()), K::group(&()));
        let resource = if group.is_empty() {
            plural.to_string()
        } else {
            format!("{plural}.{group}")
        };
        let place = self
            .options
            .namespace
            .as_ref()
            .map_or(String::new(), |ns| format!(" in namespace \"{ns}\""));
        match failure.code() {
            Some(403) => format!(
                "forbidden: no permission to {} {resource}{place}: {failure}",
                verb.as_str()
            ),
            Some(404) => format!("not found: {resource} is not served, is its CRD installed? {failure}"),
            _ => format!("{}: {failure}", failure.reason()),
        }
    }

    /// The kind is gone, and its objects with it.
    fn clear(&self) {
        tracing::warn!(kind = %K::kind(&()), "kind is no longer served, clearing what was cached of it");
        self.health.cleared();
        self.store.begin_relist(false);
        self.store.sweep(|batch| self.observe(&batch));
        let mut task = self.task.lock();
        task.isolation = Isolation::default();
        self.health.undecodable(0);
    }

    /// After a silence: is the server still where we are? A watch from a version that a restored server has
    /// not reached stays silent for ever, so it is asked for its version.
    async fn check_versions(&self) {
        let Ok(page) = self.list_watch.list(1, None).await else {
            return;
        };
        let Ok(content) = page.content() else { return };
        let listed = content
            .metadata
            .resource_version
            .as_deref()
            .and_then(parse_version);
        let mut task = self.task.lock();
        if listed.is_some_and(|listed| listed < task.seen) {
            task.resume = None;
        }
    }

    async fn list_pages(&self) -> Result<(), WatchError> {
        self.begin_list();
        let mut token = None;
        loop {
            let limit = self.page_limit();
            let listed = self.list_watch.list(limit, token.clone()).await;
            let page = listed.inspect_err(|failure| self.note_page_failure(failure, token.is_some()))?;
            let (version, next) = self.apply_page(&page)?;
            token = next;
            if token.is_none() {
                self.task.lock().expired_pages = 0;
                return self.end_list(&version);
            }
        }
    }

    /// Objects to ask for in one page; 0 for all, once continue tokens have expired twice.
    fn page_limit(&self) -> u32 {
        let task = self.task.lock();
        if task.expired_pages >= 2 {
            return 0;
        }
        let size = if self.options.page_size == 0 {
            PAGE_SIZE
        } else {
            self.options.page_size
        };
        (size >> task.large_pages.min(31)).max(1)
    }

    fn note_page_failure(&self, failure: &WatchError, continued: bool) {
        let mut task = self.task.lock();
        if continued && failure.is_expired() {
            task.expired_pages += 1;
        }
        if matches!(failure, WatchError::TooLarge(_)) {
            task.large_pages += 1;
            task.expired_pages = 0;
        }
    }

    fn apply_page(&self, page: &Page) -> Result<(String, Option<String>), WatchError> {
        let content = page.content()?;
        for items in content.items.chunks(BATCH) {
            let now = Timestamp::now();
            let changes: Vec<_> = {
                let mut task = self.task.lock();
                items
                    .iter()
                    .map(|item| decode(&mut task.isolation, item, now))
                    .collect()
            };
            self.observe(&self.store.apply(changes));
        }
        let ListMeta {
            resource_version,
            continue_,
            ..
        } = content.metadata;
        Ok((
            resource_version.unwrap_or_default(),
            continue_.filter(|token| !token.is_empty()),
        ))
    }

    fn begin_list(&self) {
        let mut task = self.task.lock();
        task.isolation.begin_list();
        let reset = task.versions_reset();
        drop(task);
        self.store.begin_relist(reset);
    }

    /// Everything that exists has been applied; removes what does not.
    fn end_list(&self, version: &str) -> Result<(), WatchError> {
        let number = parse_version(version);
        {
            let mut task = self.task.lock();
            let seen = task.seen;
            let stale = number.filter(|&listed| listed < seen && !task.versions_reset());
            if let Some(listed) = stale {
                return Err(WatchError::Stale { listed, seen });
            }
            if task.versions_reset() {
                tracing::warn!(kind = %K::kind(&()), version, seen, "API server was set back, starting anew");
            }
            task.seen = number.unwrap_or_default();
            task.stale_lists = 0;
            task.resume = Some(version.to_owned());
            task.isolation.end_list();
            self.health.undecodable(task.isolation.len());
        }
        self.store.sweep(|batch| self.observe(&batch));
        self.health.list_complete();
        self.version.send_replace(number.unwrap_or_default());
        Ok(())
    }

    /// Reads a watch to its end. `Ok` is a clean end.
    async fn follow(&self, mut lines: Lines, mut listing: bool) -> Result<(), WatchError> {
        if listing {
            self.begin_list();
        } else {
            self.health.live();
        }
        while let Some(chunk) = lines.next().await? {
            self.ingest(&chunk, &mut listing)?;
        }
        if listing {
            Err(WatchError::Protocol(
                "the list ended before it was complete".into(),
            ))
        } else {
            Ok(())
        }
    }

    /// Applies the events of a chunk in order, in batches.
    fn ingest(&self, chunk: &Bytes, listing: &mut bool) -> Result<(), WatchError> {
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
                        pending.push(self.change(kind, event.object)?);
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
        self.health.seen(events, bookmark);
        result
    }

    fn change(&self, kind: &str, object: &RawValue) -> Result<(Change<K>, String), WatchError> {
        let isolation = &mut self.task.lock().isolation;
        let before = isolation.len();
        let change = match kind {
            "ADDED" | "MODIFIED" => decode(isolation, object, Timestamp::now()),
            "DELETED" => match K::decode(object.get()) {
                Ok(object) => {
                    isolation.heal(&object);
                    Change::Delete(std::sync::Arc::new(object))
                }
                Err(_) => isolation.gone(object),
            },
            other => {
                return Err(WatchError::Protocol(format!(
                    "watch event of unknown type {other:?}"
                )));
            }
        };
        if isolation.len() != before {
            self.health.undecodable(isolation.len());
        }
        let version = match &change {
            Change::Upsert(object, _) | Change::Delete(object) => object.meta().resource_version.clone(),
            Change::Hide { version, .. } => version.map(|version| version.to_string()),
        };
        Ok((change, version.unwrap_or_default()))
    }

    fn flush(&self, pending: &mut Pending<K>, listing: bool) {
        if pending.changes.is_empty() {
            return;
        }
        let batch = self.store.apply(pending.changes.drain(..));
        self.observe(&batch);
        if !listing {
            self.advance(&std::mem::take(&mut pending.version));
        }
    }

    fn bookmark(&self, stub: &Stub, listing: &mut bool) -> Result<(), WatchError> {
        let version = &stub.metadata.resource_version;
        if *listing {
            if stub.ends_initial_events() {
                self.end_list(version)?;
                self.health.live();
                *listing = false;
            }
        } else {
            let seen = self.task.lock().seen;
            if let Some(listed) = parse_version(version).filter(|&version| version < seen) {
                // Bookmarks only ever rise, so this is not the server that it was.
                return Err(WatchError::Stale { listed, seen });
            }
            self.advance(version);
        }
        Ok(())
    }

    /// The store has reached a version; never goes backwards, whatever order events came in.
    fn advance(&self, version: &str) {
        if version.is_empty() {
            return;
        }
        let mut task = self.task.lock();
        match parse_version(version) {
            Some(number) if number < task.seen => {}
            number => {
                task.resume = Some(version.to_owned());
                task.seen = number.unwrap_or(task.seen);
                let seen = task.seen;
                drop(task);
                self.version.send_replace(seen);
            }
        }
    }
}

/// Changes of one chunk that are not applied yet, and the version after the last of them.
struct Pending<K> {
    changes: Vec<Change<K>>,
    version: String,
}

impl<K> Pending<K> {
    fn new() -> Self {
        Self {
            changes: Vec::new(),
            version: String::new(),
        }
    }

    fn push(&mut self, (change, version): (Change<K>, String)) {
        self.changes.push(change);
        self.version = version;
    }
}

/// An object's change from its text; one that can't be decoded is kept out by itself (E6).
fn decode<K: CachedResource>(isolation: &mut Isolation, object: &RawValue, now: Timestamp) -> Change<K> {
    match K::decode(object.get()) {
        Ok(object) => {
            isolation.heal(&object);
            Change::upsert(object, now)
        }
        Err(error) => isolation.isolate(object, &error),
    }
}
