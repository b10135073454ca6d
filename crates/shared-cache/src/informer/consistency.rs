//! [`ConsistencyCheck`]: compares the store of one partition with the API server (behaviour V4).
//!
//! A watch proves nothing about the past: an API server that was restored from a backup and has reached the
//! version of the watch again sends only later events. So the names, UIDs and versions of all objects are listed
//! at intervals, and soon after a connection was lost. The check runs in the task of the watch, so it lets the watch
//! go first after each few objects. Pauses lie between the pages.
//!
//! The list is compared only while a watch feeds the store. A watch that ends and resumes meanwhile loses nothing, so
//! only the comparison begins again. A list of the reflector ends the check, because it replaces what was compared.
//!
//! ```text
//!  list metadata ──▶ differs from the store? ──no──▶ consistent
//!                          │ yes: wait until the watch has reached the version of the list
//!                          ▼
//!                    read the object again, wait again ──▶ the same difference? ──no──▶ consistent
//!                                                                │ yes
//!                                                                ▼
//!                                             the reflector replaces all objects by a list
//! ```

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use super::error::WatchError;
use super::health::{Check, PartitionHealth};
use super::list_watch::ListWatch;
use super::state::{CheckLink, InformerState};
use crate::kind::CacheObject;
use crate::object::{Identity, ObjectKey, parse_version, version_of};
use crate::store::{KnownVersion, Partition};

/// Number of objects in a page.
const PAGE_SIZE: u32 = 500;

/// Number of objects of a page that are parsed and compared before the watch may go first.
const STEP: usize = 32;

/// Pause between two pages, so that a check never uses up the client's rate limit.
const PAGE_PAUSE: Duration = Duration::from_millis(50);

/// Range of the time between a reconnect and the check that follows it.
const AFTER_RECONNECT: std::ops::RangeInclusive<u64> = 5..=15;

/// How long a check waits for the watch to reach a version. An idle watch reaches it only with a bookmark.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Time after which a failed check is repeated.
const RETRY: Duration = Duration::from_mins(1);

/// Time after which a check is repeated that was answered at an older version than that of the watch. With the time of a
/// reconnect and [`AFTER_RECONNECT`], a restored server is recognised well within the two minutes of V4.
const RETRY_BEHIND: Duration = Duration::from_secs(10);

/// Largest number of differing objects that are examined. One is enough for a repair.
const MAX_SUSPECTS: usize = 16;

/// Largest number of differences of one sort that are remembered. Most are changes in progress.
const MAX_CANDIDATES: usize = 1024;

/// Repeats the check of one partition.
pub(super) struct ConsistencyCheck<'a, K: CacheObject> {
    informer: &'a InformerState<K>,
    partition: Partition,
    hasher: RandomState,
    /// True if the last list was older than the store.
    was_behind: AtomicBool,
}

/// The objects of a list, and the first impression of the differences from the store.
struct Listing {
    /// The version of the list.
    version: Option<u64>,
    /// The hashes of the UIDs of all listed objects.
    uids: HashSet<u64, RandomState>,
    /// Objects that the store did not know in the listed version when their page was read.
    candidates: Vec<Suspect>,
    /// Objects that were hidden in the store before the list and were not listed.
    unlisted_hidden: HashSet<ObjectKey>,
}

/// An object that differs from the store at first sight.
#[derive(Clone)]
struct Suspect {
    key: ObjectKey,
    listed: Listed,
}

/// The state of an object on the API server; `None` if it does not exist or does not match the selectors.
type Listed = Option<Identity<'static>>;

impl Suspect {
    fn listed(listed: Identity<'static>) -> Self {
        Self { key: listed.key().into(), listed: Some(listed) }
    }

    fn unlisted(key: ObjectKey) -> Self {
        Self { key, listed: None }
    }
}

impl<'a, K: CacheObject> ConsistencyCheck<'a, K> {
    pub(super) fn new(informer: &'a InformerState<K>, partition: Partition) -> Self {
        Self { informer, partition, hasher: RandomState::new(), was_behind: AtomicBool::new(false) }
    }

