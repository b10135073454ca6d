//! Checks the fields of `x-kubernetes-validations`, except for the expressions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::json;

use super::super::error::{FieldError, Problem};
use super::field_path;
use super::path::Path;
use super::props::listed;

/// The reasons that a rule can give, in the order of their names.
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Adds an error for each mistake in the rules of one node.
pub(super) fn check(schema: &JSONSchemaProps, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.field("x-kubernetes-validations");
    for (index, rule) in listed(schema.x_kubernetes_validations.as_ref()).iter().enumerate() {
        let path = path.index(index);
        let at = |field: &str| path.field(field).to_string();
        let mut invalid = |field: &str, value: &str, why: &str| {
            errors.push(FieldError::invalid(at(field), json!(value), why));
        };
        let text = rule.message.as_deref().unwrap_or_default();
        let field_path = rule.field_path.as_deref().unwrap_or_default();
        if !field_path.is_empty() && field_path.trim().is_empty() {
            invalid("fieldPath", field_path, "must be non-empty if specified");
        }
        if has_line_breaks(field_path) {
            invalid("fieldPath", field_path, "must not contain line breaks");
        }
        if !field_path.is_empty() && field_path::normalized(field_path, schema).is_none() {
            invalid("fieldPath", field_path, "must be a valid path");
        }
        if rule.rule.trim().is_empty() {
            errors.push(FieldError::required(at("rule"), "rule is not specified"));
        } else if !text.is_empty() && text.trim().is_empty() {
            invalid("message", text, "must be non-empty if specified");
        } else if has_line_breaks(text.trim()) {
            invalid("message", text, "must not contain line breaks");
        } else if has_line_breaks(rule.rule.trim()) && text.trim().is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(at("message"), why));
        }
        if rule.message_expression.as_deref().is_some_and(|text| !text.is_empty() && text.trim().is_empty()) {
            let why = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(at("messageExpression"), why));
        }
        if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
            let supported = REASONS.iter().map(ToString::to_string).collect();
            errors.push(FieldError::new(at("reason"), Problem::NotSupported(json!(reason), supported)));
        }
    }
}

fn has_line_breaks(text: &str) -> bool {
    text.contains(['\n', '\r'])
}
