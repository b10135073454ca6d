//! Leader-only controllers and runnables of several managers on one API server, under paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use memory_apiserver::{ApiServer, FaultPlan, On, RequestFault, Times};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::support::{Running, cache, load};
use crate::controller::ControllerError;
use crate::http::{Check, CheckStatus, HealthSource};
use crate::{Action, LeaderElection, LeaderElectionOptions, Manager, ManagerError, ManagerOptions, Observed};

const SECOND: Duration = Duration::from_secs(1);

fn manager(server: &ApiServer, identity: &str) -> Manager {
    let options = LeaderElectionOptions::new("default", "lock", identity);
    let election = LeaderElection::new(options, server.client()).unwrap();
    Manager::builder(cache(server), ManagerOptions::default()).leader_election(election).build().unwrap()
}

/// Adds a leader-only controller, a controller and a leader-only runnable, which count their calls and starts.
fn count(manager: &mut Manager) -> [Arc<AtomicUsize>; 3] {
    let counts: [Arc<AtomicUsize>; 3] = Default::default();
    let counting = |count: &Arc<AtomicUsize>| {
        let count = Arc::clone(count);
        move |_: Observed<ConfigMap>| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok(Action::await_change()) }
        }
    };
    manager.controller::<ConfigMap>("leader-only").leader_only().handler(counting(&counts[0]));
    manager.controller::<ConfigMap>("everywhere").handler(counting(&counts[1]));
    let starts = Arc::clone(&counts[2]);
    manager.add_leader_only_runnable(move |stop: CancellationToken| async move {
        starts.fetch_add(1, Ordering::SeqCst);
        stop.cancelled().await;
        Ok(())
    });
    counts
}

