//! [`KeyWait`]: waits for the object of a name. The object may not exist yet.

use std::future::{Future, IntoFuture, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::wait::Condition;

use super::error::{WaitAction, WaitError, WaitTarget};
use super::metrics::WaitMetrics;
use super::outcome::{End, Ending, Judgement, Pending, Place, Seen, Subject};
use super::registry::Verdict;
use super::task::WaitSource;
use crate::kind::CacheObject;
use crate::object::{KeyRef, ObjectKey, parse_version, version_of};

/// Default timeout of a wait.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

type Matches<K> = Arc<dyn Fn(Option<&K>) -> bool + Send + Sync>;

/// A wait for the object of a name, or for its absence. Await it. Created by
/// [`SharedCache::wait_for`](crate::SharedCache::wait_for).
///
/// The wait checks the stored object first, then each change when it arrives. Unlike a
/// [`WaitTask`](crate::WaitTask), the wait does not follow one object by its UID. An object that is deleted
/// and created again under the name also counts, and a deleted object is treated as absent.
///
/// Absent means absent from what the cache watches. With a selector, an object that no longer matches it is absent too.
/// An object that cannot be decoded, or whose kind the API server does not serve for now, is not absent: the wait goes
/// on.
#[must_use = "a wait does nothing until it is awaited"]
pub struct KeyWait<K: CacheObject> {
    source: Option<WaitSource<K>>,
    metrics: WaitMetrics,
    key: Arc<ObjectKey>,
    action: WaitAction,
    floor: u64,
    timeout: Duration,
    matches: Matches<K>,
}

impl<K: CacheObject> KeyWait<K> {
    pub(crate) fn new(
        source: Option<WaitSource<K>>,
        metrics: WaitMetrics,
        key: ObjectKey,
        condition: impl Condition<K> + Send + Sync + 'static,
    ) -> Self {
        Self {
            source,
            metrics,
            key: Arc::new(key),
            action: WaitAction::new("wait"),
            floor: 0,
            timeout: DEFAULT_TIMEOUT,
            matches: Arc::new(move |object| condition.matches_object(object)),
        }
    }

    /// Sets the longest time to wait; one minute by default. Zero checks the stored object once.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the name of the wait in messages and metric labels; `wait` by default.
    pub fn action(mut self, action: WaitAction) -> Self {
        self.action = action;
        self
    }

    /// Ignores states older than this resource version, for example the version that a write returned. A
    /// version that is not a number has no effect.
    pub fn after(mut self, resource_version: &str) -> Self {
        self.floor = parse_version(resource_version).unwrap_or(self.floor);
        self
    }

    async fn wait(self) -> Result<Option<Arc<K>>, WaitError> {
        let active = self.metrics.begin(self.action);
        let result = self.wait_registered(active.started()).await;
        active.end(&result);
        result
    }

    async fn wait_registered(&self, started: tokio::time::Instant) -> Result<Option<Arc<K>>, WaitError> {
        let target = || WaitTarget::new(K::kind(&()), Some(ObjectKey::clone(&self.key)), self.action);
        let Some(source) = &self.source else {
            return Err(WaitError::OutOfScope(Box::new(target())));
        };
        let subject = Subject::Key(Arc::clone(&self.key));
        let place = source.register(subject, self.judge(), target)?;
        self.look_at_stored(source, &place);
        let waiter = place.waiter();
        let mut ended = if self.timeout.is_zero() {
            waiter.take_end()
        } else {
            tokio::time::timeout(self.timeout, poll_fn(|cx| waiter.poll(cx))).await.ok()
        };
        if ended.is_none() {
            self.look_at_stored(source, &place);
            ended = waiter.take_end();
        }
        if let Some(end) = ended {
            return end.map_err(|end| error(target(), end));
        }
        let pending = waiter.take_reason();
        Err(WaitError::NotSatisfied {
            target: Box::new(target()),
            waited: started.elapsed(),
            last_observed: pending.as_ref().and_then(|pending| pending.version.clone()),
            reason: pending.map_or_else(
                || format!("no state of version {} or newer was seen", self.floor),
                |pending| pending.reason.into_owned(),
            ),
        })
    }

    fn look_at_stored(&self, source: &WaitSource<K>, place: &Place<K>) {
        if let Some(stored) = source.stored(KeyRef::from(&*self.key), self.floor) {
            place.waiter().see(&stored);
        }
    }

    /// Returns the function that judges a state of the object, or its absence.
    fn judge(&self) -> impl Fn(&Seen<K>) -> Judgement<K> + use<K> {
        let (floor, matches) = (self.floor, Arc::clone(&self.matches));
        move |seen| match seen {
            Seen::Present(object) => {
                let version = version_of(&**object).unwrap_or(floor);
                (version >= floor).then(|| (Some(version), check(&matches, Some(object))))
            }
            Seen::Deleted { last_known, is_final_state: true } => {
                let version = version_of(&**last_known).unwrap_or(floor);
                (version >= floor).then(|| (Some(version), check(&matches, None)))
            }
            // The version of the deletion is unknown, but newer than all states that were seen before.
            Seen::Deleted { .. } | Seen::Missing => Some((None, check(&matches, None))),
            Seen::Unknown(reason) => {
                Some((None, Verdict::GoOn(Pending { version: None, reason: (*reason).into() })))
            }
        }
    }
}

/// Calls the condition. A panic fails only this wait.
fn check<K: CacheObject>(matches: &Matches<K>, object: Option<&Arc<K>>) -> Verdict<Ending<K>, Pending> {
    match catch_unwind(AssertUnwindSafe(|| matches(object.map(|object| &**object)))) {
        Ok(true) => Verdict::End(Ok(object.cloned())),
        Ok(false) => Verdict::GoOn(Pending {
            version: object.and_then(|object| object.meta().resource_version.clone()),
            reason: if object.is_some() { "the condition does not hold" } else { "there is no such object" }
                .into(),
        }),
        Err(_) => Verdict::Final(Err(End::Failed(Arc::from(Box::from("the condition panicked"))))),
    }
}

fn error(target: WaitTarget, end: End) -> WaitError {
    let target = Box::new(target);
    match end {
        End::Gone => WaitError::Gone(target),
        End::Stopped => WaitError::Stopped(target),
        End::Failed(cause) => WaitError::Failed { target, cause },
    }
}

impl<K: CacheObject> IntoFuture for KeyWait<K> {
    type Output = Result<Option<Arc<K>>, WaitError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}
