//! Executes a decision: claims sandboxes, gives up failed ones, writes the status, deletes the claim.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use controller_manager::HandlerError;
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream;
use shared_cache::{SharedCache, error_text};
use tokio::time::Instant;

use super::decide::{Discard, set_name};
use super::unseen::{Unseen, Write};
use crate::api::v1alpha1::{ANNOTATION_READY_FOR_CLAIM, Sandbox, SandboxClaim, SandboxClaimStatus};
use crate::claims::{
    ClaimError, ClaimRequest, Claims, LockType, LostLock, Step, WriteOutcome, clear_pending, pending_init,
    try_initialise,
};
use crate::lifecycle::requests::delete_unchanged;

/// Number of requests that one claim sends at the same time.
const PARALLEL: usize = 16;

/// How often a mark is written that meets other changes of the sandbox.
const MARK_TRIES: usize = 5;

/// How long one reconcile begins to claim sandboxes, so that the status of a large claim is written in between, and other
/// claims have their turn. Only the limit of creations makes a reconcile take so long.
const ROUND: Duration = Duration::from_secs(2);

/// What the claims of a decision have led to.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Number of sandboxes from the pool.
    pub(super) taken: usize,
    /// Number of sandboxes that were created.
    pub(super) created: usize,
    /// Why there are fewer than asked for.
    pub(super) shortage: Option<(Lack, String)>,
}

/// What a claim lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lack {
    /// The pool has no sandbox for the claim now.
    Stock,
    /// The claim has to wait for its turn: only so many sandboxes are created per second.
    Turn,
    /// The API server has refused a request, or has not answered.
    Refused,
}

/// Claims this many sandboxes, some at a time. Each write is noted before the next reconcile can miss it. After the first
/// try that gets none, no other one begins: the next try would most likely get none either, and other claims wait. The
/// locks whose answer was lost go first.
pub(super) async fn claim(
    claims: &Claims,
    unseen: &Unseen,
    claim: &SandboxClaim,
    request: ClaimRequest,
    count: usize,
) -> Made {
    let uid = claim.metadata.uid.as_deref().unwrap_or_default();
    let (mut made, end) = (Made::default(), Instant::now() + ROUND);
    let is_over = AtomicBool::new(false);
    let attempt = async |lost: Option<LostLock>| {
        if is_over.load(Ordering::Relaxed) {
            return None;
        }
        if Instant::now() >= end {
            return Some(Err((Lack::Turn, "waiting for its turn".to_owned())));
        }
        let request = lost.into_iter().fold(request.clone(), ClaimRequest::again);
        let claimed = claims.claim(request).await;
        is_over.fetch_or(claimed.is_err(), Ordering::Relaxed);
        Some(claimed.map_err(|error| lack(error, claim, unseen)))
    };
    let tries = unseen.lost(uid).into_iter().map(Some).chain(iter::repeat(None)).take(count);
    let mut outcomes = stream::iter(tries).map(attempt).buffer_unordered(PARALLEL);
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            None => {}
            Some(Ok(claimed)) => {
                match claimed.lock_type {
                    LockType::Update => made.taken += 1,
                    LockType::Create => made.created += 1,
                }
                unseen.add(uid, Write::Known(claimed.sandbox));
            }
            // The others go on: a claim that is dropped half-way may have been written.
            Some(Err(lack)) => {
                made.shortage = made.shortage.take().filter(|known| known.0 > lack.0).or(Some(lack));
            }
        }
    }
    made
}

/// Returns what a claim lacks that got no sandbox. A lock whose answer is lost is noted.
fn lack(error: ClaimError, claim: &SandboxClaim, unseen: &Unseen) -> (Lack, String) {
    match error {
        ClaimError::NoStock { .. } => {
            (Lack::Stock, format!("SandboxSet {} has no available sandbox", set_name(claim)))
        }
        ClaimError::Timeout { step: Step::Lock, reason, .. } => (Lack::Turn, reason),
        ClaimError::Unavailable { outcome: WriteOutcome::Unknown { sandbox, lock: Some(lost) }, cause } => {
            unseen.add(claim.metadata.uid.as_deref().unwrap_or_default(), Write::Unknown(*lost));
            (Lack::Refused, format!("sandbox {} may be claimed: {cause}", sandbox.name))
        }
        error => (Lack::Refused, error.to_string()),
    }
}

/// What has become of a sandbox that its claim gives up.
#[derive(Debug)]
pub(super) enum Settled {
    /// The sandbox is gone.
    Deleted,
    /// The sandbox is kept for inspection, and no longer belongs to the claim.
    Kept(Arc<Sandbox>),
    /// The sandbox has changed meanwhile. This is the new state, about which nothing is decided yet.
    Changed(Arc<Sandbox>),
    /// The API server refuses for another reason than a change of the sandbox. This is its answer.
    Refused(String),
}

