//! `PersistentVolume` and `PersistentVolumeClaim`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::default_in;
use super::rules::{items, one_of};
use crate::clock::whole_seconds;
use crate::error::{FieldError, Problem};

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// The fields of a volume's spec that are not a source.
const NO_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

pub(super) fn default(volume: &mut Value) {
    default_in(volume, "spec", "persistentVolumeReclaimPolicy", json!("Retain"));
    default_in(volume, "spec", "volumeMode", json!("Filesystem"));
    if let Some(path) = volume.pointer_mut("/spec/hostPath").and_then(Value::as_object_mut) {
        path.entry("type").or_insert_with(|| json!(""));
    }
}

pub(super) fn prepare(volume: &mut Value, live: Option<&Value>, now: Timestamp) {
    default_in(volume, "status", "phase", json!("Pending"));
    if live.is_none() {
        default_in(volume, "status", "lastPhaseTransitionTime", json!(whole_seconds(now)));
    }
}

pub(super) fn default_claim(claim: &mut Value) {
    default_in(claim, "spec", "volumeMode", json!("Filesystem"));
}

pub(super) fn prepare_claim(claim: &mut Value, _: Option<&Value>, _: Timestamp) {
    default_in(claim, "status", "phase", json!("Pending"));
}

pub(super) fn validate(volume: &Value, live: Option<&Value>) -> Vec<FieldError> {
    let spec = &volume["spec"];
    let mut errors = Vec::new();
    validate_modes(spec, "", &mut errors);
    let capacity = spec["capacity"].as_object();
    if capacity.is_none_or(serde_json::Map::is_empty) {
        errors.push(FieldError::required("spec.capacity", ""));
    }
    if !capacity.is_some_and(|capacity| capacity.len() == 1 && capacity.contains_key("storage")) {
        let problem = Problem::NotSupported(spec["capacity"].clone(), vec!["storage".to_owned()]);
        errors.push(FieldError::new("spec.capacity", problem));
    }
    let policies = ["Delete", "Recycle", "Retain"];
    let policy = &spec["persistentVolumeReclaimPolicy"];
    one_of("spec.persistentVolumeReclaimPolicy", policy, &policies, &mut errors);
    let sources = sources(spec);
    if sources.is_empty() {
        errors.push(FieldError::required("spec", "must specify a volume type"));
    }
    for source in sources.iter().skip(1) {
        let why = "may not specify more than 1 volume type";
        errors.push(FieldError::forbidden(format!("spec.{source}"), why));
    }
    if let Some(live) = live {
        let changed = sources != self::sources(&live["spec"])
            || sources.iter().any(|source| spec[*source] != live["spec"][*source]);
        if changed {
            let why = "spec.persistentvolumesource is immutable after creation";
            errors.push(FieldError::forbidden("spec.persistentvolumesource", why));
        }
        if spec["volumeMode"] != live["spec"]["volumeMode"] {
            let mode = spec["volumeMode"].clone();
            errors.push(FieldError::invalid("spec.volumeMode", mode, "field is immutable"));
        }
    }
    errors
}

/// The sources in the spec of a volume. There should be exactly one.
fn sources(spec: &Value) -> Vec<&str> {
    let fields = spec.as_object().into_iter().flatten();
    let given = fields.filter(|(_, value)| !value.is_null()).map(|(field, _)| field.as_str());
    given.filter(|field| !NO_SOURCES.contains(field)).collect()
}

fn validate_modes(spec: &Value, why_required: &'static str, errors: &mut Vec<FieldError>) {
    let modes = items(&spec["accessModes"]);
    if modes.is_empty() {
        errors.push(FieldError::required("spec.accessModes", why_required));
    }
    for mode in modes {
        one_of("spec.accessModes", mode, &ACCESS_MODES, errors);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden("spec.accessModes", why));
    }
    one_of("spec.volumeMode", &spec["volumeMode"], &["Block", "Filesystem"], errors);
}

pub(super) fn validate_claim(claim: &Value, live: Option<&Value>) -> Vec<FieldError> {
    let spec = &claim["spec"];
    let mut errors = Vec::new();
    validate_modes(spec, "at least 1 access mode is required", &mut errors);
    let storage = &spec["resources"]["requests"]["storage"];
    if storage.is_null() {
        errors.push(FieldError::required("spec.resources[storage]", ""));
    } else if is_not_positive(storage) {
        errors.push(FieldError::invalid(
            "spec.resources[storage]",
            storage.clone(),
            "must be greater than zero",
        ));
    }
    if let Some(live) = live {
        errors.extend(validate_claim_change(spec, live));
    }
    errors
}

/// Whether a quantity is zero or less, in any unit.
fn is_not_positive(quantity: &Value) -> bool {
    let text = quantity.as_str().map_or_else(|| quantity.to_string(), str::to_owned);
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    number.starts_with('-') || !number.contains(|c| matches!(c, '1'..='9'))
}

/// The error for a change of a claim. A bound claim may ask for more, and a claim without a volume may get one.
fn validate_claim_change(spec: &Value, live: &Value) -> Option<FieldError> {
    let mut changed = spec.clone();
    let mut allow = |field: &str| changed[field] = live["spec"][field].clone();
    if live["spec"]["volumeName"].is_null() {
        allow("volumeName");
    }
    if live["status"]["phase"] == "Bound" {
        allow("resources");
        allow("volumeAttributesClassName");
    }
    let given = |spec: &Value| {
        let fields = spec.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        fields.map(|(field, value)| (field.clone(), value.clone())).collect::<Vec<_>>()
    };
    (given(&changed) != given(&live["spec"])).then(|| {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        FieldError::forbidden("spec", why)
    })
}
