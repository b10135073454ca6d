//! Rules that several kinds share, and the rules of Leases.

use serde_json::{Value, json};

use crate::error::{FieldError, Problem};
use crate::names::{NameRule, invalid};

/// The text in a field, or an empty text.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

/// The items of a list; none if the value is not a list.
pub(super) fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Adds an error if the value is none of these texts.
pub(super) fn one_of(path: &str, value: &Value, supported: &[&str], errors: &mut Vec<FieldError>) {
    let is_one = value.as_str().is_some_and(|value| supported.contains(&value));
    if !value.is_null() && !is_one {
        let supported = supported.iter().map(|&value| value.to_owned()).collect();
        errors.push(FieldError::new(path, Problem::NotSupported(value.clone(), supported)));
    }
}

/// Adds an error if a number is too small.
pub(super) fn at_least(path: &str, value: &Value, least: i64, errors: &mut Vec<FieldError>) {
    if value.as_i64().is_some_and(|number| number < least) {
        let than = if least > 0 { "greater than 0" } else { "greater than or equal to 0" };
        errors.push(FieldError::invalid(path, value.clone(), format!("must be {than}")));
    }
}

/// Adds an error if a number is not a port.
pub(super) fn port_number(path: &str, value: &Value, errors: &mut Vec<FieldError>) {
    if !value.as_i64().is_some_and(|number| (1..=65535).contains(&number)) {
        let port = if value.is_null() { json!(0) } else { value.clone() };
        errors.push(FieldError::invalid(path, port, "must be between 1 and 65535, inclusive"));
    }
}

/// Adds errors for items without a name, with an invalid name, or with the name of another item.
pub(super) fn named_labels(path: &str, list: &[Value], errors: &mut Vec<FieldError>) {
    let mut seen = std::collections::HashSet::new();
    for (position, item) in list.iter().enumerate() {
        let (path, name) = (format!("{path}[{position}].name"), text(item, "name"));
        if name.is_empty() {
            errors.push(FieldError::required(path, ""));
            continue;
        }
        errors.extend(invalid(&path, name, NameRule::Label.problems(name)));
        if !seen.insert(name) {
            errors.push(FieldError::new(path, Problem::Duplicate(json!(name))));
        }
    }
}

pub(super) fn validate_lease(lease: &Value, _: Option<&Value>) -> Vec<FieldError> {
    let (spec, mut errors) = (&lease["spec"], Vec::new());
    at_least("spec.leaseDurationSeconds", &spec["leaseDurationSeconds"], 1, &mut errors);
    at_least("spec.leaseTransitions", &spec["leaseTransitions"], 0, &mut errors);
    errors
}
