//! Decides what follows from the state of a claim (LK1). Pure: no I/O, and no clock but the `now` that it is given.
//!
//! ```text
//!  no phase ──▶ Claiming ──┬── every wanted sandbox is ready ─▶ Completed (AllReplicasClaimed)
//!                          ├── claimTimeout has passed ───────▶ Completed (TimeoutReached) and TimedOut
//!                          └── there is no such set ──────────▶ Completed (SandboxSetNotFound)
//!  Completed ── ttlAfterCompleted has passed ─▶ the claim is deleted, its sandboxes stay
//! ```
//!
//! Invariants: never more sandboxes are asked for than are missing, and a ready sandbox is never discarded. After the
//! completion nothing is claimed or discarded any more.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::{
    CONDITION_COMPLETED, CONDITION_TIMED_OUT, ConditionStatus, GoDuration, REASON_ALL_REPLICAS_CLAIMED,
    SandboxClaim, SandboxClaimPhase, SandboxClaimStatus, Time,
};
use crate::lifecycle::conditions;

/// Reason of the condition `Completed`: the time for claiming is over.
const REASON_TIMEOUT_REACHED: &str = "TimeoutReached";
/// Reason of the condition `TimedOut`.
const REASON_CLAIM_TIMEOUT_REACHED: &str = "ClaimTimeoutReached";
/// Reason of the condition `Completed`: there is no set of the name.
const REASON_SANDBOX_SET_NOT_FOUND: &str = "SandboxSetNotFound";

/// The defaults of the schema, for claims that were stored without them.
const CLAIM_TIMEOUT: Duration = Duration::from_mins(1);
const WAIT_READY_TIMEOUT: Duration = Duration::from_secs(30);

/// What is known of a claim at one instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'v> {
    pub(super) claim: &'v SandboxClaim,
    /// False if the API server has no set of the name.
    pub(super) has_set: bool,
    /// The sandboxes that are claimed for this claim, and for no other of its name.
    pub(super) members: &'v [Member],
    /// Why the last try to claim sandboxes got fewer than it asked for.
    pub(super) shortage: Option<&'v str>,
    pub(super) now: Timestamp,
}

/// A sandbox that is claimed for the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) standing: Standing,
    /// When the sandbox was claimed.
    pub(super) since: Timestamp,
}

/// What a claimed sandbox is for its claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Can be used.
    Ready,
    /// May become ready.
    Waiting,
    /// Will not become ready, for this reason.
    Failed(String),
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decision {
    /// Number of sandboxes to claim.
    pub(super) claim: usize,
    /// The members to remove, by their place in the view, with the reason.
    pub(super) discard: Vec<(usize, String)>,
    /// True if the claim is to be deleted.
    pub(super) delete: bool,
    pub(super) status: SandboxClaimStatus,
    /// Time until something follows without a change.
    pub(super) after: Option<Duration>,
}

impl Decision {
    /// Nothing but this status.
    fn only(status: SandboxClaimStatus) -> Self {
        Self { claim: 0, discard: Vec::new(), delete: false, status, after: None }
    }
}

/// Returns what follows from a view.
pub(super) fn decide(view: &View<'_>) -> Decision {
    let mut status = view.claim.status.clone().unwrap_or_default();
    match view.claim.phase() {
        None | Some(SandboxClaimPhase::Claiming) => {
            status.observed_generation = view.claim.metadata.generation;
            claiming(view, status)
        }
        Some(SandboxClaimPhase::Completed) => completed(view, status),
        // A phase of a later version is left to that version.
        Some(SandboxClaimPhase::Other(_)) => Decision::only(status),
    }
}

/// Returns how many sandboxes the claim is for.
pub(super) fn wanted(claim: &SandboxClaim) -> usize {
    // The minimum of the schema is 1.
    usize::try_from(claim.spec.replicas.unwrap_or(1)).unwrap_or_default()
}

fn claiming(view: &View<'_>, mut status: SandboxClaimStatus) -> Decision {
    let spec = &view.claim.spec;
    let started = status.claim_start_time.get_or_insert_with(|| conditions::seconds(view.now)).timestamp();
    status.phase = Some(SandboxClaimPhase::Claiming);
    let count = Count::of(view);
    let (wanted, deadline) =
        (wanted(view.claim), later(started, timeout(spec.claim_timeout.as_ref(), CLAIM_TIMEOUT)));
    let held = count.ready + count.waiting.len();
    if count.ready >= wanted {
        let message = format!("Successfully claimed {}/{wanted} sandboxes", count.ready);
        let detail = format!("Successfully claimed all {} sandboxes", count.ready);
        complete(&mut status, view, count.ready, (REASON_ALL_REPLICAS_CLAIMED, &detail), message);
        return Decision { discard: count.failed, ..Decision::only(status) };
    }
    if deadline <= view.now {
        return timed_out(view, status, &count);
    }
    if !view.has_set && count.waiting.is_empty() {
        let message = format!("SandboxSet {} not found", set_name(view.claim));
        let detail = message.clone();
        complete(&mut status, view, count.ready, (REASON_SANDBOX_SET_NOT_FOUND, &detail), message);
        return Decision { discard: count.failed, ..Decision::only(status) };
    }
    status.claimed_replicas = Some(number(held));
    let shortage = view.shortage.map_or_else(String::new, |shortage| format!(": {shortage}"));
    status.message = Some(format!("Claiming sandboxes: {held}/{wanted} claimed{shortage}"));
    let next = count.waiting.iter().map(|(_, until)| *until).chain([deadline]).min();
    Decision {
        claim: if view.has_set { wanted.saturating_sub(held) } else { 0 },
        discard: count.failed,
        after: next.map(|next| until(view.now, next)),
        ..Decision::only(status)
    }
}

