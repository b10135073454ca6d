//! [`Collection`]: the objects of one kind and its latest events.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Key, Limits, Stored};

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
    /// What was there before; `None` for an addition.
    pub(crate) old: Option<Arc<Stored>>,
    /// What is there now; for a deletion the last state, in a version of its own.
    pub(crate) new: Arc<Stored>,
}

/// Which objects are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Range<'a> {
    /// In one namespace; `None` for all.
    pub(crate) namespace: Option<&'a str>,
    /// Only those after this one.
    pub(crate) after: Option<&'a Key>,
}

pub(super) struct Collection {
    objects: BTreeMap<Key, Arc<Stored>>,
    /// In the order of their revisions.
    events: VecDeque<Arc<Event>>,
    /// Bytes of the objects in `events`.
    bytes: usize,
    /// The oldest revision whose state can be told.
    floor: u64,
    changed: watch::Sender<u64>,
}

impl Collection {
    /// A collection that has been empty since the revision `floor`, as far as is known.
    pub(super) fn new(floor: u64) -> Self {
        Self {
            objects: BTreeMap::new(),
            events: VecDeque::new(),
            bytes: 0,
            floor,
            changed: watch::Sender::new(floor),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Stored>> {
        self.objects.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.objects.values()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Lets go of those who wait for changes.
    pub(super) fn close(&mut self) {
        let revision = *self.changed.borrow();
        self.changed = watch::Sender::new(revision);
    }

    pub(super) fn put(&mut self, new: Arc<Stored>) {
        let old = self.objects.insert(new.key.clone(), Arc::clone(&new));
        let kind = if old.is_some() { EventKind::Modified } else { EventKind::Added };
        self.tell(Event { kind, old, new });
    }

    /// Removes the object that `last` is the last state of.
    pub(super) fn remove(&mut self, last: Arc<Stored>) {
        let old = self.objects.remove(&last.key);
        self.tell(Event { kind: EventKind::Deleted, old, new: last });
    }

    fn tell(&mut self, event: Event) {
        let revision = event.new.revision;
        self.bytes += size(&event);
        self.events.push_back(Arc::new(event));
        self.changed.send_replace(revision);
    }

    /// Forgets the oldest events until the limits hold.
    pub(super) fn evict(&mut self, limits: &Limits) {
        while self.events.len() > limits.events || self.bytes > limits.bytes {
            let Some(event) = self.events.pop_front() else { return };
            self.bytes -= size(&event);
            self.floor = event.new.revision;
        }
    }

    pub(super) fn compact(&mut self, revision: u64) {
        self.events.clear();
        self.bytes = 0;
        self.floor = revision;
    }

    pub(super) fn events_after(&self, revision: u64, limit: usize) -> Vec<Arc<Event>> {
        let start = self.events.partition_point(|event| event.new.revision <= revision);
        self.events.range(start..).take(limit).cloned().collect()
    }

    /// The objects of a range as they were at a revision that is not below the floor, and how many follow after
    /// the first `limit` of them.
    pub(super) fn list(&self, range: &Range<'_>, revision: u64, limit: usize) -> (Vec<Arc<Stored>>, usize) {
        let undone = self.undone(revision);
        let limit = if limit == 0 { usize::MAX } else { limit };
        let (mut objects, mut remaining) = (Vec::new(), 0);
        let mut take = |stored: &Arc<Stored>| {
            if objects.len() < limit {
                objects.push(Arc::clone(stored));
            } else {
                remaining += 1;
            }
        };
        let bounds = bounds(range);
        let within = |key: &Key| range.namespace.is_none_or(|namespace| *key.namespace == *namespace);
        let mut past = undone.range(bounds.clone()).take_while(|(key, _)| within(key)).peekable();
        for (key, stored) in self.objects.range(bounds).take_while(|(key, _)| within(key)) {
            while let Some((_, old)) = past.next_if(|(undone, _)| *undone < key) {
                old.iter().for_each(&mut take);
            }
            match past.next_if(|(undone, _)| *undone == key) {
                Some((_, old)) => old.iter().for_each(&mut take),
                None => take(stored),
            }
        }
        past.for_each(|(_, old)| old.iter().for_each(&mut take));
        (objects, remaining)
    }

    /// What was there at a revision under each key that has changed since.
    fn undone(&self, revision: u64) -> BTreeMap<Key, Option<Arc<Stored>>> {
        let since = self.events.iter().rev().take_while(|event| event.new.revision > revision);
        // The oldest of several events of a key comes last, and wins.
        since.map(|event| (event.new.key.clone(), event.old.clone())).collect()
    }

    pub(super) fn rewind(&mut self, revision: u64) {
        for (key, old) in self.undone(revision) {
            match old {
                Some(old) => self.objects.insert(key, old),
                None => self.objects.remove(&key),
            };
        }
        self.compact(revision);
        self.changed.send_replace(revision);
    }
}

fn bounds(range: &Range<'_>) -> (Bound<Key>, Bound<Key>) {
    let start = match (range.after, range.namespace) {
        (Some(after), _) => Bound::Excluded(after.clone()),
        (None, Some(namespace)) => Bound::Included(Key::new(namespace, "")),
        (None, None) => Bound::Unbounded,
    };
    (start, Bound::Unbounded)
}

/// What an event keeps in memory, in bytes: the object as it was is often kept by nothing else.
fn size(event: &Event) -> usize {
    event.new.text.len() + event.old.as_ref().map_or(0, |old| old.text.len())
}