fn counted(counts: &[Arc<AtomicUsize>; 3]) -> [usize; 3] {
    [0, 1, 2].map(|n| counts[n].load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn lc1_leader_only_work_runs_in_one_process_and_moves_to_the_next_within_the_retry_period() {
    let server = ApiServer::new();
    load(&server, "a");
    let (mut first, mut second) = (manager(&server, "first"), manager(&server, "second"));
    let counts = [count(&mut first), count(&mut second)];
    let first = Running::start(first);
    sleep(SECOND).await;
    let second = Running::start(second);
    sleep(60 * SECOND).await;
    assert_eq!(counts.each_ref().map(counted), [[1, 1, 1], [0, 1, 0]]);
    first.stop().await.unwrap();
    sleep(2 * SECOND).await;
    assert_eq!(counts.each_ref().map(counted), [[1, 1, 1], [1, 1, 1]]);
    second.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_an_election_leader_only_work_runs_everywhere() {
    let server = ApiServer::new();
    load(&server, "a");
    let mut manager = super::support::manager(&server);
    let counts = count(&mut manager);
    let running = Running::start(manager);
    sleep(SECOND).await;
    assert_eq!(counted(&counts), [1, 1, 1]);
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_not_taken_before_the_cache_is_synced() {
    let server = ApiServer::new();
    super::support::break_kind(&server, "configmaps");
    let running = Running::start(manager(&server, "first"));
    let leases: Api<Lease> = Api::namespaced(server.client(), "default");
    sleep(60 * SECOND).await;
    assert!(leases.get_opt("lock").await.unwrap().is_none());
    server.clear_faults();
    sleep(60 * SECOND).await;
    assert_eq!(leases.get("lock").await.unwrap().spec.unwrap().holder_identity.as_deref(), Some("first"));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_waits_for_the_lease_stops_though_its_cache_is_not_synced() {
    let server = ApiServer::new();
    super::support::break_kind(&server, "configmaps");
    let running = Running::start(manager(&server, "first"));
    sleep(SECOND).await;
    running.stop().await.unwrap();
}

/// A leader-only handler that never ends by itself, and tells when it was called and when it was told to stop.
struct Stuck {
    called: Arc<Semaphore>,
    told: Arc<Semaphore>,
}

fn stuck(manager: &mut Manager) -> Stuck {
    let stuck = Stuck { called: Arc::new(Semaphore::new(0)), told: Arc::new(Semaphore::new(0)) };
    let (called, told) = (Arc::clone(&stuck.called), Arc::clone(&stuck.told));
    manager.controller::<ConfigMap>("stuck").leader_only().add_reconcile_handler_with(move |context| {
        move |_: Observed<ConfigMap>| {
            let (called, told, context) = (Arc::clone(&called), Arc::clone(&told), context.clone());
            async move {
                called.add_permits(1);
                context.shutdown().cancelled().await;
                told.add_permits(1);
                std::future::pending().await
            }
        }
    });
    stuck
}

/// A manager that leads and whose handler is stuck.
async fn leading_and_stuck() -> (ApiServer, Stuck, Running) {
    let server = ApiServer::new();
    load(&server, "a");
    let mut manager = manager(&server, "first");
    let stuck = stuck(&mut manager);
    let running = Running::start(manager);
    stuck.called.acquire().await.unwrap().forget();
    (server, stuck, running)
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_ends_the_manager_with_the_reason() {
    let (server, stuck, running) = leading_and_stuck().await;
    sleep(5 * SECOND).await;
    outage(&server);
    let error = running.task.await.unwrap().unwrap_err();
    let ManagerError::LeaseLost(lost) = &error else { panic!("{error}") };
    assert_eq!(lost.remaining, Duration::ZERO);
    let text = error.to_string();
    assert!(
        text.starts_with("lost the lease default/lock: not renewed for 10 s: cannot update the lease"),
        "{text}"
    );
    assert_eq!(stuck.told.available_permits(), 0, "there was no time to tell");
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_handlers_may_end_in_the_rest_of_the_renew_deadline() {
    let (server, stuck, running) = leading_and_stuck().await;
    sleep(5 * SECOND).await;
    let leases: Api<Lease> = Api::namespaced(server.client_without_faults(), "default");
    let mut lease = leases.get("lock").await.unwrap();
    lease.spec.as_mut().unwrap().holder_identity = Some("intruder".to_owned());
    leases.replace("lock", &PostParams::default(), &lease).await.unwrap();
    stuck.told.acquire().await.unwrap().forget();
    let told = Instant::now();
    let error = running.task.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "lost the lease default/lock: intruder has taken it");
    let took = told.elapsed();
    assert!(took > 5 * SECOND && took < 10 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_during_the_shutdown_ends_it() {
    let (server, _stuck, running) = leading_and_stuck().await;
    outage(&server);
    let stopped = Instant::now();
    let error = running.stop().await.unwrap_err();
    assert!(matches!(error, ManagerError::LeaseLost(_)), "{error}");
    assert!(stopped.elapsed() <= 11 * SECOND, "{:?}", stopped.elapsed());
}

/// Adds a runnable that takes this long to end after it was told to, and tells whether it got there.
fn slow_to_end(manager: &mut Manager, takes: Duration) -> Arc<AtomicUsize> {
    let ended = Arc::new(AtomicUsize::new(0));
    let ends = Arc::clone(&ended);
    manager.add_runnable(move |stop: CancellationToken| async move {
        stop.cancelled().await;
        sleep(takes).await;
        ends.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    ended
}

fn outage(server: &ApiServer) {
    let outage = RequestFault::Answer { code: 503, retry_after: None };
    server.inject(&FaultPlan::request(On::kind("leases"), Times::Always, outage));
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_only_leader_only_work_is_dropped_at_once() {
    let server = ApiServer::new();
    load(&server, "a");
    let mut manager = manager(&server, "first");
    let (stuck, ended) = (stuck(&mut manager), slow_to_end(&mut manager, 20 * SECOND));
    let running = Running::start(manager);
    stuck.called.acquire().await.unwrap().forget();
    outage(&server);
    let error = running.task.await.unwrap().unwrap_err();
    assert!(matches!(error, ManagerError::LeaseLost(_)), "{error}");
    assert_eq!(stuck.told.available_permits(), 0, "there was no time to tell");
    assert_eq!(ended.load(Ordering::SeqCst), 1, "the grace period is for everything else");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_after_a_failure_drops_leader_only_work() {
    let server = ApiServer::new();
    load(&server, "a");
    let mut manager = manager(&server, "first");
    let (stuck, ended) = (stuck(&mut manager), slow_to_end(&mut manager, 15 * SECOND));
    manager.add_runnable(|_| async {
        sleep(5 * SECOND).await;
        Err("broken".into())
    });
    let running = Running::start(manager);
    stuck.called.acquire().await.unwrap().forget();
    outage(&server);
    let started = Instant::now();
    let error = running.task.await.unwrap().unwrap_err();
    assert!(matches!(error, ManagerError::Task { .. }), "{error}");
    assert_eq!(ended.load(Ordering::SeqCst), 1);
    let took = started.elapsed();
    assert!(took < 25 * SECOND, "the stuck handler has no grace period without the lease: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_api_server_does_not_hold_up_the_shutdown_by_the_release() {
    let server = ApiServer::new();
    let manager = manager(&server, "first");
    let synced = manager.cache().clone();
    let running = Running::start(manager);
    synced.wait_for_cache_sync().await;
    sleep(SECOND).await;
    let leases: Api<Lease> = Api::namespaced(server.client_without_faults(), "default");
    let mut labelled = leases.get("lock").await.unwrap();
    labelled.labels_mut().insert("team".to_owned(), "x".to_owned());
    leases.replace("lock", &PostParams::default(), &labelled).await.unwrap();
    let slow = RequestFault::Delay(4 * SECOND);
    server.inject(&FaultPlan::request(On::kind("leases"), Times::Always, slow));
    let stopped = Instant::now();
    running.stop().await.unwrap();
    assert!(stopped.elapsed() < 6 * SECOND, "{:?}", stopped.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_while_handlers_end_and_is_not_released_if_they_do_not() {
    let (server, _stuck, running) = leading_and_stuck().await;
    let error = running.stop().await.unwrap_err();
    assert!(matches!(error, ManagerError::GracePeriod(_)), "{error}");
    let leases: Api<Lease> = Api::namespaced(server.client(), "default");
    let spec = leases.get("lock").await.unwrap().spec.unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some("first"), Some(15)));
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_released_when_leader_only_work_has_ended_though_other_work_goes_on() {
    let server = ApiServer::new();
    load(&server, "a");
    let (mut first, mut second) = (manager(&server, "first"), manager(&server, "second"));
    let (ended, next) = (slow_to_end(&mut first, 20 * SECOND), count(&mut second));
    let first = Running::start(first);
    sleep(SECOND).await;
    let second = Running::start(second);
    sleep(SECOND).await;
    let stopping = tokio::spawn(first.stop());
    sleep(3 * SECOND).await;
    assert_eq!(counted(&next), [1, 1, 1], "another process leads");
    assert_eq!(ended.load(Ordering::SeqCst), 0, "the first one has not ended");
    stopping.await.unwrap().unwrap();
    assert_eq!(ended.load(Ordering::SeqCst), 1, "it was not dropped");
    second.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_client_of_a_leader_only_handler_refuses_writes_without_the_lease() {
    let server = ApiServer::new();
    load(&server, "a");
    let mut manager = manager(&server, "first");
    let context = manager.controller::<ConfigMap>("maps").leader_only().context();
    let (runnables, plain) = (manager.leader_only_cache(), manager.cache().clone());
    let running = Running::start(manager);
    plain.wait_for_cache_sync().await;
    sleep(SECOND).await;
    let merge = Patch::Merge(json!({"data": {"v": "1"}}));
    let written = async |client: &kube::Client| {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
        api.patch("a", &PatchParams::default(), &merge).await.map(|map| map.name_any())
    };
    for cache in [context.cache(), &runnables, &plain] {
        written(cache.client()).await.unwrap();
    }
    running.stop().await.unwrap();
    for client in [context.client(), context.cache().client(), runnables.client()] {
        let error = written(client).await.unwrap_err().to_string();
        assert!(
            error.contains("refused to write: this process does not hold the lease default/lock"),
            "{error}"
        );
    }
    let map = context.cache().reader::<ConfigMap>().get("default", "a").unwrap().unwrap();
    let patched = context.cache().patch(&map, |map: &mut ConfigMap| map.data = None).await;
    assert!(patched.unwrap_err().to_string().contains("refused to write"));
    let maps: Api<ConfigMap> = Api::namespaced(context.client().clone(), "default");
    maps.get("a").await.unwrap();
    written(plain.client()).await.unwrap();
}

#[tokio::test]
async fn a_context_that_was_handed_out_too_early_is_named() {
    let server = ApiServer::new();
    let mut manager = manager(&server, "first");
    let controller = manager.controller::<ConfigMap>("maps");
    controller.add_reconcile_handler_with(|_| |_: Observed<ConfigMap>| async { Ok(Action::await_change()) });
    controller.leader_only();
    let Err(error) = manager.bind().await else { panic!("bound") };
    assert!(matches!(error, ManagerError::Controller(ControllerError::LeaderOnlyTooLate { .. })), "{error}");
}

#[tokio::test(start_paused = true)]
async fn readyz_says_who_leads_and_a_process_that_does_not_is_ready() {
    let server = ApiServer::new();
    let mut managers = Vec::new();
    for (identity, line) in [("first", "this process leads as first"), ("second", "first leads")] {
        let manager = manager(&server, identity);
        let (metrics, bound) = (manager.metrics().clone(), manager.bind().await.unwrap());
        let router = bound.parts.health_router.clone();
        let stop = CancellationToken::new();
        let task = tokio::spawn(bound.run(stop.clone()));
        sleep(5 * SECOND).await;
        let request = Request::get("/readyz?verbose").body(axum::body::Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains(&format!("[+]leader-election ok: {line}\n")), "{body}");
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        let leads = i32::from(identity == "first");
        assert!(
            text.contains(&format!("leader_election_master_status{{name=\"lock\"}} {leads}\n")),
            "{text}"
        );
        managers.push((stop, task));
    }
    for (stop, task) in managers.into_iter().rev() {
        stop.cancel();
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_election_logs_a_problem_of_the_election() {
    let server = ApiServer::new();
    outage(&server);
    let bound = manager(&server, "first").bind().await.unwrap();
    let health = Arc::clone(&bound.parts.health);
    let stop = CancellationToken::new();
    let task = tokio::spawn(bound.run(stop.clone()));
    sleep(20 * SECOND).await;
    let is_degraded =
        |check: &Check| check.name == "leader-election" && matches!(check.status, CheckStatus::Degraded(_));
    assert!(health.ready().iter().any(is_degraded));
    assert_eq!(health.problems(), []);
    stop.cancel();
    task.await.unwrap().unwrap();
}
