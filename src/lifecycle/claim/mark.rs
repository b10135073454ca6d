//! What a claim writes into a sandbox. Everything is in one write, so a sandbox is never half claimed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::v1alpha1::{
    ANNOTATION_CLAIM_TIMESTAMP, ANNOTATION_LOCK, ANNOTATION_OWNER, ANNOTATION_UPDATED_METADATA_IN_CLAIM,
    ClaimInplaceUpdate, LABEL_CLAIM_NAME, LABEL_OWNER, LABEL_SANDBOX_CLAIMED, LABEL_TRUE, Sandbox,
    SandboxClaim,
};
use crate::lifecycle::conditions;
use crate::lifecycle::template::{add_labels, changed, object_at};

/// Claims a sandbox: labels, annotations, the template of its pod, and its times. The controller reference is removed,
/// so the pool refills. `lock` is the id of this claim of this sandbox.
pub(super) fn mark(sandbox: &mut Sandbox, claim: &SandboxClaim, lock: &str, now: Timestamp) {
    let uid = claim.metadata.uid.clone().unwrap_or_default();
    let metadata = &mut sandbox.metadata;
    if let Some(owners) = &mut metadata.owner_references {
        owners.retain(|owner| owner.controller != Some(true));
    }
    metadata.owner_references.take_if(|owners| owners.is_empty());
    metadata.labels = Some(labels(metadata.labels.take().unwrap_or_default(), claim));
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.extend(claim.spec.annotations.clone().unwrap_or_default());
    annotations.insert(ANNOTATION_LOCK.to_owned(), lock.to_owned());
    annotations.insert(ANNOTATION_OWNER.to_owned(), uid.clone());
    annotations.insert(ANNOTATION_CLAIM_TIMESTAMP.to_owned(), conditions::seconds(now).to_string());
    if let Some(keys) = written_keys(claim) {
        annotations.insert(ANNOTATION_UPDATED_METADATA_IN_CLAIM.to_owned(), keys);
    }
    if let Some(time) = &claim.spec.shutdown_time {
        sandbox.spec.shutdown_time = Some(time.clone());
    }
    if let Some(template) = &mut sandbox.spec.template {
        let mut labels = claim.spec.labels.clone().unwrap_or_default();
        labels.insert(LABEL_OWNER.to_owned(), uid);
        let update = claim.spec.inplace_update.as_ref();
        *template = changed(template, |template| change(template, labels, update));
    }
}

/// Returns the labels of a sandbox after a claim.
pub(super) fn labels(mut labels: BTreeMap<String, String>, claim: &SandboxClaim) -> BTreeMap<String, String> {
    labels.extend(claim.spec.labels.clone().unwrap_or_default());
    labels.insert(LABEL_SANDBOX_CLAIMED.to_owned(), LABEL_TRUE.to_owned());
    labels.insert(LABEL_CLAIM_NAME.to_owned(), claim.metadata.name.clone().unwrap_or_default());
    labels
}

/// Returns the keys that the user has chosen, as JSON: a cleanup of the sandbox removes them. None if there are none.
fn written_keys(claim: &SandboxClaim) -> Option<String> {
    let mut all = Map::new();
    for (field, entries) in [("annotations", &claim.spec.annotations), ("labels", &claim.spec.labels)] {
        let keys: Vec<&String> = entries.iter().flat_map(BTreeMap::keys).collect();
        if !keys.is_empty() {
            all.insert(field.to_owned(), json!(keys));
        }
    }
    (!all.is_empty()).then(|| Value::Object(all).to_string())
}

/// Adds labels to a template, and writes the image and the resources of the update into its first container.
fn change(
    template: &mut Map<String, Value>,
    labels: BTreeMap<String, String>,
    update: Option<&ClaimInplaceUpdate>,
) -> Option<()> {
    add_labels(template, labels)?;
    let Some(update) = update else { return Some(()) };
    let container = template.get_mut("spec")?.pointer_mut("/containers/0")?;
    update_container(container.as_object_mut()?, update)
}

fn update_container(container: &mut Map<String, Value>, update: &ClaimInplaceUpdate) -> Option<()> {
    if let Some(image) = update.image.as_ref().filter(|image| !image.is_empty()) {
        container.insert("image".to_owned(), json!(image));
    }
    if let Some(resources) = &update.resources {
        for (field, quantities) in [("limits", &resources.limits), ("requests", &resources.requests)] {
            let Some(quantities) = quantities else { continue };
            let Ok(Value::Object(quantities)) = serde_json::to_value(quantities) else { continue };
            object_at(object_at(container, "resources")?, field)?.extend(quantities);
        }
    }
    Some(())
}
