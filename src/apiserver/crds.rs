//! Definitions of custom kinds: their rules, their conditions, and the kinds that follow from them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::FieldError;
use super::metadata::whole_seconds;
use super::object::{self, child_mut};
use super::resource::{Names, Nature, Resource, ScalePaths};
use super::schema::CustomKind;
use super::selector::SelectableFields;
use super::table::Printer;

/// Keeps a deleted definition until its objects are gone.
pub(crate) const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Which state of which definition a kind was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    uid: String,
    generation: i64,
}

impl Origin {
    pub(crate) fn of(definition: &Value) -> Self {
        let generation = definition["metadata"]["generation"].as_i64().unwrap_or_default();
        Self { uid: object::uid(definition).to_owned(), generation }
    }
}

/// Sets what a definition leaves out.
pub(crate) fn complete(definition: &mut Value, _: Option<&Value>) {
    let kind = text(&definition["spec"]["names"]["kind"]).to_owned();
    let names = &mut definition["spec"]["names"];
    if names["singular"].as_str().unwrap_or_default().is_empty() {
        names["singular"] = json!(kind.to_lowercase());
    }
    if names["listKind"].as_str().unwrap_or_default().is_empty() {
        names["listKind"] = json!(format!("{kind}List"));
    }
    child_mut(definition, "spec").entry("conversion").or_insert_with(|| json!({"strategy": "None"}));
}

/// What is wrong with a definition.
pub(crate) fn validate(definition: &Value, live: Option<&Value>) -> Vec<FieldError> {
    let spec = &definition["spec"];
    let mut errors = Vec::new();
    for field in ["group", "scope"] {
        if text(&spec[field]).is_empty() {
            errors.push(FieldError::required(format!("spec.{field}"), ""));
        }
    }
    for field in ["plural", "kind"] {
        if text(&spec["names"][field]).is_empty() {
            errors.push(FieldError::required(format!("spec.names.{field}"), ""));
        }
    }
    let wanted = format!("{}.{}", text(&spec["names"]["plural"]), text(&spec["group"]));
    let name = object::name(definition);
    if name != wanted {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", json!(name), detail));
    }
    validate_versions(spec, &mut errors);
    if let Some(live) = live {
        for field in ["group", "scope"] {
            if is_established(live) && live["spec"][field] != spec[field] {
                let value = spec[field].clone();
                errors.push(FieldError::invalid(format!("spec.{field}"), value, "field is immutable"));
            }
        }
    }
    errors
}

fn validate_versions(spec: &Value, errors: &mut Vec<FieldError>) {
    let versions = versions(spec);
    if versions.is_empty() {
        errors.push(FieldError::required("spec.versions", "must have at least one version"));
        return;
    }
    let stored = versions.iter().filter(|version| version["storage"] == true).count();
    if stored != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid("spec.versions", json!(versions), detail));
    }
    for (position, version) in versions.iter().enumerate() {
        let path = match versions {
            // As kube-apiserver names the schema of an only version.
            [_] => "spec.validation.openAPIV3Schema".to_owned(),
            _ => format!("spec.versions[{position}].schema.openAPIV3Schema"),
        };
        match &version["schema"]["openAPIV3Schema"] {
            Value::Null => {
                let field = format!("spec.versions[{position}].schema.openAPIV3Schema");
                errors.push(FieldError::required(field, "schemas are required"));
            }
            form => {
                let has_status = version["subresources"]["status"].is_object();
                errors.extend(CustomKind::new(form, &path, has_status).err().into_iter().flatten());
            }
        }
    }
}

