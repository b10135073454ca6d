//! The rules of Pods, and the fields that can change.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::super::rules::{at_least, items, named_labels, one_of, port_number, text};
use crate::error::{FieldError, Problem};
use crate::names::{NameRule, invalid};

/// The fields that an update can change, for the error text.
const CHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// The problems of a new Pod, or of an update of a Pod.
pub(in super::super) fn validate(pod: &Value, live: Option<&Value>) -> Vec<FieldError> {
    let spec = &pod["spec"];
    let mut errors = Vec::new();
    let containers = items(&spec["containers"]);
    // The check of the type reports an absent list.
    if containers.is_empty() && spec["containers"].is_array() {
        errors.push(FieldError::required("spec.containers", ""));
    }
    named_labels("spec.volumes", items(&spec["volumes"]), &mut errors);
    named_labels("spec.containers", containers, &mut errors);
    named_labels("spec.initContainers", items(&spec["initContainers"]), &mut errors);
    let volumes: HashSet<_> = items(&spec["volumes"]).iter().map(|volume| text(volume, "name")).collect();
    for list in ["containers", "initContainers"] {
        for (position, container) in items(&spec[list]).iter().enumerate() {
            validate_container(container, &format!("spec.{list}[{position}]"), &volumes, &mut errors);
        }
    }
    one_of("spec.restartPolicy", &spec["restartPolicy"], &["Always", "OnFailure", "Never"], &mut errors);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of("spec.dnsPolicy", &spec["dnsPolicy"], &policies, &mut errors);
    at_least("spec.terminationGracePeriodSeconds", &spec["terminationGracePeriodSeconds"], 0, &mut errors);
    let node = text(spec, "nodeName");
    if !node.is_empty() {
        errors.extend(invalid("spec.nodeName", node, NameRule::Subdomain.problems(node)));
    }
    if let Some(live) = live {
        errors.extend(validate_change(spec, &live["spec"]));
    }
    errors
}

fn validate_container(container: &Value, path: &str, volumes: &HashSet<&str>, errors: &mut Vec<FieldError>) {
    let image = text(container, "image");
    if image.is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.extend(invalid(format!("{path}.image"), image, [why]));
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    one_of(&format!("{path}.imagePullPolicy"), &container["imagePullPolicy"], &policies, errors);
    for (position, port) in items(&container["ports"]).iter().enumerate() {
        let path = format!("{path}.ports[{position}]");
        port_number(&format!("{path}.containerPort"), &port["containerPort"], errors);
        one_of(&format!("{path}.protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"], errors);
    }
    for (position, variable) in items(&container["env"]).iter().enumerate() {
        if text(variable, "name").is_empty() {
            errors.push(FieldError::required(format!("{path}.env[{position}].name"), ""));
        }
    }
    for (position, mount) in items(&container["volumeMounts"]).iter().enumerate() {
        let path = format!("{path}.volumeMounts[{position}]");
        match text(mount, "name") {
            "" => errors.push(FieldError::required(format!("{path}.name"), "")),
            name if !volumes.contains(name) => {
                errors.push(FieldError::new(format!("{path}.name"), Problem::NotFound(json!(name))));
            }
            _ => {}
        }
        if text(mount, "mountPath").is_empty() {
            errors.push(FieldError::required(format!("{path}.mountPath"), ""));
        }
    }
}

/// Refuses changes of the spec, except of a few fields.
fn validate_change(spec: &Value, live: &Value) -> Vec<FieldError> {
    for list in ["containers", "initContainers"] {
        if items(&spec[list]).len() != items(&live[list]).len() {
            let why = "pod updates may not add or remove containers";
            return vec![FieldError::forbidden(format!("spec.{list}"), why)];
        }
    }
    let mut errors = Vec::new();
    let tolerations = items(&spec["tolerations"]);
    if !items(&live["tolerations"]).iter().all(|toleration| tolerations.contains(toleration)) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden("spec.tolerations", why));
    }
    // The fields that may change are made equal before the specs are compared.
    let mut changed = spec.clone();
    for field in ["activeDeadlineSeconds", "tolerations"] {
        changed[field] = live[field].clone();
    }
    if live["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        changed["terminationGracePeriodSeconds"] = live["terminationGracePeriodSeconds"].clone();
    }
    for list in ["containers", "initContainers"] {
        let images = items(&live[list]).iter().map(|container| &container["image"]);
        let lists = changed.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        lists.zip(images).for_each(|(container, image)| container["image"] = image.clone());
    }
    let fields = |spec: &Value| -> HashSet<String> {
        spec.as_object().into_iter().flatten().map(|(field, _)| field.clone()).collect()
    };
    if fields(&changed).union(&fields(live)).any(|field| changed[field] != live[field]) {
        errors.push(FieldError::forbidden("spec", CHANGEABLE));
    }
    errors
}
