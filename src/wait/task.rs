//! [`WaitTask`] and [`AcquiredWaitTask`]: waiting for one object to satisfy a condition.

use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::conditions::Check;
use super::error::{WaitAction, WaitError, WaitTarget};
use super::holds::Hold;
use super::registry::{Verdict, Waiter};
use super::{End, Ending, Judgement, Pending, Place, Seen, Waits};
use crate::informer::{CachedResource, Informer, KeyRef, ObjectKey, parse_version, version_of};

/// What a state must have reached to count (behaviour F11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floor {
    /// Its resource version.
    pub(crate) version: u64,
    /// The generation that its status must have caught up with, for conditions that ask.
    pub(crate) generation: i64,
}

/// A condition and what it may know of the wait.
pub(crate) type Condition<K> = Arc<dyn Fn(&K, Floor) -> Check + Send + Sync>;

/// Waits for one object to satisfy one condition. Made by the cache; may be used again and again.
///
/// Nothing runs, and nothing is registered, outside of [`WaitTask::wait`].
pub struct WaitTask<K: CachedResource> {
    informer: Arc<Informer<K>>,
    waits: Arc<Waits<K>>,
    object: Arc<K>,
    action: WaitAction,
    floor: Floor,
    condition: Condition<K>,
}

impl<K: CachedResource> Clone for WaitTask<K> {
    fn clone(&self) -> Self {
        Self {
            informer: Arc::clone(&self.informer),
            waits: Arc::clone(&self.waits),
            object: Arc::clone(&self.object),
            condition: Arc::clone(&self.condition),
            ..*self
        }
    }
}

impl<K: CachedResource> fmt::Debug for WaitTask<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitTask")
            .field("target", &self.target())
            .field("floor", &self.floor)
            .finish_non_exhaustive()
    }
}

impl<K: CachedResource> WaitTask<K> {
    pub(crate) fn new(
        informer: Arc<Informer<K>>,
        waits: Arc<Waits<K>>,
        object: &Arc<K>,
        action: WaitAction,
        condition: Condition<K>,
    ) -> Self {
        let generation = object.meta().generation.unwrap_or_default();
        let floor = Floor { version: version_of(&**object).unwrap_or_default(), generation };
        Self { informer, waits, object: Arc::clone(object), action, floor, condition }
    }

    /// Lets only states of this resource version or a newer one satisfy or fail the wait (F11). Without it, the
    /// version of the object that the task was made with counts. A version that is not a number changes
    /// nothing.
    #[must_use]
    pub fn after(mut self, resource_version: &str) -> Self {
        self.floor.version = parse_version(resource_version).unwrap_or(self.floor.version);
        self
    }

    /// Lets only states at least as new as this one count: what a write of the caller's returned. Where the
    /// condition asks for it, the status must also have caught up with its generation.
    #[must_use]
    pub fn after_write(mut self, written: &K) -> Self {
        self.floor.version = version_of(written).unwrap_or(self.floor.version);
        self.floor.generation = written.meta().generation.unwrap_or(self.floor.generation);
        self
    }

    /// Waits until the condition is satisfied, at most for `timeout`, and returns the object that satisfied it.
    ///
    /// The task's own object is checked first (F6), then the stored one, then each change as it comes, at once
    /// and in the order of the changes. A change that satisfies the condition and is followed by one that does
    /// not, before the caller's task has run, is not reported: the wait goes on (F12). A timeout of zero checks
    /// once (F7).
    ///
    /// Cancel safe: dropping the future ends the wait and leaves nothing behind (F9).
    ///
    /// # Errors
    ///
    /// [`WaitError`].
    pub async fn wait(&self, timeout: Duration) -> Result<Arc<K>, WaitError> {
        let active = self.waits.metrics().begin(self.action);
        let result = match self.check_own() {
            Some(end) => end.map_err(|end| self.error(end)),
            None => self.wait_registered(timeout, active.started()).await,
        };
        active.end(&result);
        result
    }

    /// How the wait ends by the caller's own object, if it counts and decides.
    fn check_own(&self) -> Option<Ending<K>> {
        let waiter = Waiter::new(Box::new(self.judge()));
        waiter.see(&Seen::Present(Arc::clone(&self.object)));
        waiter.take_end()
    }

    async fn wait_registered(
        &self,
        timeout: Duration,
        started: tokio::time::Instant,
    ) -> Result<Arc<K>, WaitError> {
        let place = self.register()?;
        let waiter = place.waiter();
        let ended = if timeout.is_zero() {
            waiter.take_end()
        } else {
            tokio::time::timeout(timeout, poll_fn(|cx| waiter.poll(cx))).await.ok()
        };
        if let Some(end) = ended {
            return end.map_err(|end| self.error(end));
        }
        // One last look (F8): not needed if every change has been seen, and cheap.
        self.look_at_stored(&place);
        if let Some(end) = waiter.take_end() {
            return end.map_err(|end| self.error(end));
        }
        let Pending { version, reason } = waiter.take_reason().unwrap_or_else(|| Pending {
            version: None,
            reason: format!("no state of version {} or newer was seen", self.floor.version).into(),
        });
        Err(WaitError::NotSatisfied {
            target: Box::new(self.target()),
            waited: started.elapsed(),
            last_observed: version,
            reason: reason.into_owned(),
        })
    }