fn versions(spec: &Value) -> &[Value] {
    spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether the kinds of a definition are served.
pub(crate) fn is_established(definition: &Value) -> bool {
    has_condition(definition, "Established") && has_condition(definition, "NamesAccepted")
}

fn has_condition(definition: &Value, kind: &str) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// The definition with its status brought up to date: whether its names are free among those of `others`.
pub(crate) fn accept(mut definition: Value, others: &[Value]) -> Value {
    let conflict = conflict(&definition, others);
    let accepted = conflict.is_none();
    let (reason, message) = match conflict {
        None => ("NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => (reason, message),
    };
    set_condition(&mut definition, "NamesAccepted", accepted, reason, &message);
    if accepted {
        set_condition(
            &mut definition,
            "Established",
            true,
            "InitialNamesAccepted",
            "the initial names have been accepted",
        );
        let names = definition["spec"]["names"].clone();
        definition["status"]["acceptedNames"] = names;
    } else if !has_condition(&definition, "Established") {
        set_condition(&mut definition, "Established", false, "NotAccepted", "not all names are accepted");
        definition["status"]["acceptedNames"] = json!({"kind": "", "plural": ""});
    }
    let stored = versions(&definition["spec"]).iter().find(|version| version["storage"] == true);
    let stored = stored.map(|version| version["name"].clone()).unwrap_or_default();
    let status = child_mut(&mut definition, "status");
    let all = status.entry("storedVersions").or_insert_with(|| json!([]));
    if let Some(all) = all.as_array_mut()
        && !all.contains(&stored)
    {
        all.push(stored);
    }
    definition
}

/// Notes that a definition is on its way out.
pub(crate) fn terminate(definition: &mut Value) {
    let message = "CustomResource deletion is in progress";
    set_condition(definition, "Terminating", true, "InstanceDeletionInProgress", message);
}

fn set_condition(definition: &mut Value, kind: &str, holds: bool, reason: &str, message: &str) {
    let status = if holds { "True" } else { "False" };
    let conditions = child_mut(definition, "status").entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else { return };
    let condition = json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": whole_seconds(Timestamp::now()),
    });
    match conditions.iter_mut().find(|condition| condition["type"] == kind) {
        Some(known) if known["status"] == status && known["reason"] == reason => {}
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}

/// The first name of a definition that another one has in the same group.
fn conflict(definition: &Value, others: &[Value]) -> Option<(&'static str, String)> {
    let own = &definition["spec"]["names"];
    let group = &definition["spec"]["group"];
    let others = others
        .iter()
        .filter(|other| other["spec"]["group"] == *group && object::uid(other) != object::uid(definition));
    let taken: Vec<&Value> = others.map(|other| &other["status"]["acceptedNames"]).collect();
    let is_taken = |fields: &[&str], name: &str| {
        !name.is_empty() && taken.iter().any(|names| names_of(names, fields).any(|taken| taken == name))
    };
    let resources = ["plural", "singular", "shortNames"];
    for (field, reason) in [("plural", "PluralConflict"), ("singular", "SingularConflict")] {
        let name = text(&own[field]);
        if is_taken(&resources, name) {
            return Some((reason, format!("{name:?} is already in use")));
        }
    }
    for short in own["shortNames"].as_array().into_iter().flatten().map(text) {
        if is_taken(&resources, short) {
            return Some(("ShortNamesConflict", format!("{short:?} is already in use")));
        }
    }
    for (field, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
        let name = text(&own[field]);
        if is_taken(&["kind", "listKind"], name) {
            return Some((reason, format!("{name:?} is already in use")));
        }
    }
    None
}

fn names_of<'a>(names: &'a Value, fields: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    fields.iter().flat_map(move |field| match &names[*field] {
        Value::Array(several) => several.iter().map(text).collect(),
        one => vec![text(one)],
    })
}

/// The kind of a definition in each version that is served.
pub(crate) fn resources(definition: &Value) -> Vec<Resource> {
    let spec = &definition["spec"];
    let stored = versions(spec).iter().find(|version| version["storage"] == true);
    let stored = stored.map(|version| text(&version["name"])).unwrap_or_default();
    let served = versions(spec).iter().filter(|version| version["served"] == true);
    served.filter_map(|version| resource(definition, version, stored)).collect()
}

fn resource(definition: &Value, version: &Value, stored: &str) -> Option<Resource> {
    let spec = &definition["spec"];
    let form = &version["schema"]["openAPIV3Schema"];
    // It was checked when it was stored; what a test put there by force is not served.
    let has_status = version["subresources"]["status"].is_object();
    let CustomKind { schema, validator } = CustomKind::new(form, "", has_status).ok()?;
    let names = &spec["names"];
    let list = |field: &str| {
        names[field].as_array().into_iter().flatten().map(|name| text(name).to_owned()).collect()
    };
    let namespaced = spec["scope"] == "Namespaced";
    let subresources = &version["subresources"];
    let fields = version["selectableFields"].as_array().into_iter().flatten();
    Some(Resource {
        group: text(&spec["group"]).to_owned(),
        version: text(&version["name"]).to_owned(),
        names: Names {
            kind: text(&names["kind"]).to_owned(),
            list_kind: text(&names["listKind"]).to_owned(),
            plural: text(&names["plural"]).to_owned(),
            singular: text(&names["singular"]).to_owned(),
            short_names: list("shortNames"),
            categories: list("categories"),
        },
        namespaced,
        storage: object::name(definition).into(),
        schema,
        printer: Printer::custom(version),
        status: has_status,
        scale: subresources["scale"].as_object().map(|scale| ScalePaths {
            spec_replicas: path(&scale["specReplicasPath"]),
            status_replicas: path(&scale["statusReplicasPath"]),
            selector: scale.get("labelSelectorPath").map(path),
        }),
        selectable_fields: SelectableFields::custom(namespaced, fields.map(|field| text(&field["jsonPath"]))),
        nature: Nature::Custom {
            stored_version: stored.to_owned(),
            origin: Origin::of(definition),
            form: form.clone(),
            validator,
        },
    })
}

/// A path without the dot that it begins with.
fn path(value: &Value) -> String {
    text(value).trim_start_matches('.').to_owned()
}
