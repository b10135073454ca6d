//! Roles and bindings.

use serde_json::Value;

use super::rules::{items, one_of, text};
use crate::error::FieldError;
use crate::names::{NameRule, invalid};
use crate::object;

/// The group of roles, users and groups.
const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn validate_role(role: &Value, _: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let namespaced = !object::namespace(role).is_empty();
    for (position, rule) in items(&role["rules"]).iter().enumerate() {
        let path = |field: &str| format!("rules[{position}].{field}");
        let none = |field: &str| items(&rule[field]).is_empty();
        let mut require = |field: &str, why: &'static str| {
            errors.push(FieldError::required(path(field), why));
        };
        if none("verbs") {
            require("verbs", "verbs must contain at least one value");
        }
        if none("nonResourceURLs") {
            if none("apiGroups") {
                require("apiGroups", "resource rules must supply at least one api group");
            }
            if none("resources") {
                require("resources", "resource rules must supply at least one resource");
            }
            continue;
        }
        let mut refuse = |why: &str| {
            let field = "nonResourceURLs";
            errors.push(FieldError::invalid(path(field), rule[field].clone(), why));
        };
        if namespaced {
            refuse("namespaced rules cannot apply to non-resource URLs");
        }
        if !(none("apiGroups") && none("resources") && none("resourceNames")) {
            refuse("rules cannot apply to both regular resources and non-resource URLs");
        }
    }
    errors
}

/// The default group of a subject.
pub(super) fn default_binding(binding: &mut Value) {
    if binding["roleRef"].is_object() && text(&binding["roleRef"], "apiGroup").is_empty() {
        binding["roleRef"]["apiGroup"] = GROUP.into();
    }
    for subject in super::items_mut(binding, "/subjects") {
        if matches!(text(subject, "kind"), "User" | "Group") && text(subject, "apiGroup").is_empty() {
            subject["apiGroup"] = GROUP.into();
        }
    }
}

pub(super) fn validate_binding(binding: &Value, live: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let namespaced = !object::namespace(binding).is_empty();
    let role = &binding["roleRef"];
    one_of("roleRef.apiGroup", &role["apiGroup"], &[GROUP], &mut errors);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    one_of("roleRef.kind", &role["kind"], kinds, &mut errors);
    match text(role, "name") {
        "" => errors.push(FieldError::required("roleRef.name", "")),
        name => errors.extend(invalid("roleRef.name", name, NameRule::PathSegment.problems(name))),
    }
    for (position, subject) in items(&binding["subjects"]).iter().enumerate() {
        validate_subject(subject, &format!("subjects[{position}]"), &mut errors);
    }
    if live.is_some_and(|live| live["roleRef"] != *role) {
        errors.push(FieldError::invalid("roleRef", role.clone(), "cannot change roleRef"));
    }
    errors
}

fn validate_subject(subject: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if text(subject, "name").is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    }
    let groups: &[&str] = match text(subject, "kind") {
        "ServiceAccount" => {
            if text(subject, "namespace").is_empty() {
                errors.push(FieldError::required(format!("{path}.namespace"), ""));
            }
            &[""]
        }
        "User" | "Group" => &[GROUP],
        _ => {
            let kinds = ["ServiceAccount", "User", "Group"];
            return one_of(&format!("{path}.kind"), &subject["kind"], &kinds, errors);
        }
    };
    one_of(&format!("{path}.apiGroup"), &subject["apiGroup"], groups, errors);
}
