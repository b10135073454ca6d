//! What is wrong with a definition.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{is_established, text, versions};
use crate::error::{FieldError, Problem};
use crate::metadata::{NameRule, invalid};
use crate::object;
use crate::schema::{CustomKind, Schema};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 9] =
    ["binary", "byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// How many fields can be selected by.
const MAX_SELECTABLE: usize = 8;

/// All that is wrong with a definition that is new or replaces another.
pub(crate) fn validate(definition: &Value, live: Option<&Value>) -> Vec<FieldError> {
    let spec = &definition["spec"];
    let mut errors = Vec::new();
    let wanted = format!("{}.{}", text(&spec["names"]["plural"]), text(&spec["group"]));
    let name = object::name(definition);
    if name != wanted {
        errors.extend(invalid("metadata.name", name, ["must be spec.names.plural+\".\"+spec.group"]));
    }
    validate_group(text(&spec["group"]), &mut errors);
    match text(&spec["scope"]) {
        "" => errors.push(FieldError::required("spec.scope", "")),
        "Cluster" | "Namespaced" => {}
        _ => {
            let scopes = vec!["Cluster".to_owned(), "Namespaced".to_owned()];
            errors.push(FieldError::new("spec.scope", Problem::NotSupported(spec["scope"].clone(), scopes)));
        }
    }
    validate_versions(spec, &mut errors);
    validate_names(&spec["names"], &mut errors);
    validate_conversion(&spec["conversion"], &mut errors);
    if spec["preserveUnknownFields"] == true {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                   spec.versions[*].schema instead";
        errors.push(FieldError::invalid("spec.preserveUnknownFields", json!(true), why));
    }
    validate_stored_versions(definition, &mut errors);
    if let Some(live) = live {
        validate_change(spec, live, &mut errors);
    }
    errors
}

fn validate_group(group: &str, errors: &mut Vec<FieldError>) {
    let problems = NameRule::Subdomain.problems(group);
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else if !problems.is_empty() {
        errors.extend(invalid("spec.group", group, [problems.join(",")]));
    } else if !group.contains('.') {
        errors.extend(invalid("spec.group", group, ["should be a domain with at least one dot"]));
    }
}

fn validate_names(names: &Value, errors: &mut Vec<FieldError>) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let (path, name) = (format!("spec.names.{field}"), text(&names[field]));
        if name.is_empty() {
            errors.push(FieldError::required(path, ""));
            continue;
        }
        let of_kind = field.to_lowercase().ends_with("kind");
        let lowered = if of_kind { name.to_lowercase() } else { name.to_owned() };
        let problems = NameRule::StrictLabel.problems(&lowered).join(",");
        let hint = if of_kind { "may have mixed case, but should otherwise match: " } else { "" };
        if !problems.is_empty() {
            errors.extend(invalid(path, name, [format!("{hint}{problems}")]));
        }
    }
    for field in ["shortNames", "categories"] {
        for (position, name) in names[field].as_array().into_iter().flatten().map(text).enumerate() {
            let problems = NameRule::StrictLabel.problems(name);
            if !problems.is_empty() {
                errors.extend(invalid(format!("spec.names.{field}[{position}]"), name, [problems.join(",")]));
            }
        }
    }
    if !text(&names["kind"]).is_empty() && names["kind"] == names["listKind"] {
        let why = "kind and listKind may not be the same";
        errors.extend(invalid("spec.names.listKind", text(&names["listKind"]), [why]));
    }
}

