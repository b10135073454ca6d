//! Reading own writes: expectations, live reads where the cache can't know, and waiting for a version
//! (behaviours K).

use std::sync::Arc;
use std::time::Duration;

use super::api_reader::ReadError;
use super::expectations::Satisfaction;
use super::resources::WatchedKind;
use super::{Cache, Provider};
use crate::api::v1alpha1::{Checkpoint, Sandbox};
use crate::informer::{KeyRef, ObjectKey, parse_version, version_of};

/// Why an object could not be refreshed.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// Neither the cache nor the API server has it.
    #[error("{kind} {key} not found")]
    NotFound {
        /// Kind that was asked for.
        kind: String,
        /// Object that was asked for.
        key: ObjectKey,
    },
    /// The live read failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a version could not be awaited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not a number, so there is no telling when it has passed.
    #[error("resource version {0:?} is not a number")]
    NotNumeric(String),
    /// The kind is out of the cache's scope.
    #[error("{0} is not watched")]
    NotWatched(String),
    /// Not reached in time.
    #[error("cache of {kind} is at version {reached}, not yet at {awaited}, after {} ms", .timeout.as_millis())]
    TimedOut {
        /// Kind that was awaited.
        kind: String,
        /// Version that was awaited.
        awaited: u64,
        /// Version that the cache had when time was up.
        reached: u64,
        /// How long it was waited for.
        timeout: Duration,
    },
}

impl Cache {
    /// Tells the cache of an own write, given the object as the API server returned it (K1): until the cache
    /// has seen that version, [`Cache::is_satisfied`] says no. Objects without UID or numeric version are
    /// ignored.
    pub fn expect<K: WatchedKind>(&self, written: &K) {
        let watched = self.watched::<K>();
        if watched.in_scope {
            watched.expectations.expect(written);
        }
    }

    /// Whether the cache has seen all own writes of this object, of which only the UID counts (K1).
    #[must_use]
    pub fn is_satisfied<K: WatchedKind>(&self, object: &K) -> Satisfaction {
        let watched = self.watched::<K>();
        let uid = object.meta().uid.as_deref().unwrap_or_default();
        let held = watched.informer.store().view().get(KeyRef::of(object)).cloned();
        let held = held.filter(|held| held.meta().uid.as_deref() == Some(uid));
        watched.expectations.check(uid, held.and_then(|held| version_of(&*held)), watched.informer.version())
    }

    /// The newest state of a sandbox that can be had (K3): the cached one; a live read when the cache has none
    /// or has not seen an own write of it yet. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`RefreshError::NotFound`] when the API server has none either; [`RefreshError::Read`].
    pub async fn refresh_sandbox(&self, sandbox: &Sandbox) -> Result<Arc<Sandbox>, RefreshError> {
        self.refresh(sandbox).await
    }

    /// The newest state of a checkpoint that can be had; see [`Cache::refresh_sandbox`].
    ///
    /// # Errors
    ///
    /// [`RefreshError::NotFound`] when the API server has none either; [`RefreshError::Read`].
    pub async fn refresh_checkpoint(&self, checkpoint: &Checkpoint) -> Result<Arc<Checkpoint>, RefreshError> {
        self.refresh(checkpoint).await
    }

    async fn refresh<K: WatchedKind>(&self, object: &K) -> Result<Arc<K>, RefreshError> {
        let key = KeyRef::of(object);
        if self.is_satisfied(object).is_satisfied()
            && let Ok(Some(cached)) = self.reader::<K>().get(key.namespace, key.name)
        {
            return Ok(cached);
        }
        let live = self.api_reader().get(key.namespace, key.name).await?;
        live.ok_or_else(|| RefreshError::NotFound { kind: K::kind(&()).into_owned(), key: key.into() })
    }

    /// Resolves once the cache of a kind has passed a resource version, such as the one that a write has
    /// just returned (K4): what is read then is at least that new. Events advance the version, and so does
    /// a bookmark about every minute. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`VersionError`].
    pub async fn await_version<K: WatchedKind>(
        &self,
        resource_version: &str,
        timeout: Duration,
    ) -> Result<(), VersionError> {
        let kind = || K::kind(&()).into_owned();
        let awaited = parse_version(resource_version)
            .ok_or_else(|| VersionError::NotNumeric(resource_version.to_owned()))?;
        let watched = self.watched::<K>();
        if !watched.in_scope {
            return Err(VersionError::NotWatched(kind()));
        }
        let informer = &watched.informer;
        let passed = tokio::time::timeout(timeout, informer.wait_for_version(awaited)).await;
        passed.map_err(|_| VersionError::TimedOut {
            kind: kind(),
            awaited,
            reached: informer.version(),
            timeout,
        })
    }
}
