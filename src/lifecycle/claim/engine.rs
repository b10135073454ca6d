//! [`Engine::claim_one`]: takes one sandbox of a set for a claim, or creates one.
//!
//! A candidate is an available, unlocked member of the set in the namespace of the claim (OKA #824). The lock is one
//! patch with the resource version of the candidate, which writes everything of the claim. If somebody else was faster,
//! the API server refuses the patch, and the next candidate is tried. So no two claims get one sandbox, whatever
//! processes make them. A request whose answer is lost may be carried out later, so the next try repeats it
//! ([`Lost`]).
//!
//! The runtime in the sandbox (port 49983) is not initialised here.

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;

use controller_manager::{Context, HandlerError};
use jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use shared_cache::{LookupError, PatchError, Reader, SharedCache, error_text};
use uuid::Uuid;

use super::lost::{Fate, Lost};
use super::mark::{self, mark};
use super::metrics::ClaimMetrics;
use crate::api::v1alpha1::{
    ANNOTATION_SANDBOX_PRIORITY, LABEL_TEMPLATE_HASH, Sandbox, SandboxClaim, SandboxSet, StateKind, label,
};
use crate::cache::indexes::SANDBOX_SET;
use crate::lifecycle::requests::{REQUEST_TIMEOUT, no_answer};
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
    Create(#[source] HandlerError),
    /// The cache would not show the sandbox any more, so the claim would never count it.
    #[error("the labels of a claimed sandbox do not match sandboxLabelSelector")]
    OutOfScope,
    /// It is not known whether the sandbox was claimed.
    #[error("sandbox {} may be claimed: {reason}", .lost.sandbox.name_or_empty())]
    Unknown {
        /// The request.
        lost: Lost,
        /// Why the outcome is not known.
        reason: String,
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

    /// Claims one sandbox of the set. `lost` is an earlier try whose outcome is not known.
    ///
    /// # Errors
    ///
    /// [`ClaimError`]. Only after [`ClaimError::Unknown`] a sandbox may be claimed.
    pub(super) async fn claim_one(
        &self,
        set: &SandboxSet,
        claim: &SandboxClaim,
        lost: Option<Lost>,
    ) -> Result<Outcome, ClaimError> {
        let outcome = self.take_or_create(set, claim, lost).await;
        let result = match &outcome {
            Ok(Outcome::Claimed(_)) => &self.metrics.taken,
            Ok(Outcome::Created(_)) => &self.metrics.created,
            Ok(Outcome::NoStock) => &self.metrics.no_stock,
            Err(_) => &self.metrics.error,
        };
        result.inc();
        outcome
    }

    async fn take_or_create(
        &self,
        set: &SandboxSet,
        claim: &SandboxClaim,
        lost: Option<Lost>,
    ) -> Result<Outcome, ClaimError> {
        if let Some(lost) = lost
            && let Some(outcome) = self.repeat(lost, claim).await?
        {
            return Ok(outcome);
        }
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
            if let Some(claimed) = self.lock(&candidate, claim, None).await? {
                return Ok(Outcome::Claimed(claimed));
            }
            self.metrics.conflict.inc();
            unfit.insert(uid);
        }
        if creates(claim) {
            let created = self.create(new_sandbox(set), claim, Uuid::new_v4().to_string()).await?;
            return Ok(Outcome::Created(created));
        }
        if is_out_of_scope { Err(ClaimError::OutOfScope) } else { Ok(Outcome::NoStock) }
    }

    /// Sends a request again whose answer was lost. Returns none if the sandbox is not for the claim any more.
    async fn repeat(&self, lost: Lost, claim: &SandboxClaim) -> Result<Option<Outcome>, ClaimError> {
        if !self.stays_in_scope(&lost.sandbox, claim) {
            return Ok(None);
        }
        if !lost.is_creation() {
            return Ok(self.lock(&lost.sandbox, claim, Some(lost.lock)).await?.map(Outcome::Claimed));
        }
        if !creates(claim) {
            return Ok(None);
        }
        let created = self.create(Sandbox::clone(&lost.sandbox), claim, lost.lock).await?;
        Ok(Some(Outcome::Created(created)))
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

    /// Locks a candidate. Returns none if somebody else has changed it. `lost` is the id of an earlier request whose
    /// answer is lost.
    async fn lock(
        &self,
        candidate: &Arc<Sandbox>,
        claim: &SandboxClaim,
        lost: Option<String>,
    ) -> Result<Option<Arc<Sandbox>>, ClaimError> {
        let is_repeated = lost.is_some();
        let lock = lost.unwrap_or_else(|| Uuid::new_v4().to_string());
        let now = Timestamp::now();
        let locked =
            self.cache.patch(candidate, |sandbox| mark(sandbox, claim, &lock, now)).if_unchanged().await;
        match locked {
            Ok(locked) => Ok(Some(locked)),
            Err(error) if error.is_outdated() && !is_repeated => Ok(None),
            // The claim would overwrite what the cache cannot read of this candidate.
            Err(PatchError::Unread { .. }) => Ok(None),
            // The earlier request may be what has changed it.
            Err(error) if error.is_outdated() || may_be_written(&error) => {
                self.look(Lost::new(Arc::clone(candidate), lock), &error).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a sandbox that is claimed from the beginning. Its name was chosen before, so that a creation whose answer
    /// is lost can be looked up and repeated.
    async fn create(
        &self,
        mut sandbox: Sandbox,
        claim: &SandboxClaim,
        lock: String,
    ) -> Result<Arc<Sandbox>, ClaimError> {
        if !self.stays_in_scope(&sandbox, claim) {
            return Err(ClaimError::OutOfScope);
        }
        if let Some(runtimes) = &claim.spec.runtimes {
            sandbox.spec.runtimes = Some(runtimes.clone().into());
        }
        mark(&mut sandbox, claim, &lock, Timestamp::now());
        let api = Api::namespaced(self.cache.client().clone(), sandbox.namespace_or_empty());
        let parameters = PostParams::default();
        let request = api.create(&parameters, &sandbox);
        let error: HandlerError = match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
            Ok(Ok(created)) => {
                self.cache.expect(&created);
                return Ok(Arc::new(created));
            }
            // An earlier request for the same sandbox may be the one that has created it.
            Ok(Err(kube::Error::Api(status))) if status.code < 500 && !status.is_already_exists() => {
                return Err(ClaimError::Create(kube::Error::Api(status).into()));
            }
            Ok(Err(error)) => error.into(),
            Err(_) => no_answer("creation"),
        };
        let lost = Lost::new(Arc::new(sandbox), lock);
        self.look(lost, &*error).await?.ok_or(ClaimError::Create(error))
    }

    /// Looks whether a request whose answer is lost has claimed the sandbox. Returns none if it has not, and will not.
    async fn look(
        &self,
        lost: Lost,
        error: &(dyn Error + Send + Sync + 'static),
    ) -> Result<Option<Arc<Sandbox>>, ClaimError> {
        match lost.fate(&self.cache).await {
            Ok(Fate::Done(claimed)) => Ok(Some(claimed)),
            Ok(Fate::Void) => Ok(None),
            Ok(Fate::Open) => Err(ClaimError::Unknown { lost, reason: error_text(error) }),
            Err(unread) => Err(ClaimError::Unknown { lost, reason: error_text(&unread) }),
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

/// Returns a new sandbox of the current template of the set.
fn new_sandbox(set: &SandboxSet) -> Sandbox {
    let revision = set.status.as_ref().and_then(|status| status.update_revision.as_deref());
    let mut sandbox = blueprint::prototype(set, revision.unwrap_or_default());
    sandbox.metadata.name = Some(blueprint::new_name(set));
    let annotations = sandbox.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_SANDBOX_PRIORITY.to_owned(), PRIORITY.to_owned());
    sandbox
}

/// Returns true if the claim creates sandboxes when none is free.
fn creates(claim: &SandboxClaim) -> bool {
    claim.spec.create_on_no_stock.unwrap_or(true)
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
