//! [`Collection`]: the objects of one kind and its latest events.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::iter;
use std::sync::Arc;

use tokio::sync::watch;

use super::limits::Limits;
use super::range::Range;
use super::stored::{Key, Stored};

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Added,
    Modified,
    Deleted,
}

/// One write, as watchers are told of it.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    /// The object before the write; `None` for an addition.
    pub(crate) old: Option<Arc<Stored>>,
    /// The object after the write; for a deletion its last state, in a version of its own.
    pub(crate) new: Arc<Stored>,
}

pub(super) struct Collection {
    objects: BTreeMap<Key, Arc<Stored>>,
    /// The number of objects in each namespace, so that a page need not count the objects after it.
    counts: HashMap<Arc<str>, usize>,
    /// In the order of their revisions.
    events: VecDeque<Arc<Event>>,
    /// The same events by key, so that a page of an older state visits only the keys in its range.
    changes: BTreeMap<Key, VecDeque<Arc<Event>>>,
    /// Bytes of the objects in `events`.
    bytes: usize,
    /// The oldest revision whose state is known.
    floor: u64,
    /// The oldest revision at which a new watch can begin, if that is later.
    watchable: u64,
    /// The revision of the newest event that was forgotten. An open watch that has read it misses nothing.
    lost: u64,
    changed: watch::Sender<u64>,
    /// Watches that are open.
    watchers: usize,
    /// Whether the kind is gone, so that only open watches need the events.
    ended: bool,
    #[cfg(test)]
    visited: std::sync::atomic::AtomicUsize,
}

