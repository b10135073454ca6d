//! Events: their namespaces, and the fields that `events.k8s.io` requires. Errors have the field names of `v1`, for
//! both groups.

use serde_json::{Value, json};

use super::rules::text;
use crate::error::FieldError;
use crate::events;
use crate::names::{invalid, qualified_name_problems};
use crate::object;

/// The texts of an Event, and their maximum lengths.
const TEXTS: [(&str, usize); 3] = [("reportingInstance", 128), ("action", 128), ("reason", 128)];

const LONGEST_MESSAGE: usize = 1024;

/// The fields that no update in `events.k8s.io` changes.
const FIXED: [&str; 12] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingInstance",
];

/// An Event of `v1`.
pub(super) fn validate(event: &Value, _: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_any(event, "reportingComponent", &mut errors);
    errors
}

/// An Event of `events.k8s.io/v1`.
pub(super) fn validate_new(event: &Value, live: Option<&Value>) -> Vec<FieldError> {
    let event = events::to_core_group(event.clone());
    let mut errors = Vec::new();
    validate_any(&event, "reportingController", &mut errors);
    match live.map(|live| events::to_core_group(live.clone())) {
        None => validate_creation(&event, &mut errors),
        Some(live) => {
            if event["series"] != live["series"] {
                validate_series(&event["series"], &mut errors);
            }
            for field in FIXED.into_iter().filter(|field| event[*field] != live[*field]) {
                errors.push(FieldError::invalid(field, event[field].clone(), "field is immutable"));
            }
            if event["reportingComponent"] != live["reportingComponent"] {
                let value = event["reportingComponent"].clone();
                errors.push(FieldError::invalid("reportingController", value, "field is immutable"));
            }
        }
    }
    errors
}

fn validate_any(event: &Value, controller: &'static str, errors: &mut Vec<FieldError>) {
    let (namespace, of) = (object::namespace(event), text(&event["involvedObject"], "namespace"));
    let is_new = event["eventTime"].is_string();
    let fits = match (of, is_new) {
        ("", false) => namespace == "default",
        ("", true) => matches!(namespace, "default" | "kube-system"),
        (of, false) => of == namespace,
        (_, true) => true,
    };
    if !fits {
        errors.extend(invalid("involvedObject.namespace", of, ["does not match event.namespace"]));
    }
    if !is_new {
        return;
    }
    let reporter = text(event, "reportingComponent");
    if reporter.is_empty() {
        errors.push(FieldError::required(controller, ""));
    }
    errors.extend(invalid(controller, reporter, qualified_name_problems(reporter)));
    let limited = TEXTS.into_iter().chain([("message", LONGEST_MESSAGE)]);
    for (field, longest) in limited {
        let value = text(event, field);
        if value.is_empty() && field != "message" {
            errors.push(FieldError::required(field, ""));
        }
        if value.len() > longest {
            errors.extend(invalid(field, "", [format!("can have at most {longest} characters")]));
        }
    }
}

fn validate_creation(event: &Value, errors: &mut Vec<FieldError>) {
    validate_series(&event["series"], errors);
    if !event["eventTime"].is_string() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.extend(invalid("type", "", [format!("has invalid value: {kind}")]));
    }
    let source = &event["source"];
    let has_source = ["component", "host"].into_iter().any(|field| !text(source, field).is_empty());
    for (field, is_set) in [
        ("firstTimestamp", event["firstTimestamp"].is_string()),
        ("lastTimestamp", event["lastTimestamp"].is_string()),
        ("count", event["count"].as_i64().unwrap_or_default() != 0),
        ("source", has_source),
    ] {
        if is_set {
            errors.extend(invalid(field, "", ["needs to be unset"]));
        }
    }
}

fn validate_series(series: &Value, errors: &mut Vec<FieldError>) {
    if series.is_null() {
        return;
    }
    if series["count"].as_i64().unwrap_or_default() < 2 {
        errors.push(FieldError::invalid("series.count", json!(""), "should be at least 2"));
    }
    if !series["lastObservedTime"].is_string() {
        errors.push(FieldError::required("series.lastObservedTime", ""));
    }
}
