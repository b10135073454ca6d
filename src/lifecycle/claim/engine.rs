//! [`Engine::claim_one`]: takes one sandbox of a set for a claim, or creates one.
//!
//! A candidate is an available, unlocked member of the set in the namespace of the claim (OKA #824). The lock is one
//! patch with the resource version of the candidate, which writes everything of the claim. If somebody else was faster,
//! the API server refuses the patch, and the next candidate is tried. So no two claims get one sandbox, whatever
//! processes make them.
//!
//! The runtime in the sandbox (port 49983) is not initialised here.

use std::collections::HashSet;
use std::sync::Arc;

use controller_manager::Context;
use jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use shared_cache::{LookupError, PatchError, ReadError, Reader, SharedCache};
use uuid::Uuid;

use super::mark::{self, mark};
use super::metrics::ClaimMetrics;
use crate::api::v1alpha1::{
    ANNOTATION_LOCK, ANNOTATION_SANDBOX_PRIORITY, LABEL_TEMPLATE_HASH, Sandbox, SandboxClaim, SandboxSet,
    StateKind, annotation, label,
};
use crate::cache::indexes::SANDBOX_SET;
use crate::lifecycle::sandbox_set::blueprint;

/// Number of candidates that one claim tries. The view of the cache is too old then.
const MAX_TRIES: usize = 20;

/// The priority of sandboxes that a claim creates, as OpenKruise Agents writes it.
const PRIORITY: &str = "100";

/// What a claim of one sandbox has led to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The sandbox was taken from the pool.
    Claimed(Arc<Sandbox>),
    /// The sandbox was created, because the pool had none.
    Created(Arc<Sandbox>),
    /// The pool has no sandbox for the claim now.
    NoStock,
}