    fn health(&self) -> PartitionHealth<'a> {
        self.informer.health.partition(self.partition)
    }

    fn link(&self) -> &'a CheckLink {
        &self.informer.links[usize::from(self.partition)]
    }

    fn list_watch(&self) -> &'a ListWatch {
        &self.informer.list_watches[usize::from(self.partition)]
    }

    /// Checks at intervals and after reconnects. Never returns. Cancel safe.
    pub(super) async fn repeat(&self) {
        let Some(interval) = self.informer.options.check_interval else {
            return std::future::pending().await;
        };
        let (health, partition) = (&self.informer.health, self.partition);
        let mut due = Instant::now() + jittered(interval);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.link().reconnected.notified() => {
                    let soon = Duration::from_secs(rand::rng().random_range(AFTER_RECONNECT));
                    due = due.min(Instant::now() + soon);
                    continue;
                }
            }
            health.until_live(partition, true).await;
            let mut lists = self.link().lists();
            let result = tokio::select! {
                biased;
                // The list repairs a difference.
                () = lists.begun() => None,
                result = self.check() => Some(result),
            };
            due = Instant::now() + self.conclude(result, interval);
        }
    }

    /// Acts on the result of a check; `None` if a list has interrupted it. Returns the time until the next check.
    fn conclude(&self, result: Option<Result<Option<String>, WatchError>>, interval: Duration) -> Duration {
        match result {
            Some(Ok(None)) => self.health().checked(Check::Equal),
            Some(Ok(Some(difference))) => {
                self.health().checked(Check::Different);
                tracing::warn!(
                    kind = %K::kind(&()), difference,
                    "the cache differs from the API server, replacing all objects by a new list"
                );
                self.link().request_repair(difference);
            }
            failed => {
                self.health().checked(Check::Failed);
                let failure = failed.and_then(Result::err);
                let is_behind = matches!(failure, Some(WatchError::Stale { .. }));
                let reason = failure.map_or_else(|| "a list has begun".to_owned(), |error| error.to_string());
                tracing::debug!(kind = %K::kind(&()), reason, "the consistency check was not completed");
                let retry = if is_behind { RETRY_BEHIND } else { RETRY };
                return jittered(retry.min(interval));
            }
        }
        jittered(interval)
    }

    /// Compares the store with the API server. Returns the description of a difference that is no change in
    /// progress.
    async fn check(&self) -> Result<Option<String>, WatchError> {
        let seen = self.informer.versions.of(self.partition);
        let listing = self.list().await?;
        let listed = listing.version.unwrap_or(seen);
        if listed < seen {
            // A stale replica answers once. Only a restored server stays at an older version.
            return if self.was_behind.swap(true, Ordering::Relaxed) {
                Ok(Some(format!("the API server is at version {listed}, the cache at {seen}")))
            } else {
                Err(WatchError::Stale { listed, seen })
            };
        }
        self.was_behind.store(false, Ordering::Relaxed);
        let health = &self.informer.health;
        loop {
            health.until_live(self.partition, true).await;
            tokio::select! {
                biased;
                // Nothing is proved while no watch feeds the store.
                () = health.until_live(self.partition, false) => {}
                result = self.compare(&listing) => return result,
            }
        }
    }

    /// Compares the store with a complete list.
    async fn compare(&self, listing: &Listing) -> Result<Option<String>, WatchError> {
        let suspects = self.suspects(listing).await;
        if suspects.is_empty() { Ok(None) } else { self.verify(suspects).await }
    }

    async fn list(&self) -> Result<Listing, WatchError> {
        let uids = HashSet::with_hasher(RandomState::new());
        let unlisted_hidden = self.informer.store.hidden_keys(self.partition);
        let mut listing = Listing { version: None, uids, candidates: Vec::new(), unlisted_hidden };
        let mut token = None;
        loop {
            let page = self.list_watch().list_metadata(PAGE_SIZE, token, None).await?;
            let content = page.content()?;
            listing.version = listing.version.or(content.version());
            for items in content.items.chunks(STEP) {
                let listed: Vec<_> = items.iter().filter_map(|item| Identity::peek(item.get())).collect();
                self.add(&listed, &mut listing);
                yield_now().await;
            }
            token = content.metadata.continue_.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(listing);
            }
            tokio::time::sleep(PAGE_PAUSE).await;
        }
    }

    fn add(&self, listed: &[Identity<'_>], listing: &mut Listing) {
        listing.uids.extend(listed.iter().map(|listed| self.hasher.hash_one(&*listed.uid)));
        if !listing.unlisted_hidden.is_empty() {
            for listed in listed {
                listing.unlisted_hidden.remove(&ObjectKey::from(listed.key()));
            }
        }
        let differing = self.informer.store.differing(listed).into_iter().cloned();
        let candidates = &mut listing.candidates;
        candidates.extend(differing.map(|listed| Suspect::listed(listed.into_owned())));
        if candidates.len() > MAX_CANDIDATES {
            // The watch has caught up with some of them meanwhile.
            candidates.retain(|candidate| self.differs(candidate));
            candidates.truncate(MAX_CANDIDATES);
        }
    }

    /// Returns the objects that still differ once the watch has reached the version of the list. A stored object
    /// that is newer than the list has probably changed since. Such objects come last.
    async fn suspects(&self, listing: &Listing) -> Vec<Suspect> {
        let unlisted = self.unlisted(listing).await;
        if listing.candidates.is_empty() && unlisted.is_empty() {
            return Vec::new();
        }
        self.catch_up(listing.version).await;
        let mut suspects = Vec::new();
        for candidate in listing.candidates.iter().chain(&unlisted) {
            if self.differs(candidate) {
                suspects.push(candidate.clone());
            }
        }
        let reached = listing.version.unwrap_or(u64::MAX);
        suspects.sort_by_cached_key(|suspect| self.known_number(&suspect.key) > Some(reached));
        suspects.truncate(MAX_SUSPECTS);
        suspects
    }

    /// Returns the objects of the store that a list does not contain.
    async fn unlisted(&self, listing: &Listing) -> Vec<Suspect> {
        let hidden = listing.unlisted_hidden.iter().cloned();
        let (mut ghosts, mut late): (Vec<_>, _) = (hidden.map(Suspect::unlisted).collect(), Vec::new());
        let reached = listing.version.unwrap_or(u64::MAX);
        let namespace = self.informer.options.namespaces.get(usize::from(self.partition));
        let mut visit = |object: &Arc<K>| {
            let meta = object.meta();
            let here = namespace.is_none() || meta.namespace.as_ref() == namespace;
            let uid = meta.uid.as_deref().unwrap_or_default();
            if here && !listing.uids.contains(&self.hasher.hash_one(uid)) {
                let found = if version_of(&**object) > Some(reached) { &mut late } else { &mut ghosts };
                if found.len() < MAX_CANDIDATES {
                    found.push(Suspect::unlisted(ObjectKey::of(&**object)));
                }
            }
        };
        let mut next = Some(0);
        while let Some(start) = next {
            next = self.informer.store.visit_from(start, &mut |object, _| visit(object));
            yield_now().await;
        }
        ghosts.append(&mut late);
        ghosts
    }

    fn differs(&self, suspect: &Suspect) -> bool {
        let known = self.informer.store.known_version((&suspect.key).into());
        !agrees(known.as_ref(), &suspect.listed)
    }

    /// Returns the version of an object in the store, as a number.
    fn known_number(&self, key: &ObjectKey) -> Option<u64> {
        self.informer.store.known_version(key.into()).and_then(|known| parse_version(&known.resource_version))
    }

    /// Examines objects that seem to differ. An object differs if the API server has it in the same state before and
    /// after the store was compared, and the store has it in another. The watch had [`CATCH_UP`] to deliver that
    /// state. A watch that is later counts as one that has missed it, and the repair is a list too many.
    async fn verify(&self, suspects: Vec<Suspect>) -> Result<Option<String>, WatchError> {
        let (mut before, mut newest) = (Vec::new(), None);
        for Suspect { key, .. } in suspects {
            let (listed, version) = self.read(&key).await?;
            newest = newest.max(version);
            before.push((key, listed));
        }
        self.catch_up(newest).await;
        for (key, listed) in before {
            let known = self.informer.store.known_version((&key).into());
            if agrees(known.as_ref(), &listed) {
                continue;
            }
            let (again, _) = self.read(&key).await?;
            if again == listed {
                return Ok(Some(describe(&key, known.as_ref(), &listed)));
            }
        }
        Ok(None)
    }

    /// Reads the state of one object, and the version at which it was read.
    async fn read(&self, key: &ObjectKey) -> Result<(Listed, Option<u64>), WatchError> {
        // An event that arrives before the answer does not make the answer stale.
        let seen = self.informer.versions.of(self.partition);
        let page = self.list_watch().list_metadata(1, None, Some(key)).await?;
        let content = page.content()?;
        if let Some(listed) = content.version().filter(|&listed| listed < seen) {
            return Err(WatchError::Stale { listed, seen });
        }
        let found = content.items.iter().filter_map(|item| Identity::peek(item.get()));
        // A server that ignores the field selector must not be misunderstood.
        let found = found.filter(|found| found.key() == key.into()).map(Identity::into_owned).next();
        Ok((found, content.version()))
    }

    /// Waits until the watch has reached a version, for a limited time.
    async fn catch_up(&self, version: Option<u64>) {
        let reached = self.informer.versions.reached_in(self.partition, version.unwrap_or_default());
        // Without bookmarks the version of an idle watch may never be reached. The store is compared nevertheless:
        // an event that is this late is missing.
        let _ = timeout(CATCH_UP, reached).await;
    }
}

fn agrees(known: Option<&KnownVersion>, listed: &Listed) -> bool {
    match (known, listed) {
        (None, None) => true,
        (Some(known), Some(listed)) => known.matches(listed),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn describe(key: &ObjectKey, known: Option<&KnownVersion>, listed: &Listed) -> String {
    let show = |uid: &str, version: &str| format!("version {version} of UID {uid}");
    let missing = || "no such object".to_owned();
    let cache = known.map_or_else(missing, |known| show(&known.uid, &known.resource_version));
    let server = listed.as_ref().map_or_else(missing, |listed| show(&listed.uid, &listed.resource_version));
    format!("{key}: the cache has {cache}, the API server has {server}")
}

/// Returns 90% to 110% of a duration, so that the checks of kinds and replicas do not coincide.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::rng().random_range(0.9..=1.1))
}
