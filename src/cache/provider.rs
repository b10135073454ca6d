//! [`Provider`]: the lookups and waits that a sandbox manager lives on (behaviours A, F and G).

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use shared_cache::{AcquiredWaitTask, ApiReader, LookupError, WaitConflict, WaitTask};

use super::indexes::{
    CHECKPOINT_ID, CHECKPOINT_USER, CLAIMED_SANDBOX_ID, RESERVED_FAILED, SANDBOX_POOL, SANDBOX_USER,
    TEMPLATE_ID,
};
use super::sandbox_cache::SandboxCache;
use crate::api::v1alpha1::{Checkpoint, LABEL_TRUE, Sandbox, SandboxPhase, SandboxSet, StateKind};

/// What [`Provider::get_claimed_sandbox`] looks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct GetClaimedSandboxOptions<'a> {
    /// Only here; `None` or empty: everywhere that is watched.
    pub namespace: Option<&'a str>,
    /// The id that users know the sandbox by.
    pub sandbox_id: &'a str,
}

/// What [`Provider::get_checkpoint`] looks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct GetCheckpointOptions<'a> {
    /// Only here; `None` or empty: everywhere that is watched.
    pub namespace: Option<&'a str>,
    /// The id of the checkpoint's content, from its status.
    pub checkpoint_id: &'a str,
}

/// What [`Provider::pick_sandbox_set`] looks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickSandboxSetOptions<'a> {
    /// Only here; `None` or empty: everywhere that is watched.
    pub namespace: Option<&'a str>,
    /// Name of the SandboxSet.
    pub name: &'a str,
}

/// What [`Provider::list_sandbox_sets`] lists.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListSandboxSetsOptions<'a> {
    /// Only here; `None` or empty: everywhere that is watched.
    pub namespace: Option<&'a str>,
}

/// What [`Provider::list_sandboxes`] lists.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListSandboxesOptions<'a> {
    /// Only here; `None` or empty: everywhere that is watched.
    pub namespace: Option<&'a str>,
    /// Only of this owner; `None` or empty: of everyone.
    pub user: Option<&'a str>,
}

/// What [`Provider::list_checkpoints`] lists.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListCheckpointsOptions<'a> {
    /// Only here; `None` or empty: everywhere that is watched.
    pub namespace: Option<&'a str>,
    /// Only of this owner; `None` or empty: of everyone.
    pub user: Option<&'a str>,
}

/// What [`Provider::list_sandboxes_in_pool`] lists.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListSandboxesInPoolOptions<'a> {
    /// Only here; `None` or empty: everywhere that is watched.
    pub namespace: Option<&'a str>,
    /// Name of the template, or of the set where there is none.
    pub pool: &'a str,
}

