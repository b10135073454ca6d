//! The waits of a cache: for one object, for a name, for a set of objects.

use std::sync::Arc;

use kube::runtime::wait::Condition;

use super::reader::Reader;
use super::shared_cache::SharedCache;
use crate::kind::CacheObject;
use crate::object::ObjectKey;
use crate::wait::{AcquiredWaitTask, Check, Floor, KeyWait, SetWait, WaitAction, WaitConflict, WaitTask};

impl SharedCache {
    /// Creates a wait until an object satisfies a condition. The wait follows this one object. If the object
    /// is deleted, or replaced under its name, the wait fails.
    ///
    /// The condition runs in the task that reads the watch, so it must be fast and must not block. A panic
    /// fails only this wait.
    pub fn wait_task<K: CacheObject>(
        &self,
        object: &Arc<K>,
        action: WaitAction,
        condition: impl Fn(&K, Floor) -> Check + Send + Sync + 'static,
    ) -> WaitTask<K> {
        let source = self.watched::<K>().map(|watched| watched.wait_source());
        WaitTask::new(source, self.wait_metrics().clone(), object, action, Arc::new(condition))
    }

    /// Creates a wait as [`SharedCache::wait_task`] does, and holds the object. Until the returned task is
    /// dropped, no task of another action can acquire the object. Create the wait before the write that it
    /// waits for.
    ///
    /// # Errors
    ///
    /// [`WaitConflict`] while a task of another action holds the object.
    pub fn acquire_wait_task<K: CacheObject>(
        &self,
        object: &Arc<K>,
        action: WaitAction,
        condition: impl Fn(&K, Floor) -> Check + Send + Sync + 'static,
    ) -> Result<AcquiredWaitTask<K>, WaitConflict> {
        AcquiredWaitTask::acquire(self.wait_task(object, action, condition))
    }

    /// Creates a wait until the object of a name satisfies a condition: a closure `Fn(Option<&K>) -> bool`,
    /// or any [`Condition`] of kube. The object may not exist yet. The wait returns the object that satisfied
    /// the condition, or `None` if its absence did.
    ///
    /// The condition runs in the task that reads the watch, so it must be fast and must not block.
    pub fn wait_for<K: CacheObject>(
        &self,
        key: impl Into<ObjectKey>,
        condition: impl Condition<K> + Send + Sync + 'static,
    ) -> KeyWait<K> {
        let source = self.watched::<K>().map(|watched| watched.wait_source());
        KeyWait::new(source, self.wait_metrics().clone(), key.into(), condition)
    }

    /// Creates a wait until a question about the objects of a kind has an answer. `question` is called at
    /// once and after each batch of changes of the kind. The wait returns the first `Some`.
    ///
    /// `question` runs in the caller's task and may do any lookup.
    pub fn wait_until<K, R, F>(
        &self,
        mut question: F,
    ) -> SetWait<impl FnMut() -> Option<R> + Send + 'static + use<K, R, F>>
    where
        K: CacheObject,
        F: FnMut(&Reader<K>) -> Option<R> + Send + 'static,
    {
        let changes = self.watched::<K>().map(|watched| watched.changes.subscribe());
        let reader = self.reader::<K>();
        SetWait::new(changes, self.wait_metrics().clone(), K::kind(&()), move || question(&reader))
    }
}
