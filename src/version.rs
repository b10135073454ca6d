//! Which build this is: the package's version and the revision of its source.
//!
//! The revision is what `SANDBOX_MANAGER_REVISION` says when the library is compiled (a commit id, in releases and
//! in images), so a build needs neither git nor a clone, and the same source and variable give the same binary.

use std::sync::LazyLock;

/// The version in `Cargo.toml`.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision that this was built from; `unknown` where nobody said.
pub(crate) const REVISION: &str = match option_env!("SANDBOX_MANAGER_REVISION") {
    Some(revision) if !revision.is_empty() => revision,
    _ => "unknown",
};

/// Both, as `--version` prints them after the program's name.
pub(crate) static DESCRIPTION: LazyLock<String> =
    LazyLock::new(|| format!("{VERSION} (revision {REVISION})"));
