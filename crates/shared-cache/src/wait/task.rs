//! [`WaitTask`] and [`AcquiredWaitTask`]: wait for one object to satisfy a condition.

use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::check::{Check, Condition, Floor};
use super::error::{WaitAction, WaitConflict, WaitError, WaitTarget};
use super::holds::Hold;
use super::metrics::WaitMetrics;
use super::outcome::{End, Ending, Judgement, ObjectWaiter, Pending, Place, Seen, Subject};
use super::registry::{Verdict, Waiter};
use super::waits::Waits;
use crate::informer::Informer;
use crate::kind::CacheObject;
use crate::object::{KeyRef, ObjectKey, parse_version, version_of};

/// The source of the states for a wait.
pub(crate) struct WaitSource<K: CacheObject> {
    pub(crate) informer: Arc<Informer<K>>,
    pub(crate) waits: Arc<Waits<K>>,
}

impl<K: CacheObject> Clone for WaitSource<K> {
    fn clone(&self) -> Self {
        Self { informer: Arc::clone(&self.informer), waits: Arc::clone(&self.waits) }
    }
}

impl<K: CacheObject> WaitSource<K> {
    /// Registers a waiter under the store's lock. So no change is missed between the first check and the wait
    /// (F3). The check itself runs outside the lock.
    pub(super) fn register(
        &self,
        subject: Subject<K>,
        judge: impl Fn(&Seen<K>) -> Judgement<K> + Send + Sync + 'static,
        target: impl Fn() -> WaitTarget,
    ) -> Result<Place<K>, WaitError> {
        let target = || Box::new(target());
        let namespaces = &self.informer.options().namespaces;
        let namespace = subject.key().namespace;
        if !namespaces.is_empty() && !namespaces.iter().any(|watched| watched == namespace) {
            return Err(WaitError::OutOfScope(target()));
        }
        let waiter = Waiter::new(subject, Box::new(judge));
        let view = self.informer.store().view();
        if !self.informer.has_synced() {
            return Err(WaitError::NotSynced(target()));
        }
        let place = self.waits.register(waiter);
        drop(view);
        place.ok_or_else(|| WaitError::Stopped(target()))
    }

    /// The state of an object in the store. `None` if the store does not contain it and may not have reached `version`
    /// yet, so that its absence means nothing.
    pub(super) fn stored(&self, key: KeyRef<'_>, version: u64) -> Option<Seen<K>> {
        // The version is read before the store. Once it has been passed, the store contains the state after it.
        let passed = self.informer.version_in(key.namespace) >= version;
        let view = self.informer.store().view();
        match view.get(key) {
            Some(object) => Some(Seen::Present(Arc::clone(object))),
            None if view.is_hidden(key) => Some(Seen::UNDECODABLE),
            // A kind that is no longer served loses its sync before its objects. The view is still locked.
            None if !self.informer.has_synced() => Some(Seen::NOT_SERVED),
            None => passed.then_some(Seen::Missing),
        }
    }
}

/// Waits for one object to satisfy one condition. Created by the cache; may be used repeatedly.
///
/// Nothing runs or is registered outside [`WaitTask::wait`].
pub struct WaitTask<K: CacheObject> {
    /// `None` if the cache does not have the kind.
    source: Option<WaitSource<K>>,
    metrics: WaitMetrics,
    object: Arc<K>,
    action: WaitAction,
    floor: Floor,
    condition: Condition<K>,
}

impl<K: CacheObject> Clone for WaitTask<K> {
    fn clone(&self) -> Self {
        Self {
            source: self.source.clone(),
            metrics: self.metrics.clone(),
            object: Arc::clone(&self.object),
            condition: Arc::clone(&self.condition),
            ..*self
        }
    }
}

impl<K: CacheObject> fmt::Debug for WaitTask<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitTask")
            .field("target", &self.target())
            .field("floor", &self.floor)
            .finish_non_exhaustive()
    }
}

impl<K: CacheObject> WaitTask<K> {
    pub(crate) fn new(
        source: Option<WaitSource<K>>,
        metrics: WaitMetrics,
        object: &Arc<K>,
        action: WaitAction,
        condition: Condition<K>,
    ) -> Self {
        let generation = object.meta().generation.unwrap_or_default();
        let floor = Floor { version: version_of(&**object).unwrap_or_default(), generation };
        Self { source, metrics, object: Arc::clone(object), action, floor, condition }
    }

    /// Ignores states older than this resource version (F11). The default is the version of the object with
    /// which the task was created. A version that is not a number has no effect.
    #[must_use]
    pub fn after(mut self, resource_version: &str) -> Self {
        self.floor.version = parse_version(resource_version).unwrap_or(self.floor.version);
        self
    }

    /// Ignores states older than the object that the caller's write returned. A condition that reads the
    /// [generation](Floor::generation) also requires a status of that generation.
    #[must_use]
    pub fn after_write(mut self, written: &K) -> Self {
        self.floor.version = version_of(written).unwrap_or(self.floor.version);
        self.floor.generation = written.meta().generation.unwrap_or(self.floor.generation);
        self
    }

    /// Waits until the condition is satisfied, at most for `timeout`. Returns the object that satisfied it.
    ///
    /// The wait checks the task's own object first (F6), then the stored object, then each change in order
    /// when it arrives. If another change undoes a satisfying change before the caller's task has run, the
    /// wait continues (F12). A timeout of zero checks once (F7).
    ///
    /// Cancel safe: dropping the future ends the wait and removes its registration (F9).
    ///
    /// # Errors
    ///
    /// [`WaitError`].
    pub async fn wait(&self, timeout: Duration) -> Result<Arc<K>, WaitError> {
        let active = self.metrics.begin(self.action);
        let result = match &self.source {
            // Also if the caller's own object satisfies the condition. The program does not watch a kind that
            // it needs.
            None => Err(WaitError::OutOfScope(Box::new(self.target()))),
            Some(source) => match self.check_own() {
                Some(end) => self.finish(end),
                None => self.wait_registered(source, timeout, active.started()).await,
            },
        };
        active.end(&result);
        result
    }

