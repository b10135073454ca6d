//! [`LostLock`]: a lock, or the creation of a locked sandbox, whose answer is lost (Q2).
//!
//! The API server may carry it out later, so it counts neither as made nor as refused. Either its sender repeats it: of two
//! such requests at most one has an effect. Or the watch shows it, and it is undone.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use shared_cache::{ObjectKey, version_of};
use tokio::time::Instant;

use crate::api::v1alpha1::{ANNOTATION_LOCK, Sandbox, annotation};

/// How long a request without an answer may have an effect. An API server gives up after 60 s.
pub(super) const LATEST: Duration = Duration::from_secs(70);

/// One lock whose answer is lost. Only [`ClaimRequest::return_when_locked`](super::ClaimRequest::return_when_locked) leaves
/// it to the caller.
#[derive(Clone, PartialEq)]
pub struct LostLock {
    /// The sandbox as it was before the request. One without a resource version was to be created.
    pub(super) sandbox: Arc<Sandbox>,
    /// The id of the claim. The sandbox is claimed if it has this lock.
    pub(super) lock: String,
    /// When the request can have no effect any more.
    until: Instant,
}

/// What has become of a lost lock.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fate {
    /// The sandbox has the lock.
    Made(Arc<Sandbox>),
    /// The sandbox does not have the lock, and will not get it.
    Void,
    /// The sandbox does not have the lock yet.
    Open,
}

/// Leaves out the sandbox: its annotations may hold the token and the environment variables of its user.
impl fmt::Debug for LostLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LostLock")
            .field("sandbox", &self.key())
            .field("lock", &self.lock)
            .finish_non_exhaustive()
    }
}

impl LostLock {
    /// A request that was sent just now.
    pub(crate) fn new(sandbox: Arc<Sandbox>, lock: String) -> Self {
        Self { sandbox, lock, until: Instant::now() + LATEST }
    }

    /// Returns the name of the sandbox.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey::of(&*self.sandbox)
    }

    /// Returns the id of the lock.
    #[must_use]
    pub fn lock(&self) -> &str {
        &self.lock
    }

    /// Returns true if the sandbox was to be created.
    pub(super) fn is_creation(&self) -> bool {
        self.sandbox.metadata.resource_version.is_none()
    }

    /// Returns true if this state of the sandbox shows what has become of the lock: it is there, or came too late. A name
    /// is used once, and a lock is for one resource version.
    pub(super) fn is_decided_by(&self, live: &Sandbox) -> bool {
        holds(live, &self.lock) || self.is_creation() || version_of(live) > version_of(&*self.sandbox)
    }

    /// Returns what has become of the lock, by the state of the sandbox on the API server.
    pub(super) fn fate(&self, live: Option<Arc<Sandbox>>) -> Fate {
        let is_decided = match live {
            Some(live) if holds(&live, &self.lock) => return Fate::Made(live),
            Some(live) => self.is_decided_by(&live),
            None => !self.is_creation(),
        };
        if is_decided || Instant::now() >= self.until { Fate::Void } else { Fate::Open }
    }
}

/// Returns true if the sandbox has this lock.
pub(super) fn holds(sandbox: &Sandbox, lock: &str) -> bool {
    annotation(&sandbox.metadata, ANNOTATION_LOCK) == Some(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(version: Option<&str>, lock: Option<&str>) -> Arc<Sandbox> {
        let mut sandbox = Sandbox::default();
        sandbox.metadata.resource_version = version.map(str::to_owned);
        let annotations = lock.map(|lock| (ANNOTATION_LOCK.to_owned(), lock.to_owned()));
        sandbox.metadata.annotations = Some(annotations.into_iter().collect());
        Arc::new(sandbox)
    }

    #[tokio::test(start_paused = true)]
    async fn lc2_a_lock_without_an_answer_is_open_as_long_as_it_may_have_an_effect() {
        let lost = |version| LostLock::new(sandbox(version, None), "a".to_owned());
        let (creation, lock) = (lost(None), lost(Some("1")));
        for made in [
            creation.fate(Some(sandbox(Some("7"), Some("a")))),
            lock.fate(Some(sandbox(Some("2"), Some("a")))),
        ] {
            assert!(matches!(made, Fate::Made(_)), "{made:?}");
        }
        assert!(matches!(creation.fate(None), Fate::Open));
        assert!(matches!(lock.fate(Some(sandbox(Some("1"), None))), Fate::Open));
        for void in [
            creation.fate(Some(sandbox(Some("7"), Some("b")))),
            lock.fate(Some(sandbox(Some("2"), Some("b")))),
            lock.fate(None),
        ] {
            assert!(matches!(void, Fate::Void), "{void:?}");
        }
        tokio::time::advance(LATEST).await;
        assert!(matches!(creation.fate(None), Fate::Void));
        assert!(matches!(lock.fate(Some(sandbox(Some("1"), None))), Fate::Void));
        assert!(matches!(lock.fate(Some(sandbox(Some("2"), Some("a")))), Fate::Made(_)));
    }
}
