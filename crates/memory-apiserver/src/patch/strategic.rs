//! Strategic merge patch: a merge patch that also merges lists, by the keys that the schema names.
//!
//! A patch has values and directives:
//!
//! | Directive | In the place of | Effect |
//! |---|---|---|
//! | `$patch: replace` or `delete` | a field of a map, an item's field | the map or item is replaced or removed |
//! | `$retainKeys: [..]` | a field of a map | all other fields of the live map are removed |
//! | `$deleteFromPrimitiveList/f: [..]` | a field beside `f` | these items are removed from the list `f` |
//! | `$setElementOrder/f: [..]` | a field beside `f` | the items of the list `f` get this order |
//!
//! Fields that look like directives but are none stay in the result, and pruning removes them.

use std::collections::HashSet;

use serde_json::Value;

use super::directives::{DIRECTIVE, Object, new_value, unknown_directive, wrong_type};
use super::lists::{ListRule, merge_lists, merge_lists_in_order};
use super::values::{discard_null_fields, not_an_object};
use crate::error::ApiError;
use crate::schema::Schema;

const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

/// The live object with the patch merged into it. Kind and version do not change.
pub(super) fn apply(schema: &Schema, live: &Value, body: &[u8]) -> Result<Value, ApiError> {
    let patch = match serde_json::from_slice(body) {
        Ok(Value::Object(patch)) => patch,
        Ok(Value::Null) => Object::new(),
        Ok(other) => return Err(ApiError::bad_request(not_an_object(&other))),
        Err(error) => return Err(ApiError::bad_request(error.to_string())),
    };
    let mut merged = merge_maps(live.as_object().cloned().unwrap_or_default(), patch, Some(schema))?;
    for field in ["apiVersion", "kind"] {
        if let Some(value) = live.get(field) {
            merged.insert(field.to_owned(), value.clone());
        }
    }
    Ok(Value::Object(merged))
}

/// Merges a map of the patch into a live one. Without a schema, lists are replaced.
fn merge_maps(mut live: Object, mut patch: Object, schema: Option<&Schema>) -> Result<Object, ApiError> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                discard_null_fields(&mut patch);
                Ok(patch)
            }
            Some("delete") => Ok(Object::new()),
            _ => Err(unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut live, &mut patch)?;
    set_orders(&mut live, &mut patch, schema)?;
    for (key, value) in patch {
        merge_field(&mut live, &key, value, schema)?;
    }
    Ok(live)
}

/// Carries out `$retainKeys`, which must name every field that the patch sets.
fn retain_keys(live: &mut Object, patch: &mut Object) -> Result<(), ApiError> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let malformed = || ApiError::bad_request("invalid patch format of retainKeys");
    let retained: HashSet<_> =
        retained.as_array().ok_or_else(malformed)?.iter().filter_map(Value::as_str).collect();
    let is_retained = |name: &str| retained.contains(name);
    let is_directive = |name: &str| name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ORDER);
    let sets = |name: &str, value: &Value| !value.is_null() && !is_directive(name);
    if patch.iter().any(|(name, value)| sets(name, value) && !is_retained(name)) {
        return Err(malformed());
    }
    live.retain(|name, _| is_retained(name));
    Ok(())
}

fn merge_field(live: &mut Object, key: &str, patch: Value, schema: Option<&Schema>) -> Result<(), ApiError> {
    let deleted_from = field_of(key, DELETE_FROM_LIST)
        .map_err(|()| ApiError::bad_request("invalid patch format of primitive list"))?;
    let deletes = deleted_from.is_some();
    let name = deleted_from.filter(|name| !name.is_empty()).unwrap_or(key);
    let found = live.remove(name);
    if patch.is_null() {
        return Ok(());
    }
    let schema = schema.and_then(|schema| schema.field(name)).map(AsRef::as_ref);
    let merged = match (found, patch) {
        (None, _) if deletes => None,
        (Some(Value::Object(live)), Value::Object(patch)) => {
            Some(Value::Object(merge_maps(live, patch, schema)?))
        }
        (Some(Value::Array(live)), Value::Array(patch)) => {
            Some(Value::Array(merge_lists(live, patch, ListRule::of(schema, merge_maps), deletes)?))
        }
        (found, _) if deletes => found,
        (_, patch) => new_value(patch),
    };
    if let Some(merged) = merged {
        live.insert(name.to_owned(), merged);
    }
    Ok(())
}

/// The field that a directive with this prefix names. `Err`: it has the prefix, but names no field.
fn field_of<'k>(key: &'k str, prefix: &str) -> Result<Option<&'k str>, ()> {
    match key.strip_prefix(prefix) {
        None => Ok(None),
        Some(rest) => rest.strip_prefix('/').map(Some).ok_or(()),
    }
}

/// Carries out each `$setElementOrder`, and merges the list that it names.
fn set_orders(live: &mut Object, patch: &mut Object, schema: Option<&Schema>) -> Result<(), ApiError> {
    let keys: Vec<_> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for key in keys {
        let order = as_list(patch.remove(&key))?.unwrap_or_default();
        let name = field_of(&key, SET_ORDER)
            .ok()
            .flatten()
            .ok_or_else(|| ApiError::bad_request("invalid patch format of setElementOrder list"))?;
        let live_list = as_list(live.get(name).cloned())?;
        let patch_list = as_list(patch.get(name).cloned())?;
        let field = schema.and_then(|schema| schema.field(name)).map(AsRef::as_ref);
        if field.is_none() && schema.is_some_and(|schema| !schema.properties.is_empty()) {
            let message = format!("unable to find api field for the json field {name:?}");
            return Err(ApiError::unexpected(message));
        }
        let rule = ListRule::of(field, merge_maps);
        if let Some(merged) = merge_lists_in_order(live_list, patch_list, &order, rule)? {
            live.insert(name.to_owned(), Value::Array(merged));
            patch.remove(name);
        }
    }
    Ok(())
}

fn as_list(value: Option<Value>) -> Result<Option<Vec<Value>>, ApiError> {
    match value {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(other) => Err(wrong_type("list", &other)),
    }
}
