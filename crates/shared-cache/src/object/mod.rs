//! Keys, resource versions and deltas of objects.

mod delta;
mod identity;
mod key;
mod version;

pub use delta::{Batch, DeletionReason, Delta, Observer};
pub(crate) use identity::Identity;
pub use key::{KeyRef, ObjectKey};
pub(crate) use version::compare_versions;
pub use version::{parse_version, version_of};
