//! The waits of a sandbox manager, as methods of the cache (behaviours F and G).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::Cache;
use super::resources::Watched;
use super::resources::WatchedKind;
use crate::api::v1alpha1::{Checkpoint, Sandbox};
use crate::informer::ObjectKey;
use crate::wait::{
    self, AcquiredWaitTask, Check, Condition, WaitAction, WaitConflict, WaitError, WaitTarget, WaitTask,
};

impl Cache {
    /// Waits until an object of any watched kind satisfies a condition of the caller's own, at most for
    /// `timeout`, and returns the object that satisfied it. See [`WaitTask::wait`] for what counts.
    ///
    /// The condition runs in the task that reads the watch, so it must be quick and must not block. If it
    /// panics, this wait fails and nothing else. The name of the action becomes a metric label.
    ///
    /// # Errors
    ///
    /// [`WaitError`]; [`WaitError::OutOfScope`] for a kind or namespace that is not watched.
    pub async fn wait<K: WatchedKind>(
        &self,
        object: &Arc<K>,
        action: &'static str,
        condition: impl Fn(&K) -> Check + Send + Sync + 'static,
        timeout: Duration,
    ) -> Result<Arc<K>, WaitError> {
        let action = WaitAction::Custom(action);
        let watched = self.watched::<K>();
        if !watched.in_scope {
            let target = WaitTarget { kind: K::kind(&()), object: ObjectKey::of(&**object), action };
            return Err(WaitError::OutOfScope(Box::new(target)));
        }
        lazy(watched, object, action, Arc::new(move |object, _| condition(object))).wait(timeout).await
    }

    pub(super) fn pause_task(
        &self,
        sandbox: &Arc<Sandbox>,
    ) -> Result<AcquiredWaitTask<Sandbox>, WaitConflict> {
        let condition: Condition<Sandbox> = Arc::new(|sandbox, _| wait::paused(sandbox));
        acquired(self.watched(), sandbox, WaitAction::Pause, condition)
    }

    pub(super) fn resume_task(
        &self,
        sandbox: &Arc<Sandbox>,
    ) -> Result<AcquiredWaitTask<Sandbox>, WaitConflict> {
        let condition: Condition<Sandbox> =
            Arc::new(|sandbox, floor| wait::resumed(sandbox, floor.generation, Timestamp::now()));
        acquired(self.watched(), sandbox, WaitAction::Resume, condition)
    }

    pub(super) fn ready_task(&self, sandbox: &Arc<Sandbox>) -> WaitTask<Sandbox> {
        let condition: Condition<Sandbox> = Arc::new(|sandbox, _| wait::ready(sandbox, Timestamp::now()));
        lazy(self.watched(), sandbox, WaitAction::WaitReady, condition)
    }

    pub(super) fn checkpointed_task(&self, checkpoint: &Arc<Checkpoint>) -> WaitTask<Checkpoint> {
        let condition: Condition<Checkpoint> = Arc::new(|checkpoint, _| wait::checkpointed(checkpoint));
        lazy(self.watched(), checkpoint, WaitAction::Checkpoint, condition)
    }

    pub(super) fn bound_task(&self, claim: &Arc<PersistentVolumeClaim>) -> WaitTask<PersistentVolumeClaim> {
        let condition: Condition<PersistentVolumeClaim> = Arc::new(|claim, _| wait::bound(claim));
        lazy(self.watched(), claim, WaitAction::Custom("PersistentVolumeClaimBind"), condition)
    }
}

fn lazy<K: WatchedKind>(
    watched: &Arc<Watched<K>>,
    object: &Arc<K>,
    action: WaitAction,
    condition: Condition<K>,
) -> WaitTask<K> {
    WaitTask::new(Arc::clone(&watched.informer), Arc::clone(&watched.waits), object, action, condition)
}

fn acquired<K: WatchedKind>(
    watched: &Arc<Watched<K>>,
    object: &Arc<K>,
    action: WaitAction,
    condition: Condition<K>,
) -> Result<AcquiredWaitTask<K>, WaitConflict> {
    watched.waits.acquire(&watched.informer, object, action, condition)
}
