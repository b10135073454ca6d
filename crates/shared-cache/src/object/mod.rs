//! Objects as the cache names and compares them: keys, resource versions, and deltas.

mod delta;
mod key;
mod version;

pub use delta::{Batch, DeletionReason, Delta, Observer};
pub use key::{KeyRef, ObjectKey};
pub(crate) use version::compare_versions;
pub use version::{parse_version, version_of};
