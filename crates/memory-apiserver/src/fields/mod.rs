//! Owners of fields (`metadata.managedFields`), and server-side apply.
//!
//! Pure functions over JSON, with the results of kube-apiserver. A write calls them in this order:
//!
//! 1. For a create, a PUT or a patch, unknown fields are removed and defaults are set, then [`track_update`] records
//!    the owners; [`track_scale`] for a write through `/scale`. An apply begins with [`apply()`], and then unknown
//!    fields are removed and defaults are set.
//! 2. The fields that the endpoint cannot change are restored.
//! 3. [`keep_times_of_no_op`]. An object that is then equal to the live one is not written.
//! 4. Validation, with [`check_limits`]; [`check_form`] belongs to the decoding of bodies.
//!
//! ```text
//!  track_update ──▶ compare ─┐
//!                            ├─▶ Shape      how a schema divides values among owners
//!         apply ──▶ merge ───┤   FieldSet   sets of paths, fieldsV1
//!                   prune ───┘   Managed    the list of owners
//! ```
//!
//! Entries of another API version of the kind are treated like entries of this version.

use jiff::Timestamp;
use serde_json::Value;

mod apply;
mod compare;
mod conflict;
mod content;
mod last_applied;
mod managed;
mod merge;
mod names;
mod path;
mod prune;
mod remove;
mod scale;
mod set;
mod shape;
mod update;
mod validate;
mod value;

#[cfg(test)]
mod tests;

pub(crate) use apply::{apply, keep_times_of_no_op};
pub(crate) use managed::{check_form, check_limits};
pub(crate) use names::{check_field_manager, from_user_agent};
pub(crate) use scale::track_scale;
pub(crate) use set::FieldSet;
pub(crate) use update::track_update;

use super::schema::Schema;
use managed::Identity;
use shape::Shape;

/// The endpoint of a write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint<'a> {
    /// The schema of the objects of the kind, for a subresource, too.
    pub(crate) schema: &'a Schema,
    /// As in `apps/v1`.
    pub(crate) api_version: &'a str,
    pub(crate) kind: &'a str,
    /// As in `status`; empty for the objects themselves.
    pub(crate) subresource: &'a str,
    /// The fields that cannot be changed here, and are not owned by a writer here: `status` for the objects themselves
    /// if there is a `/status`, and `spec` for `/status`.
    pub(crate) reset: &'a FieldSet<'a>,
    pub(crate) origin: Origin<'a>,
}

/// The origin of a kind. kube-apiserver treats the two differently in details.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    /// A CustomResourceDefinition.
    Custom,
    /// A built-in kind, with an object of its type in which nothing is set, such as `{"metadata": {}, "spec":
    /// {"containers": null}, "status": {}}`. The creator of an object does not own these fields.
    BuiltIn(&'a Value),
}

/// The manager of a write, and its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manager<'a> {
    /// `unknown` if it is empty.
    pub(crate) name: &'a str,
    pub(crate) now: Timestamp,
}

impl<'a> Endpoint<'a> {
    fn shape(&self) -> Shape<'a> {
        Shape::of_resource(self.schema)
    }

    /// A new object of the kind before any field is set.
    fn blank(&self) -> Option<&'a Value> {
        match self.origin {
            Origin::Custom => None,
            Origin::BuiltIn(blank) => Some(blank),
        }
    }

    /// The identity of the entry of a manager who applies or updates here.
    fn identity(&self, manager: &Manager<'a>, applies: bool) -> Identity<'a> {
        let name = if manager.name.is_empty() { "unknown" } else { manager.name };
        Identity {
            manager: name.into(),
            applies,
            api_version: self.api_version.into(),
            subresource: self.subresource.into(),
        }
    }
}
