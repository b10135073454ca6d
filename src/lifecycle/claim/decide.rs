//! Decides what follows from the state of a claim (LK1). Pure: no I/O, and no clock but the `now` that it is given.
//!
//! ```text
//!  no phase ──▶ Claiming ──┬── every wanted sandbox was ready ─▶ Completed (AllReplicasClaimed)
//!                          ├── shutdownTime has passed ────────▶ Completed (ShutdownTimeReached)
//!                          ├── claimTimeout has passed ────────▶ Completed (TimeoutReached) and TimedOut
//!                          ├── there is no such set ───────────▶ Completed (SandboxSetNotFound)
//!                          └── too many sandboxes have failed ─▶ Completed (SandboxesKeepFailing)
//!  Completed ── ttlAfterCompleted has passed ─▶ the claim is deleted, its sandboxes stay
//! ```
//!
//! Invariants: never more sandboxes are asked for than are missing. A sandbox that was ready since its claim is never
//! removed. After the completion nothing is claimed or given up any more: a completion is written only when a decision
//! gives up nothing. What the API server refuses to give up holds the completion until `claimTimeout`, and not longer.

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
/// Reason of the condition `Completed`: the claimed sandboxes would be shut down at once.
const REASON_SHUTDOWN_TIME_REACHED: &str = "ShutdownTimeReached";
/// Reason of the condition `Completed`: more sandboxes have failed than [`SPARE_FAILURES`] allows.
const REASON_SANDBOXES_KEEP_FAILING: &str = "SandboxesKeepFailing";

/// Number of sandboxes beyond the wanted ones that may fail. A claim that no sandbox can satisfy must not eat the pool.
const SPARE_FAILURES: usize = 5;

/// How long it is tried at least to give up a sandbox, before a claim whose time is over ends without that. The refusal
/// may be a short outage, and nobody tries later.
const LEAST_REFUSED: Duration = Duration::from_secs(5);

/// Number of sandboxes that a message names.
const NAMED: usize = 5;

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
    /// Why the runtime of a sandbox is not initialised after a try.
    pub(super) uninitialised: Option<&'v str>,
    /// The sandboxes that were given up before.
    pub(super) failures: Failures<'v>,
    /// Time until a refused request may be tried again.
    pub(super) pause: Option<Duration>,
    pub(super) now: Timestamp,
}

/// The sandboxes that a claim has given up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failures<'v> {
    pub(super) count: usize,
    /// What was wrong with the last one.
    pub(super) last: &'v str,
}

/// A sandbox that is claimed for the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) standing: Standing,
    /// When the sandbox was claimed.
    pub(super) since: Timestamp,
    /// True if the sandbox must be marked, because its status will not always show that it was ready.
    pub(super) is_unmarked: bool,
    /// Set if the sandbox could not be given up.
    pub(super) refusal: Option<Refusal>,
}

/// The API server refuses to give up a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Name of the sandbox.
    pub(super) name: String,
    /// The last answer.
    pub(super) answer: String,
    /// When it was refused for the first time.
    pub(super) since: Timestamp,
}

/// What a claimed sandbox is for its claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Was ready since its claim, and has not ended. It counts, whether it is ready now or not.
    Ready,
    /// May become ready.
    Waiting,
    /// Runs, and its runtime is not initialised yet. It may be tried after this time.
    Uninitialised(Duration),
    /// Will not become ready, for this reason.
    Failed(String),
    /// Was ready since its claim, and has ended for this reason.
    Ended(String),
}

/// A member that the claim gives up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Discard {
    /// Its place in the view.
    pub(super) place: usize,
    pub(super) reason: String,
    /// True if the sandbox is kept for inspection.
    pub(super) is_kept: bool,
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decision {
    /// Number of sandboxes to claim.
    pub(super) claim: usize,
    /// The members to give up.
    pub(super) discard: Vec<Discard>,
    /// The members whose runtime is to be initialised now, by their place in the view. They are marked as ready then.
    pub(super) initialise: Vec<usize>,
    /// The members to mark as ready, by their place in the view.
    pub(super) mark: Vec<usize>,
    /// True if the claim is to be deleted.
    pub(super) delete: bool,
    pub(super) status: SandboxClaimStatus,
    /// Time until something follows without a change.
    pub(super) after: Option<Duration>,
}

