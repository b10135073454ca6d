//! What the sandboxes of a claim are for it: which ones belong to the claim, and whether they can be used.

use std::time::Duration;

use jiff::Timestamp;

use super::decide::{Member, Standing};
use crate::api::v1alpha1::{
    ANNOTATION_CLAIM_TIMESTAMP, ANNOTATION_READY_FOR_CLAIM, CONDITION_INPLACE_UPDATE, CONDITION_READY,
    CONDITION_SANDBOX_PAUSED, CONDITION_SANDBOX_RESUMED, Generation, LABEL_CLAIM_NAME,
    REASON_INPLACE_UPDATING, REASON_START_CONTAINER_FAILED, Sandbox, SandboxClaim, StateKind, StateReason,
    Time, annotation, label,
};
use crate::claims::pending_init;

/// When a runtime is looked at again whose pod is not ready at the moment. Its change wakes the claim earlier.
const UNREADY: Duration = Duration::from_secs(1);

/// Returns true if the sandbox was claimed for this claim. The UID of the claim distinguishes the sandbox from those of
/// an earlier claim of the same name (OKA #311). A sandbox that is being deleted, or that is only kept for inspection,
/// does not count.
pub(super) fn belongs_to(sandbox: &Sandbox, claim: &SandboxClaim) -> bool {
    sandbox.metadata.namespace == claim.metadata.namespace
        && sandbox.is_claimed()
        && label(&sandbox.metadata, LABEL_CLAIM_NAME) == claim.metadata.name.as_deref()
        && sandbox.owner().is_some()
        && sandbox.owner() == claim.metadata.uid.as_deref()
        && !sandbox.is_deleting()
        && !sandbox.is_reserved_failed()
}

/// Returns what a sandbox of the claim is for it. `init_runtime` says whether the claim initialises runtimes.
pub(super) fn member(sandbox: &Sandbox, claim: &SandboxClaim, init_runtime: bool, now: Timestamp) -> Member {
    let since = annotation(&sandbox.metadata, ANNOTATION_CLAIM_TIMESTAMP)
        .and_then(|text| text.parse::<Time>().ok())
        .map(|time| time.timestamp())
        .or_else(|| sandbox.metadata.creation_timestamp.as_ref().map(|time| time.0))
        .unwrap_or(now);
    // The mark is written when the runtime is initialised. What is pending after that is a resume.
    let is_marked = is_marked(sandbox, claim);
    let has_pending = pending_init(sandbox).is_some() && !is_marked;
    let is_pending = init_runtime && has_pending;
    let standing = match standing(sandbox, claim, now) {
        standing if !is_pending => standing,
        Standing::Ready if sandbox.state(now).kind == StateKind::Running => {
            Standing::Uninitialised(Duration::ZERO)
        }
        Standing::Ready => Standing::Uninitialised(UNREADY),
        // Nobody could use it.
        Standing::Ended(reason) => Standing::Failed(reason),
        standing => standing,
    };
    let is_unmarked =
        standing == Standing::Ready && !is_marked && (asks_for_update(sandbox, claim) || has_pending);
    Member { standing, since, is_unmarked, refusal: None }
}

