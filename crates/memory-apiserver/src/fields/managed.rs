//! Reads, checks and writes `metadata.managedFields`.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::names::check_name;
use super::set::FieldSet;
use crate::error::{FieldError, Problem};
use crate::object::metadata_mut;

/// The entries of `managedFields`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Managed<'a> {
    pub(super) entries: Vec<Entry<'a>>,
}

/// The fields of one manager.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry<'a> {
    pub(super) id: Identity<'a>,
    /// `None` if the manager has only applied values that were there already.
    pub(super) time: Option<Timestamp>,
    pub(super) fields: FieldSet<'a>,
}

/// The identity of an entry: manager, operation and subresource, and for updates also the API version.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Identity<'a> {
    pub(super) manager: Cow<'a, str>,
    /// Whether the operation is an apply, and not an update.
    pub(super) applies: bool,
    pub(super) api_version: Cow<'a, str>,
    pub(super) subresource: Cow<'a, str>,
}

/// The list cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("malformed managedFields")]
pub(super) struct Malformed;

/// Maximum length of the name of a subresource.
const MAX_SUBRESOURCE: u64 = 256;

impl Identity<'_> {
    pub(super) fn is_of(&self, other: &Identity<'_>) -> bool {
        self.manager == other.manager
            && self.applies == other.applies
            && self.subresource == other.subresource
            && (self.applies || self.api_version == other.api_version)
    }

    /// The order of managers, for conflicts and for merging the oldest.
    pub(super) fn rank(&self) -> impl Ord + use<'_> {
        (&self.manager, !self.applies, &self.api_version, self.subresource.is_empty(), &self.subresource)
    }
}

impl<'a> Managed<'a> {
    /// Decodes a list. `null` is the empty list. Of entries with equal identity, the last one counts.
    pub(super) fn read(list: &'a Value) -> Result<Self, Malformed> {
        let mut managed = Self::default();
        let entries = match list {
            Value::Null => return Ok(managed),
            Value::Array(entries) => entries,
            _ => return Err(Malformed),
        };
        for entry in entries {
            let entry = Entry::read(entry)?;
            managed.entries.retain(|other| !other.id.is_of(&entry.id));
            managed.entries.push(entry);
        }
        Ok(managed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Removes and returns the entry with this identity.
    pub(super) fn take(&mut self, id: &Identity<'_>) -> Option<Entry<'a>> {
        let at = self.entries.iter().position(|entry| entry.id.is_of(id))?;
        Some(self.entries.swap_remove(at))
    }

    /// The list as JSON: applies first, then updates, each from the oldest to the newest. `None` if it is empty.
    pub(super) fn into_list(mut self) -> Option<Value> {
        self.entries.sort_by(|left, right| left.rank().cmp(&right.rank()));
        (!self.is_empty()).then(|| self.entries.iter().map(Entry::write).collect())
    }
}

/// Adds a list to an object that has none.
pub(super) fn put(object: &mut Value, list: Option<Value>) {
    if let Some(list) = list {
        metadata_mut(object).insert("managedFields".to_owned(), list);
    }
}

/// The first value in a body that is not of the type of an entry, in the words of Go's decoder. Such a body is refused;
/// entries that cannot be used are only ignored.
pub(crate) fn check_form(object: &Value) -> Result<(), String> {
    let unexpected = |value: &Value, field: &str, expected: &str| {
        let kind = match value {
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) | Value::Null => "object",
        };
        Err(format!("json: cannot unmarshal {kind} into Go struct field {field} of type {expected}"))
    };
    let entries = match list_of(object) {
        Value::Null => return Ok(()),
        Value::Array(entries) => entries,
        other => return unexpected(other, "ObjectMeta.managedFields", "[]v1.ManagedFieldsEntry"),
    };
    for entry in entries.iter().filter(|entry| !entry.is_null()) {
        if !entry.is_object() {
            return unexpected(entry, "ObjectMeta.managedFields", "v1.ManagedFieldsEntry");
        }
        for field in ["manager", "operation", "apiVersion", "fieldsType", "subresource"] {
            let value = &entry[field];
            if !value.is_null() && !value.is_string() {
                return unexpected(value, &format!("ManagedFieldsEntry.managedFields.{field}"), "string");
            }
        }
        match &entry["time"] {
            Value::Null => {}
            Value::String(time) if time.parse::<Timestamp>().is_ok() => {}
            time => {
                return Err(format!("parsing time {time} as \"2006-01-02T15:04:05Z07:00\": cannot parse"));
            }
        }
    }
    Ok(())
}

/// The problems of the names in the `managedFields` of a complete object.
pub(crate) fn check_limits(object: &Value) -> Vec<FieldError> {
    let entries = list_of(object).as_array().map(Vec::as_slice).unwrap_or_default();
    let mut errors = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let field = |name: &str| format!("metadata.managedFields[{at}].{name}");
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        errors.extend(check_name(text("manager"), &field("manager")));
        if text("subresource").len() as u64 > MAX_SUBRESOURCE {
            errors.push(FieldError::new(field("subresource"), Problem::TooLong(MAX_SUBRESOURCE)));
        }
    }
    errors
}

/// Removes and returns the list of an object; `null` if there is none.
pub(super) fn take(object: &mut Value) -> Value {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    metadata.and_then(|metadata| metadata.remove("managedFields")).unwrap_or_default()
}

/// The list of an object, `null` if there is none.
pub(super) fn list_of(object: &Value) -> &Value {
    &object["metadata"]["managedFields"]
}

/// The seconds of a time, 0 for no time.
pub(super) fn seconds(time: Option<Timestamp>) -> i64 {
    time.map_or(0, Timestamp::as_second)
}

impl<'a> Entry<'a> {
    /// Compares entries in the order of the list.
    fn rank(&self) -> impl Ord + use<'_> {
        let Identity { manager, applies, api_version, subresource } = &self.id;
        (!applies, seconds(self.time), manager, api_version, subresource)
    }

