//! The indexes: their names and the values that they extract (behaviours B1 to B5).
//!
//! Production and tests use the same functions (B6).

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use shared_cache::{Index, IndexKeys};

use crate::api::v1alpha1::{
    ANNOTATION_CLAIM_UNFINISHED_UNTIL, ANNOTATION_OWNER, Checkpoint, LABEL_TRUE, Sandbox, SandboxSet,
    annotation,
};

/// Sandboxes that a pool can hand out now or soon, by template, or by set without a template.
pub const SANDBOX_POOL: Index<Sandbox> = Index::new("sandboxPool");
/// Claimed sandboxes by the id that users know.
pub const CLAIMED_SANDBOX_ID: Index<Sandbox> = Index::new("sandboxID");
/// Name of the indexes by the user who owns the object: sandboxes, checkpoints and volume claims.
pub const USER: &str = "user";
/// Sandboxes by the user who owns them.
pub const SANDBOX_USER: Index<Sandbox> = Index::new(USER);
/// Checkpoints by the user who owns them.
pub const CHECKPOINT_USER: Index<Checkpoint> = Index::new(USER);
/// Volume claims by the user who owns them.
pub const CLAIM_USER: Index<PersistentVolumeClaim> = Index::new(USER);
/// Sandboxes that are kept for inspection after a failed claim, under `true`. They are few, and most lists
/// omit them.
pub const RESERVED_FAILED: Index<Sandbox> = Index::new("reservedFailed");
/// Claimed sandboxes whose claim is not complete, under `true`. They are few.
pub const UNFINISHED_CLAIM: Index<Sandbox> = Index::new("unfinishedClaim");
/// SandboxSets by name. The name is the id of the template that the set offers.
pub const TEMPLATE_ID: Index<SandboxSet> = Index::new("templateID");
/// Checkpoints by the id under which their content can be restored.
pub const CHECKPOINT_ID: Index<Checkpoint> = Index::new("checkpointID");
/// Volume claims by the volume that they are bound to.
pub const VOLUME_NAME: Index<PersistentVolumeClaim> = Index::new("volumeName");
/// Sandboxes by the template that they refer to, as [`template_ref_key`]. Only in the scope of the lifecycle controllers.
pub const SANDBOX_TEMPLATE_REF: Index<Sandbox> = Index::new("templateRef");
/// SandboxSets by the template that they refer to, as [`template_ref_key`]. Only in the scope of the lifecycle controllers.
pub const SANDBOX_SET_TEMPLATE_REF: Index<SandboxSet> = Index::new("templateRef");
/// Sandboxes by the UID of the set that controls them, in any state. Only in the scope of the lifecycle controllers.
pub const SANDBOX_SET: Index<Sandbox> = Index::new("sandboxSet");

/// Checkpoints that have not begun, by their sandbox, as [`template_ref_key`]. Only in the scope of the lifecycle
/// controllers.
pub const CHECKPOINT_SANDBOX: Index<Checkpoint> = Index::new("sandboxName");

/// Returns the key of a template in [`SANDBOX_TEMPLATE_REF`] and [`SANDBOX_SET_TEMPLATE_REF`], and that of a sandbox in [`CHECKPOINT_SANDBOX`].
#[must_use]
pub fn template_ref_key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// Sandboxes with a template of their own do not depend on their reference.
pub(super) fn sandbox_template_ref(sandbox: &Sandbox, keys: &mut IndexKeys<'_>) {
    if let (None, Some(template)) = (&sandbox.spec.template, &sandbox.spec.template_ref) {
        keys.add(&template_ref_key(sandbox.namespace_or_empty(), &template.name));
    }
}

/// Sets with a template of their own do not depend on their reference.
pub(super) fn set_template_ref(set: &SandboxSet, keys: &mut IndexKeys<'_>) {
    if let (None, Some(template)) = (&set.spec.template, &set.spec.template_ref) {
        keys.add(&template_ref_key(set.namespace_or_empty(), &template.name));
    }
}

/// The members of a set. A claim removes the reference to the set.
pub(super) fn sandbox_set(sandbox: &Sandbox, keys: &mut IndexKeys<'_>) {
    keys.extend(sandbox.controller_sandbox_set().map(|set| &*set.uid));
}

/// Checkpoints that have begun do not depend on their sandbox.
pub(super) fn checkpoint_sandbox(checkpoint: &Checkpoint, keys: &mut IndexKeys<'_>) {
    if let Some(sandbox) = checkpoint.spec.sandbox_name.as_deref().filter(|_| !checkpoint.has_started()) {
        keys.add(&template_ref_key(checkpoint.namespace_or_empty(), sandbox));
    }
}

/// B1, U3: the free members. Other sandboxes are in no pool.
pub(super) fn sandbox_pool(sandbox: &Sandbox, keys: &mut IndexKeys<'_>) {
    if let Some(pool) = sandbox.pool().filter(|_| sandbox.is_free_member(keys.now())) {
        keys.add(pool);
    }
}

/// B3: only claimed sandboxes, in any state.
pub(super) fn claimed_sandbox_id(sandbox: &Sandbox, keys: &mut IndexKeys<'_>) {
    if sandbox.is_claimed() {
        keys.add(&sandbox.sandbox_id());
    }
}

/// B4: claimed and unclaimed sandboxes.
pub(super) fn sandbox_user(sandbox: &Sandbox, keys: &mut IndexKeys<'_>) {
    keys.extend(annotation(&sandbox.metadata, ANNOTATION_OWNER));
}

/// A8: lists check this index to see if any sandbox must be omitted.
pub(super) fn reserved_failed(sandbox: &Sandbox, keys: &mut IndexKeys<'_>) {
    if sandbox.is_reserved_failed() {
        keys.add(LABEL_TRUE);
    }
}

/// Q4: the sweep reads this index instead of all sandboxes.
pub(super) fn unfinished_claim(sandbox: &Sandbox, keys: &mut IndexKeys<'_>) {
    if sandbox.is_claimed() && annotation(&sandbox.metadata, ANNOTATION_CLAIM_UNFINISHED_UNTIL).is_some() {
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
