//! [`Lost`]: a claim of a sandbox whose answer is lost (LC2).
//!
//! The API server may carry it out later, so it counts neither as done nor as refused. The next try asks for the same
//! sandbox again: of two such requests at most one has an effect. Another sandbox would be one too many as soon as the
//! first request arrives.

use std::sync::Arc;
use std::time::Duration;

use shared_cache::{ReadError, SharedCache};
use tokio::time::Instant;

use crate::api::v1alpha1::{ANNOTATION_LOCK, Sandbox, annotation};

/// How long a request without an answer may have an effect. An API server gives up after 60 s.
const LATEST: Duration = Duration::from_secs(70);

/// One claim of a sandbox whose answer is lost.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    /// The sandbox as it was before the request. One without a resource version was to be created.
    pub(super) sandbox: Arc<Sandbox>,
    /// The id of the claim. The sandbox is claimed if it has this lock.
    pub(super) lock: String,
    /// When the request can have no effect any more.
    until: Instant,
}

/// What has become of a claim.
#[derive(Debug)]
pub(super) enum Fate {
    /// The sandbox is claimed.
    Done(Arc<Sandbox>),
    /// It is not claimed, and the request can have no effect any more.
    Void,
    /// It is not claimed yet.
    Open,
}

impl Lost {
    /// A request that was sent just now.
    pub(super) fn new(sandbox: Arc<Sandbox>, lock: String) -> Self {
        Self { sandbox, lock, until: Instant::now() + LATEST }
    }

    /// Returns true if the sandbox was to be created.
    pub(super) fn is_creation(&self) -> bool {
        self.sandbox.metadata.resource_version.is_none()
    }

    /// Reads from the API server what has become of the claim.
    ///
    /// # Errors
    ///
    /// If the sandbox cannot be read.
    pub(super) async fn fate(&self, cache: &SharedCache) -> Result<Fate, ReadError> {
        let (namespace, name) = (self.sandbox.namespace_or_empty(), self.sandbox.name_or_empty());
        let fate = self.seen(cache.api_reader().get::<Sandbox>(namespace, name).await?);
        if let Fate::Done(claimed) = &fate {
            cache.expect(&**claimed);
        }
        Ok(fate)
    }

    fn seen(&self, live: Option<Arc<Sandbox>>) -> Fate {
        let may_come = match live {
            Some(live) if annotation(&live.metadata, ANNOTATION_LOCK) == Some(&*self.lock) => {
                return Fate::Done(live);
            }
            // A name is used once, and a lock is for one resource version.
            Some(live) => live.metadata.resource_version == self.sandbox.metadata.resource_version,
            None => self.is_creation(),
        };
        if may_come && Instant::now() < self.until { Fate::Open } else { Fate::Void }
    }
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
    async fn lc2_a_claim_without_an_answer_is_open_as_long_as_it_may_have_an_effect() {
        let lost = |version| Lost::new(sandbox(version, None), "a".to_owned());
        let (creation, lock) = (lost(None), lost(Some("1")));
        for claimed in [
            creation.seen(Some(sandbox(Some("7"), Some("a")))),
            lock.seen(Some(sandbox(Some("2"), Some("a")))),
        ] {
            assert!(matches!(claimed, Fate::Done(_)), "{claimed:?}");
        }
        assert!(matches!(creation.seen(None), Fate::Open));
        assert!(matches!(lock.seen(Some(sandbox(Some("1"), None))), Fate::Open));
        for void in [
            creation.seen(Some(sandbox(Some("7"), Some("b")))),
            lock.seen(Some(sandbox(Some("2"), Some("b")))),
            lock.seen(None),
        ] {
            assert!(matches!(void, Fate::Void), "{void:?}");
        }
        tokio::time::advance(LATEST).await;
        assert!(matches!(creation.seen(None), Fate::Void));
        assert!(matches!(lock.seen(Some(sandbox(Some("1"), None))), Fate::Void));
        assert!(matches!(lock.seen(Some(sandbox(Some("2"), Some("a")))), Fate::Done(_)));
    }
}