/// Ends a claim whose time is over. What is not ready by now is removed, so that every sandbox that the claim counts can
/// be used.
fn timed_out(view: &View<'_>, mut status: SandboxClaimStatus, count: &Count) -> Decision {
    let limit = view.claim.spec.claim_timeout.clone().unwrap_or_else(|| CLAIM_TIMEOUT.into());
    let (ready, wanted) = (count.ready, wanted(view.claim));
    let missing = if !view.has_set {
        format!("SandboxSet {} not found", set_name(view.claim))
    } else if count.waiting.is_empty() && count.failed.is_empty() {
        format!("SandboxSet {} has no available sandbox", set_name(view.claim))
    } else {
        format!("{} sandboxes did not become ready", count.waiting.len() + count.failed.len())
    };
    let detail = format!("Timeout after {limit}, claimed {ready}/{wanted}");
    let reason = (REASON_CLAIM_TIMEOUT_REACHED, &*detail);
    let at = (view.claim.metadata.generation, view.now);
    conditions::set(&mut status.conditions, CONDITION_TIMED_OUT, ConditionStatus::True, reason, at);
    let message = format!("Timeout reached after {limit}, claimed {ready}/{wanted} sandboxes: {missing}");
    complete(&mut status, view, ready, (REASON_TIMEOUT_REACHED, &message.clone()), message);
    let late = count.waiting.iter().map(|(place, _)| (*place, format!("not ready within {limit}")));
    let discard = count.failed.iter().cloned().chain(late).collect();
    Decision { discard, ..Decision::only(status) }
}

fn complete(
    status: &mut SandboxClaimStatus,
    view: &View<'_>,
    claimed: usize,
    reason: (&str, &str),
    message: String,
) {
    let at = (view.claim.metadata.generation, view.now);
    conditions::set(&mut status.conditions, CONDITION_COMPLETED, ConditionStatus::True, reason, at);
    status.phase = Some(SandboxClaimPhase::Completed);
    status.completion_time = Some(conditions::seconds(view.now));
    status.claimed_replicas = Some(number(claimed));
    status.message = Some(message);
}

/// A claim that has ended is deleted when its time to live is over. A claim without a time to live is kept, and one
/// with a negative time too.
fn completed(view: &View<'_>, status: SandboxClaimStatus) -> Decision {
    let life = view.claim.spec.ttl_after_completed.as_ref().and_then(GoDuration::non_negative);
    let ended = status.completion_time.as_ref().map(Time::timestamp);
    let mut decision = Decision::only(status);
    if let (Some(life), Some(ended)) = (life, ended) {
        let end = later(ended, life);
        decision.delete = end <= view.now;
        decision.after = (!decision.delete).then(|| until(view.now, end));
    }
    decision
}

/// The members by their standing.
struct Count {
    ready: usize,
    /// Each with the end of its time.
    waiting: Vec<(usize, Timestamp)>,
    failed: Vec<(usize, String)>,
}

impl Count {
    fn of(view: &View<'_>) -> Self {
        let limit = timeout(view.claim.spec.wait_ready_timeout.as_ref(), WAIT_READY_TIMEOUT);
        let mut count = Self { ready: 0, waiting: Vec::new(), failed: Vec::new() };
        for (place, member) in view.members.iter().enumerate() {
            let end = later(member.since, limit);
            match &member.standing {
                Standing::Ready => count.ready += 1,
                Standing::Waiting if end > view.now => count.waiting.push((place, end)),
                Standing::Waiting => {
                    let limit = GoDuration::from(limit);
                    count.failed.push((place, format!("not ready within {limit}")));
                }
                Standing::Failed(reason) => count.failed.push((place, reason.clone())),
            }
        }
        count
    }
}

/// Returns the name of the set of a claim.
pub(super) fn set_name(claim: &SandboxClaim) -> &str {
    claim.spec.template_name.as_deref().unwrap_or_default()
}

/// A negative time is no time: it ends at once.
fn timeout(given: Option<&GoDuration>, default: Duration) -> Duration {
    given.map_or(default, |given| given.non_negative().unwrap_or_default())
}

fn later(instant: Timestamp, by: Duration) -> Timestamp {
    let by = jiff::SignedDuration::try_from(by).unwrap_or(jiff::SignedDuration::MAX);
    instant.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn until(now: Timestamp, then: Timestamp) -> Duration {
    then.duration_since(now).try_into().unwrap_or_default()
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