/// A sandbox has the phase Running, or a later one, if its pod was ready once. So the phase remembers that the sandbox
/// was ready, and nothing needs to be written. Only with an update in place a sandbox can run without having been ready
/// for its claim; then a mark on the sandbox remembers it.
fn standing(sandbox: &Sandbox, claim: &SandboxClaim, now: Timestamp) -> Standing {
    let state = sandbox.state(now);
    let is_marked = is_marked(sandbox, claim);
    match state.kind {
        // Its owner or this claim has set this time, and the sandbox is deleted anyway.
        StateKind::Dead if state.reason == StateReason::ShutdownTimeReached => {
            Standing::Failed(state.reason.to_string())
        }
        StateKind::Dead if state.reason != StateReason::RunningResourceClaimedButNotReady => {
            let reason = format!("{}{}", state.reason, message(sandbox));
            let was_ready = is_marked || was_started(sandbox) && update(sandbox, claim) == Update::Done;
            if was_ready { Standing::Ended(reason) } else { Standing::Failed(reason) }
        }
        _ if is_marked => Standing::Ready,
        // The owner may have paused the sandbox already.
        StateKind::Paused | StateKind::Resuming | StateKind::Recycling => Standing::Ready,
        StateKind::Upgrading if !asks_for_update(sandbox, claim) => Standing::Ready,
        StateKind::Running | StateKind::Dead | StateKind::Unknown if has_address(sandbox) => {
            match update(sandbox, claim) {
                Update::Done => Standing::Ready,
                Update::Refused(message) => Standing::Failed(message),
                Update::Open => unready(sandbox),
            }
        }
        _ => unready(sandbox),
    }
}

/// Returns what a sandbox is that was not ready since its claim.
fn unready(sandbox: &Sandbox) -> Standing {
    match sandbox.condition(CONDITION_READY) {
        Some(ready) if ready.reason == REASON_START_CONTAINER_FAILED => {
            Standing::Failed(format!("{REASON_START_CONTAINER_FAILED}: {}", ready.message))
        }
        _ => Standing::Waiting,
    }
}

fn has_address(sandbox: &Sandbox) -> bool {
    let info = sandbox.status.as_ref().and_then(|status| status.pod_info.as_ref());
    info.and_then(|info| info.pod_ip.as_ref()).is_some_and(|ip| !ip.is_empty())
}

/// Returns true if the pod of a sandbox was ready once. The address of the pod is cleared by a pause, which leaves its
/// condition.
fn was_started(sandbox: &Sandbox) -> bool {
    let paused = [CONDITION_SANDBOX_PAUSED, CONDITION_SANDBOX_RESUMED];
    has_address(sandbox) || paused.iter().any(|type_| sandbox.condition(type_).is_some())
}

/// Returns true if the sandbox is marked as ready for this claim.
fn is_marked(sandbox: &Sandbox, claim: &SandboxClaim) -> bool {
    let mark = annotation(&sandbox.metadata, ANNOTATION_READY_FOR_CLAIM);
    mark.is_some() && mark == claim.metadata.uid.as_deref()
}

/// Returns true if the claim has written an update of the pod into the sandbox. A template that the sandbox only refers
/// to is not changed.
fn asks_for_update(sandbox: &Sandbox, claim: &SandboxClaim) -> bool {
    claim.spec.inplace_update.is_some() && sandbox.spec.template.is_some()
}

/// What has become of the update that the claim asked for.
#[derive(Debug, PartialEq, Eq)]
enum Update {
    /// The pod has it, or none was asked for.
    Done,
    /// Under way, or not seen by the sandbox controller yet.
    Open,
    /// It cannot be done, for this reason.
    Refused(String),
}

fn update(sandbox: &Sandbox, claim: &SandboxClaim) -> Update {
    if !asks_for_update(sandbox, claim) {
        return Update::Done;
    }
    let observed = sandbox.status.as_ref().and_then(|status| status.observed_generation);
    if observed.map(Generation::get) != sandbox.metadata.generation {
        return Update::Open;
    }
    match sandbox.condition(CONDITION_INPLACE_UPDATE) {
        // A pod that fits the template from the beginning needs no update.
        None => Update::Done,
        Some(update) if update.reason == REASON_INPLACE_UPDATING => Update::Open,
        Some(update) if update.is_true() => Update::Done,
        Some(update) => Update::Refused(format!("{}: {}", update.reason, update.message)),
    }
}

fn message(sandbox: &Sandbox) -> String {
    let message = sandbox.status.as_ref().and_then(|status| status.message.as_deref()).unwrap_or_default();
    if message.is_empty() { String::new() } else { format!(": {message}") }
}
