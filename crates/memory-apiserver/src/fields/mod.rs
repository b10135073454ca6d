//! Who owns which field (`metadata.managedFields`), and server-side apply.
//!
//! Pure functions over JSON, with the results of kube-apiserver. A write calls them in this order:
//!
//! 1. A create, a PUT or a patch has its defaults filled in and its unknown fields removed, then [`track_update`]
//!    says who owns what; a write through `/scale` has [`track_scale`]. An apply is carried out by [`apply()`], and
//!    has its defaults filled in and its unknown fields removed then.
//! 2. What the endpoint may not change is put back.
//! 3. [`keep_times_of_no_op`]. An object that then equals the live one is not written.
//! 4. Validation, with [`check_limits`]; [`check_form`] belongs to the decoding of bodies.
//!
//! ```text
//!  track_update ──▶ compare ─┐
//!                            ├─▶ Shape      how a schema divides values among owners
//!         apply ──▶ merge ───┤   FieldSet   sets of paths, fieldsV1
//!                   prune ───┘   Managed    the list of owners
//! ```
//!
//! Entries of another API version of the kind are treated as if they were of this one.

use jiff::Timestamp;
use serde_json::Value;

mod apply;
mod compare;
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

/// What is written through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint<'a> {
    /// The form of the kind's objects, at a subresource too.
    pub(crate) schema: &'a Schema,
    /// As in `apps/v1`.
    pub(crate) api_version: &'a str,
    pub(crate) kind: &'a str,
    /// As in `status`; empty for the objects themselves.
    pub(crate) subresource: &'a str,
    /// What can't be changed here and is therefore never owned by who writes here: `status` at the objects
    /// themselves if there is a `/status`, and `spec` at that.
    pub(crate) reset: &'a FieldSet<'a>,
    pub(crate) origin: Origin<'a>,
}

/// Where a kind comes from. The real server treats these two differently in details.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    /// A CustomResourceDefinition.
    Custom,
    /// A built-in kind, and how its type is written when nothing is set, as in
    /// `{"metadata": {}, "spec": {"containers": null}, "status": {}}`: who creates an object does not own these.
    BuiltIn(&'a Value),
}

/// Who writes, and when.
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

    /// What a new object of the kind starts from.
    fn blank(&self) -> Option<&'a Value> {
        match self.origin {
            Origin::Custom => None,
            Origin::BuiltIn(blank) => Some(blank),
        }
    }

    /// The entry of a manager who applies or updates here.
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
