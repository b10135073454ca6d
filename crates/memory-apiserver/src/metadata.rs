//! The rules of `metadata`: names, labels, owners, finalizers, and the fields that cannot change.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::error::{FieldError, Problem};
use super::names::{invalid, label_value_problems, qualified_name_problems};
use super::object::{self, FOREGROUND, ORPHAN};
use super::resource::Resource;

/// Maximum bytes of all annotations together.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// The problems of the metadata of an object that replaces `live`, or of a new object.
pub(crate) fn validate(resource: &Resource, live: Option<&Value>, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let metadata = &object["metadata"];
    match live {
        None => validate_name(resource, object, &mut errors),
        Some(live) => validate_change(live, object, &mut errors),
    }
    if let Some(labels) = metadata["labels"].as_object() {
        validate_labels(labels, &mut errors);
    }
    if let Some(annotations) = metadata["annotations"].as_object() {
        validate_annotations(annotations, &mut errors);
    }
    validate_owners(metadata, &mut errors);
    validate_finalizers(resource, object, &mut errors);
    errors
}

fn validate_name(resource: &Resource, object: &Value, errors: &mut Vec<FieldError>) {
    let (name, prefix) = (object::name(object), object::meta_text(object, "generateName"));
    if !prefix.is_empty() {
        // Random letters follow after a dash at its end.
        let begun = prefix.strip_suffix('-').map_or_else(|| prefix.to_owned(), |begun| format!("{begun}a"));
        errors.extend(invalid("metadata.generateName", prefix, resource.name_rule().problems(&begun)));
    }
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
        return;
    }
    errors.extend(invalid("metadata.name", name, resource.name_rule().problems(name)));
}

fn validate_change(live: &Value, object: &Value, errors: &mut Vec<FieldError>) {
    for field in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let value = &object["metadata"][field];
        if *value != live["metadata"][field] {
            let field = format!("metadata.{field}");
            errors.push(FieldError::invalid(field, value.clone(), "field is immutable"));
        }
    }
    if object::is_deleting(live) {
        let [before, after] = [live, object].map(|object| BTreeSet::from_iter(object::finalizers(object)));
        let added: Vec<_> = after.difference(&before).collect();
        if !added.is_empty() {
            let listed: Vec<_> = added.iter().map(|finalizer| format!("{finalizer:?}")).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                listed.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", detail));
        }
    }
}

fn validate_labels(labels: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    for (key, value) in labels {
        errors.extend(invalid("metadata.labels", key, qualified_name_problems(key)));
        let text = value.as_str().unwrap_or_default();
        errors.extend(invalid("metadata.labels", text, label_value_problems(text)));
    }
}

fn validate_annotations(annotations: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in annotations {
        errors.extend(invalid("metadata.annotations", key, qualified_name_problems(&key.to_lowercase())));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError::new("metadata.annotations", Problem::TooLong(MAX_ANNOTATIONS as u64)));
    }
}

fn validate_owners(metadata: &Value, errors: &mut Vec<FieldError>) {
    let owners = metadata["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut controller: Option<String> = None;
    for owner in owners {
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        let version = match text("apiVersion").split('/').collect::<Vec<_>>()[..] {
            [version] | [_, version] => version,
            _ => "",
        };
        for (field, is_empty, problem) in [
            ("apiVersion", version.is_empty(), "version must not be empty"),
            ("kind", text("kind").is_empty(), "must not be empty"),
            ("name", text("name").is_empty(), "must not be empty"),
            ("uid", text("uid").is_empty(), "must not be empty"),
        ] {
            if is_empty {
                let path = format!("metadata.ownerReferences.{field}");
                errors.push(FieldError::invalid(path, json!(text(field)), problem));
            }
        }
        if (text("apiVersion"), text("kind")) == ("v1", "Event") {
            let problem = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid("metadata.ownerReferences", owner.clone(), problem));
        }
        if owner["controller"] == true {
            let named = format!("{}/{}", text("kind"), text("name"));
            match &controller {
                None => controller = Some(named),
                Some(first) => {
                    let problem = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                         and {named}"
                    );
                    errors.push(FieldError::invalid("metadata.ownerReferences", json!(owners), problem));
                }
            }
        }
    }
}

fn validate_finalizers(resource: &Resource, object: &Value, errors: &mut Vec<FieldError>) {
    const FIELD: &str = "metadata.finalizers";
    let finalizers = object::finalizers(object);
    for finalizer in &finalizers {
        errors.extend(invalid(FIELD, finalizer, qualified_name_problems(finalizer)));
    }
    if finalizers.contains(&FOREGROUND) && finalizers.contains(&ORPHAN) {
        let problem = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(FieldError::invalid(FIELD, json!(finalizers), problem));
    }
    if !resource.wants_qualified_finalizers() {
        return;
    }
    for (position, finalizer) in finalizers.iter().enumerate() {
        if !finalizer.contains('/') && !["kubernetes", FOREGROUND, ORPHAN].contains(finalizer) {
            let problem = "name is neither a standard finalizer name nor is it fully qualified";
            errors.extend(invalid(format!("{FIELD}[{position}]"), finalizer, [problem]));
        }
    }
}
