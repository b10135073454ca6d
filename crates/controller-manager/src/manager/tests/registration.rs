//! What is checked before anything starts.

use axum::Router;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use memory_apiserver::ApiServer;
use tokio_util::sync::CancellationToken;

use super::support::{cache, manager};
use crate::{Action, BindAddress, Manager, ManagerOptions, Metrics, Observed};

/// Why a manager cannot run.
async fn problem(manager: Manager) -> String {
    manager.run(CancellationToken::new()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_kind_that_the_cache_does_not_have_is_named_by_run() {
    let mut of_pods = manager(&ApiServer::new());
    of_pods.controller::<Pod>("pods");
    let expected =
        "controller \"pods\" reconciles kind Pod, which the cache does not have; add the kind to the cache";
    assert_eq!(problem(of_pods).await, expected);
    let mut owning = manager(&ApiServer::new());
    owning.controller::<ConfigMap>("maps").owns::<Secret>().owns::<Pod>();
    assert!(problem(owning).await.starts_with("controller \"maps\" owns kind Pod,"));
}

#[tokio::test]
async fn a_name_gives_the_same_controller_again_unless_its_kind_differs() {
    let mut manager = manager(&ApiServer::new());
    let handler = |_: Observed<ConfigMap>| async { Ok(Action::await_change()) };
    assert!(!manager.controller::<ConfigMap>("one").handler(handler).context().controller().is_empty());
    assert!(manager.controller::<ConfigMap>("one").has_handlers());
    assert!(!manager.controller::<ConfigMap>("two").has_handlers());
    manager.controller::<Secret>("one");
    assert_eq!(
        problem(manager).await,
        "controllers of the kinds ConfigMap and Secret are both named \"one\"; names must be unique"
    );
}

#[tokio::test]
async fn names_of_checks_and_listeners_are_unique() {
    let mut with_checks = manager(&ApiServer::new());
    with_checks.add_readiness_check("informer/configmaps", || Ok(()));
    let expected = "two readiness checks are named \"informer/configmaps\"; names must be unique";
    assert_eq!(problem(with_checks).await, expected);
    let mut with_checks = manager(&ApiServer::new());
    with_checks.add_health_check("mine", || Ok(())).add_health_check("mine", || Ok(()));
    assert_eq!(problem(with_checks).await, "two health checks are named \"mine\"; names must be unique");
    let mut with_listener = manager(&ApiServer::new());
    with_listener.listen("health", BindAddress::Off, Router::new());
    assert_eq!(problem(with_listener).await, "two listeners are named \"health\"; names must be unique");
}

#[tokio::test]
async fn metrics_serve_one_manager() {
    let server = ApiServer::new();
    let metrics = Metrics::new().unwrap();
    let build =
        || Manager::builder(cache(&server), ManagerOptions::default()).metrics(metrics.clone()).build();
    build().unwrap();
    assert!(build().unwrap_err().to_string().starts_with("cannot register a metric: "));
    let options = ManagerOptions { metric_prefix: "no prefix".into(), ..ManagerOptions::default() };
    assert!(Manager::builder(cache(&server), options).build().is_err());
}

#[tokio::test]
async fn a_cache_that_was_started_before_is_an_error() {
    let manager = manager(&ApiServer::new());
    manager.cache().start().await.unwrap();
    assert_eq!(problem(manager).await, "the cache was started before");
}
