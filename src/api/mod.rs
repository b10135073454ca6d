//! The Kubernetes types of the group `agents.kruise.io`.
//!
//! A cache of hundreds of thousands of sandboxes spends nearly all of its time and memory on decoding and
//! keeping these objects. The types here therefore differ from plainly derived types in four ways:
//!
//! - Decoding skips `metadata.managedFields` (`metadata.rs`).
//! - Equal pod templates and volume claim templates are decoded once and shared (`interned.rs`).
//! - Phases and condition statuses accept values that a newer version may add (`names.rs`).
//! - Dates keep their written form (`time.rs`).
//!
//! The last two mean that an object is written back exactly as it was read.
//!
//! This module depends on no other module of the crate. [`v1alpha1`] re-exports everything that a caller
//! needs.

#[macro_use]
mod names;

mod interned;
mod lists;
mod metadata;
mod schema;
mod string_map;
mod symbol;
mod time;

pub mod v1alpha1;

/// The API group of every kind defined here.
pub const GROUP: &str = "agents.kruise.io";