    /// Registers under the store's lock, so that no change falls between the first check and the wait (F3);
    /// the check itself then runs outside of it.
    fn register(&self) -> Result<Place<K>, WaitError> {
        let target = || Box::new(self.target());
        let limit = self.informer.options().namespace.as_deref();
        if limit.is_some_and(|limit| limit != self.key().namespace) {
            return Err(WaitError::OutOfScope(target()));
        }
        let view = self.informer.store().view();
        if !self.informer.has_synced() {
            return Err(WaitError::NotSynced(target()));
        }
        let place = self.waits.register(self.key().into(), Waiter::new(Box::new(self.judge())));
        drop(view);
        let place = place.ok_or_else(|| WaitError::Stopped(target()))?;
        self.look_at_stored(&place);
        Ok(place)
    }

    /// Judges what the store has of the object.
    fn look_at_stored(&self, place: &Place<K>) {
        // Read before the store: if the version has been passed, the store shows what it left.
        let passed = self.informer.version() >= self.floor.version && self.floor.version > 0;
        let stored = self.informer.store().view().get(self.key()).cloned();
        match stored {
            Some(object) => place.waiter().see(&Seen::Present(object)),
            None if passed => place.waiter().see(&Seen::Missing),
            None => {}
        }
    }

    /// What a state of the object, or its absence, says about this wait.
    fn judge(&self) -> impl Fn(&Seen<K>) -> Judgement<K> + use<K> {
        let uid = self.object.meta().uid.clone();
        let (floor, condition) = (self.floor, Arc::clone(&self.condition));
        move |seen| {
            let same = |object: &K| uid.is_none() || object.meta().uid == uid;
            let gone = Some((u64::MAX, Verdict::Final(Err(End::Gone))));
            let object = match seen {
                Seen::Present(object) => object,
                Seen::Deleted(last) => return gone.filter(|_| same(last)),
                Seen::Missing => return gone,
            };
            let version = version_of(&**object).unwrap_or(floor.version);
            if !same(object) {
                // Another object under the name: a later one has replaced ours, an earlier one is old news.
                return gone.filter(|_| version > floor.version);
            }
            (version >= floor.version).then(|| (version, check(&condition, object, floor)))
        }
    }

    fn key(&self) -> KeyRef<'_> {
        KeyRef::of(&*self.object)
    }

    fn target(&self) -> WaitTarget {
        WaitTarget { kind: K::kind(&()), object: ObjectKey::of(&*self.object), action: self.action }
    }

    fn error(&self, end: End) -> WaitError {
        let target = Box::new(self.target());
        match end {
            End::Gone => WaitError::Gone(target),
            End::Stopped => WaitError::Stopped(target),
            End::Failed(cause) => WaitError::Failed { target, cause },
        }
    }
}

/// Asks the condition; a panic of it fails this wait alone.
fn check<K: CachedResource>(
    condition: &Condition<K>,
    object: &Arc<K>,
    floor: Floor,
) -> Verdict<Ending<K>, Pending> {
    let Ok(checked) = catch_unwind(AssertUnwindSafe(|| condition(object, floor))) else {
        return Verdict::Final(Err(End::Failed(Arc::from(Box::from("the condition panicked")))));
    };
    match checked {
        Check::Satisfied => Verdict::End(Ok(Arc::clone(object))),
        Check::NotYet(reason) => {
            Verdict::GoOn(Pending { version: object.meta().resource_version.clone(), reason })
        }
        Check::Failed(cause) => Verdict::End(Err(End::Failed(Arc::from(cause)))),
    }
}

/// A [`WaitTask`] that already keeps the opposite action away from its object (behaviour F5), so that the caller
/// can write `spec.paused` and then wait. Waiting consumes it; dropping it releases the object.
pub struct AcquiredWaitTask<K: CachedResource> {
    task: WaitTask<K>,
    hold: Hold<WaitAction>,
}

impl<K: CachedResource> fmt::Debug for AcquiredWaitTask<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task.fmt(f)
    }
}

impl<K: CachedResource> AcquiredWaitTask<K> {
    pub(super) fn new(task: WaitTask<K>, hold: Hold<WaitAction>) -> Self {
        Self { task, hold }
    }

    /// See [`WaitTask::after`].
    #[must_use]
    pub fn after(self, resource_version: &str) -> Self {
        Self { task: self.task.after(resource_version), hold: self.hold }
    }

    /// See [`WaitTask::after_write`].
    #[must_use]
    pub fn after_write(self, written: &K) -> Self {
        Self { task: self.task.after_write(written), hold: self.hold }
    }

    /// Waits as [`WaitTask::wait`] does, then releases the object, whatever the end. Dropping the future
    /// releases it too.
    ///
    /// # Errors
    ///
    /// [`WaitError`].
    pub async fn wait(self, timeout: Duration) -> Result<Arc<K>, WaitError> {
        let result = self.task.wait(timeout).await;
        drop(self.hold);
        result
    }
}
