//! What tests share: an API server ([`Cluster`]), a real one ([`ControlPlane`]), the network to it ([`Proxy`]), the binary
//! ([`Process`]), objects ([`fixtures`]), and waiting for a condition ([`eventually`]).
//!
//! Other test binaries take it in by `#[path = "../integration/support/mod.rs"] mod support;`.

#![allow(dead_code, reason = "each test binary uses its own part of it")]

mod cluster;
mod control_plane;
pub(crate) mod fixtures;
mod kubectl;
mod process;
mod proxy;
mod rbac;
mod samples;
mod setup;
mod supervisor;

use std::time::Duration;

use kube::Client;
use sandbox_manager::api::v1alpha1::crds;
use tokio::time::{Instant, sleep, timeout_at};

pub(crate) use cluster::{Cluster, is_real};
pub(crate) use control_plane::{ADMIN, ControlPlane, LIMITED, free_port};
pub(crate) use kubectl::Kubectl;
pub(crate) use process::{Process, get};
pub(crate) use proxy::Proxy;
pub(crate) use samples::{Labels, Samples};
pub(crate) use setup::{create_namespace, install_crds};

/// How long to wait for what should happen soon. Generous: it is only used up by a test that fails.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A cluster with our kinds installed, an administrator's client, and a new namespace.
pub(crate) async fn prepared(prefix: &str) -> (Cluster, Client, String) {
    let cluster = Cluster::shared().await;
    cluster.install_crds(crds()).await;
    let (client, namespace) = (cluster.client().await, cluster.namespace(prefix).await);
    (cluster, client, namespace)
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
