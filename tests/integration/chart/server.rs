//! API servers that know every kind that the chart has objects of.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use sandbox_manager::api::v1alpha1::crds;

use super::read;
use crate::support::ControlPlane;

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
