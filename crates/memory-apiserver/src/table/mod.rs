//! Tables of objects, as `kubectl get` asks for them, and objects with their metadata alone.
//!
//! Pure functions: the objects and the time are arguments. Tables are of `meta.k8s.io/v1`.

mod age;
mod built_in;
mod cells;
mod column;
mod events;
mod json_path;
mod pods;
mod printer;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::ApiError;
use super::object::meta_text;

pub(crate) use printer::Printer;

const API_VERSION: &str = "meta.k8s.io/v1";

/// How much of its object a row has, beside the cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// Parses the query parameter `includeObject`, which is empty if it is not given.
    pub(crate) fn parse(parameter: &str) -> Result<Self, ApiError> {
        match parameter {
            "None" => Ok(Self::None),
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            other => Err(ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: \
                 must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// Renders objects of one kind as tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables<'p> {
    pub(crate) printer: &'p Printer,
    pub(crate) include: IncludeObject,
}

impl Tables<'_> {
    /// The table of a list, which has the list's metadata.
    pub(crate) fn of_list<'o>(
        &self,
        metadata: &Value,
        items: impl IntoIterator<Item = &'o Value>,
        now: Timestamp,
    ) -> Value {
        let rows = items.into_iter().map(|object| self.row(object, now)).collect();
        table(metadata.clone(), self.headers(), rows)
    }

    /// The table of one object.
    pub(crate) fn of_object(&self, object: &Value, now: Timestamp) -> Value {
        self.of_event(object, true, now)
    }

    /// The table of the object of an event. Only the first table of a watch has headers.
    pub(crate) fn of_event(&self, object: &Value, first: bool, now: Timestamp) -> Value {
        let metadata = json!({"resourceVersion": meta_text(object, "resourceVersion")});
        let headers = if first { self.headers() } else { Value::Null };
        table(metadata, headers, vec![self.row(object, now)])
    }

    fn headers(&self) -> Value {
        self.printer.columns.iter().map(column::Column::definition).collect()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Value {
        let included = match self.include {
            IncludeObject::Object => object.clone(),
            IncludeObject::None if !ends_initial_events(object) => Value::Null,
            _ => partial_object(object),
        };
        let cells = self.printer.cells(object, now).into();
        match self.printer.row_conditions(object) {
            None => with_fields([("cells", cells), ("object", included)]),
            Some(conditions) => {
                with_fields([("cells", cells), ("conditions", conditions), ("object", included)])
            }
        }
    }
}

fn table(metadata: Value, headers: Value, rows: Vec<Value>) -> Value {
    let rest = [("metadata", metadata), ("columnDefinitions", headers), ("rows", rows.into())];
    with_fields([("kind", "Table".into()), ("apiVersion", API_VERSION.into())].into_iter().chain(rest))
}

/// A JSON object of these fields, which are not copied.
fn with_fields(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Whether the object is the bookmark after the initial events, which clients recognize by its metadata.
fn ends_initial_events(object: &Value) -> bool {
    object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
}

/// An object with its metadata alone.
pub(crate) fn partial_object(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": API_VERSION, "metadata": object["metadata"]})
}

/// A list of objects with their metadata alone.
pub(crate) fn partial_list<'o>(metadata: &Value, items: impl IntoIterator<Item = &'o Value>) -> Value {
    let items: Vec<_> = items.into_iter().map(partial_object).collect();
    with_fields([
        ("kind", "PartialObjectMetadataList".into()),
        ("apiVersion", API_VERSION.into()),
        ("metadata", metadata.clone()),
        ("items", items.into()),
    ])
}
