//! Conversion of objects between the form in which they are stored and the version in which a client sees them.

use bytes::Bytes;
use serde_json::{Value, json};

use super::events;
use super::resource::{Nature, Resource, StoredForm, api_version};
use super::schema::{self, Schema};
use super::store::Stored;

/// The difference between what is stored and what is shown.
enum Conversion<'a> {
    None,
    /// Fields have other names.
    Events,
    /// Of a custom kind: the version is another one, or its schema was.
    Custom(&'a StoredForm),
}

/// Drops what a schema does not know. That it does is no news to anybody.
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

    /// An object of this version as it is to be stored.
    pub(crate) fn to_stored(&self, mut object: Value) -> Value {
        match self.conversion() {
            Conversion::None => {}
            Conversion::Events => object = events::to_core_group(object),
            Conversion::Custom(form) => {
                if form.version != self.version {
                    coerce(&mut object, &form.schema);
                    // What reads would fill in is filled in now, so that they need not look.
                    schema::apply_defaults(&mut object, &form.schema);
                }
                object["apiVersion"] = json!(api_version(&self.group, &form.version));
            }
        }
        object
    }

    /// How objects are stored, if not as they are shown.
    fn conversion(&self) -> Conversion<'_> {
        match &self.nature {
            Nature::Builtin(native) if native.rules.group == "events.k8s.io" => Conversion::Events,
            // What is stored was made to the measure of this version, unless that has changed since.
            Nature::Custom(custom)
                if custom.stored.version != self.version || custom.origin.has_changed() =>
            {
                Conversion::Custom(&custom.stored)
            }
            _ => Conversion::None,
        }
    }
}
