//! The Kubernetes types of the group `agents.kruise.io`, and the machinery that decodes them cheaply.
//!
//! A cache of hundreds of thousands of sandboxes spends nearly all of its time and memory on decoding and
//! keeping these objects, so the types here differ from plainly derived ones in three ways:
//!
//! - `metadata.managedFields` is skipped while decoding and never kept (`metadata.rs`);
//! - equal pod templates and volume claim templates are decoded once and shared (`interned.rs`);
//! - values that a newer version may add (phases, condition statuses) are open sets (`names.rs`), and dates
//!   keep the form they were written in (`time.rs`), so that an object read and written back changes nothing.
//!
//! This module depends on no other of the crate. Everything that a caller needs is re-exported from
//! [`v1alpha1`].

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
