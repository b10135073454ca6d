//! Compares the store with what the API server lists. Every step visits a limited number of objects under the lock.

use std::collections::HashSet;

use super::partition::Partition;
use super::store::Store;
use super::view::View;
use crate::kind::CacheObject;
use crate::object::{Identity, KeyRef, ObjectKey, parse_version};

/// Number of objects that are compared under one lock.
const STEP: usize = 128;

/// The version of an object that the store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownVersion {
    /// Empty for an object that cannot be decoded.
    pub(crate) uid: String,
    /// Empty for an object that cannot be decoded and whose version is not a number.
    pub(crate) resource_version: String,
}

impl KnownVersion {
    pub(crate) fn matches(&self, listed: &Identity<'_>) -> bool {
        if self.uid.is_empty() && self.resource_version.is_empty() {
            return true;
        }
        (self.uid.is_empty() || self.uid == listed.uid) && self.resource_version == listed.resource_version
    }
}

impl<K: CacheObject> Store<K> {
    /// Marks the objects that are stored in exactly the listed versions as seen by the relist in progress. Returns
    /// which of them are. The others must be decoded and applied.
    pub(crate) fn keep(&self, partition: Partition, listed: &[Option<Identity<'_>>]) -> Vec<bool> {
        let mut inner = self.inner.write();
        let epoch = inner.relist(partition).epoch;
        let mut keep = |listed: &Identity<'_>| {
            let slot = inner.entries.find(listed.key())?;
            let is_kept = listed.is_of(&*inner.entries.get(slot)?.object);
            is_kept.then(|| inner.mark(slot, epoch))
        };
        listed.iter().map(|listed| listed.as_ref().is_some_and(|listed| keep(listed).is_some())).collect()
    }

    /// Returns the version of an object that the store knows, also of an object that cannot be decoded.
    pub(crate) fn known_version(&self, key: KeyRef<'_>) -> Option<KnownVersion> {
        let view = self.view();
        if let Some(object) = view.get(key) {
            let meta = object.meta();
            return Some(KnownVersion {
                uid: meta.uid.clone().unwrap_or_default(),
                resource_version: meta.resource_version.clone().unwrap_or_default(),
            });
        }
        let hidden = view.inner.hidden.get(key)?;
        let version = hidden.version.map(|version| version.to_string()).unwrap_or_default();
        Some(KnownVersion { uid: String::new(), resource_version: version })
    }

    /// Returns the keys of the objects of a partition that exist in a version which cannot be decoded.
    pub(crate) fn hidden_keys(&self, partition: Partition) -> HashSet<ObjectKey> {
        self.view().inner.hidden.keys(partition).cloned().collect()
    }

    /// Returns the listed objects that the store does not know in the listed version.
    pub(crate) fn differing<'l, 'a>(&self, listed: &'l [Identity<'a>]) -> Vec<&'l Identity<'a>> {
        let mut differing = Vec::new();
        for listed in listed.chunks(STEP) {
            let view = self.view();
            differing.extend(listed.iter().filter(|listed| !is_known(&view, listed)));
        }
        differing
    }
}

fn is_known<K: CacheObject>(view: &View<'_, K>, listed: &Identity<'_>) -> bool {
    match view.get(listed.key()) {
        Some(object) => listed.is_of(&**object),
        None => view.inner.hidden.get(listed.key()).is_some_and(|hidden| {
            hidden.version.is_none() || hidden.version == parse_version(&listed.resource_version)
        }),
    }
}
