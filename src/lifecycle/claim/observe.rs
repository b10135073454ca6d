//! What the sandboxes of a claim are for it: which ones belong to the claim, and whether they can be used.

use jiff::Timestamp;

use super::decide::{Member, Standing};
use crate::api::v1alpha1::{
    ANNOTATION_CLAIM_TIMESTAMP, CONDITION_INPLACE_UPDATE, CONDITION_READY, Generation, LABEL_CLAIM_NAME,
    REASON_INPLACE_UPDATING, REASON_START_CONTAINER_FAILED, Sandbox, SandboxClaim, StateKind, StateReason,
    Time, annotation, label,
};

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

/// Returns what a sandbox of the claim is for it.
pub(super) fn member(sandbox: &Sandbox, claim: &SandboxClaim, now: Timestamp) -> Member {
    let since = annotation(&sandbox.metadata, ANNOTATION_CLAIM_TIMESTAMP)
        .and_then(|text| text.parse::<Time>().ok())
        .map(|time| time.timestamp())
        .or_else(|| sandbox.metadata.creation_timestamp.as_ref().map(|time| time.0))
        .unwrap_or(now);
    Member { standing: standing(sandbox, claim, now), since }
}

fn standing(sandbox: &Sandbox, claim: &SandboxClaim, now: Timestamp) -> Standing {
    let state = sandbox.state(now);
    match state.kind {
        // The owner may have paused the sandbox already.
        StateKind::Paused | StateKind::Resuming | StateKind::Upgrading | StateKind::Recycling => {
            Standing::Ready
        }
        StateKind::Running if has_address(sandbox) && !is_updating(sandbox, claim) => Standing::Ready,
        StateKind::Dead if state.reason != StateReason::RunningResourceClaimedButNotReady => {
            Standing::Failed(format!("{}{}", state.reason, message(sandbox)))
        }
        _ => match sandbox.condition(CONDITION_READY) {
            Some(ready) if ready.reason == REASON_START_CONTAINER_FAILED => {
                Standing::Failed(format!("{REASON_START_CONTAINER_FAILED}: {}", ready.message))
            }
            _ => Standing::Waiting,
        },
    }
}

fn has_address(sandbox: &Sandbox) -> bool {
    let info = sandbox.status.as_ref().and_then(|status| status.pod_info.as_ref());
    info.and_then(|info| info.pod_ip.as_ref()).is_some_and(|ip| !ip.is_empty())
}

/// Returns true if the claim asked for an update of the pod that is not complete.
fn is_updating(sandbox: &Sandbox, claim: &SandboxClaim) -> bool {
    if claim.spec.inplace_update.is_none() {
        return false;
    }
    let observed = sandbox.status.as_ref().and_then(|status| status.observed_generation);
    let update = sandbox.condition(CONDITION_INPLACE_UPDATE);
    observed.map(Generation::get) != sandbox.metadata.generation
        || update.is_some_and(|update| update.reason == REASON_INPLACE_UPDATING)
}

fn message(sandbox: &Sandbox) -> String {
    let message = sandbox.status.as_ref().and_then(|status| status.message.as_deref()).unwrap_or_default();
    if message.is_empty() { String::new() } else { format!(": {message}") }
}