/// Gives up sandboxes, some at a time. Returns what has become of each, in the same order: a refusal of one of them must
/// not keep the others, nor the status of the claim, as they are.
pub(super) async fn give_up_all(
    cache: &SharedCache,
    discards: &[Discard],
    members: &[Arc<Sandbox>],
) -> Vec<Settled> {
    let all: Vec<_> =
        discards.iter().map(|discard| give_up(cache, discard, &members[discard.place])).collect();
    let refused = |error: HandlerError| Settled::Refused(error_text(&*error));
    stream::iter(all).buffered(PARALLEL).map(|settled| settled.unwrap_or_else(refused)).collect().await
}

/// Removes a sandbox that its claim cannot use, or keeps it for inspection.
async fn give_up(
    cache: &SharedCache,
    discard: &Discard,
    sandbox: &Arc<Sandbox>,
) -> Result<Settled, HandlerError> {
    if discard.is_kept {
        match cache.patch(sandbox, Sandbox::reserve_failed).if_unchanged().await {
            Ok(reserved) => return Ok(Settled::Kept(reserved)),
            Err(error) if error.is_outdated() => {}
            Err(error) => return Err(error.into()),
        }
    } else if delete_unchanged(cache, &**sandbox).await? {
        return Ok(Settled::Deleted);
    }
    let live = live_again(cache, sandbox).await?;
    Ok(live.map_or(Settled::Deleted, Settled::Changed))
}

/// What has become of the try to initialise a runtime.
#[derive(Debug)]
pub(super) enum Initialised {
    /// The runtime has answered, and the sandbox is marked.
    Marked(Arc<Sandbox>),
    /// The runtime has not answered as it must, for this reason.
    Failed(String),
    /// The sandbox has changed meanwhile, so it is unknown whether this is still the runtime. This is the new state.
    Changed(Option<Arc<Sandbox>>),
    /// The API server refuses the mark. This is its answer.
    Refused(String),
}

/// Initialises the runtimes of these sandboxes, all at the same time, in one try of at most a second, and marks those
/// that have answered. Returns what has become of each, in the same order.
pub(super) async fn initialise_all(
    cache: &SharedCache,
    claim: &SandboxClaim,
    sandboxes: &[&Arc<Sandbox>],
) -> Vec<Initialised> {
    let refused = |error: HandlerError| Initialised::Refused(error_text(&*error));
    let initialise = async |sandbox: &Arc<Sandbox>| match try_initialise(sandbox).await {
        Ok(()) => mark_initialised(cache, claim, sandbox).await.unwrap_or_else(refused),
        Err(reason) => Initialised::Failed(reason),
    };
    join_all(sandboxes.iter().map(|sandbox| initialise(sandbox))).await
}

/// Marks a sandbox whose runtime has answered. Its controller writes it just after a claim, so the mark is tried again
/// while the pod is the same.
async fn mark_initialised(
    cache: &SharedCache,
    claim: &SandboxClaim,
    sandbox: &Arc<Sandbox>,
) -> Result<Initialised, HandlerError> {
    let mut current = Arc::clone(sandbox);
    for _ in 0..MARK_TRIES {
        if let Some(marked) = mark_ready(cache, claim, &current).await? {
            return Ok(Initialised::Marked(marked));
        }
        let Some(live) = live_again(cache, sandbox).await? else { return Ok(Initialised::Changed(None)) };
        current = live;
        let is_same = current.is_ready()
            && current.pod_ip() == sandbox.pod_ip()
            && pending_init(&current) == pending_init(sandbox);
        if !is_same {
            break;
        }
    }
    Ok(Initialised::Changed(Some(current)))
}

/// Reads the present state of a sandbox from the API server. None if it is gone.
async fn live_again(cache: &SharedCache, sandbox: &Sandbox) -> Result<Option<Arc<Sandbox>>, HandlerError> {
    let (namespace, name) = (sandbox.namespace_or_empty(), sandbox.name_or_empty());
    let live = cache.api_reader().get::<Sandbox>(namespace, name).await?;
    Ok(live.filter(|live| live.metadata.uid == sandbox.metadata.uid))
}

/// Marks a sandbox as ready for its claim. Returns none if the sandbox has changed meanwhile, which leads to a new
/// decision.
///
/// # Errors
///
/// If the API server refuses for another reason.
pub(super) async fn mark_ready(
    cache: &SharedCache,
    claim: &SandboxClaim,
    sandbox: &Arc<Sandbox>,
) -> Result<Option<Arc<Sandbox>>, HandlerError> {
    let uid = claim.metadata.uid.clone().unwrap_or_default();
    let mark = |sandbox: &mut Sandbox| {
        let annotations = sandbox.metadata.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION_READY_FOR_CLAIM.to_owned(), uid);
        clear_pending(sandbox);
    };
    match cache.patch(sandbox, mark).if_unchanged().await {
        Ok(marked) => Ok(Some(marked)),
        Err(error) if error.is_outdated() => Ok(None),
        Err(error) => Err(error.into()),
    }
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
