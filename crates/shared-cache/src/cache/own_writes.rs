//! Read-your-writes (behaviours K): expectations, live reads if the cache is too old, and waits for a
//! version.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::api_reader::ReadError;
use super::expectations::Satisfaction;
use super::shared_cache::SharedCache;
use super::watched::Watched;
use crate::kind::CacheObject;
use crate::object::{KeyRef, ObjectKey, parse_version, version_of};

/// The reason why an object could not be refreshed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// Neither the cache nor the API server has the object.
    #[error("{kind} {key} not found")]
    NotFound {
        /// Kind of the object.
        kind: String,
        /// The requested object.
        key: ObjectKey,
    },
    /// The live read failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The reason why a wait for a version failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// The version is not a number, so the cache cannot compare it.
    #[error("resource version {0:?} is not a number")]
    NotNumeric(String),
    /// The cache does not watch the kind.
    #[error("{0} is not watched")]
    NotWatched(String),
    /// The version was not reached in time.
    #[error("cache of {kind} is at version {reached}, not yet at {awaited}, after {} ms", .timeout.as_millis())]
    TimedOut {
        /// Kind that the caller waits for.
        kind: String,
        /// Version that the caller waits for.
        awaited: u64,
        /// Version of the cache when the timeout passed.
        reached: u64,
        /// How long the caller waited.
        timeout: Duration,
    },
}

impl SharedCache {
    /// Records an own write, given the object that the API server returned. Until the cache has seen that
    /// version, [`SharedCache::is_satisfied`] returns an unsatisfied result. An object without a UID or a
    /// numeric version is ignored, and so is a kind that the cache does not have.
    pub fn expect<K: CacheObject>(&self, written: &K) {
        if let Some(watched) = self.watched::<K>() {
            watched.expectations.expect(written);
            // The watch may have been faster than the response of the write. No later event would then settle
            // the expectation.
            satisfaction(&watched, written);
        }
    }

    /// Checks if the cache has seen all own writes of this object, which is identified by its UID.
    #[must_use]
    pub fn is_satisfied<K: CacheObject>(&self, object: &K) -> Satisfaction {
        self.watched::<K>().map_or(Satisfaction::Satisfied, |watched| satisfaction(&watched, object))
    }

    /// Returns the newest state of an object. That is the cached object, or a live read if the cache has none
    /// or has not seen an own write of the object. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`RefreshError::NotFound`] if the API server has no such object either; [`RefreshError::Read`].
    pub async fn refresh<K: CacheObject + DeserializeOwned>(
        &self,
        object: &K,
    ) -> Result<Arc<K>, RefreshError> {
        let key = KeyRef::of(object);
        if self.is_satisfied(object).is_satisfied()
            && let Ok(Some(cached)) = self.reader::<K>().get(key.namespace, key.name)
        {
            return Ok(cached);
        }
        let reader = self.api_reader();
        let live = match self.watched::<K>() {
            Some(watched) => {
                reader.read(key.namespace, key.name, &|text| watched.params.decode(text)).await?
            }
            None => reader.get(key.namespace, key.name).await?,
        };
        live.ok_or_else(|| RefreshError::NotFound { kind: K::kind(&()).into_owned(), key: key.into() })
    }

    /// Resolves once the cache of a kind has passed a resource version. The version is usually the result of
    /// a write. A lookup is then at least that new. Events advance the version, and so does a bookmark about
    /// every minute. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`VersionError`].
    pub async fn await_version<K: CacheObject>(
        &self,
        resource_version: &str,
        timeout: Duration,
    ) -> Result<(), VersionError> {
        let kind = || K::kind(&()).into_owned();
        let awaited = parse_version(resource_version)
            .ok_or_else(|| VersionError::NotNumeric(resource_version.to_owned()))?;
        let watched = self.watched::<K>().ok_or_else(|| VersionError::NotWatched(kind()))?;
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

fn satisfaction<K: CacheObject>(watched: &Watched<K>, object: &K) -> Satisfaction {
    let uid = object.meta().uid.as_deref().unwrap_or_default();
    let held = watched.informer.store().view().get(KeyRef::of(object)).cloned();
    let held = held.filter(|held| held.meta().uid.as_deref() == Some(uid));
    watched.expectations.check(
        uid,
        held.and_then(|held| version_of(&*held)),
        watched.informer.version_in(KeyRef::of(object).namespace),
    )
}