    fn read(entry: &'a Value) -> Result<Self, Malformed> {
        let entry = entry.as_object().ok_or(Malformed)?;
        let text = |field: &str| match entry.get(field) {
            None | Some(Value::Null) => Ok(""),
            Some(value) => value.as_str().ok_or(Malformed),
        };
        let applies = match text("operation")? {
            "Apply" => true,
            "Update" => false,
            _ => return Err(Malformed),
        };
        let time = match entry.get("time") {
            None | Some(Value::Null) => None,
            Some(time) => Some(time.as_str().and_then(|time| time.parse().ok()).ok_or(Malformed)?),
        };
        if text("apiVersion")?.is_empty() || text("fieldsType")? != "FieldsV1" {
            return Err(Malformed);
        }
        let fields = match entry.get("fieldsV1") {
            None | Some(Value::Null) => FieldSet::default(),
            Some(fields) => FieldSet::from_json(fields).map_err(|_| Malformed)?,
        };
        let id = Identity {
            manager: text("manager")?.into(),
            applies,
            api_version: text("apiVersion")?.into(),
            subresource: text("subresource")?.into(),
        };
        Ok(Self { id, time, fields })
    }

    fn write(&self) -> Value {
        let mut entry = Map::new();
        let mut text = |field: &str, text: &str| {
            if !text.is_empty() {
                entry.insert(field.to_owned(), Value::from(text));
            }
        };
        text("manager", &self.id.manager);
        text("operation", if self.id.applies { "Apply" } else { "Update" });
        text("apiVersion", &self.id.api_version);
        text("time", &self.time.map(in_whole_seconds).unwrap_or_default());
        text("fieldsType", "FieldsV1");
        text("subresource", &self.id.subresource);
        entry.insert("fieldsV1".to_owned(), self.fields.to_json());
        Value::Object(entry)
    }
}

fn in_whole_seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}
