//! The names of the indexes and what each files an object under (behaviours B1 to B5).
//!
//! Production and tests use these functions alone (B6).

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use shared_cache::{Index, IndexKeys};

use crate::api::v1alpha1::{
    ANNOTATION_OWNER, Checkpoint, LABEL_TRUE, Sandbox, SandboxSet, StateKind, annotation,
};

/// Sandboxes that a pool can hand out or is about to: by template, else by set.
pub const SANDBOX_POOL: Index<Sandbox> = Index::new("sandboxPool");
/// Claimed sandboxes by the id that users know them by.
pub const CLAIMED_SANDBOX_ID: Index<Sandbox> = Index::new("sandboxID");
/// Name of the indexes by the user who owns the object: sandboxes, checkpoints and volume claims.
pub const USER: &str = "user";
/// Sandboxes by the user who owns them.
pub const SANDBOX_USER: Index<Sandbox> = Index::new(USER);
/// Checkpoints by the user who owns them.
pub const CHECKPOINT_USER: Index<Checkpoint> = Index::new(USER);
/// Volume claims by the user who owns them.
pub const CLAIM_USER: Index<PersistentVolumeClaim> = Index::new(USER);
/// Sandboxes that are kept for inspection after a failed claim, under `true`: few, and left out of most lists.
pub const RESERVED_FAILED: Index<Sandbox> = Index::new("reservedFailed");
/// SandboxSets by their name, which is the id of the template that they offer.
pub const TEMPLATE_ID: Index<SandboxSet> = Index::new("templateID");
/// Checkpoints by the id under which their content can be restored.
pub const CHECKPOINT_ID: Index<Checkpoint> = Index::new("checkpointID");
/// Volume claims by the volume that they are bound to.
pub const VOLUME_NAME: Index<PersistentVolumeClaim> = Index::new("volumeName");

/// B1: *available*, or *creating* under a SandboxSet; anything else is in no pool.
pub(super) fn sandbox_pool(sandbox: &Sandbox, keys: &mut IndexKeys<'_>) {
    let in_pool = match sandbox.state(keys.now()).kind {
        StateKind::Available => true,
        StateKind::Creating => sandbox.is_controlled_by_sandbox_set(),
        _ => false,
    };
    if let Some(pool) = sandbox.pool().filter(|_| in_pool) {
        keys.add(pool);
    }
}

/// B3: claimed sandboxes only, whatever state they are in.
pub(super) fn claimed_sandbox_id(sandbox: &Sandbox, keys: &mut IndexKeys<'_>) {
    if sandbox.is_claimed() {
        keys.add(&sandbox.sandbox_id());
    }
}

/// B4: claimed or not.
pub(super) fn sandbox_user(sandbox: &Sandbox, keys: &mut IndexKeys<'_>) {
    keys.extend(annotation(&sandbox.metadata, ANNOTATION_OWNER));
}

/// A8: tells lists whether there is anything to be left out.
pub(super) fn reserved_failed(sandbox: &Sandbox, keys: &mut IndexKeys<'_>) {
    if sandbox.is_reserved_failed() {
        keys.add(LABEL_TRUE);
    }
}

pub(super) fn template_id(set: &SandboxSet, keys: &mut IndexKeys<'_>) {
    keys.extend(set.metadata.name.as_deref());
}

pub(super) fn checkpoint_id(checkpoint: &Checkpoint, keys: &mut IndexKeys<'_>) {
    keys.extend(checkpoint.checkpoint_id());
}

pub(super) fn checkpoint_user(checkpoint: &Checkpoint, keys: &mut IndexKeys<'_>) {
    keys.extend(annotation(&checkpoint.metadata, ANNOTATION_OWNER));
}

pub(super) fn claim_user(claim: &PersistentVolumeClaim, keys: &mut IndexKeys<'_>) {
    keys.extend(annotation(&claim.metadata, ANNOTATION_OWNER));
}

pub(super) fn claim_volume(claim: &PersistentVolumeClaim, keys: &mut IndexKeys<'_>) {
    keys.extend(claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()));
}
