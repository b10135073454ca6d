//! API servers that know every kind that the chart has objects of.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use sandbox_manager::api::v1alpha1::crds;

use tokio::sync::OnceCell;

use super::read;
use crate::support::{ControlPlane, Setup};

static AUDITED: OnceCell<ControlPlane> = OnceCell::const_new();

/// Without streaming lists, so that `list` is used, too. The plugin asks for permissions that no request needs by itself.
const AUDITED_FLAGS: [&str; 2] =
    ["--feature-gates=WatchList=false", "--enable-admission-plugins=OwnerReferencesPermissionEnforcement"];

/// The definitions of ServiceMonitor and PrometheusRule.
fn operator_crds() -> Vec<CustomResourceDefinition> {
    let read = |plural| {
        let text = read(&format!("target/chart/crds/monitoring.coreos.com_{plural}.yaml"));
        serde_yaml::from_str(&text).expect("a definition")
    };
    ["servicemonitors", "prometheusrules"].map(read).into()
}

/// The control plane that tests share, with our kinds and those of the Prometheus operator.
pub(super) async fn shared() -> &'static ControlPlane {
    let cp = ControlPlane::shared().await;
    cp.install_crds(crds().into_iter().chain(operator_crds())).await;
    cp
}

/// A new control plane with the kinds of the Prometheus operator, and none of ours.
pub(super) async fn without_our_kinds() -> ControlPlane {
    let cp = ControlPlane::start().await;
    cp.install_crds(operator_crds()).await;
    cp
}

/// A control plane with nodes and our kinds that notes all requests, for the tests that compare these with the rules.
pub(super) async fn audited() -> &'static ControlPlane {
    let setup = Setup::default().nodes().audit().flags(&AUDITED_FLAGS);
    let cp = AUDITED.get_or_init(|| ControlPlane::start_as(setup)).await;
    cp.install_crds(crds()).await;
    cp
}
