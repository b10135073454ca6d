//! [`ConsistencyCheck`]: compares the store of one partition with the API server (behaviour V4).
//!
//! A watch proves nothing about the past: an API server that was restored from a backup and has reached the
//! version of the watch again sends only later events. So the names, UIDs and versions of all objects are listed
//! at intervals, and soon after a connection was lost. The pages are small and pauses lie between them, so that
//! the check delays no watch.
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
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, timeout};

use super::error::WatchError;
use super::health::PartitionHealth;
use super::list_watch::ListWatch;
use super::state::{CheckLink, InformerState};
use crate::kind::CacheObject;
use crate::object::{Identity, ObjectKey, parse_version};
use crate::store::{KnownVersion, Partition};

/// Number of objects in a page. Their metadata is parsed in the task of the watch, in about a millisecond.
const PAGE_SIZE: u32 = 500;

/// Pause between two pages, so that a check never uses up the client's rate limit.
const PAGE_PAUSE: Duration = Duration::from_millis(50);

/// Range of the time between a reconnect and the check that follows it.
const AFTER_RECONNECT: std::ops::RangeInclusive<u64> = 15..=30;

/// How long a check waits for the watch to reach a version. An idle watch reaches it only with a bookmark.
const CATCH_UP: Duration = Duration::from_secs(20);

/// Time after which a failed check is repeated.
const RETRY: Duration = Duration::from_mins(1);

/// Largest number of differing objects that are examined. One is enough for a repair.
const MAX_SUSPECTS: usize = 16;

/// Largest number of differences that are remembered while pages are read. Most are changes in progress.
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
    candidates: Vec<ObjectKey>,
}

/// The state of an object on the API server; `None` if it does not exist or does not match the selectors.
type Listed = Option<Identity<'static>>;

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
            let result = tokio::select! {
                biased;
                // The list that follows may repair the difference. The reconnect requests another check.
                () = health.until_live(partition, false) => None,
                result = self.check() => Some(result),
            };
            due = Instant::now() + self.conclude(result, interval);
        }
    }

    /// Acts on the result of a check; `None` if the watch was interrupted. Returns the time until the next check.
    fn conclude(&self, result: Option<Result<Option<String>, WatchError>>, interval: Duration) -> Duration {
        match result {
            Some(Ok(None)) => self.health().checked(true),
            Some(Ok(Some(difference))) => {
                self.health().checked(false);
                tracing::warn!(
                    kind = %K::kind(&()), difference,
                    "the cache differs from the API server, replacing all objects by a new list"
                );
                self.link().request_repair(difference);
            }
            Some(Err(error)) => {
                tracing::debug!(kind = %K::kind(&()), %error, "the consistency check failed");
                return jittered(RETRY.min(interval));
            }
            None => return jittered(RETRY.min(interval)),
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
        let suspects = self.suspects(&listing).await;
        if suspects.is_empty() { Ok(None) } else { self.verify(suspects).await }
    }

    async fn list(&self) -> Result<Listing, WatchError> {
        let uids = HashSet::with_hasher(RandomState::new());
        let mut listing = Listing { version: None, uids, candidates: Vec::new() };
        let mut token = None;
        loop {
            let page = self.list_watch().list_metadata(PAGE_SIZE, token, None).await?;
            let content = page.content()?;
            listing.version = listing.version.or(content.version());
            let listed: Vec<_> = content.items.iter().filter_map(|item| Identity::peek(item.get())).collect();
            listing.uids.extend(listed.iter().map(|listed| self.hasher.hash_one(&*listed.uid)));
            let room = MAX_CANDIDATES - listing.candidates.len();
            let differing = self.informer.store.differing(&listed).into_iter();
            listing.candidates.extend(differing.take(room).map(ObjectKey::from));
            token = content.metadata.continue_.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(listing);
            }
            tokio::time::sleep(PAGE_PAUSE).await;
        }
    }

    /// Returns the objects that still differ once the watch has reached the version of the list. A stored object
    /// that is newer than the list has probably changed since. Such objects come last.
    async fn suspects(&self, listing: &Listing) -> Vec<ObjectKey> {
        let mut ghosts = Vec::new();
        let mut late = Vec::new();
        let reached = listing.version.unwrap_or(u64::MAX);
        let is_late =
            |known: Option<&str>| known.and_then(parse_version).is_some_and(|known| known > reached);
        let namespace = self.informer.options.namespaces.get(usize::from(self.partition));
        self.informer.store.visit(|object, _| {
            let meta = object.meta();
            let here = namespace.is_none() || meta.namespace.as_ref() == namespace;
            let listed =
                listing.uids.contains(&self.hasher.hash_one(meta.uid.as_deref().unwrap_or_default()));
            let found = if is_late(meta.resource_version.as_deref()) { &mut late } else { &mut ghosts };
            if here && !listed && found.len() < MAX_SUSPECTS {
                found.push(ObjectKey::of(&**object));
            }
        });
        if !listing.candidates.is_empty() || !ghosts.is_empty() || !late.is_empty() {
            self.catch_up(listing.version).await;
        }
        for key in &listing.candidates {
            let known = self.informer.store.known_version(key.into());
            let known = known.as_ref().map(|known| &*known.resource_version);
            if is_late(known) { &mut late } else { &mut ghosts }.push(key.clone());
        }
        ghosts.truncate(MAX_SUSPECTS);
        late.truncate(MAX_SUSPECTS);
        ghosts.append(&mut late);
        ghosts
    }

    /// Examines objects that seem to differ. An object differs if the API server has it in one state from before
    /// until after the moment at which the store, at that version, has it in another.
    async fn verify(&self, suspects: Vec<ObjectKey>) -> Result<Option<String>, WatchError> {
        let (mut before, mut newest) = (Vec::new(), None);
        for key in suspects {
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
        let page = self.list_watch().list_metadata(1, None, Some(key)).await?;
        let content = page.content()?;
        let seen = self.informer.versions.of(self.partition);
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
        // An object that cannot be decoded is known without its UID; its deletion needs no repair.
        (Some(known), None) => known.uid.is_empty(),
        (None, Some(_)) => false,
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
