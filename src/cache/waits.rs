//! The waits of a sandbox manager (behaviours F and G).

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use shared_cache::{AcquiredWaitTask, Check, Floor, WaitAction, WaitConflict, WaitTask};

use super::conditions;
use super::sandbox_cache::SandboxCache;
use crate::api::v1alpha1::{Checkpoint, Sandbox};

/// Waits until a sandbox is paused.
pub const PAUSE: WaitAction = WaitAction::new("Pause");
/// Waits until a sandbox is resumed.
pub const RESUME: WaitAction = WaitAction::new("Resume");
/// Waits until a claimed sandbox is ready for use.
pub const WAIT_READY: WaitAction = WaitAction::new("WaitReady");
/// Waits until a checkpoint has succeeded.
pub const CHECKPOINT: WaitAction = WaitAction::new("Checkpoint");
/// Waits until a volume claim is bound.
pub const PVC_BIND: WaitAction = WaitAction::new("PersistentVolumeClaimBind");

fn resumed(sandbox: &Sandbox, floor: Floor) -> Check {
    conditions::resumed(sandbox, floor.generation, Timestamp::now())
}

impl SandboxCache {
    pub(super) fn pause_task(
        &self,
        sandbox: &Arc<Sandbox>,
    ) -> Result<AcquiredWaitTask<Sandbox>, WaitConflict> {
        self.shared().acquire_wait_task(sandbox, PAUSE, |sandbox, _| conditions::paused(sandbox))
    }

    pub(super) fn resume_task(
        &self,
        sandbox: &Arc<Sandbox>,
    ) -> Result<AcquiredWaitTask<Sandbox>, WaitConflict> {
        self.shared().acquire_wait_task(sandbox, RESUME, resumed)
    }

    /// Waits as [`Self::pause_task`] does, without holding the sandbox.
    pub(crate) fn paused_wait(&self, sandbox: &Arc<Sandbox>) -> WaitTask<Sandbox> {
        self.shared().wait_task(sandbox, PAUSE, |sandbox, _| conditions::paused(sandbox))
    }

    /// Waits as [`Self::resume_task`] does, without holding the sandbox.
    pub(crate) fn resumed_wait(&self, sandbox: &Arc<Sandbox>) -> WaitTask<Sandbox> {
        self.shared().wait_task(sandbox, RESUME, resumed)
    }

    pub(crate) fn ready_task(&self, sandbox: &Arc<Sandbox>) -> WaitTask<Sandbox> {
        self.shared()
            .wait_task(sandbox, WAIT_READY, |sandbox, _| conditions::ready(sandbox, Timestamp::now()))
    }

    pub(super) fn checkpointed_task(&self, checkpoint: &Arc<Checkpoint>) -> WaitTask<Checkpoint> {
        self.shared().wait_task(checkpoint, CHECKPOINT, |checkpoint, _| conditions::checkpointed(checkpoint))
    }

    pub(super) fn bound_task(&self, claim: &Arc<PersistentVolumeClaim>) -> WaitTask<PersistentVolumeClaim> {
        self.shared().wait_task(claim, PVC_BIND, |claim, _| conditions::bound(claim))
    }
}
