//! The conditions of the waits (behaviours G). Each is a pure function of one object.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use shared_cache::Check;

use crate::api::v1alpha1::{
    CONDITION_INPLACE_UPDATE, CONDITION_READY, CONDITION_SANDBOX_PAUSED, Checkpoint, CheckpointPhase,
    Generation, REASON_INPLACE_UPDATING, REASON_START_CONTAINER_FAILED, Sandbox, SandboxPhase, StateKind,
};

/// G1: the condition `SandboxPaused` is True. Fails if the sandbox cannot become paused.
///
/// Does not check [`Sandbox::pausable`] (U1): a sandbox that is being paused is running and not ready for a while, so
/// it is not pausable a second time.
pub(super) fn paused(sandbox: &Sandbox) -> Check {
    let verdict = sandbox.can_become_paused();
    if !verdict.allowed {
        return Check::failed(format!("the sandbox cannot be paused: {}", verdict.reason));
    }
    if sandbox.condition_is_true(CONDITION_SANDBOX_PAUSED) {
        Check::Satisfied
    } else {
        Check::not_yet(missing(sandbox, CONDITION_SANDBOX_PAUSED))
    }
}

/// G2: the condition `Ready` is True, in a status of at least the generation that the caller knows. Fails if
/// the sandbox cannot become resumed.
///
/// Does not check [`Sandbox::resumable`] (U1): the cache may not show yet that `spec.paused` was removed. A Running
/// sandbox whose spec asks for a pause is not resumed, although it may be ready still.
pub(super) fn resumed(sandbox: &Sandbox, generation: i64, now: Timestamp) -> Check {
    let verdict = sandbox.can_become_resumed(now);
    if !verdict.allowed {
        return Check::failed(format!("the sandbox cannot be resumed: {}", verdict.reason));
    }
    if sandbox.phase() == Some(&SandboxPhase::Running) && sandbox.spec.paused == Some(true) {
        return Check::not_yet("the sandbox is being paused: spec.paused is true");
    }
    let observed = observed_generation(sandbox);
    if observed < generation {
        return Check::not_yet(format!("the status is of generation {observed}, not yet of {generation}"));
    }
    if sandbox.is_ready() { Check::Satisfied } else { Check::not_yet(missing(sandbox, CONDITION_READY)) }
}

/// G3: the sandbox runs as its spec requires, and has an address.
pub(super) fn ready(sandbox: &Sandbox, now: Timestamp) -> Check {
    use SandboxPhase::{Failed, Succeeded, Terminating};
    if sandbox.is_deleting() {
        return Check::failed("the sandbox is being deleted");
    }
    if let Some(phase @ (Failed | Succeeded | Terminating)) = sandbox.phase() {
        return Check::failed(format!("the sandbox is {phase}{}", message(sandbox)));
    }
    let (observed, generation) =
        (observed_generation(sandbox), sandbox.metadata.generation.unwrap_or_default());
    if observed != generation {
        return Check::not_yet(format!("the status is of generation {observed}, the spec of {generation}"));
    }
    let reason = |type_| sandbox.condition(type_).map(|condition| condition.reason.as_str());
    if let Some(condition) =
        sandbox.condition(CONDITION_READY).filter(|c| c.reason == REASON_START_CONTAINER_FAILED)
    {
        return Check::failed(format!("{REASON_START_CONTAINER_FAILED}: {}", condition.message));
    }
    if reason(CONDITION_INPLACE_UPDATE) == Some(REASON_INPLACE_UPDATING) {
        return Check::not_yet("an update in place is under way");
    }
    let state = sandbox.state(now);
    if state.kind != StateKind::Running {
        let missing = missing(sandbox, CONDITION_READY);
        return Check::not_yet(format!("the sandbox is {} ({}); {missing}", state.kind, state.reason));
    }
    if sandbox.pod_ip().is_none() {
        return Check::not_yet("the pod has no IP address");
    }
    Check::Satisfied
}

/// G4: the checkpoint has succeeded and has an id.
pub(super) fn checkpointed(checkpoint: &Checkpoint) -> Check {
    let place = || format!("{}/{}", checkpoint.namespace_or_empty(), checkpoint.name_or_empty());
    let message = checkpoint.status.as_ref().and_then(|status| status.message.as_deref()).unwrap_or_default();
    match checkpoint.phase() {
        Some(phase @ (CheckpointPhase::Failed | CheckpointPhase::Terminating)) => {
            Check::failed(format!("checkpoint {} is {phase}: {message}", place()))
        }
        Some(CheckpointPhase::Succeeded) if checkpoint.checkpoint_id().is_some() => Check::Satisfied,
        Some(CheckpointPhase::Succeeded) => {
            Check::failed(format!("checkpoint {} has succeeded without an id", place()))
        }
        Some(phase) => Check::not_yet(format!("the checkpoint is {phase}")),
        None => Check::not_yet("the checkpoint has no phase yet"),
    }
}

/// G5: the claim is bound to a volume.
pub(super) fn bound(claim: &PersistentVolumeClaim) -> Check {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    match (phase, volume) {
        ("Bound", "") => Check::not_yet("the claim is Bound and names no volume yet"),
        ("Bound", _) => Check::Satisfied,
        ("Lost", _) => Check::failed(format!("the claim has lost its volume {volume:?}")),
        ("", _) => Check::not_yet("the claim has no phase yet"),
        (phase, _) => Check::not_yet(format!("the claim is {phase}")),
    }
}

fn observed_generation(sandbox: &Sandbox) -> i64 {
    sandbox.status.as_ref().and_then(|status| status.observed_generation).map_or(0, Generation::get)
}

fn message(sandbox: &Sandbox) -> String {
    let message = sandbox.status.as_ref().and_then(|status| status.message.as_deref()).unwrap_or_default();
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// Describes why a condition is not True.
fn missing(sandbox: &Sandbox, type_: &str) -> String {
    match sandbox.condition(type_) {
        None => format!("there is no condition {type_}"),
        Some(condition) => {
            format!("condition {type_} is {}: {}: {}", condition.status, condition.reason, condition.message)
        }
    }
}
