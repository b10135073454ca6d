//! What these tests share: what the tests of every package share ([`Cluster`], [`ControlPlane`], [`Kubectl`],
//! [`eventually`]), the network to an API server ([`Proxy`], [`Gate`]), the binary ([`Process`]), and objects ([`fixtures`]).
//!
//! Other test binaries take it in by `#[path = "../integration/support/mod.rs"] mod support;`.

#![allow(dead_code, reason = "each test binary uses its own part of it")]

pub(crate) mod connect_proxy;
pub(crate) mod fixtures;
mod gate;
pub(crate) mod generated;
mod process;
mod proxy;
mod rbac;
mod samples;
#[path = "../../support/mod.rs"]
mod shared;
pub(crate) mod upstream_fleet;

use kube::Client;
use sandbox_manager::api::v1alpha1::crds;

pub(crate) use gate::{Fate, Gate, Passing, Side, Stop};
pub(crate) use process::{CONFIG, KUBECONFIG, Process, get};
pub(crate) use proxy::Proxy;
pub(crate) use samples::{Labels, Samples};
pub(crate) use shared::{
    ADMIN, AuditedRequest, Cluster, ControlPlane, Kubectl, LIMITED, SOON, Setup, eventually, free_port,
    is_installed,
};

/// A cluster with our kinds installed, an administrator's client, and a new namespace.
pub(crate) async fn prepared(prefix: &str) -> (Cluster, Client, String) {
    let cluster = Cluster::shared().await;
    cluster.install_crds(crds()).await;
    let (client, namespace) = (cluster.client().await, cluster.namespace(prefix).await);
    (cluster, client, namespace)
}
