//! Executes a decision: claims sandboxes, removes failed ones, writes the status, deletes the claim.

use std::sync::Arc;

use controller_manager::HandlerError;
use futures::StreamExt as _;
use futures::stream;
use shared_cache::{ObjectKey, SharedCache, error_text};

use super::decide::set_name;
use super::engine::{ClaimError, Engine, Outcome};
use super::unseen::{Unseen, Write};
use crate::api::v1alpha1::{
    LABEL_RESERVED_FAILED_SANDBOX, LABEL_TRUE, Sandbox, SandboxClaim, SandboxClaimStatus, SandboxSet,
};
use crate::lifecycle::requests::delete_unchanged;

/// Number of sandboxes that one claim claims at the same time.
const PARALLEL: usize = 16;

/// What the claims of a decision have led to.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Number of sandboxes from the pool.
    pub(super) taken: usize,
    /// Number of sandboxes that were created.
    pub(super) created: usize,
    /// Why there are fewer than asked for.
    pub(super) shortage: Option<String>,
    /// True if the API server has refused a request.
    pub(super) is_refused: bool,
}

/// Claims this many sandboxes, some at a time. Each write is noted before the next reconcile can miss it.
///
/// # Errors
///
/// If the cache cannot answer.
pub(super) async fn claim(
    engine: &Engine,
    unseen: &Unseen,
    (set, claim): (&SandboxSet, &SandboxClaim),
    count: usize,
) -> Result<Claims, HandlerError> {
    let uid = claim.metadata.uid.as_deref().unwrap_or_default();
    let (mut claims, mut unanswered) = (Claims::default(), None);
    let mut outcomes =
        stream::iter(0..count).map(|_| engine.claim_one(set, claim)).buffer_unordered(PARALLEL);
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Ok(Outcome::Claimed(sandbox)) => {
                claims.taken += 1;
                unseen.add(uid, Write::Known(sandbox));
            }
            Ok(Outcome::Created(sandbox)) => {
                claims.created += 1;
                unseen.add(uid, Write::Known(sandbox));
            }
            Ok(Outcome::NoStock) => {
                let shortage = || format!("SandboxSet {} has no available sandbox", set_name(claim));
                claims.shortage.get_or_insert_with(shortage);
            }
            // The others go on: a claim that is dropped half-way may have been written.
            Err(ClaimError::Lookup(error)) => unanswered = Some(error),
            Err(error) => {
                if let ClaimError::Unknown { name, lock, .. } = &error {
                    let key = ObjectKey::new(claim.namespace_or_empty(), name.as_str());
                    unseen.add(uid, Write::Unknown { key, lock: lock.clone() });
                }
                claims.is_refused = true;
                claims.shortage = Some(error_text(&error));
            }
        }
    }
    unanswered.map_or(Ok(claims), |error| Err(error.into()))
}

/// Removes a sandbox that its claim cannot use, or keeps it for inspection if the claim asks for that. Nothing happens if
/// the sandbox has changed meanwhile: the change leads to a new decision.
///
/// # Errors
///
/// If the API server refuses for another reason.
pub(super) async fn discard(
    cache: &SharedCache,
    claim: &SandboxClaim,
    sandbox: &Arc<Sandbox>,
) -> Result<(), HandlerError> {
    if claim.spec.reserve_failed_sandbox == Some(true) {
        let reserve = |sandbox: &mut Sandbox| {
            let labels = sandbox.metadata.labels.get_or_insert_default();
            labels.insert(LABEL_RESERVED_FAILED_SANDBOX.to_owned(), LABEL_TRUE.to_owned());
        };
        return match cache.patch(sandbox, reserve).if_unchanged().await {
            Err(error) if !error.is_outdated() => Err(error.into()),
            _ => Ok(()),
        };
    }
    delete_unchanged(cache, &**sandbox).await
}

/// Writes the status if it has changed. Returns false if the claim has changed meanwhile, which leads to a new decision.
///
/// # Errors
///
/// If the API server refuses for another reason.
pub(super) async fn write_status(
    cache: &SharedCache,
    claim: &mut Arc<SandboxClaim>,
    status: SandboxClaimStatus,
) -> Result<bool, HandlerError> {
    match cache.patch(claim, |claim| claim.status = Some(status)).status().if_unchanged().await {
        Ok(written) => {
            *claim = written;
            Ok(true)
        }
        Err(error) if error.is_outdated() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
