//! [`KnownPods`]: what the kubelet knows of Pods beside their objects.

use std::collections::HashMap;

use serde_json::Value;
use tokio::time::Instant;

use crate::object;
use crate::store::Key;

/// What the kubelet knows of each Pod.
#[derive(Debug, Default)]
pub(super) struct KnownPods {
    pods: HashMap<Key, Known>,
    /// The number of Pods so far.
    count: u32,
}

#[derive(Debug)]
struct Known {
    uid: Box<str>,
    /// The latest revision that was looked at.
    revision: u64,
    facts: Facts,
}

/// What the kubelet knows of a Pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Selects the node and the address.
    pub(super) number: u32,
    /// When it was seen first, or restarted last.
    pub(super) since: Instant,
    /// When it was first seen to be deleted.
    pub(super) deleted: Option<Instant>,
    /// The number of ordered restarts that have been looked at.
    pub(super) restarts: usize,
}

impl KnownPods {
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.pods.keys()
    }

    /// What is known of a Pod. A Pod of another UID is a new one, for which no restart so far was ordered.
    pub(super) fn facts(&mut self, key: &Key, pod: &Value, now: Instant, restarts: usize) -> Facts {
        let uid = object::uid(pod);
        if self.pods.get(key).is_some_and(|known| *known.uid != *uid) {
            self.pods.remove(key);
        }
        let known = self.pods.entry(key.clone()).or_insert_with(|| {
            let number = self.count;
            self.count += 1;
            let facts = Facts { number, since: now, deleted: None, restarts };
            Known { uid: uid.into(), revision: 0, facts }
        });
        if object::is_deleting(pod) {
            known.facts.deleted.get_or_insert(now);
        }
        known.facts
    }

    /// Whether this revision of a Pod was looked at.
    pub(super) fn is_done(&self, key: &Key, revision: u64) -> bool {
        self.pods.get(key).is_some_and(|known| known.revision >= revision)
    }

    /// Notes that this revision of a Pod was looked at with so many ordered restarts.
    pub(super) fn done(&mut self, key: &Key, revision: u64, restarts: usize, restarted: Option<Instant>) {
        if let Some(known) = self.pods.get_mut(key) {
            known.revision = revision;
            known.facts.restarts = restarts;
            known.facts.since = restarted.unwrap_or(known.facts.since);
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.pods.remove(key);
    }
}
