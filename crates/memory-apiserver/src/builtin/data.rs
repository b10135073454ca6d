//! `ConfigMap` and `Secret`: their keys, and immutable data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::rules::text;
use crate::error::FieldError;
use crate::names::{config_key_problems, invalid};
use crate::object::child_mut;

/// Moves `stringData` to `data`, which it is another way to write.
pub(super) fn default_secret(secret: &mut Value) {
    let plain = secret.as_object_mut().and_then(|secret| secret.remove("stringData"));
    for (key, value) in plain.iter().filter_map(Value::as_object).flatten() {
        let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
        child_mut(secret, "data").insert(key.clone(), json!(encoded));
    }
    if text(secret, "type").is_empty() {
        secret["type"] = json!("Opaque");
    }
}

pub(super) fn validate_config_map(map: &Value, live: Option<&Value>) -> Vec<FieldError> {
    let mut errors = keys(map, "data");
    for (key, _) in map["data"].as_object().into_iter().flatten() {
        if map["binaryData"].get(key).is_some() {
            errors.extend(invalid(format!("data[{key}]"), key, ["duplicate of key present in binaryData"]));
        }
    }
    errors.extend(keys(map, "binaryData"));
    errors.extend(immutable(map, live, &["data", "binaryData", "immutable"]));
    errors
}

pub(super) fn validate_secret(secret: &Value, live: Option<&Value>) -> Vec<FieldError> {
    let mut errors = keys(secret, "data");
    let needed: &[&str] = match text(secret, "type") {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    };
    for key in needed.iter().filter(|key| secret["data"].get(key).is_none()) {
        errors.push(FieldError::required(format!("data[{key}]"), ""));
    }
    if live.is_some_and(|live| live["type"] != secret["type"]) {
        errors.push(FieldError::invalid("type", secret["type"].clone(), "field is immutable"));
    }
    errors.extend(immutable(secret, live, &["data", "immutable"]));
    errors
}

fn keys(object: &Value, field: &str) -> Vec<FieldError> {
    let keys = object[field].as_object().into_iter().flatten().map(|(key, _)| key);
    keys.flat_map(|key| invalid(format!("{field}[{key}]"), key, config_key_problems(key))).collect()
}

/// Refuses changes of an immutable object.
fn immutable(object: &Value, live: Option<&Value>, fields: &[&'static str]) -> Vec<FieldError> {
    let Some(live) = live.filter(|live| live["immutable"] == true) else { return Vec::new() };
    let changed = fields.iter().filter(|field| live[**field] != object[**field]);
    changed.map(|field| FieldError::forbidden(*field, "field is immutable when `immutable` is set")).collect()
}
