//! What tests share that need an API server: the one in memory or a real one ([`Cluster`]), a real one
//! ([`ControlPlane`]), `kubectl` ([`Kubectl`]), and waiting for a condition ([`eventually`]).
//!
//! It knows no kind of this project. The tests of several packages take it in by `#[path]`.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of it")]

mod audit;
mod cluster;
mod control_plane;
mod kubectl;
mod setup;
mod supervisor;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

pub(crate) use audit::AuditedRequest;
pub(crate) use cluster::{Cluster, is_real};
pub(crate) use control_plane::{ADMIN, ControlPlane, LIMITED, Setup, free_port};
pub(crate) use kubectl::{Kubectl, is_installed};

/// How long to wait for what should happen soon. Generous: it is only used up by a test that fails.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A file of the repository. The tests of each package of the workspace find it.
fn repository_file(path: &str) -> PathBuf {
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join(path));
    folders.find(|file| file.exists()).unwrap_or_else(|| panic!("no {path} in the repository"))
}

/// Waits until `check` succeeds and returns what it returned.
///
/// # Panics
///
/// When it has not succeeded within `deadline`: with `what` was waited for and the last error of `check`. A check
/// that hangs is cut off at the deadline.
pub(crate) async fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut check: impl AsyncFnMut() -> anyhow::Result<T>,
) -> T {
    let end = Instant::now() + deadline;
    let mut last = String::from("the first check did not even end");
    while Instant::now() < end {
        match timeout_at(end, check()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => break,
        }
        sleep(POLL).await;
    }
    panic!("not within {deadline:?}: {what}: {last}");
}
