//! [`Reflector`]: the loop of an informer. It lists, watches, resumes and relists. The diagram shows the
//! transitions.
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
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use rand::Rng;
use tokio::time::Instant;

use super::backoff::{Backoff, requested_pause};
use super::error::WatchError;
use super::health::{PartitionHealth, Verb};
use super::intake::{BATCH, Intake, Known};
use super::list_watch::{Lines, ListWatch, Page, SILENCE_TIMEOUT, Sending};
use super::raw_event::{RawEvent, Stub, split_lines};
use super::recovery::Recovery;
use super::state::{CheckLink, InformerState};
use super::undecodable::Isolation;
use crate::kind::CacheObject;
use crate::object::parse_version;
use crate::store::Partition;

/// How long the API server is asked to keep a watch open. The value is random, so that the kinds do not renew
/// together.
const WATCH_SECONDS: std::ops::RangeInclusive<u64> = 240..=290;

/// How long a streaming list may be silent. A longer silence means that the server never ends such a list
/// (behaviour V7).
const LIST_SILENCE: Duration = Duration::from_secs(10);

/// A streaming list that ends cleanly before this time was ended by a server that stops. The server alone decides
/// how long the list lasts, at least half an hour.
const SHORTEST_LIFETIME: Duration = Duration::from_mins(25);

/// How long the whole probe of a silent watch may take. The limit lets a dead peer be noticed within 90 s
/// (E8).
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// One run of an informer: the state that its task keeps between connections.
pub(super) struct Reflector<'a, K: CacheObject> {
    informer: &'a InformerState<K>,
    partition: Partition,
    intake: Intake<'a, K>,
    /// The version at which to resume. `None` if a list is needed.
    resume: Option<String>,
    /// The highest version that was seen.
    seen: u64,
    /// Time since which a watch has fed the store on this connection.
    live_since: Option<Instant>,
    recovery: Recovery,
    /// True once this run has completed a list.
    listed: bool,
    /// True if the connection was lost, until a watch works again.
    lost: bool,
}

/// The reason why a watch is silent.
enum Silence {
    /// Nothing has changed.
    Idle,
    /// The connection is dead, or the server does not respond.
    Dead,
    /// The server is at an older version than the watch.
    Restored,
}

/// How a connection ended.
struct Ended {
    verb: Verb,
    /// How long the connection has fed the store.
    lived: Duration,
    failure: Option<WatchError>,
    /// True if the next connection must not wait, because it uses another method.
    retry_at_once: bool,
    /// True if the connection ended before its time, so that the server may have been restarted.
    lost: bool,
}

impl Ended {
    /// Returns the end of a connection that was never established.
    fn at_once(verb: Verb, failure: WatchError) -> Self {
        Self { verb, lived: Duration::ZERO, failure: Some(failure), retry_at_once: false, lost: true }
    }
}

impl<'a, K: CacheObject> Reflector<'a, K> {
    /// After a panic the store may be half changed, so the first list then replaces all objects.
    pub(super) fn new(informer: &'a InformerState<K>, partition: Partition, after_panic: bool) -> Self {
        let mut recovery = Recovery::default();
        if after_panic {
            recovery.reset_versions();
        }
        Self {
            informer,
            partition,
            intake: Intake::new(informer, partition),
            resume: None,
            // The store may contain objects of an earlier run.
            seen: informer.versions.of(partition),
            live_since: None,
            recovery,
            listed: false,
            lost: false,
        }
    }

