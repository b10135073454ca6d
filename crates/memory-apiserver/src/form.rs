//! [`Form`]: the form that a client accepts (objects, metadata, tables), and [`Presenter`], which writes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderMap, header::ACCEPT};
use serde_json::{Value, json};

use super::clock::Clock;
use super::error::ApiError;
use super::request::Params;
use super::resource::Resource;
use super::store::Stored;
use super::table::{self, IncludeObject, Tables};

/// The media type of answers, for the error text.
const ACCEPTED: &str = "application/json";

/// The form in which objects are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As whole objects.
    Object,
    /// As `PartialObjectMetadata`.
    Metadata,
    /// As rows of a `Table`.
    Table(IncludeObject),
}

impl Form {
    /// The first form that the client accepts and the server supports.
    ///
    /// # Errors
    ///
    /// If there is none, or if a parameter is invalid.
    pub(crate) fn negotiate(headers: &HeaderMap, params: &Params) -> Result<Self, ApiError> {
        let accepted: Vec<_> =
            headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        if accepted.iter().all(|value| value.trim().is_empty()) {
            return Ok(Self::Object);
        }
        let mut entries = accepted.iter().flat_map(|value| value.split(',')).map(str::trim);
        match entries.find_map(Wanted::parse) {
            Some(Wanted::Object) => Ok(Self::Object),
            Some(Wanted::Metadata) => Ok(Self::Metadata),
            Some(Wanted::Table) => {
                Ok(Self::Table(IncludeObject::parse(params.get("includeObject").unwrap_or_default())?))
            }
            None => Err(ApiError::not_acceptable(ACCEPTED)),
        }
    }
}

enum Wanted {
    Object,
    Metadata,
    Table,
}

impl Wanted {
    /// The form of one entry of an `Accept` header, if the server supports it.
    fn parse(entry: &str) -> Option<Self> {
        let mut parts = entry.split(';').map(str::trim);
        let media = parts.next()?;
        if !matches!(media, "application/json" | "*/*" | "application/*") {
            return None;
        }
        let (mut form, mut group, mut version) = (None, "meta.k8s.io", "v1");
        for part in parts {
            match part.split_once('=') {
                Some(("as", value)) => form = Some(value),
                Some(("g", value)) => group = value,
                Some(("v", value)) => version = value,
                _ => {}
            }
        }
        match form {
            None => Some(Self::Object),
            Some(_) if group != "meta.k8s.io" || version != "v1" => None,
            Some("Table") => Some(Self::Table),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Some(Self::Metadata),
            Some(_) => None,
        }
    }
}

/// Writes stored objects of one kind in one form.
pub(crate) struct Presenter {
    pub(crate) resource: Arc<Resource>,
    pub(crate) form: Form,
    /// Whether a table with its columns was written. A watch sends the columns once.
    columns_told: AtomicBool,
    clock: Clock,
}

impl Presenter {
    pub(crate) fn new(resource: Arc<Resource>, form: Form, clock: Clock) -> Self {
        Self { resource, form, columns_told: false.into(), clock }
    }

    /// An object as the answer to a request.
    pub(crate) fn object(&self, stored: &Stored) -> Bytes {
        match self.form {
            Form::Object => self.resource.view(stored),
            Form::Metadata => text(&table::partial_object(&self.resource.view_value(stored))),
            Form::Table(include) => {
                let object = self.resource.view_value(stored);
                text(&self.tables(include).of_object(&object, self.clock.now()))
            }
        }
    }

    /// An object as an event of a watch.
    pub(crate) fn event_object(&self, stored: &Stored) -> Bytes {
        match self.form {
            Form::Table(include) => self.event_table(include, &self.resource.view_value(stored)),
            _ => self.object(stored),
        }
    }

    fn event_table(&self, include: IncludeObject, object: &Value) -> Bytes {
        let first = !self.columns_told.swap(true, Ordering::Relaxed);
        text(&self.tables(include).of_event(object, first, self.clock.now()))
    }

    /// The object of a bookmark: kind and version, and whether it ends the initial objects.
    pub(crate) fn bookmark(&self, revision: u64, ends_initial: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if ends_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, version) = (&self.resource.names.kind, self.resource.api_version());
        let object = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
        match self.form {
            Form::Object => text(&object),
            Form::Metadata => text(&table::partial_object(&object)),
            Form::Table(include) => self.event_table(include, &object),
        }
    }

    /// A list in a form other than whole objects.
    pub(crate) fn small_list(&self, objects: &[Arc<Stored>], metadata: &Value) -> Value {
        let values: Vec<Value> = objects.iter().map(|stored| self.resource.view_value(stored)).collect();
        match self.form {
            Form::Table(include) => self.tables(include).of_list(metadata, &values, self.clock.now()),
            _ => table::partial_list(metadata, &values),
        }
    }

    fn tables(&self, include: IncludeObject) -> Tables<'_> {
        Tables { printer: &self.resource.printer, include }
    }
}

fn text(value: &Value) -> Bytes {
    value.to_string().into()
}