fn validate_versions(spec: &Value, errors: &mut Vec<FieldError>) {
    let versions = versions(spec);
    let mut refuse = |why: &str| {
        errors.push(FieldError::invalid("spec.versions", spec["versions"].clone(), why));
    };
    let names: HashSet<_> = versions.iter().map(|version| text(&version["name"])).collect();
    if names.len() < versions.len() {
        refuse("must contain unique version names");
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        refuse("must have exactly one version marked as storage version");
    }
    for (position, version) in versions.iter().enumerate() {
        let name = text(&version["name"]);
        let problems = NameRule::StrictLabel.problems(name);
        if !problems.is_empty() {
            let path = format!("spec.versions[{position}].name");
            errors.extend(invalid(path, name, [problems.join(",")]));
        }
        let parts = Parts { versions, position };
        let schema = validate_schema(&parts, version, errors);
        validate_scale(&version["subresources"]["scale"], &parts.path("subresources"), errors);
        let columns = version["additionalPrinterColumns"].as_array().into_iter().flatten();
        let path = parts.path("additionalPrinterColumns");
        for (position, column) in columns.enumerate() {
            validate_column(column, &format!("{path}[{position}]"), errors);
        }
        if let Some(schema) = schema {
            let fields = &version["selectableFields"];
            validate_selectable(fields, &schema, &parts.path("selectableFields"), errors);
        }
    }
}

/// The parts of one version among several. What is the same in all of them is a part of the definition to
/// kube-apiserver, and errors say so.
struct Parts<'a> {
    versions: &'a [Value],
    position: usize,
}

impl Parts<'_> {
    fn path(&self, part: &str) -> String {
        let first = self.versions.first().map(|version| &version[part]);
        let same = self.versions.iter().all(|version| Some(&version[part]) == first);
        match (same, part) {
            (true, "schema") => "spec.validation".to_owned(),
            (true, part) => format!("spec.{part}"),
            (false, part) => format!("spec.versions[{}].{part}", self.position),
        }
    }
}

fn validate_schema(parts: &Parts<'_>, version: &Value, errors: &mut Vec<FieldError>) -> Option<Arc<Schema>> {
    let form = &version["schema"]["openAPIV3Schema"];
    if form.is_null() {
        let path = format!("spec.versions[{}].schema.openAPIV3Schema", parts.position);
        errors.push(FieldError::required(path, "schemas are required"));
        return None;
    }
    let path = format!("{}.openAPIV3Schema", parts.path("schema"));
    match CustomKind::new(form, &path, version["subresources"]["status"].is_object()) {
        Ok(kind) => Some(kind.schema),
        Err(found) => {
            errors.extend(found);
            None
        }
    }
}

fn validate_scale(scale: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if scale.is_null() {
        return;
    }
    for (field, roots) in [
        ("specReplicasPath", &[".spec"][..]),
        ("statusReplicasPath", &[".status"]),
        ("labelSelectorPath", &[".spec", ".status"]),
    ] {
        let (path, value) = (format!("{path}.scale.{field}"), text(&scale[field]));
        if value.is_empty() {
            if field != "labelSelectorPath" {
                errors.push(FieldError::required(path, ""));
            }
        } else if !value.starts_with('.') {
            errors.extend(invalid(path, value, ["must be a simple json path starting with ."]));
        } else if !roots.iter().any(|root| value.strip_prefix(root).is_some_and(|rest| rest.starts_with('.')))
        {
            let wanted = match roots {
                [root] => format!("should be a json path under {root}"),
                _ => format!("should be a json path under either {}", roots.join(" or ")),
            };
            errors.extend(invalid(path, value, [wanted]));
        }
    }
}

fn validate_column(column: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let must_be = |names: &[&str]| format!("must be one of {}", names.join(","));
    if text(&column["name"]).is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    }
    match text(&column["type"]) {
        "" => errors.push(FieldError::required(format!("{path}.type"), must_be(&COLUMN_TYPES))),
        kind if !COLUMN_TYPES.contains(&kind) => {
            errors.extend(invalid(format!("{path}.type"), kind, [must_be(&COLUMN_TYPES)]));
        }
        _ => {}
    }
    let format = text(&column["format"]);
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        errors.extend(invalid(format!("{path}.format"), format, [must_be(&COLUMN_FORMATS)]));
    }
    let at = text(&column["jsonPath"]);
    if at.is_empty() {
        errors.push(FieldError::required(format!("{path}.JSONPath"), ""));
    } else if !at.starts_with('.') {
        let why = "must be a simple json path starting with .";
        errors.extend(invalid(format!("{path}.JSONPath"), at, [why]));
    }
}

