//! Changes of pod templates, which are kept as JSON text.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::api::v1alpha1::PodTemplate;

/// Returns the template after a change. If the change returns none, the template has another shape and stays as it is:
/// the API server has accepted it, and refuses the pod with the reason.
pub(crate) fn changed(
    template: &PodTemplate,
    change: impl FnOnce(&mut Map<String, Value>) -> Option<()>,
) -> PodTemplate {
    let change = || -> Option<PodTemplate> {
        let mut value: Value = serde_json::from_str(&template.to_json()).ok()?;
        change(value.as_object_mut()?)?;
        serde_json::from_value(value).ok()
    };
    change().unwrap_or_else(|| template.clone())
}

/// Adds labels to a template, and replaces those of the same keys.
pub(crate) fn add_labels(template: &mut Map<String, Value>, labels: BTreeMap<String, String>) -> Option<()> {
    let present = object_at(object_at(template, "metadata")?, "labels")?;
    present.extend(labels.into_iter().map(|(key, value)| (key, value.into())));
    Some(())
}

/// Returns the object in a field; an empty one if the field is absent or null.
pub(crate) fn object_at<'o>(
    object: &'o mut Map<String, Value>,
    field: &str,
) -> Option<&'o mut Map<String, Value>> {
    let field = object.entry(field).or_insert_with(|| json!({}));
    if field.is_null() {
        *field = json!({});
    }
    field.as_object_mut()
}
