//! The names of the indexes and what each files an object under (behaviours B1 to B5).
//!
//! [`CachedResource::indexes`](crate::informer::CachedResource::indexes) of each kind is made of these
//! functions alone, in production and in tests (B6).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::api::v1alpha1::{
    ANNOTATION_OWNER, Checkpoint, LABEL_TRUE, Sandbox, SandboxSet, StateKind, annotation,
};

/// Sandboxes that a pool can hand out or is about to: by template, else by set.
pub const SANDBOX_POOL: &str = "sandboxPool";
/// Claimed sandboxes by the id that users know them by.
pub const CLAIMED_SANDBOX_ID: &str = "sandboxID";
/// Sandboxes, checkpoints and volume claims by the user who owns them.
pub const USER: &str = "user";
/// Sandboxes that are kept for inspection after a failed claim, under `true`: few, and left out of most lists.
pub const RESERVED_FAILED: &str = "reservedFailed";
/// SandboxSets by their name, which is the id of the template that they offer.
pub const TEMPLATE_ID: &str = "templateID";
/// Checkpoints by the id under which their content can be restored.
pub const CHECKPOINT_ID: &str = "checkpointID";
/// Volume claims by the volume that they are bound to.
pub const VOLUME_NAME: &str = "volumeName";

/// B1: *available*, or *creating* under a SandboxSet; anything else is in no pool.
pub(super) fn sandbox_pool(sandbox: &Sandbox, now: Timestamp, add: &mut dyn FnMut(&str)) {
    let in_pool = match sandbox.state(now).kind {
        StateKind::Available => true,
        StateKind::Creating => sandbox.is_controlled_by_sandbox_set(),
        _ => false,
    };
    if let Some(pool) = sandbox.pool().filter(|_| in_pool) {
        add(pool);
    }
}

/// B3: claimed sandboxes only, whatever state they are in.
pub(super) fn claimed_sandbox_id(sandbox: &Sandbox, _: Timestamp, add: &mut dyn FnMut(&str)) {
    if sandbox.is_claimed() {
        add(&sandbox.sandbox_id());
    }
}

/// B4: claimed or not.
pub(super) fn sandbox_user(sandbox: &Sandbox, _: Timestamp, add: &mut dyn FnMut(&str)) {
    annotation(&sandbox.metadata, ANNOTATION_OWNER).into_iter().for_each(add);
}

/// A8: tells lists whether there is anything to be left out.
pub(super) fn reserved_failed(sandbox: &Sandbox, _: Timestamp, add: &mut dyn FnMut(&str)) {
    if sandbox.is_reserved_failed() {
        add(LABEL_TRUE);
    }
}

pub(super) fn template_id(set: &SandboxSet, _: Timestamp, add: &mut dyn FnMut(&str)) {
    set.metadata.name.as_deref().into_iter().for_each(add);
}

pub(super) fn checkpoint_id(checkpoint: &Checkpoint, _: Timestamp, add: &mut dyn FnMut(&str)) {
    checkpoint.checkpoint_id().into_iter().for_each(add);
}

pub(super) fn checkpoint_user(checkpoint: &Checkpoint, _: Timestamp, add: &mut dyn FnMut(&str)) {
    annotation(&checkpoint.metadata, ANNOTATION_OWNER).into_iter().for_each(add);
}

pub(super) fn claim_user(claim: &PersistentVolumeClaim, _: Timestamp, add: &mut dyn FnMut(&str)) {
    annotation(&claim.metadata, ANNOTATION_OWNER).into_iter().for_each(add);
}

pub(super) fn claim_volume(claim: &PersistentVolumeClaim, _: Timestamp, add: &mut dyn FnMut(&str)) {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).into_iter().for_each(add);
}
