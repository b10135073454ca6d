//! The Kubernetes types of the group `agents.kruise.io`.
//!
//! A cache of hundreds of thousands of sandboxes spends nearly all of its time and memory on decoding and
//! keeping these objects. The types here therefore differ from plainly derived types in six ways:
//!
//! - Decoding skips `metadata.managedFields` (`metadata.rs`).
//! - Pod templates and some lists and maps stay JSON text until a caller decodes them (`json_text.rs`).
//! - Equal texts share one copy (`interned.rs`).
//! - Addresses, UIDs and generations are stored without memory of their own (`packed.rs`).
//! - Phases and condition statuses accept values that a newer version may add (`names.rs`).
//! - Dates and durations keep their written form (`time.rs`, `go_duration.rs`).
//!
//! The last two mean that an object is written back exactly as it was read.
//!
//! A field of a wrong type does not hide its object; see `v1alpha1::UnreadFields`.
//!
//! This module depends on no other module of the crate. [`v1alpha1`] re-exports everything that a caller
//! needs.

#[macro_use]
mod names;

pub(crate) mod duration;
mod from_text;
mod go_duration;
mod interned;
mod json_text;
pub(crate) mod label_syntax;
mod lists;
mod metadata;
mod packed;
pub(crate) mod quantity;
mod schema;
mod symbol;
mod time;

pub mod v1alpha1;

/// The API group of every kind defined here.
pub const GROUP: &str = "agents.kruise.io";
