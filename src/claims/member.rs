//! What becomes of a member of a pool that is claimed: it leaves the pool, and its template changes. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use crate::api::v1alpha1::{ClaimInplaceUpdate, PodTemplate};
use crate::blueprint::template::{add_labels, changed, object_at};

/// Removes the controller reference, so the pool refills.
pub(super) fn leave_pool(metadata: &mut ObjectMeta) {
    if let Some(owners) = &mut metadata.owner_references {
        owners.retain(|owner| owner.controller != Some(true));
    }
    metadata.owner_references.take_if(|owners| owners.is_empty());
}

/// Returns the keys that the user has chosen, as JSON: a cleanup of the sandbox removes them. None if there are none.
pub(super) fn written_keys(
    annotations: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
) -> Option<String> {
    let mut all = Map::new();
    for (field, entries) in [("annotations", annotations), ("labels", labels)] {
        if !entries.is_empty() {
            all.insert(field.to_owned(), json!(entries.keys().collect::<Vec<_>>()));
        }
    }
    (!all.is_empty()).then(|| Value::Object(all).to_string())
}

/// Returns the template with these labels, and with the image and the resources of the update in its first container.
pub(super) fn claimed_template(
    template: &PodTemplate,
    labels: BTreeMap<String, String>,
    update: Option<&ClaimInplaceUpdate>,
) -> PodTemplate {
    changed(template, |template| {
        add_labels(template, labels)?;
        let Some(update) = update else { return Some(()) };
        let container = template.get_mut("spec")?.pointer_mut("/containers/0")?;
        update_container(container.as_object_mut()?, update)
    })
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