impl Collection {
    /// A collection without objects. Its states before the revision `floor` are not known.
    pub(super) fn new(floor: u64) -> Self {
        Self {
            objects: BTreeMap::new(),
            counts: HashMap::new(),
            events: VecDeque::new(),
            changes: BTreeMap::new(),
            bytes: 0,
            floor,
            watchable: 0,
            lost: 0,
            changed: watch::Sender::new(floor),
            watchers: 0,
            ended: false,
            #[cfg(test)]
            visited: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// The oldest revision at which a new watch can begin.
    pub(super) fn watchable(&self) -> u64 {
        self.floor.max(self.watchable)
    }

    /// Lets no new watch begin before this revision.
    pub(super) fn expire_watches(&mut self, revision: u64) {
        self.watchable = revision;
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Stored>> {
        self.objects.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.objects.values()
    }

    /// Counts a watch until [`Self::unsubscribe`].
    pub(super) fn subscribe(&mut self) -> watch::Receiver<u64> {
        self.watchers += 1;
        self.changed.subscribe()
    }

    pub(super) fn unsubscribe(&mut self) {
        self.watchers -= 1;
        self.forget_if_ended();
    }

    /// Forgets the events once no watch is open that needs them.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.forget_if_ended();
    }

    fn forget_if_ended(&mut self) {
        if self.ended && self.watchers == 0 {
            self.ended = false;
            self.compact(self.floor);
            self.floor = self.floor.max(self.lost);
        }
    }

    pub(super) fn put(&mut self, new: Arc<Stored>) {
        let old = self.insert(Arc::clone(&new));
        let kind = if old.is_some() { EventKind::Modified } else { EventKind::Added };
        // The kind is defined again.
        self.ended = false;
        self.record(Event { kind, old, new });
    }

    /// Removes the object whose last state is `last`.
    pub(super) fn remove(&mut self, last: Arc<Stored>) {
        let old = self.take(&last.key);
        self.record(Event { kind: EventKind::Deleted, old, new: last });
    }

    fn insert(&mut self, new: Arc<Stored>) -> Option<Arc<Stored>> {
        let namespace = Arc::clone(&new.key.namespace);
        let old = self.objects.insert(new.key.clone(), new);
        if old.is_none() {
            *self.counts.entry(namespace).or_default() += 1;
        }
        old
    }

    fn take(&mut self, key: &Key) -> Option<Arc<Stored>> {
        let old = self.objects.remove(key)?;
        if let Some(count) = self.counts.get_mut(&key.namespace) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&key.namespace);
            }
        }
        Some(old)
    }

    fn record(&mut self, event: Event) {
        let revision = event.new.revision;
        self.bytes += size(&event);
        let event = Arc::new(event);
        self.changes.entry(event.new.key.clone()).or_default().push_back(Arc::clone(&event));
        self.events.push_back(event);
        self.changed.send_replace(revision);
    }

    /// Forgets the oldest events until the limits hold.
    pub(super) fn evict(&mut self, limits: &Limits) {
        while self.events.len() > limits.events || self.bytes > limits.bytes {
            let Some(event) = self.events.pop_front() else { return };
            self.bytes -= size(&event);
            self.floor = event.new.revision;
            self.lost = event.new.revision;
            if let Some(changes) = self.changes.get_mut(&event.new.key) {
                changes.pop_front();
                if changes.is_empty() {
                    self.changes.remove(&event.new.key);
                }
            }
        }
    }

    /// Forgets all events and every state before a revision.
    pub(super) fn compact(&mut self, revision: u64) {
        self.lost = self.events.back().map_or(self.lost, |event| event.new.revision);
        self.events = VecDeque::new();
        self.changes = BTreeMap::new();
        self.bytes = 0;
        self.floor = revision;
    }

    pub(super) fn events_after(&self, revision: u64, limit: usize) -> Vec<Arc<Event>> {
        let start = self.events.partition_point(|event| event.new.revision <= revision);
        self.events.range(start..).take(limit).cloned().collect()
    }

    /// The first `limit` objects of a range at a revision that is not below the floor, and whether more follow.
    pub(super) fn list(&self, range: &Range<'_>, revision: u64, limit: usize) -> (Vec<Arc<Stored>>, bool) {
        let is_newest = self.events.back().is_none_or(|last| last.new.revision <= revision);
        if is_newest {
            page(self.present(range).map(|(_, stored)| stored), limit)
        } else {
            page(self.at(range, revision), limit)
        }
    }

    /// The number of objects in a namespace, or in all, at a revision that is not below the floor.
    pub(super) fn count(&self, namespace: Option<&str>, revision: u64) -> usize {
        let now = match namespace {
            Some(namespace) => self.counts.get(namespace).copied().unwrap_or_default(),
            None => self.objects.len(),
        };
        let since = self.events.iter().rev().take_while(|event| event.new.revision > revision);
        let within =
            |event: &&Arc<Event>| namespace.is_none_or(|namespace| *event.new.key.namespace == *namespace);
        since.filter(within).fold(now, |count, event| match event.kind {
            EventKind::Added => count - 1,
            EventKind::Modified => count,
            EventKind::Deleted => count + 1,
        })
    }

    /// The objects of a range as they are now.
    fn present<'a>(&'a self, range: &Range<'a>) -> impl Iterator<Item = (&'a Key, &'a Arc<Stored>)> {
        let range = *range;
        self.objects
            .range(range.bounds())
            .take_while(move |(key, _)| range.contains(key))
            .inspect(|_| self.visit())
    }

    /// The keys of a range that have changed since a revision, and the objects that were there then.
    fn changed_since<'a>(
        &'a self,
        range: &Range<'a>,
        revision: u64,
    ) -> impl Iterator<Item = (&'a Key, Option<&'a Arc<Stored>>)> {
        let range = *range;
        let changes = self.changes.range(range.bounds()).take_while(move |(key, _)| range.contains(key));
        changes.inspect(|_| self.visit()).filter_map(move |(key, events)| {
            let first = events.partition_point(|event| event.new.revision <= revision);
            events.get(first).map(|event| (key, event.old.as_ref()))
        })
    }

    /// The objects of a range as they were at a revision.
    fn at<'a>(&'a self, range: &Range<'a>, revision: u64) -> impl Iterator<Item = &'a Arc<Stored>> {
        let mut past = self.changed_since(range, revision).peekable();
        let mut present = self.present(range).peekable();
        iter::from_fn(move || {
            loop {
                let order = match (past.peek(), present.peek()) {
                    (None, None) => return None,
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some((past, _)), Some((present, _))) => past.cmp(present),
                };
                if order == Ordering::Greater {
                    return present.next().map(|(_, stored)| stored);
                }
                if order == Ordering::Equal {
                    present.next();
                }
                if let Some((_, Some(old))) = past.next() {
                    return Some(old);
                }
            }
        })
    }

    pub(super) fn rewind(&mut self, revision: u64) {
        let undone: Vec<_> = self
            .changed_since(&Range::default(), revision)
            .map(|(key, old)| (key.clone(), old.cloned()))
            .collect();
        for (key, old) in undone {
            match old {
                Some(old) => self.insert(old),
                None => self.take(&key),
            };
        }
        self.compact(revision);
        self.lost = revision.min(self.lost);
        self.watchable = revision.min(self.watchable);
        self.ended = false;
        self.changed.send_replace(revision);
    }

    /// Counts the visit of a key, for the tests of the cost of a page.
    #[cfg(test)]
    fn visit(&self) {
        self.visited.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "as in tests")]
    fn visit(&self) {}

    #[cfg(test)]
    pub(super) fn is_forgotten(&self) -> bool {
        self.events.is_empty() && self.changes.is_empty() && self.bytes == 0
    }

    /// The number of visits since the last call.
    #[cfg(test)]
    pub(super) fn take_visited(&self) -> usize {
        self.visited.swap(0, std::sync::atomic::Ordering::Relaxed)
    }
}

fn page<'a>(mut objects: impl Iterator<Item = &'a Arc<Stored>>, limit: usize) -> (Vec<Arc<Stored>>, bool) {
    let page = objects.by_ref().take(limit).cloned().collect();
    (page, objects.next().is_some())
}

/// The bytes that an event keeps in memory: often nothing else keeps the object as it was before.
fn size(event: &Event) -> usize {
    event.new.text.len() + event.old.as_ref().map_or(0, |old| old.text.len())
}