impl Decision {
    /// Nothing but this status.
    fn only(status: SandboxClaimStatus) -> Self {
        Self {
            claim: 0,
            discard: Vec::new(),
            initialise: Vec::new(),
            mark: Vec::new(),
            delete: false,
            status,
            after: None,
        }
    }
}

/// Returns what follows from a view.
pub(super) fn decide(view: &View<'_>) -> Decision {
    let mut status = view.claim.status.clone().unwrap_or_default();
    match view.claim.phase() {
        None | Some(SandboxClaimPhase::Claiming) => {
            status.observed_generation = view.claim.metadata.generation;
            without_refused(view, claiming(view, status))
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
    status.claim_start_time.get_or_insert_with(|| Time::whole_seconds(view.now));
    status.phase = Some(SandboxClaimPhase::Claiming);
    let count = Count::of(view);
    let (wanted, held) = (wanted(view.claim), count.ready + count.waiting.len());
    let deadline = deadline(view, &status);
    let shutdown = spec.shutdown_time.as_ref().map(Time::timestamp);
    if count.ready >= wanted {
        let message = format!("Successfully claimed {}/{wanted} sandboxes", count.ready);
        let detail = format!("Successfully claimed all {} sandboxes", count.ready);
        complete(&mut status, view, count.ready, (REASON_ALL_REPLICAS_CLAIMED, &detail), message);
        // A claim whose answer was lost may have taken one too many.
        let surplus = |(place, _): &(usize, Timestamp)| Discard {
            place: *place,
            reason: "the claim has enough sandboxes without it".to_owned(),
            is_kept: false,
        };
        let discard = count.waiting.iter().map(surplus).chain(count.failed).collect();
        return Decision { discard, ..Decision::only(status) };
    }
    if let Some(time) = spec.shutdown_time.as_ref().filter(|_| shutdown.is_some_and(|at| at <= view.now)) {
        let message = format!("shutdownTime {time} has passed, claimed {}/{wanted} sandboxes", count.ready);
        return ended(view, status, count, REASON_SHUTDOWN_TIME_REACHED, message);
    }
    if deadline <= view.now {
        return timed_out(view, status, count);
    }
    if !view.has_set && count.waiting.is_empty() {
        let message = format!(
            "SandboxSet {} not found, claimed {}/{wanted} sandboxes",
            set_name(view.claim),
            count.ready
        );
        return ended(view, status, count, REASON_SANDBOX_SET_NOT_FOUND, message);
    }
    let failures = view.failures.count + count.failed.len();
    let spare = (wanted + SPARE_FAILURES).saturating_sub(failures);
    if spare == 0 && count.waiting.is_empty() {
        let last = count.failed.last().map_or(view.failures.last, |failed| &failed.reason);
        let message =
            format!("Claimed {}/{wanted} sandboxes, {failures} have failed, the last: {last}", count.ready);
        return ended(view, status, count, REASON_SANDBOXES_KEEP_FAILING, message);
    }
    // Those that are waited for may fail, too.
    let missing = wanted.saturating_sub(held).min(spare.saturating_sub(count.waiting.len()));
    status.claimed_replicas = Some(number(held));
    status.message = Some(progress(view, held, wanted));
    let next = count.waiting.iter().map(|(_, until)| *until).chain([deadline]).chain(shutdown).min();
    Decision {
        claim: if view.has_set { missing } else { 0 },
        discard: count.failed,
        initialise: count.uninitialised,
        mark: count.unmarked,
        after: next.map(|next| until(view.now, next)),
        ..Decision::only(status)
    }
}

/// Leaves alone what could not be given up, until it may be tried again. The completion waits for it, but not longer than
/// `claimTimeout`: then it names what is left.
fn without_refused(view: &View<'_>, mut decision: Decision) -> Decision {
    let refusals: Vec<&Refusal> =
        decision.discard.iter().filter_map(|discard| view.members[discard.place].refusal.as_ref()).collect();
    let (Some(text), Some(pause)) = (refused(&refusals), view.pause) else { return decision };
    let deadline = deadline(view, &decision.status);
    let is_tried = |refusal: &&Refusal| later(refusal.since, LEAST_REFUSED) <= view.now;
    let is_over = deadline <= view.now && refusals.iter().all(is_tried);
    decision.discard.retain(|discard| view.members[discard.place].refusal.is_none());
    add_to_message(&mut decision.status, &text);
    if is_over {
        return decision;
    }
    if decision.status.phase == Some(SandboxClaimPhase::Completed) {
        let before = view.claim.status.as_ref();
        decision.status.phase = Some(SandboxClaimPhase::Claiming);
        decision.status.completion_time = before.and_then(|before| before.completion_time.clone());
        decision.status.conditions = before.and_then(|before| before.conditions.clone());
        decision.mark = Count::of(view).unmarked;
    }
    let deadline = Some(deadline).filter(|deadline| *deadline > view.now);
    let deadline = deadline.map(|deadline| until(view.now, deadline));
    decision.after = decision.after.into_iter().chain([pause]).chain(deadline).min();
    decision
}

/// Names the sandboxes that could not be given up; none if there are none.
fn refused(refusals: &[&Refusal]) -> Option<String> {
    let answer = &refusals.last()?.answer;
    let names: Vec<_> = refusals.iter().take(NAMED).map(|refusal| &*refusal.name).collect();
    let more = refusals.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("cannot give up {}{more}: {answer}", names.join(", ")))
}

/// Adds to the message of a status.
pub(super) fn add_to_message(status: &mut SandboxClaimStatus, text: &str) {
    let message = status.message.get_or_insert_default();
    message.push_str(if message.is_empty() { "" } else { "; " });
    message.push_str(text);
}

/// Returns when the time for claiming is over.
fn deadline(view: &View<'_>, status: &SandboxClaimStatus) -> Timestamp {
    let started = status.claim_start_time.as_ref().map_or(view.now, Time::timestamp);
    later(started, timeout(view.claim.spec.claim_timeout.as_ref(), CLAIM_TIMEOUT))
}

/// Says how far the claim is, and what keeps it from being complete.
fn progress(view: &View<'_>, held: usize, wanted: usize) -> String {
    let Failures { count, last } = view.failures;
    let failures = if count > 0 { format!(", {count} have failed, the last: {last}") } else { String::new() };
    let lack = view.shortage.or(view.uninitialised);
    let shortage = lack.map_or_else(String::new, |lack| format!(": {lack}"));
    format!("Claiming sandboxes: {held}/{wanted} claimed{failures}{shortage}")
}

/// Ends a claim that cannot get all its sandboxes. What is not ready by now is given up, so that every sandbox that the
/// claim counts can be used.
fn ended(
    view: &View<'_>,
    mut status: SandboxClaimStatus,
    count: Count,
    reason: &'static str,
    message: String,
) -> Decision {
    complete(&mut status, view, count.ready, (reason, &message.clone()), message);
    let late = if reason == REASON_TIMEOUT_REACHED {
        format!("not ready within {}", claim_timeout(view.claim))
    } else {
        "not ready when the claim ended".to_owned()
    };
    let is_kept = reserves(view.claim);
    let late =
        count.waiting.iter().map(|(place, _)| Discard { place: *place, reason: late.clone(), is_kept });
    let discard = count.failed.into_iter().chain(late).collect();
    Decision { discard, ..Decision::only(status) }
}

/// Ends a claim whose time is over.
fn timed_out(view: &View<'_>, mut status: SandboxClaimStatus, count: Count) -> Decision {
    let limit = claim_timeout(view.claim);
    let (ready, wanted) = (count.ready, wanted(view.claim));
    let unready = count.waiting.len() + count.failed.len() + view.failures.count;
    let missing = if !view.has_set {
        format!("SandboxSet {} not found", set_name(view.claim))
    } else if view.failures.count > 0 {
        format!("{unready} sandboxes did not become ready, the last: {}", view.failures.last)
    } else if let Some(why) = view.uninitialised.filter(|_| unready > 0) {
        format!("{unready} sandboxes did not become ready, the last: {why}")
    } else if unready > 0 {
        format!("{unready} sandboxes did not become ready")
    } else {
        let no_stock = || format!("SandboxSet {} has no available sandbox", set_name(view.claim));
        view.shortage.map_or_else(no_stock, str::to_owned)
    };
    let detail = format!("Timeout after {limit}, claimed {ready}/{wanted}");
    let reason = (REASON_CLAIM_TIMEOUT_REACHED, &*detail);
    let at = (view.claim.metadata.generation, view.now);
    conditions::set(&mut status.conditions, CONDITION_TIMED_OUT, ConditionStatus::True, reason, at);
    let message = format!("Timeout reached after {limit}, claimed {ready}/{wanted} sandboxes: {missing}");
    ended(view, status, count, REASON_TIMEOUT_REACHED, message)
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
    status.completion_time = Some(Time::whole_seconds(view.now));
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
    /// Those of the ready ones that must be marked.
    unmarked: Vec<usize>,
    /// Those of the waiting ones whose runtime is to be initialised now.
    uninitialised: Vec<usize>,
    /// Each with the time until which nothing follows without a change.
    waiting: Vec<(usize, Timestamp)>,
    failed: Vec<Discard>,
}

impl Count {
    fn of(view: &View<'_>) -> Self {
        let limit = timeout(view.claim.spec.wait_ready_timeout.as_ref(), WAIT_READY_TIMEOUT);
        let mut count = Self {
            ready: 0,
            unmarked: Vec::new(),
            uninitialised: Vec::new(),
            waiting: Vec::new(),
            failed: Vec::new(),
        };
        for (place, member) in view.members.iter().enumerate() {
            let is_kept = reserves(view.claim);
            let end = later(member.since, limit);
            match &member.standing {
                Standing::Ready => {
                    count.ready += 1;
                    count.unmarked.extend(member.is_unmarked.then_some(place));
                }
                // Its tries are limited, and nobody may have led when its time was over.
                Standing::Uninitialised(wait) => {
                    count.uninitialised.extend(wait.is_zero().then_some(place));
                    count.waiting.push((place, later(view.now, *wait)));
                }
                Standing::Waiting if end > view.now => count.waiting.push((place, end)),
                Standing::Waiting => {
                    let reason = format!("not ready within {}", GoDuration::from(limit));
                    count.failed.push(Discard { place, reason, is_kept });
                }
                Standing::Failed(reason) => {
                    count.failed.push(Discard { place, reason: reason.clone(), is_kept });
                }
                // Somebody may have used it, and may look for what is left of the work.
                Standing::Ended(reason) => {
                    count.failed.push(Discard { place, reason: reason.clone(), is_kept: true });
                }
            }
        }
        count
    }
}

/// Returns true if the claim keeps the sandboxes that it gives up.
fn reserves(claim: &SandboxClaim) -> bool {
    claim.spec.reserve_failed_sandbox == Some(true)
}

/// Returns the time of a claim for messages, as the user has written it.
fn claim_timeout(claim: &SandboxClaim) -> GoDuration {
    claim.spec.claim_timeout.clone().unwrap_or_else(|| CLAIM_TIMEOUT.into())
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