/// Why the API server has no sandbox for a claim.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimError {
    /// The cache cannot answer.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The API server refused to lock a sandbox.
    #[error(transparent)]
    Lock(#[from] PatchError),
    /// The API server refused to create a sandbox.
    #[error("creating a sandbox")]
    Create(#[source] kube::Error),
    /// The cache would not show the sandbox any more, so the claim would never count it.
    #[error("the labels of a claimed sandbox do not match sandboxLabelSelector")]
    OutOfScope,
    /// It is not known whether the sandbox was claimed.
    #[error("sandbox {name} may be claimed: {reason}")]
    Unknown {
        /// Name of the sandbox.
        name: String,
        /// The id that the claim has written, if the sandbox was claimed.
        lock: String,
        /// Why the outcome is not known.
        reason: ReadError,
    },
}

/// Claims sandboxes. Shared by all claims of the process, so that no two of them try one candidate.
pub(super) struct Engine {
    cache: SharedCache,
    sandboxes: Reader<Sandbox>,
    metrics: ClaimMetrics,
    /// UIDs of the candidates that are being tried.
    tried: Mutex<HashSet<String>>,
}

impl Engine {
    pub(super) fn new(context: &Context, metrics: ClaimMetrics) -> Self {
        let cache = context.cache().clone();
        Self { sandboxes: cache.reader(), cache, metrics, tried: Mutex::default() }
    }

    /// Claims one sandbox of the set.
    ///
    /// # Errors
    ///
    /// [`ClaimError`]. Only after [`ClaimError::Unknown`] a sandbox may be claimed.
    pub(super) async fn claim_one(
        &self,
        set: &SandboxSet,
        claim: &SandboxClaim,
    ) -> Result<Outcome, ClaimError> {
        let outcome = self.take_or_create(set, claim).await;
        let result = match &outcome {
            Ok(Outcome::Claimed(_)) => &self.metrics.taken,
            Ok(Outcome::Created(_)) => &self.metrics.created,
            Ok(Outcome::NoStock) => &self.metrics.no_stock,
            Err(_) => &self.metrics.error,
        };
        result.inc();
        outcome
    }

    async fn take_or_create(&self, set: &SandboxSet, claim: &SandboxClaim) -> Result<Outcome, ClaimError> {
        // Candidates that somebody else has changed since the cache saw them, or that the cache would not show any more.
        let mut unfit = HashSet::new();
        let mut is_out_of_scope = false;
        while unfit.len() < MAX_TRIES {
            let Some(candidate) = self.candidate(set, &unfit)? else { break };
            let uid = candidate.metadata.uid.clone().unwrap_or_default();
            let _trying = Trying { engine: self, uid: uid.clone() };
            if !self.stays_in_scope(&candidate, claim) {
                is_out_of_scope = true;
                unfit.insert(uid);
                continue;
            }
            if let Some(claimed) = self.lock(&candidate, claim).await? {
                return Ok(Outcome::Claimed(claimed));
            }
            self.metrics.conflict.inc();
            unfit.insert(uid);
        }
        if claim.spec.create_on_no_stock.unwrap_or(true) {
            return Ok(Outcome::Created(self.create(set, claim).await?));
        }
        if is_out_of_scope { Err(ClaimError::OutOfScope) } else { Ok(Outcome::NoStock) }
    }

    /// Returns true if the cache shows the sandbox after the claim. Otherwise the claim would not count the sandbox, and
    /// would claim another one again and again.
    fn stays_in_scope(&self, sandbox: &Sandbox, claim: &SandboxClaim) -> bool {
        let labels = mark::labels(sandbox.metadata.labels.clone().unwrap_or_default(), claim);
        self.cache.selects_labels::<Sandbox>(&labels)
    }

    /// Returns a candidate that no other claim of this process tries, and marks it as tried. Candidates of the current
    /// template go first.
    fn candidate(
        &self,
        set: &SandboxSet,
        unfit: &HashSet<String>,
    ) -> Result<Option<Arc<Sandbox>>, LookupError> {
        let now = Timestamp::now();
        let set_uid = set.metadata.uid.as_deref().unwrap_or_default();
        let mut tried = self.tried.lock();
        let revision = set.status.as_ref().and_then(|status| status.update_revision.as_deref());
        for of_revision in [revision, None] {
            let suits = |sandbox: &Sandbox| {
                let uid = sandbox.metadata.uid.as_deref().unwrap_or_default();
                let hash = label(&sandbox.metadata, LABEL_TEMPLATE_HASH);
                of_revision.is_none_or(|revision| hash == Some(revision))
                    && sandbox.metadata.namespace == set.metadata.namespace
                    && is_free(sandbox, now)
                    && !tried.contains(uid)
                    && !unfit.contains(uid)
                    && self.cache.is_satisfied(sandbox).is_satisfied()
            };
            if let Some(found) = self.sandboxes.find(SANDBOX_SET, set_uid, suits)? {
                tried.insert(found.metadata.uid.clone().unwrap_or_default());
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Locks a candidate. Returns none if somebody else has changed it.
    async fn lock(
        &self,
        candidate: &Arc<Sandbox>,
        claim: &SandboxClaim,
    ) -> Result<Option<Arc<Sandbox>>, ClaimError> {
        let lock = Uuid::new_v4().to_string();
        let now = Timestamp::now();
        let locked =
            self.cache.patch(candidate, |sandbox| mark(sandbox, claim, &lock, now)).if_unchanged().await;
        match locked {
            Ok(locked) => Ok(Some(locked)),
            Err(error) if error.is_outdated() => Ok(None),
            // The claim would overwrite what the cache cannot read of this candidate.
            Err(PatchError::Unread { .. }) => Ok(None),
            Err(error) if may_be_written(&error) => self.look(candidate, &lock).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a sandbox of the set that is claimed from the beginning. Its name is chosen here, so that a creation whose
    /// answer is lost can be looked up.
    async fn create(&self, set: &SandboxSet, claim: &SandboxClaim) -> Result<Arc<Sandbox>, ClaimError> {
        let lock = Uuid::new_v4().to_string();
        let revision = set.status.as_ref().and_then(|status| status.update_revision.as_deref());
        let mut sandbox = blueprint::prototype(set, revision.unwrap_or_default());
        if !self.stays_in_scope(&sandbox, claim) {
            return Err(ClaimError::OutOfScope);
        }
        sandbox.metadata.name = Some(blueprint::new_name(set));
        let annotations = sandbox.metadata.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION_SANDBOX_PRIORITY.to_owned(), PRIORITY.to_owned());
        if let Some(runtimes) = &claim.spec.runtimes {
            sandbox.spec.runtimes = Some(runtimes.clone().into());
        }
        mark(&mut sandbox, claim, &lock, Timestamp::now());
        let api = Api::namespaced(self.cache.client().clone(), set.namespace_or_empty());
        match api.create(&PostParams::default(), &sandbox).await {
            Ok(created) => {
                self.cache.expect(&created);
                Ok(Arc::new(created))
            }
            Err(kube::Error::Api(status)) if status.code < 500 => {
                Err(ClaimError::Create(kube::Error::Api(status)))
            }
            Err(error) => self.look(&sandbox, &lock).await?.ok_or(ClaimError::Create(error)),
        }
    }

    /// Looks whether a write whose answer is lost has claimed the sandbox.
    async fn look(&self, sandbox: &Sandbox, lock: &str) -> Result<Option<Arc<Sandbox>>, ClaimError> {
        let name = sandbox.name_or_empty();
        let live = self.cache.api_reader().get::<Sandbox>(sandbox.namespace_or_empty(), name).await;
        match live {
            Ok(live) => Ok(live.filter(|live| holds(live, lock)).inspect(|live| self.cache.expect(&**live))),
            Err(reason) => Err(ClaimError::Unknown { name: name.to_owned(), lock: lock.to_owned(), reason }),
        }
    }
}

/// A candidate that is being tried. Others may try it when this is dropped.
struct Trying<'e> {
    engine: &'e Engine,
    uid: String,
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        self.engine.tried.lock().remove(&self.uid);
    }
}

/// Returns true if the sandbox has this lock.
pub(super) fn holds(sandbox: &Sandbox, lock: &str) -> bool {
    annotation(&sandbox.metadata, ANNOTATION_LOCK) == Some(lock)
}

/// Returns true if a claim may take the sandbox: it is an available member of a set, and nobody has claimed or locked it.
pub(super) fn is_free(sandbox: &Sandbox, now: Timestamp) -> bool {
    sandbox.state(now).kind == StateKind::Available && sandbox.is_free_member(now)
}

/// Returns true if the API server may have written the patch.
fn may_be_written(error: &PatchError) -> bool {
    match error {
        PatchError::Transport { .. } | PatchError::Timeout { .. } | PatchError::Decode { .. } => true,
        PatchError::Status { status, .. } => status.code >= 500,
        _ => false,
    }
}
