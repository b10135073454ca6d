//! [`Recent`]: the own writes that the cache does not show yet, and what was read from the API server.
//!
//! A user who creates a sandbox asks for it at once, and the watch may be some milliseconds behind. So lookups see the own
//! writes first. An entry lives until the watch shows its version.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shared_cache::{Delta, Reader, SharedCache, version_of};
use tokio::time::Instant;

use crate::api::v1alpha1::Sandbox;

/// How long an own write is shown at most, if the watch never comes to its version.
const LONGEST: Duration = Duration::from_mins(10);

/// An own write.
#[derive(Clone)]
pub(super) enum Write {
    /// The API server has returned this version.
    Written(Arc<Sandbox>),
    /// The sandbox was deleted.
    Deleted(Arc<Sandbox>),
}

/// The own writes that the cache does not show yet, by the id of the sandbox.
#[derive(Default)]
pub(super) struct Recent {
    writes: Mutex<HashMap<String, (Write, Instant)>>,
}

impl Recent {
    /// Records the answer to a write, or to a read. The cache expects its version.
    pub(super) fn record(&self, write: Write, cache: &SharedCache, cached: &Reader<Sandbox>) {
        let sandbox = Arc::clone(write.sandbox());
        let id = sandbox.sandbox_id().into_owned();
        let mut writes = self.writes.lock();
        // A deletion is final: a read from before it may come late.
        let prevails = |known: &Write| match known {
            Write::Deleted(deleted) if deleted.metadata.uid == sandbox.metadata.uid => true,
            known => version_of(&**known.sandbox()) > version_of(&*sandbox),
        };
        if !matches!(write, Write::Deleted(_)) && writes.get(&id).is_some_and(|(known, _)| prevails(known)) {
            return;
        }
        writes.insert(id.clone(), (write, Instant::now()));
        // The watch may have been faster than the answer. No later event would then remove the entry. Whoever applies a
        // change to the store calls `see` after that, and waits for the lock.
        let is_passed = cache.is_satisfied(&*sandbox).is_satisfied();
        let shown = cached.get(sandbox.namespace_or_empty(), sandbox.name_or_empty());
        let is_seen = match (shown, writes.get(&id)) {
            (Ok(Some(shown)), Some((write, _))) => write.is_shown_by(&shown),
            // What the watch has passed, and the cache does not show afterwards, is gone.
            (Ok(None), Some((write, _))) => is_passed || matches!(write, Write::Deleted(_)),
            _ => false,
        };
        if is_seen {
            writes.remove(&id);
        }
    }

    /// Sees changes of the cache.
    pub(super) fn see(&self, deltas: &[Delta<Sandbox>]) {
        let mut writes = self.writes.lock();
        for delta in deltas {
            if writes.is_empty() {
                return;
            }
            let (id, uid) = (delta.object().sandbox_id(), &delta.object().metadata.uid);
            let is_seen = |write: &Write| match delta {
                Delta::Applied { new, .. } => write.is_shown_by(new),
                _ => write.sandbox().metadata.uid == *uid,
            };
            if writes.get(&*id).is_some_and(|(write, _)| is_seen(write)) {
                writes.remove(&*id);
            }
        }
    }

    /// Returns the own write of a sandbox, if the cache does not show it yet.
    pub(super) fn get(&self, id: &str) -> Option<Write> {
        let mut writes = self.writes.lock();
        let (write, since) = writes.get(id)?;
        if since.elapsed() < LONGEST {
            return Some(write.clone());
        }
        writes.remove(id);
        None
    }

    /// Returns all own writes that the cache does not show yet.
    pub(super) fn all(&self) -> Vec<Write> {
        let mut writes = self.writes.lock();
        writes.retain(|_, (_, since)| since.elapsed() < LONGEST);
        writes.values().map(|(write, _)| write.clone()).collect()
    }
}

impl Write {
    /// Returns the sandbox, or its last state before the deletion.
    pub(super) fn sandbox(&self) -> &Arc<Sandbox> {
        match self {
            Self::Written(sandbox) | Self::Deleted(sandbox) => sandbox,
        }
    }

    /// Returns true if this state in the cache is as new as the write.
    fn is_shown_by(&self, shown: &Sandbox) -> bool {
        let written = self.sandbox();
        if shown.metadata.uid != written.metadata.uid {
            // Another sandbox of this name. Only an older one is replaced by the write.
            return version_of(shown) > version_of(&**written);
        }
        match self {
            Self::Written(written) => version_of(shown) >= version_of(&**written),
            Self::Deleted(_) => shown.is_deleting(),
        }
    }
}