/// Lookups of what a sandbox manager asks all day, and the waits that it does. Implemented by
/// [`SandboxCache`].
///
/// Every lookup reads memory only: no I/O, nothing to await, no lock held once it returns (A1). Objects are
/// shared and immutable. Each method fails with [`LookupError::NotSynced`] before the first list of its kind
/// is complete (A6) and with [`LookupError::OutOfScope`] for a namespace that is not watched (A4). Lists are
/// in no particular order, and an empty one is no error (A5).
pub trait Provider: Send + Sync {
    /// The claimed sandbox of an id (A2).
    ///
    /// # Errors
    ///
    /// [`LookupError::NotFound`]; [`LookupError::Ambiguous`] when ids have collided, never an arbitrary one.
    fn get_claimed_sandbox(&self, options: GetClaimedSandboxOptions<'_>)
    -> Result<Arc<Sandbox>, LookupError>;

    /// The checkpoint whose status has this id (A3).
    ///
    /// # Errors
    ///
    /// [`LookupError::NotFound`], [`LookupError::Ambiguous`].
    fn get_checkpoint(&self, options: GetCheckpointOptions<'_>) -> Result<Arc<Checkpoint>, LookupError>;

    /// The SandboxSet of a name (A3).
    ///
    /// # Errors
    ///
    /// [`LookupError::NotFound`]; [`LookupError::Ambiguous`] when no namespace is given and several have one.
    fn pick_sandbox_set(&self, options: PickSandboxSetOptions<'_>) -> Result<Arc<SandboxSet>, LookupError>;

    /// The SandboxSets.
    ///
    /// # Errors
    ///
    /// See [`Provider`].
    fn list_sandbox_sets(
        &self,
        options: ListSandboxSetsOptions<'_>,
    ) -> Result<Vec<Arc<SandboxSet>>, LookupError>;

    /// The sandboxes without those that are only kept for inspection after a failed claim (A8).
    ///
    /// # Errors
    ///
    /// See [`Provider`].
    fn list_sandboxes(&self, options: ListSandboxesOptions<'_>) -> Result<Vec<Arc<Sandbox>>, LookupError>;

    /// The checkpoints.
    ///
    /// # Errors
    ///
    /// See [`Provider`].
    fn list_checkpoints(
        &self,
        options: ListCheckpointsOptions<'_>,
    ) -> Result<Vec<Arc<Checkpoint>>, LookupError>;

    /// The sandboxes that a pool can hand out or is about to (B1). To claim one of many, search with
    /// [`Reader::find`](shared_cache::Reader::find) instead: it stops at the first match.
    ///
    /// # Errors
    ///
    /// See [`Provider`].
    fn list_sandboxes_in_pool(
        &self,
        options: ListSandboxesInPoolOptions<'_>,
    ) -> Result<Vec<Arc<Sandbox>>, LookupError>;

    /// How many sandboxes are neither dead nor kept after a failed claim (A7). Allocates nothing.
    ///
    /// # Errors
    ///
    /// See [`Provider`].
    fn count_active_sandboxes(&self, options: ListSandboxesOptions<'_>) -> Result<usize, LookupError>;

    /// The sandboxes of an owner in all namespaces, without those that are going (A7). An empty owner has none.
    ///
    /// # Errors
    ///
    /// See [`Provider`].
    fn list_live_sandboxes_by_owner(&self, user: &str) -> Result<Vec<Arc<Sandbox>>, LookupError>;

    /// A wait until the sandbox is paused (condition `SandboxPaused` True). While the task exists, nobody can
    /// make the opposite one, so make it before writing `spec.paused`; dropping it releases the sandbox.
    ///
    /// # Errors
    ///
    /// [`WaitConflict`] while a resume task exists.
    fn sandbox_pause_task(&self, sandbox: &Arc<Sandbox>) -> Result<AcquiredWaitTask<Sandbox>, WaitConflict>;

    /// A wait until the sandbox is resumed (condition `Ready` True, in a status that has caught up with the
    /// generation that the caller knows of). Keeps pause tasks away as the pause task does resume tasks.
    ///
    /// # Errors
    ///
    /// [`WaitConflict`] while a pause task exists.
    fn sandbox_resume_task(&self, sandbox: &Arc<Sandbox>) -> Result<AcquiredWaitTask<Sandbox>, WaitConflict>;

    /// A wait until a claimed sandbox is ready for use: its status is of its generation, no update in place is
    /// under way, it runs and has an address. Fails at once when its container could not be started, or when
    /// it is going.
    fn sandbox_wait_ready_task(&self, sandbox: &Arc<Sandbox>) -> WaitTask<Sandbox>;

    /// A wait until a checkpoint has succeeded and has an id; it may be younger than the cache knows.
    fn checkpoint_task(&self, checkpoint: &Arc<Checkpoint>) -> WaitTask<Checkpoint>;

    /// A wait until a volume claim is bound to a volume.
    fn pvc_bind_task(&self, claim: &Arc<PersistentVolumeClaim>) -> WaitTask<PersistentVolumeClaim>;

    /// The client that the cache itself uses, for writes and live reads.
    fn client(&self) -> &kube::Client;

    /// Reads that bypass the cache, for when an answer must be the API server's own.
    fn api_reader(&self) -> ApiReader;
}

impl Provider for SandboxCache {
    fn get_claimed_sandbox(
        &self,
        options: GetClaimedSandboxOptions<'_>,
    ) -> Result<Arc<Sandbox>, LookupError> {
        self.sandboxes().one(CLAIMED_SANDBOX_ID, options.sandbox_id, options.namespace)
    }

    fn get_checkpoint(&self, options: GetCheckpointOptions<'_>) -> Result<Arc<Checkpoint>, LookupError> {
        self.checkpoints().one(CHECKPOINT_ID, options.checkpoint_id, options.namespace)
    }

    fn pick_sandbox_set(&self, options: PickSandboxSetOptions<'_>) -> Result<Arc<SandboxSet>, LookupError> {
        self.sandbox_sets().one(TEMPLATE_ID, options.name, options.namespace)
    }

    fn list_sandbox_sets(
        &self,
        options: ListSandboxSetsOptions<'_>,
    ) -> Result<Vec<Arc<SandboxSet>>, LookupError> {
        self.sandbox_sets().list(options.namespace)
    }

    fn list_sandboxes(&self, options: ListSandboxesOptions<'_>) -> Result<Vec<Arc<Sandbox>>, LookupError> {
        self.sandboxes().select(options.namespace, SANDBOX_USER, given(options.user), has_any, |sandboxes| {
            // Looking for the label in each of them would take longer than all the rest.
            if sandboxes.any_filed(RESERVED_FAILED, LABEL_TRUE) {
                sandboxes.copy_if(|sandbox| !sandbox.is_reserved_failed())
            } else {
                sandboxes.copy_if(|_| true)
            }
        })
    }

    fn list_checkpoints(
        &self,
        options: ListCheckpointsOptions<'_>,
    ) -> Result<Vec<Arc<Checkpoint>>, LookupError> {
        self.checkpoints().select(
            options.namespace,
            CHECKPOINT_USER,
            given(options.user),
            has_any,
            |checkpoints| checkpoints.copy_if(|_| true),
        )
    }

    fn list_sandboxes_in_pool(
        &self,
        options: ListSandboxesInPoolOptions<'_>,
    ) -> Result<Vec<Arc<Sandbox>>, LookupError> {
        self.sandboxes().select(options.namespace, SANDBOX_POOL, Some(options.pool), has_any, |sandboxes| {
            sandboxes.copy_if(|_| true)
        })
    }

    fn count_active_sandboxes(&self, options: ListSandboxesOptions<'_>) -> Result<usize, LookupError> {
        let now = Timestamp::now();
        let active =
            |sandbox: &Sandbox| !sandbox.is_reserved_failed() && sandbox.state(now).kind != StateKind::Dead;
        let any = |count: &usize| *count > 0;
        self.sandboxes().select(options.namespace, SANDBOX_USER, given(options.user), any, |sandboxes| {
            let mut count = 0;
            sandboxes.for_each(|sandbox| count += usize::from(active(sandbox)));
            count
        })
    }

    fn list_live_sandboxes_by_owner(&self, user: &str) -> Result<Vec<Arc<Sandbox>>, LookupError> {
        let live =
            |sandbox: &Sandbox| !sandbox.is_deleting() && sandbox.phase() != Some(&SandboxPhase::Terminating);
        let mut sandboxes = self.sandboxes().by_index(SANDBOX_USER, user)?;
        sandboxes.retain(|sandbox| live(sandbox));
        Ok(sandboxes)
    }

    fn sandbox_pause_task(&self, sandbox: &Arc<Sandbox>) -> Result<AcquiredWaitTask<Sandbox>, WaitConflict> {
        self.pause_task(sandbox)
    }

    fn sandbox_resume_task(&self, sandbox: &Arc<Sandbox>) -> Result<AcquiredWaitTask<Sandbox>, WaitConflict> {
        self.resume_task(sandbox)
    }

    fn sandbox_wait_ready_task(&self, sandbox: &Arc<Sandbox>) -> WaitTask<Sandbox> {
        self.ready_task(sandbox)
    }

    fn checkpoint_task(&self, checkpoint: &Arc<Checkpoint>) -> WaitTask<Checkpoint> {
        self.checkpointed_task(checkpoint)
    }

    fn pvc_bind_task(&self, claim: &Arc<PersistentVolumeClaim>) -> WaitTask<PersistentVolumeClaim> {
        self.bound_task(claim)
    }

    fn client(&self) -> &kube::Client {
        self.shared().client()
    }

    fn api_reader(&self) -> ApiReader {
        self.shared().api_reader()
    }
}

/// An empty filter filters nothing.
fn given(filter: Option<&str>) -> Option<&str> {
    filter.filter(|text| !text.is_empty())
}

#[expect(clippy::ptr_arg, reason = "passed where a function of the list itself is expected")]
fn has_any<K>(list: &Vec<K>) -> bool {
    !list.is_empty()
}