    fn health(&self) -> PartitionHealth<'a> {
        self.informer.health.partition(self.partition)
    }

    fn list_watch(&self) -> &'a ListWatch {
        &self.informer.list_watches[usize::from(self.partition)]
    }

    fn link(&self) -> &'a CheckLink {
        &self.informer.links[usize::from(self.partition)]
    }

    /// Never returns. Cancel safe: received events have been applied, or will be listed again.
    pub(super) async fn list_and_watch(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            self.live_since = None;
            let ended = self.connect().await;
            self.health().down();
            self.lost |= ended.lost;
            let pause = if ended.retry_at_once {
                Duration::ZERO
            } else {
                backoff.after(ended.lived, ended.failure.as_ref())
            };
            if let Some(failure) = &ended.failure {
                self.account(&ended, failure, pause).await;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Runs one connection: a list and the watch that follows it, or a watch that resumes.
    async fn connect(&mut self) -> Ended {
        if self.resume.is_none() {
            self.health().list_started();
            if !self.recovery.may_stream()
                && let Err(failure) = self.list_pages().await
            {
                return Ended::at_once(Verb::List, failure);
            }
        }
        let listing = self.resume.is_none();
        // A streaming list may take longer than a watch should last. The server ends it within an hour.
        let lifetime = (!listing).then(|| Duration::from_secs(rand::rng().random_range(WATCH_SECONDS)));
        let how = if listing { self.recovery.sending_list() } else { self.recovery.sending_watch() };
        let lines = self.list_watch().watch(self.resume.as_deref(), lifetime, how).await;
        let answered = lines.is_ok();
        let failure = match lines {
            Ok(lines) => self.follow(lines, listing).await.err(),
            Err(failure) => Some(failure),
        };
        // Only the time after the list counts as lived. Otherwise a list that always fails late would be
        // repeated without a pause.
        let lived = self.live_since.map_or(Duration::ZERO, |since| since.elapsed());
        let incomplete = failure.as_ref().filter(|_| listing && self.live_since.is_none());
        let retry_at_once = match incomplete {
            Some(failure) => self.recovery.streaming_failed(failure, answered),
            None => false,
        };
        if retry_at_once {
            tracing::info!(kind = %K::kind(&()), "streaming list failed, using paged lists for one hour");
        }
        let whole = lifetime.unwrap_or(SHORTEST_LIFETIME);
        let lost = match &failure {
            // The server ends a watch a moment before its time.
            None => lived + Duration::from_secs(10) < whole,
            Some(failure) => !matches!(failure, WatchError::Inconsistent(_)),
        };
        Ended { verb: Verb::Watch, lived, failure, retry_at_once, lost }
    }

    /// Decides how a failure changes the next connection, and reports the failure.
    async fn account(&mut self, ended: &Ended, failure: &WatchError, pause: Duration) {
        if self.recovery.failed(failure, self.resume.is_none(), ended.lived) {
            self.resume = None;
        }
        self.report(ended.verb, failure, pause);
        if self.recovery.may_be_gone() && self.health().has_synced() {
            // A single API server may answer 404 while others still serve the kind (behaviour V2).
            match self.list_watch().is_served().await {
                Ok(false) => self.clear(),
                Ok(true) => tracing::debug!(kind = %K::kind(&()), "not found, but discovery lists the kind"),
                Err(error) => tracing::debug!(kind = %K::kind(&()), %error, "discovery failed"),
            }
        }
    }

    /// Records a failure in the health and logs it. A failure that differs from the last one is a warning.
    fn report(&self, verb: Verb, failure: &WatchError, pause: Duration) {
        let (kind, message) = (K::kind(&()), self.explain(verb, failure));
        if self.health().failed(verb, failure, message.clone()) {
            tracing::warn!(%kind, verb = verb.as_str(), failure = message, ?pause, "watch interrupted");
        } else {
            tracing::debug!(%kind, verb = verb.as_str(), failure = message, ?pause, "watch interrupted again");
        }
    }

    /// Returns the failure as text for operators: it names the missing permission or kind (behaviour C5).
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

    /// Removes all objects of the kind, because the kind is no longer served.
    fn clear(&mut self) {
        tracing::warn!(kind = %K::kind(&()), "kind is no longer served, removing its objects from the cache");
        self.health().cleared();
        self.informer.store.clear(self.partition, |batch| self.intake.observe(&batch));
        self.intake.isolation = Isolation::default();
        self.health().not_decoded(self.intake.isolation.counts());
    }

    /// Checks on another connection why a watch is silent (behaviour V8). An API server whose etcd reports no
    /// progress sends no bookmarks, so an idle watch may be silent without a fault.
    async fn probe(&self) -> Silence {
        let probe = async {
            // A watch from a version that a restored server has not reached stays silent forever.
            let page = self.list_watch().list(1, None, Sending::default()).await?;
            if page.content()?.version().is_some_and(|listed| listed < self.seen) {
                return Ok(Silence::Restored);
            }
            // A second watch from the same version receives the events that the silent watch is missing.
            let lifetime = Some(Duration::from_secs(1));
            let mut lines =
                self.list_watch().watch(self.resume.as_deref(), lifetime, Sending::default()).await?;
            while let Some(chunk) = lines.next(PROBE_TIMEOUT).await? {
                for line in split_lines(&chunk) {
                    if RawEvent::parse(line)?.kind != "BOOKMARK" {
                        return Ok(Silence::Dead);
                    }
                }
            }
            Ok::<_, WatchError>(Silence::Idle)
        };
        match tokio::time::timeout(PROBE_TIMEOUT, probe).await {
            Ok(Ok(silence)) => silence,
            Ok(Err(_)) | Err(_) => Silence::Dead,
        }
    }

    /// Rejects a list that is older than the versions already seen, unless the server has repeated it often
    /// enough.
    fn check_freshness(&self, listed: Option<u64>) -> Result<(), WatchError> {
        match listed {
            Some(listed) if listed < self.seen && !self.recovery.versions_reset() => {
                Err(WatchError::Stale { listed, seen: self.seen })
            }
            _ => Ok(()),
        }
    }

    async fn list_pages(&mut self) -> Result<(), WatchError> {
        self.begin_list();
        let mut token: Option<String> = None;
        loop {
            let limit = self.recovery.page_limit(self.informer.options.page_size);
            let how = self.recovery.sending_list();
            let page = match self.list_watch().list(limit, token.clone(), how).await {
                Ok(page) => page,
                Err(failure) => {
                    // The pages so far stay valid until the token expires. A new list would only add load.
                    if token.is_some()
                        && let Some(pause) = requested_pause(&failure)
                    {
                        self.report(Verb::List, &failure, pause);
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                    self.recovery.page_failed(&failure, limit, token.is_some());
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

    fn apply_page(&mut self, page: &Page) -> Result<(String, Option<String>), WatchError> {
        let content = page.content()?;
        self.check_freshness(content.version())?;
        self.health().list_arrives();
        let known = self.known_objects();
        for items in content.items.chunks(BATCH) {
            self.intake.apply_items(items, known);
        }
        let ListMeta { resource_version, continue_, .. } = content.metadata;
        Ok((resource_version.unwrap_or_default(), continue_.filter(|token| !token.is_empty())))
    }

    /// Returns what a list may do with the objects that the store has in the listed version. Versions of a restored
    /// server do not identify an object. A run that begins does not know which objects of an earlier run are decoded
    /// only partially, so its first list decodes all.
    fn known_objects(&self) -> Known {
        let replace = self.recovery.versions_reset() || !self.listed || !self.health().has_synced();
        if replace { Known::Replace } else { Known::Keep }
    }

    fn begin_list(&mut self) {
        self.link().list_begins();
        self.intake.isolation.begin_list();
        self.informer.store.begin_relist(self.partition, self.recovery.versions_reset());
    }

    /// Completes a list: all listed objects have been applied, so the others are removed.
    fn end_list(&mut self, version: &str) -> Result<(), WatchError> {
        let number = parse_version(version);
        self.check_freshness(number)?;
        if self.recovery.versions_reset() {
            let seen = self.seen;
            tracing::warn!(kind = %K::kind(&()), version, seen, "accepting the list of a restored server");
        }
        self.seen = number.unwrap_or_default();
        self.resume = Some(version.to_owned());
        self.recovery.listed();
        self.listed = true;
        self.intake.isolation.end_list();
        self.health().not_decoded(self.intake.isolation.counts());
        self.informer.store.sweep(self.partition, number, |batch| self.intake.observe(&batch));
        self.health().list_complete();
        if self.informer.health.has_synced() {
            self.informer.observers.synced();
        }
        self.informer.versions.advance(self.partition, self.seen);
        Ok(())
    }

    /// Records that the watch feeds the store.
    fn live(&mut self) {
        self.live_since = Some(Instant::now());
        self.recovery.live();
        self.health().live();
        if std::mem::take(&mut self.lost) {
            self.link().reconnected.notify_one();
        }
    }

    /// Reads a watch to its end. `Ok` is a clean end.
    async fn follow(&mut self, mut lines: Lines, mut listing: bool) -> Result<(), WatchError> {
        if listing {
            self.begin_list();
            self.health().list_arrives();
        } else {
            self.live();
        }
        loop {
            let patience = if listing { LIST_SILENCE } else { SILENCE_TIMEOUT };
            let next = tokio::select! {
                biased;
                difference = self.link().repair_requested(), if !listing => {
                    return Err(WatchError::Inconsistent(difference));
                }
                next = lines.next(patience) => next,
            };
            match next {
                Ok(Some(chunk)) => self.ingest(&chunk, &mut listing)?,
                Ok(None) => break,
                Err(silent @ WatchError::Silent(_)) if !listing => match self.probe().await {
                    Silence::Idle => {}
                    Silence::Dead => return Err(silent),
                    Silence::Restored => {
                        self.resume = None;
                        return Err(silent);
                    }
                },
                Err(failure) => return Err(failure),
            }
        }
        if listing {
            return Err(WatchError::Protocol("the list ended before it was complete".into()));
        }
        Ok(())
    }

    /// Applies the events of a chunk in order, in batches.
    fn ingest(&mut self, chunk: &Bytes, listing: &mut bool) -> Result<(), WatchError> {
        let mut pending = Vec::new();
        let (mut events, mut bookmark) = (false, false);
        let result = (|| {
            for line in split_lines(chunk) {
                let event = RawEvent::parse(line)?;
                match &*event.kind {
                    "BOOKMARK" => {
                        bookmark = true;
                        self.flush(&mut pending, *listing)?;
                        self.bookmark(&Stub::parse(event.object), listing)?;
                    }
                    "ERROR" => return Err(event.error()),
                    _ => {
                        events = true;
                        pending.push(event);
                        if pending.len() == BATCH {
                            self.flush(&mut pending, *listing)?;
                        }
                    }
                }
            }
            Ok(())
        })();
        // Also before an error, because the events ahead of the error are valid.
        let flushed = self.flush(&mut pending, *listing);
        self.health().seen(events, bookmark);
        result.and(flushed)
    }

    /// Applies events, and advances the version if they are not part of a list.
    fn flush(&mut self, pending: &mut Vec<RawEvent<'_>>, listing: bool) -> Result<(), WatchError> {
        if pending.is_empty() {
            return Ok(());
        }
        let known = if listing { self.known_objects() } else { Known::Replace };
        let (version, result) = self.intake.apply_events(pending, known);
        pending.clear();
        if !listing {
            self.advance(&version);
        }
        result
    }

    fn bookmark(&mut self, stub: &Stub, listing: &mut bool) -> Result<(), WatchError> {
        let version = &stub.metadata.resource_version;
        if !*listing {
            // Bookmark versions only increase. A lower version means that the server was restored.
            self.check_freshness(parse_version(version))?;
            self.advance(version);
        } else if stub.ends_initial_events() {
            self.end_list(version)?;
            self.live();
            *listing = false;
        }
        Ok(())
    }

    /// Records that the store has reached a version. The version never decreases, in any order of events.
    fn advance(&mut self, version: &str) {
        let number = parse_version(version);
        if version.is_empty() || number.is_some_and(|number| number < self.seen) {
            return;
        }
        self.resume = Some(version.to_owned());
        self.recovery.advanced();
        self.seen = number.unwrap_or(self.seen);
        self.informer.versions.advance(self.partition, self.seen);
    }
}
