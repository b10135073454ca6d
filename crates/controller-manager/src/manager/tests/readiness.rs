//! Readiness while the API server is away, under paused time (behaviour V3).

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use memory_apiserver::{ApiServer, FaultPlan, On, RequestFault, Times, Verb};
use shared_cache::SharedCache;

use super::super::health::{ManagerHealth, Problem, Severity};
use super::support::{break_kind, cache, load};
use crate::http::{Check, CheckStatus, HealthSource};

const LIMIT: Duration = Duration::from_mins(5);

/// A synced cache with one ConfigMap, and its health.
async fn synced(server: &ApiServer, stale_after: Duration) -> (SharedCache, ManagerHealth) {
    load(server, "a");
    let cache = cache(server);
    cache.start().await.unwrap();
    let health = ManagerHealth::new(cache.clone(), stale_after, Vec::new(), Vec::new(), None).unwrap();
    let health = std::sync::Arc::into_inner(health).unwrap();
    (cache, health)
}

fn status(health: &impl HealthSource, name: &str) -> CheckStatus {
    health.ready().into_iter().find(|check: &Check| check.name == name).unwrap().status
}

fn degraded(health: &impl HealthSource, begin: &str) -> bool {
    matches!(status(health, "informer/configmaps"), CheckStatus::Degraded(text) if text.starts_with(begin))
}

#[tokio::test(start_paused = true)]
async fn v3_an_outage_fails_readiness_only_after_the_limit() {
    let server = ApiServer::new();
    let (cache, health) = synced(&server, LIMIT).await;
    assert_eq!(status(&health, "informer/configmaps"), CheckStatus::Ok);
    break_kind(&server, "configmaps");
    tokio::time::sleep(LIMIT.mul_f64(0.9)).await;
    assert!(degraded(&health, "stale for ") || degraded(&health, "relisting, view of "));
    assert_eq!(cache.reader::<ConfigMap>().len(), Ok(1), "the old view is served");
    tokio::time::sleep(LIMIT.mul_f64(0.2)).await;
    assert!(matches!(status(&health, "informer/configmaps"), CheckStatus::Failed(_)));
    server.clear_faults();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(status(&health, "informer/configmaps"), CheckStatus::Ok);
}

#[tokio::test(start_paused = true)]
async fn v3_without_a_limit_an_outage_never_fails_readiness() {
    let server = ApiServer::new();
    let (_cache, health) = synced(&server, Duration::ZERO).await;
    break_kind(&server, "configmaps");
    tokio::time::sleep(Duration::from_hours(5)).await;
    assert!(degraded(&health, ""));
}

#[tokio::test(start_paused = true)]
async fn v3_a_list_that_takes_minutes_leaves_the_process_ready() {
    let server = ApiServer::new();
    let (_cache, health) = synced(&server, LIMIT).await;
    let slow = |verb| {
        let slow = RequestFault::Delay(Duration::from_mins(2));
        FaultPlan::request(On::request(verb, "configmaps"), Times::Always, slow)
    };
    server.inject(&slow(Verb::Watch).and(slow(Verb::List)));
    server.restart();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(degraded(&health, "relisting, view of ") || degraded(&health, "stale for "));
    let mut ready = 0;
    while status(&health, "informer/configmaps") != CheckStatus::Ok {
        assert!(degraded(&health, ""), "{:?}", status(&health, "informer/configmaps"));
        ready += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
        if ready == 30 {
            server.clear_faults();
        }
    }
    assert!(ready >= 30, "the list was slow");
}

#[tokio::test(start_paused = true)]
async fn v3_an_optional_kind_never_fails_readiness() {
    let server = ApiServer::new();
    let (_cache, health) = synced(&server, LIMIT).await;
    break_kind(&server, "secrets");
    tokio::time::sleep(2 * LIMIT).await;
    assert!(matches!(status(&health, "informer/secrets"), CheckStatus::Degraded(_)));
}

#[tokio::test(start_paused = true)]
async fn an_optional_kind_without_a_view_is_told_apart_from_one_with_an_old_view() {
    let server = ApiServer::new();
    break_kind(&server, "secrets");
    let (_cache, health) = synced(&server, LIMIT).await;
    let severities = || -> Vec<_> {
        let problems = health.problems().into_iter();
        problems.map(|Problem { check, severity, .. }| (check, severity)).collect()
    };
    assert_eq!(severities(), [("informer/secrets".to_owned(), Severity::Absent)]);
    server.clear_faults();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(severities(), []);
    break_kind(&server, "secrets");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(severities(), [("informer/secrets".to_owned(), Severity::Degraded)]);
}
