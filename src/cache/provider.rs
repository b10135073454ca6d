//! [`Provider`]: the lookups and waits of a sandbox manager (behaviours A, F and G).

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

/// Options of [`Provider::get_claimed_sandbox`].
#[derive(Clone, Copy, Debug, Default)]
pub struct GetClaimedSandboxOptions<'a> {
    /// Limits the lookup to one namespace. `None` or empty: all watched namespaces.
    pub namespace: Option<&'a str>,
    /// The id of the sandbox that users know.
    pub sandbox_id: &'a str,
}

/// Options of [`Provider::get_checkpoint`].
#[derive(Clone, Copy, Debug, Default)]
pub struct GetCheckpointOptions<'a> {
    /// Limits the lookup to one namespace. `None` or empty: all watched namespaces.
    pub namespace: Option<&'a str>,
    /// The id of the checkpoint's content, from its status.
    pub checkpoint_id: &'a str,
}

/// Options of [`Provider::pick_sandbox_set`].
#[derive(Clone, Copy, Debug, Default)]
pub struct PickSandboxSetOptions<'a> {
    /// Limits the lookup to one namespace. `None` or empty: all watched namespaces.
    pub namespace: Option<&'a str>,
    /// Name of the SandboxSet.
    pub name: &'a str,
}

/// Options of [`Provider::list_sandbox_sets`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ListSandboxSetsOptions<'a> {
    /// Limits the list to one namespace. `None` or empty: all watched namespaces.
    pub namespace: Option<&'a str>,
}

/// Options of [`Provider::list_sandboxes`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ListSandboxesOptions<'a> {
    /// Limits the list to one namespace. `None` or empty: all watched namespaces.
    pub namespace: Option<&'a str>,
    /// Limits the list to one owner. `None` or empty: all owners.
    pub user: Option<&'a str>,
}

/// Options of [`Provider::list_checkpoints`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ListCheckpointsOptions<'a> {
    /// Limits the list to one namespace. `None` or empty: all watched namespaces.
    pub namespace: Option<&'a str>,
    /// Limits the list to one owner. `None` or empty: all owners.
    pub user: Option<&'a str>,
}

/// Options of [`Provider::list_sandboxes_in_pool`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ListSandboxesInPoolOptions<'a> {
    /// Limits the list to one namespace. `None` or empty: all watched namespaces.
    pub namespace: Option<&'a str>,
    /// Name of the template, or of the set if there is no template.
    pub pool: &'a str,
}