    /// Checks the caller's own object. Returns the end of the wait if the object decides it.
    fn check_own(&self) -> Option<Ending<K>> {
        let waiter: ObjectWaiter<K> =
            Waiter::new(Subject::Named(Arc::clone(&self.object)), Box::new(self.judge()));
        waiter.see(&Seen::Present(Arc::clone(&self.object)));
        waiter.take_end()
    }

    async fn wait_registered(
        &self,
        source: &WaitSource<K>,
        timeout: Duration,
        started: tokio::time::Instant,
    ) -> Result<Arc<K>, WaitError> {
        let subject = Subject::Named(Arc::clone(&self.object));
        let place = source.register(subject, self.judge(), || self.target())?;
        self.look_at_stored(source, &place);
        let waiter = place.waiter();
        let ended = if timeout.is_zero() {
            waiter.take_end()
        } else {
            tokio::time::timeout(timeout, poll_fn(|cx| waiter.poll(cx))).await.ok()
        };
        if let Some(end) = ended {
            return self.finish(end);
        }
        // A last check (F8). It is cheap, and only needed if a change was missed.
        self.look_at_stored(source, &place);
        if let Some(end) = waiter.take_end() {
            return self.finish(end);
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

    /// Checks the stored object.
    fn look_at_stored(&self, source: &WaitSource<K>, place: &Place<K>) {
        if let Some(stored) = source.stored(KeyRef::of(&*self.object), self.floor.version.max(1)) {
            place.waiter().see(&stored);
        }
    }

    /// Returns the function that judges a state of the object, or its absence.
    fn judge(&self) -> impl Fn(&Seen<K>) -> Judgement<K> + use<K> {
        let (floor, condition) = (self.floor, Arc::clone(&self.condition));
        // Shares the object, so that its UID is not copied.
        let own = Arc::clone(&self.object);
        move |seen| {
            let uid = &own.meta().uid;
            let same = |object: &K| uid.is_none() || object.meta().uid == *uid;
            let gone = Some((Some(u64::MAX), Verdict::Final(Err(End::Gone))));
            let object = match seen {
                Seen::Present(object) => object,
                Seen::Deleted { last_known, .. } => return gone.filter(|_| same(last_known)),
                Seen::Missing => return gone,
                Seen::Unknown(reason) => {
                    let pending = Pending { version: None, reason: (*reason).into() };
                    return Some((None, Verdict::GoOn(pending)));
                }
            };
            let version = version_of(&**object).unwrap_or(floor.version);
            if !same(object) {
                // Another object of this name. A later object has replaced the task's object; an earlier
                // object is ignored.
                return gone.filter(|_| version > floor.version);
            }
            (version >= floor.version).then(|| (Some(version), check(&condition, object, floor)))
        }
    }

    fn target(&self) -> WaitTarget {
        WaitTarget::new(K::kind(&()), Some(ObjectKey::of(&*self.object)), self.action)
    }

    fn finish(&self, end: Ending<K>) -> Result<Arc<K>, WaitError> {
        // Only an object can satisfy a condition of this task, never an absence.
        end.map_err(|end| self.error(end)).map(|object| object.unwrap_or_else(|| Arc::clone(&self.object)))
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

/// Calls the condition. A panic fails only this wait.
fn check<K: CacheObject>(
    condition: &Condition<K>,
    object: &Arc<K>,
    floor: Floor,
) -> Verdict<Ending<K>, Pending> {
    let Ok(checked) = catch_unwind(AssertUnwindSafe(|| condition(object, floor))) else {
        return Verdict::Final(Err(End::Failed(Arc::from(Box::from("the condition panicked")))));
    };
    match checked {
        Check::Satisfied => Verdict::End(Ok(Some(Arc::clone(object)))),
        Check::NotYet(reason) => {
            Verdict::GoOn(Pending { version: object.meta().resource_version.clone(), reason })
        }
        Check::Failed(cause) => Verdict::End(Err(End::Failed(Arc::from(cause)))),
    }
}

/// A [`WaitTask`] that holds its object (behaviour F5). While the hold exists, no task of another action can
/// acquire the object. So a caller can write the object and then wait. Waiting consumes the task; dropping
/// the task releases the object.
pub struct AcquiredWaitTask<K: CacheObject> {
    task: WaitTask<K>,
    /// `None` if the cache does not have the kind, so that the wait will fail.
    hold: Option<Hold<WaitAction>>,
}

impl<K: CacheObject> fmt::Debug for AcquiredWaitTask<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task.fmt(f)
    }
}

impl<K: CacheObject> AcquiredWaitTask<K> {
    /// Takes a hold on the object of a task, which excludes every other action (F4, F5).
    pub(crate) fn acquire(task: WaitTask<K>) -> Result<Self, WaitConflict> {
        let key = ObjectKey::of(&*task.object);
        let name = task.object.meta().uid.clone().unwrap_or_else(|| key.to_string());
        let hold = match &task.source {
            None => None,
            Some(source) => {
                let acquired = source.waits.holds.acquire(name, task.action);
                Some(acquired.map_err(|existing| {
                    let conflict =
                        WaitConflict { kind: K::kind(&()), object: key, existing, requested: task.action };
                    task.metrics.conflict(&conflict);
                    conflict
                })?)
            }
        };
        Ok(Self { task, hold })
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

    /// Waits as [`WaitTask::wait`] does, then releases the object, for every result. Dropping the future also
    /// releases the object.
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
