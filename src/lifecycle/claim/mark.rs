//! What a claim writes into a sandbox. Everything is in one write, so a sandbox is never half claimed.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::v1alpha1::{
    ANNOTATION_CLAIM_TIMESTAMP, ANNOTATION_LOCK, ANNOTATION_OWNER, ANNOTATION_UPDATED_METADATA_IN_CLAIM,
    LABEL_CLAIM_NAME, LABEL_OWNER, LABEL_SANDBOX_CLAIMED, LABEL_TRUE, Sandbox, SandboxClaim, Time,
};
use crate::blueprint::claim::{claimed_template, leave_pool, written_keys};

/// Claims a sandbox: labels, annotations, the template of its pod, and its times. The controller reference is removed,
/// so the pool refills. `lock` is the id of this claim of this sandbox.
pub(super) fn mark(sandbox: &mut Sandbox, claim: &SandboxClaim, lock: &str, now: Timestamp) {
    let uid = claim.metadata.uid.clone().unwrap_or_default();
    let metadata = &mut sandbox.metadata;
    leave_pool(metadata);
    metadata.labels = Some(labels(metadata.labels.take().unwrap_or_default(), claim));
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.extend(claim.spec.annotations.clone().unwrap_or_default());
    annotations.insert(ANNOTATION_LOCK.to_owned(), lock.to_owned());
    annotations.insert(ANNOTATION_OWNER.to_owned(), uid.clone());
    annotations.insert(ANNOTATION_CLAIM_TIMESTAMP.to_owned(), Time::whole_seconds(now).to_string());
    if let Some(keys) = written_keys(claim.spec.annotations.as_ref(), claim.spec.labels.as_ref()) {
        annotations.insert(ANNOTATION_UPDATED_METADATA_IN_CLAIM.to_owned(), keys);
    }
    if let Some(time) = &claim.spec.shutdown_time {
        sandbox.spec.shutdown_time = Some(time.clone());
    }
    if let Some(template) = &mut sandbox.spec.template {
        let mut labels = claim.spec.labels.clone().unwrap_or_default();
        labels.insert(LABEL_OWNER.to_owned(), uid);
        *template = claimed_template(template, labels, claim.spec.inplace_update.as_ref());
    }
}

/// Returns the labels of a sandbox after a claim.
pub(super) fn labels(mut labels: BTreeMap<String, String>, claim: &SandboxClaim) -> BTreeMap<String, String> {
    labels.extend(claim.spec.labels.clone().unwrap_or_default());
    labels.insert(LABEL_SANDBOX_CLAIMED.to_owned(), LABEL_TRUE.to_owned());
    labels.insert(LABEL_CLAIM_NAME.to_owned(), claim.metadata.name.clone().unwrap_or_default());
    labels
}