fn validate_selectable(fields: &Value, schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    for (position, field) in fields.as_array().into_iter().flatten().enumerate() {
        let (path, at) = (format!("{path}[{position}].jsonPath"), text(&field["jsonPath"]));
        if at.is_empty() {
            errors.push(FieldError::required(path, ""));
            continue;
        }
        if let Err(why) = selectable(at, schema) {
            errors.extend(invalid(path, at, [why]));
        } else if !seen.insert(at) {
            errors.push(FieldError::new(path, Problem::Duplicate(json!(at))));
        }
    }
    if seen.len() > MAX_SELECTABLE {
        let problem = Problem::TooMany(seen.len() as u64, MAX_SELECTABLE as u64);
        errors.push(FieldError::new(path, problem));
    }
}

/// Whether objects can be selected by the field at a path; why not, if they can't.
fn selectable(path: &str, schema: &Schema) -> Result<(), String> {
    let invalid = |why: &str| Err(format!("is an invalid path: {why}"));
    let Some(steps) = path.strip_prefix('.') else { return invalid("expected [ or . at its beginning") };
    if path.contains(['[', ']']) {
        return invalid("array notation is not allowed");
    }
    if steps == "metadata" || steps.starts_with("metadata.") {
        return Err("must not point to fields in metadata".to_owned());
    }
    let found = steps.split('.').try_fold(schema, |schema, step| schema.field(step).map(AsRef::as_ref));
    match found.map(|schema| schema.kind.as_str()) {
        None => invalid("does not refer to a valid field"),
        Some("string" | "boolean" | "integer") => Ok(()),
        Some(_) => Err(
            "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                        formats are allowed."
                .to_owned(),
        ),
    }
}

fn validate_conversion(conversion: &Value, errors: &mut Vec<FieldError>) {
    let (strategy, webhook) = (text(&conversion["strategy"]), &conversion["webhook"]);
    match (strategy, webhook.is_null()) {
        ("None", true) | ("Webhook", false) => {}
        ("None", false) => {
            let why = "should not be set when strategy is not set to Webhook";
            errors.push(FieldError::forbidden("spec.conversion.webhookClientConfig", why));
        }
        ("Webhook", true) => {
            let why = "required when strategy is set to Webhook";
            errors.push(FieldError::required("spec.conversion.webhookClientConfig", why));
        }
        ("", _) => errors.push(FieldError::required("spec.conversion.strategy", "")),
        _ => {
            let supported = vec!["None".to_owned(), "Webhook".to_owned()];
            let problem = Problem::NotSupported(conversion["strategy"].clone(), supported);
            errors.push(FieldError::new("spec.conversion.strategy", problem));
        }
    }
}

/// Versions that objects may still be stored in can't be left out.
fn validate_stored_versions(definition: &Value, errors: &mut Vec<FieldError>) {
    let versions = versions(&definition["spec"]);
    let stored = definition["status"]["storedVersions"].as_array().into_iter().flatten();
    for (position, stored) in stored.enumerate() {
        if !versions.iter().any(|version| version["name"] == *stored) {
            let name = text(stored);
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {name} and removes \
                 {name} from status.storedVersions"
            );
            errors.extend(invalid(format!("status.storedVersions[{position}]"), name, [why]));
        }
    }
}

fn validate_change(spec: &Value, live: &Value, errors: &mut Vec<FieldError>) {
    // The first two are fixed once objects may have been stored, the others are the definition's name.
    let pointers = ["/scope", "/names/kind", "/group", "/names/plural"];
    let fixed = if is_established(live) { &pointers[..] } else { &pointers[2..] };
    for pointer in fixed {
        let [value, before] = [spec, &live["spec"]].map(|spec| spec.pointer(pointer).unwrap_or(&Value::Null));
        if value != before {
            let path = format!("spec{}", pointer.replace('/', "."));
            errors.push(FieldError::invalid(path, value.clone(), "field is immutable"));
        }
    }
}