/// The lookups and waits of a sandbox manager. Implemented by [`SandboxCache`].
///
/// Every lookup only reads memory: it does no I/O, awaits nothing, and holds no lock after it returns (A1).
/// Objects are shared and immutable. Each method fails with [`LookupError::NotSynced`] before the initial
/// list of its kind is complete (A6), and with [`LookupError::OutOfScope`] for a namespace that is not
/// watched (A4). Lists have no particular order, and an empty list is not an error (A5).
pub trait Provider: Send + Sync {
    /// Returns the claimed sandbox of an id (A2).
    ///
    /// # Errors
    ///
    /// [`LookupError::NotFound`]; [`LookupError::Ambiguous`] if several sandboxes have the id, never an
    /// arbitrary sandbox.
    fn get_claimed_sandbox(&self, options: GetClaimedSandboxOptions<'_>)
    -> Result<Arc<Sandbox>, LookupError>;

    /// Returns the checkpoint whose status has this id (A3).
    ///
    /// # Errors
    ///
    /// [`LookupError::NotFound`], [`LookupError::Ambiguous`].
    fn get_checkpoint(&self, options: GetCheckpointOptions<'_>) -> Result<Arc<Checkpoint>, LookupError>;

    /// Returns the SandboxSet of a name (A3).
    ///
    /// # Errors
    ///
    /// [`LookupError::NotFound`]; [`LookupError::Ambiguous`] if no namespace is given and several namespaces
    /// have such a set.
    fn pick_sandbox_set(&self, options: PickSandboxSetOptions<'_>) -> Result<Arc<SandboxSet>, LookupError>;

    /// Returns the SandboxSets.
    ///
    /// # Errors
    ///
    /// See [`Provider`].
    fn list_sandbox_sets(
        &self,
        options: ListSandboxSetsOptions<'_>,
    ) -> Result<Vec<Arc<SandboxSet>>, LookupError>;

    /// Returns the sandboxes, except those that are only kept for inspection after a failed claim (A8).
    ///
    /// # Errors
    ///
    /// See [`Provider`].
    fn list_sandboxes(&self, options: ListSandboxesOptions<'_>) -> Result<Vec<Arc<Sandbox>>, LookupError>;

    /// Returns the checkpoints.
    ///
    /// # Errors
    ///
    /// See [`Provider`].
    fn list_checkpoints(
        &self,
        options: ListCheckpointsOptions<'_>,
    ) -> Result<Vec<Arc<Checkpoint>>, LookupError>;

    /// Returns the sandboxes that a pool can hand out now or soon (B1). To claim one of many sandboxes,
    /// search with [`Reader::find`](shared_cache::Reader::find) instead, because it stops at the first match.
    ///
    /// # Errors
    ///
    /// See [`Provider`].
    fn list_sandboxes_in_pool(
        &self,
        options: ListSandboxesInPoolOptions<'_>,
    ) -> Result<Vec<Arc<Sandbox>>, LookupError>;

    /// Counts the sandboxes that are not dead, recycling or kept after a failed claim (A7). Copies no sandbox.
    ///
    /// # Errors
    ///
    /// See [`Provider`].
    fn count_active_sandboxes(&self, options: ListSandboxesOptions<'_>) -> Result<usize, LookupError>;

    /// Returns the sandboxes of an owner in all namespaces, except deleting and recycling ones (A7). An empty owner
    /// has no sandboxes.
    ///
    /// # Errors
    ///
    /// See [`Provider`].
    fn list_live_sandboxes_by_owner(&self, user: &str) -> Result<Vec<Arc<Sandbox>>, LookupError>;

    /// Creates a wait until the sandbox is paused (condition `SandboxPaused` True). Check
    /// [`Sandbox::pausable`] before. The wait itself fails only if the pause cannot complete any more. While the task
    /// exists, no caller can create a resume task. So create the task before writing `spec.paused`; dropping the task
    /// releases the sandbox.
    ///
    /// # Errors
    ///
    /// [`WaitConflict`] while a resume task exists.
    fn sandbox_pause_task(&self, sandbox: &Arc<Sandbox>) -> Result<AcquiredWaitTask<Sandbox>, WaitConflict>;

    /// Creates a wait until the sandbox is resumed: the condition `Ready` is True, in a status of at least
    /// the generation that the caller knows. Check [`Sandbox::resumable`] before. While the task exists, no caller can
    /// create a pause task.
    ///
    /// # Errors
    ///
    /// [`WaitConflict`] while a pause task exists.
    fn sandbox_resume_task(&self, sandbox: &Arc<Sandbox>) -> Result<AcquiredWaitTask<Sandbox>, WaitConflict>;

    /// Creates a wait until a claimed sandbox is ready for use. Its status must be of its generation, no
    /// update in place may be in progress, and it must run and have an address. Fails at once if its
    /// container could not be started, or if the sandbox is being deleted.
    fn sandbox_wait_ready_task(&self, sandbox: &Arc<Sandbox>) -> WaitTask<Sandbox>;

    /// Creates a wait until a checkpoint has succeeded and has an id. The cache may not know the checkpoint
    /// yet.
    fn checkpoint_task(&self, checkpoint: &Arc<Checkpoint>) -> WaitTask<Checkpoint>;

    /// Creates a wait until a volume claim is bound to a volume.
    fn pvc_bind_task(&self, claim: &Arc<PersistentVolumeClaim>) -> WaitTask<PersistentVolumeClaim>;

    /// Returns the client that the cache itself uses, for writes and live reads.
    fn client(&self) -> &kube::Client;

    /// Returns a reader that bypasses the cache and reads from the API server.
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
            // Checking the label of each sandbox would take longer than the rest of the list.
            if sandboxes.any_filed(RESERVED_FAILED, LABEL_TRUE) {
                sandboxes.copy_if(|sandbox| !sandbox.is_reserved_failed())
            } else {
                sandboxes.copy()
            }
        })
    }

    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method itself does not fit any lifetime"
    )]
    fn list_checkpoints(
        &self,
        options: ListCheckpointsOptions<'_>,
    ) -> Result<Vec<Arc<Checkpoint>>, LookupError> {
        self.checkpoints().select(
            options.namespace,
            CHECKPOINT_USER,
            given(options.user),
            has_any,
            |checkpoints| checkpoints.copy(),
        )
    }

    fn list_sandboxes_in_pool(
        &self,
        options: ListSandboxesInPoolOptions<'_>,
    ) -> Result<Vec<Arc<Sandbox>>, LookupError> {
        self.sandboxes().select(options.namespace, SANDBOX_POOL, Some(options.pool), has_any, |sandboxes| {
            sandboxes.copy()
        })
    }

    fn count_active_sandboxes(&self, options: ListSandboxesOptions<'_>) -> Result<usize, LookupError> {
        let now = Timestamp::now();
        let active = |sandbox: &Sandbox| {
            let state = sandbox.state(now).kind;
            !sandbox.is_reserved_failed() && !matches!(state, StateKind::Dead | StateKind::Recycling)
        };
        let any = |count: &usize| *count > 0;
        self.sandboxes().select(options.namespace, SANDBOX_USER, given(options.user), any, |sandboxes| {
            let mut count = 0;
            sandboxes.for_each(|sandbox| count += usize::from(active(sandbox)));
            count
        })
    }

    fn list_live_sandboxes_by_owner(&self, user: &str) -> Result<Vec<Arc<Sandbox>>, LookupError> {
        let live = |sandbox: &Sandbox| {
            !sandbox.is_deleting()
                && sandbox.phase() != Some(&SandboxPhase::Terminating)
                && !sandbox.is_recycling()
        };
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

/// Returns `None` for an empty text, so that an empty filter selects everything.
fn given(filter: Option<&str>) -> Option<&str> {
    filter.filter(|text| !text.is_empty())
}

#[expect(clippy::ptr_arg, reason = "passed where a function of the list itself is expected")]
fn has_any<K>(list: &Vec<K>) -> bool {
    !list.is_empty()
}
