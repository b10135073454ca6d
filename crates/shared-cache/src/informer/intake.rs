//! [`Intake`]: decodes listed objects and watch events, and applies them to the store. Does no I/O.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::error::WatchError;
use super::raw_event::RawEvent;
use super::state::InformerState;
use super::undecodable::Isolation;
use crate::kind::{CacheObject, DecodeError};
use crate::object::{Batch, Identity};
use crate::store::{Change, Partition};

/// Number of changes applied under one lock. This limits how long readers wait for the lock.
pub(super) const BATCH: usize = 128;

/// What happens to an object that the store has in the same version.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Known {
    /// It is decoded and applied like any other.
    Replace,
    /// It stays and is marked as listed, without being decoded. This makes a relist cheap.
    Keep,
}

/// The way of one partition's objects from their JSON text into the store.
pub(super) struct Intake<'a, K: CacheObject> {
    informer: &'a InformerState<K>,
    partition: Partition,
    pub(super) isolation: Isolation,
}

impl<'a, K: CacheObject> Intake<'a, K> {
    pub(super) fn new(informer: &'a InformerState<K>, partition: Partition) -> Self {
        Self { informer, partition, isolation: Isolation::default() }
    }

    pub(super) fn observe(&self, batch: &Batch<K>) {
        self.informer.observers.observe(batch);
    }

    /// Applies objects of a page, at most [`BATCH`].
    pub(super) fn apply_items(&mut self, items: &[&RawValue], known: Known) {
        let now = Timestamp::now();
        let kept = self.keep(known, items.iter().map(|item| Some(item.get())));
        let others = items.iter().zip(kept).filter(|(_, kept)| !kept);
        let changes = others.map(|(item, _)| self.decode(item.get(), now)).collect();
        self.apply(changes);
    }

    /// Applies events in order. Returns the version of the last one. If an event is malformed, applies only the
    /// events before it.
    pub(super) fn apply_events(
        &mut self,
        events: &[RawEvent<'_>],
        known: Known,
    ) -> (String, Result<(), WatchError>) {
        let kept =
            self.keep(known, events.iter().map(|event| (event.kind == "ADDED").then_some(event.object)));
        let (mut changes, mut version, mut result) =
            (Vec::with_capacity(events.len()), String::new(), Ok(()));
        for (event, _) in events.iter().zip(kept).filter(|(_, kept)| !kept) {
            match self.change(event) {
                Ok((change, reached)) => {
                    changes.push(change);
                    version = reached;
                }
                Err(malformed) => {
                    result = Err(malformed);
                    break;
                }
            }
        }
        self.apply(changes);
        (version, result)
    }

    fn apply(&self, changes: Vec<Change<K>>) {
        if changes.is_empty() {
            return;
        }
        self.observe(&self.informer.store.apply(self.partition, changes));
    }

    /// Marks the objects that the store has in the same version as listed. Returns which of them are.
    fn keep<'t>(&self, known: Known, objects: impl ExactSizeIterator<Item = Option<&'t str>>) -> Vec<bool> {
        if known == Known::Replace {
            return vec![false; objects.len()];
        }
        // An object that was decoded partially is decoded again, so that it is counted and logged as such.
        let mut identities: Vec<_> = objects.map(|object| object.and_then(Identity::peek)).collect();
        for identity in &mut identities {
            identity.take_if(|found| self.isolation.tracks(found.key()));
        }
        self.informer.store.keep(self.partition, &identities)
    }

    fn change(&mut self, event: &RawEvent<'_>) -> Result<(Change<K>, String), WatchError> {
        let kind = &*event.kind;
        let before = self.isolation.counts();
        let params = self.informer.store.params();
        let (mut text, mut decoded) = (event.object, params.decode(event.object));
        if decoded.is_err() {
            text = event.verified_object()?;
            decoded = params.decode(text);
        }
        let change = match (kind, decoded) {
            ("ADDED" | "MODIFIED", decoded) => self.upsert(text, decoded, Timestamp::now()),
            ("DELETED", Ok(object)) => {
                self.isolation.record_deleted(&object);
                Change::Delete(Arc::new(object))
            }
            ("DELETED", Err(_)) => self.isolation.gone(text),
            (other, _) => {
                return Err(WatchError::Protocol(format!("watch event of unknown type {other:?}")));
            }
        };
        if self.isolation.counts() != before {
            self.informer.health.partition(self.partition).not_decoded(self.isolation.counts());
        }
        let version = match &change {
            Change::Upsert(object, _) | Change::Delete(object) => object.meta().resource_version.clone(),
            Change::Hide { version, .. } | Change::DeleteHidden { version, .. } => {
                version.map(|version| version.to_string())
            }
        };
        Ok((change, version.unwrap_or_default()))
    }

    /// Decodes the text of an object and returns the change.
    fn decode(&mut self, text: &str, now: Timestamp) -> Change<K> {
        let decoded = self.informer.store.params().decode(text);
        self.upsert(text, decoded, now)
    }

    /// Returns the change that stores a decoded object. An undecodable object is isolated and the others are
    /// stored (E6).
    fn upsert(&mut self, text: &str, decoded: Result<K, DecodeError>, now: Timestamp) -> Change<K> {
        match decoded {
            Ok(object) => {
                self.isolation.record_decoded(&object, self.informer.store.params().unread_fields(&object));
                self.informer.store.upsert(object, now)
            }
            Err(error) => self.isolation.isolate(text, &error),
        }
    }
}
