//! Conversion of objects between the form in which they are stored and the version in which a client sees them.

use bytes::Bytes;
use serde_json::{Value, json};

use super::events;
use super::resource::{Nature, Resource, StoredForm, api_version};
use super::schema::{self, Schema};
use super::store::Stored;

/// The conversion between the stored form and the version of a resource.
enum Conversion<'a> {
    None,
    /// Fields have other names in the group `events.k8s.io`.
    Events,
    /// A custom kind is stored in another version, or its schema was changed.
    Custom(&'a StoredForm),
}

/// Removes fields that a schema does not have.
fn coerce(object: &mut Value, schema: &Schema) {
    schema::prune(object, schema);
}

impl Resource {
    /// A stored object as this version shows it.
    pub(crate) fn view(&self, stored: &Stored) -> Bytes {
        match self.conversion() {
            Conversion::None => stored.text.clone(),
            _ => self.view_value(stored).to_string().into(),
        }
    }

    /// As [`Self::view`], as a value.
    pub(crate) fn view_value(&self, stored: &Stored) -> Value {
        let mut object = stored.value();
        match self.conversion() {
            Conversion::None => {}
            Conversion::Events => object = events::to_events_group(object),
            Conversion::Custom(form) => {
                coerce(&mut object, &form.schema);
                schema::apply_defaults(&mut object, &form.schema);
                if form.version != self.version {
                    coerce(&mut object, &self.schema);
                }
                object["apiVersion"] = json!(self.api_version());
            }
        }
        object
    }

    /// The stored form of an object of this version.
    pub(crate) fn to_stored(&self, mut object: Value) -> Value {
        match self.conversion() {
            Conversion::None => {}
            Conversion::Events => object = events::to_core_group(object),
            Conversion::Custom(form) => {
                if form.version != self.version {
                    coerce(&mut object, &form.schema);
                    // The defaults are stored, so that reads need not add them.
                    schema::apply_defaults(&mut object, &form.schema);
                }
                object["apiVersion"] = json!(api_version(&self.group, &form.version));
            }
        }
        object
    }

    /// The conversion that objects of this version need.
    fn conversion(&self) -> Conversion<'_> {
        match &self.nature {
            Nature::Builtin(native) if native.rules.group == "events.k8s.io" => Conversion::Events,
            // Objects are stored in the form of this version, unless its schema has changed since.
            Nature::Custom(custom)
                if custom.stored.version != self.version || custom.origin.has_changed() =>
            {
                Conversion::Custom(&custom.stored)
            }
            _ => Conversion::None,
        }
    }
}
