//! Start order, shutdown, runnables; under paused time.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use memory_apiserver::ApiServer;
use shared_cache::Freshness;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::support::{Running, break_kind, load, manager};
use crate::{Action, Metrics, Observed, Runnable};

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render().unwrap()).unwrap()
}

/// Counts its calls and succeeds.
fn counting<K: Send + Sync + 'static>(
    calls: &Arc<AtomicUsize>,
) -> impl Fn(Observed<K>) -> std::future::Ready<Result<Action, crate::HandlerError>> + Send + Sync + use<K> {
    let calls = Arc::clone(calls);
    move |_| {
        calls.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok(Action::await_change()))
    }
}

#[tokio::test(start_paused = true)]
async fn r1_a_controller_without_handlers_is_not_started() {
    let mut manager = manager(&ApiServer::new());
    let calls = Arc::default();
    manager.controller::<ConfigMap>("with").handler(counting::<ConfigMap>(&calls));
    manager.controller::<Secret>("without");
    let metrics = manager.metrics().clone();
    let running = Running::start(manager);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = text(&metrics);
    let started = |name| {
        text.contains(&format!("controller_runtime_max_concurrent_reconciles{{controller=\"{name}\"}}"))
    };
    assert!(started("with") && !started("without"), "{text}");
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_any_handler_a_manager_runs_until_it_is_stopped() {
    let running = Running::start(manager(&ApiServer::new()));
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(!running.task.is_finished());
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_kind_may_have_several_controllers_and_a_process_several_managers() {
    let (one, other) = (ApiServer::new(), ApiServer::new());
    load(&one, "a");
    load(&other, "a");
    load(&other, "b");
    let calls: [Arc<AtomicUsize>; 3] = Default::default();
    let mut first = manager(&one);
    first.controller::<ConfigMap>("x").handler(counting::<ConfigMap>(&calls[0]));
    first.controller::<ConfigMap>("y").handler(counting::<ConfigMap>(&calls[1]));
    let mut second = manager(&other);
    second.controller::<ConfigMap>("x").handler(counting::<ConfigMap>(&calls[2]));
    let metrics = [first.metrics().clone(), second.metrics().clone()];
    let running = [Running::start(first), Running::start(second)];
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(calls.map(|calls| calls.load(Ordering::SeqCst)), [1, 1, 2]);
    let total = |metrics: &Metrics, name: &str, n: usize| {
        let line =
            format!("controller_runtime_reconcile_total{{controller=\"{name}\",result=\"success\"}} {n}\n");
        assert!(text(metrics).contains(&line), "{line}{}", text(metrics));
    };
    total(&metrics[0], "x", 1);
    total(&metrics[0], "y", 1);
    total(&metrics[1], "x", 2);
    for running in running {
        running.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_a_running_manager_stops_the_watches_though_its_metrics_live_on() {
    let server = ApiServer::new();
    let mut manager = manager(&server);
    let calls = Arc::default();
    manager.controller::<ConfigMap>("maps").handler(counting::<ConfigMap>(&calls));
    let (metrics, cache) = (manager.metrics().clone(), manager.cache().clone());
    let running = Running::start(manager);
    cache.wait_for_cache_sync().await;
    running.task.abort();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(cache.kinds().iter().all(|kind| kind.report().freshness() != Freshness::Fresh));
    load(&server, "a");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    drop(cache);
    let text = text(&metrics);
    assert!(!text.contains("controller_manager_cache_objects"), "no metrics of a cache that is gone: {text}");
    assert!(!text.contains("workqueue_depth"), "no metrics of a queue that is gone: {text}");
}

/// Notes that it was dropped.
struct NotesItsEnd(Arc<AtomicBool>);

impl Drop for NotesItsEnd {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn handlers_that_exceed_the_grace_period_are_dropped() {
    let server = ApiServer::new();
    load(&server, "a");
    let dropped: [Arc<AtomicBool>; 2] = Default::default();
    let entered = Arc::new(Notify::new());
    let mut manager = manager(&server);
    let (noting, entering) = (Arc::clone(&dropped[0]), Arc::clone(&entered));
    manager.controller::<ConfigMap>("maps").handler(move |_: Observed<ConfigMap>| {
        let noted = NotesItsEnd(Arc::clone(&noting));
        entering.notify_one();
        async move {
            let _noted = noted;
            std::future::pending().await
        }
    });
    let noted = NotesItsEnd(Arc::clone(&dropped[1]));
    manager.add_runnable(|_| async move {
        let _noted = noted;
        std::future::pending().await
    });
    let running = Running::start(manager);
    entered.notified().await;
    let start = Instant::now();
    let error = running.stop().await.unwrap_err();
    assert_eq!(error.to_string(), "handlers were still running after the grace period of 30 s");
    assert_eq!(start.elapsed().as_secs(), 30);
    assert_eq!(dropped.map(|dropped| dropped.load(Ordering::SeqCst)), [true, true]);
}

#[tokio::test(start_paused = true)]
async fn x4_controllers_and_runnables_start_when_every_kind_that_is_not_optional_is_synced() {
    let server = ApiServer::new();
    load(&server, "a");
    break_kind(&server, "configmaps");
    break_kind(&server, "secrets");
    let calls: [Arc<AtomicUsize>; 3] = Default::default();
    let mut manager = manager(&server);
    let (cache, metrics) = (manager.cache().clone(), manager.metrics().clone());
    let started = |name| text(&metrics).contains(&format!("workqueue_depth{{controller=\"{name}\""));
    manager.controller::<ConfigMap>("maps").handler(counting::<ConfigMap>(&calls[0]));
    manager.controller::<Secret>("secrets").handler(counting::<Secret>(&calls[1]));
    let runs = Arc::clone(&calls[2]);
    manager.add_runnable(move |stop: CancellationToken| async move {
        runs.fetch_add(1, Ordering::SeqCst);
        stop.cancelled().await;
        Ok(())
    });
    let count = || [0, 1, 2].map(|n| calls[n].load(Ordering::SeqCst));
    let running = Running::start(manager);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(count(), [0, 0, 0]);
    server.clear_faults();
    break_kind(&server, "secrets");
    cache.wait_for_cache_sync().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(count(), [1, 0, 1], "the optional kind does not hold up the others");
    assert!(started("maps") && !started("secrets"), "its own controller waits for it");
    server
        .load(&serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}))
        .unwrap();
    server.clear_faults();
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(count(), [1, 1, 1]);
    running.stop().await.unwrap();
}

struct Fails;

impl Runnable for Fails {
    async fn run(self, _stop: CancellationToken) -> Result<(), Box<dyn Error + Send + Sync>> {
        tokio::time::sleep(Duration::from_secs(7)).await;
        Err("no more work".into())
    }

    fn name(&self) -> Cow<'static, str> {
        "worker".into()
    }
}

#[tokio::test(start_paused = true)]
async fn a_runnable_that_fails_shuts_the_manager_down_in_order() {
    let server = ApiServer::new();
    load(&server, "a");
    let mut manager = manager(&server);
    let finished = Arc::new(AtomicBool::new(false));
    let finishing = Arc::clone(&finished);
    manager.controller::<ConfigMap>("maps").handler(move |_: Observed<ConfigMap>| {
        let finishing = Arc::clone(&finishing);
        async move {
            tokio::time::sleep(Duration::from_secs(10)).await;
            finishing.store(true, Ordering::SeqCst);
            Ok(Action::await_change())
        }
    });
    manager.add_runnable(Fails).add_runnable(|_| async { Ok(()) });
    let start = Instant::now();
    let error = Running::start(manager).task.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "worker failed: no more work");
    assert_eq!(start.elapsed().as_secs(), 10);
    assert!(finished.load(Ordering::SeqCst), "the handler was waited for");
}

#[tokio::test(start_paused = true)]
async fn a_runnable_that_panics_shuts_the_manager_down() {
    let mut manager = manager(&ApiServer::new());
    manager.add_runnable(|_: CancellationToken| -> std::future::Ready<_> {
        panic!("a panic that belongs to the test")
    });
    let error = Running::start(manager).task.await.unwrap().unwrap_err().to_string();
    assert!(
        error.contains("a_runnable_that_panics") && error.contains("a panic that belongs to the test"),
        "{error}"
    );
}
