//! Order, parallelism, start and stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::controller::test_support::{Fixture, show};
use crate::controller::{Action, Observed, ReconcileHandler};

#[tokio::test(start_paused = true)]
async fn r2_handlers_are_called_in_registration_order_with_the_newest_object() {
    let mut f = Fixture::new(&["a"]).await;
    f.record("1:");
    f.record("2:");
    f.run();
    assert_eq!(f.calls.next(2).await, ["1:a=0", "2:a=0"]);
    f.apply("a", "1").await;
    f.apply("a", "2").await;
    f.settle().await;
    let calls = f.calls.take();
    assert!(calls.chunks(2).all(|pair| pair[0][2..] == pair[1][2..]), "{calls:?}");
    assert!(calls.ends_with(&["1:a=2".into(), "2:a=2".into()]), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn x5_no_timer_stands_between_a_change_and_its_handler() {
    let mut f = Fixture::new(&["a"]).await;
    f.record("");
    f.run();
    f.calls.next(1).await;
    // Somewhere between two ticks of a timer.
    tokio::time::sleep(Duration::from_micros(1_234_567)).await;
    let changed = Instant::now();
    f.apply("a", "1").await;
    assert_eq!(f.calls.next(1).await, ["a=1"]);
    assert_eq!(changed.elapsed(), Duration::ZERO);
}

/// Counts the handlers that run, in all and by key.
#[derive(Default)]
struct Occupancy {
    now: Mutex<BTreeMap<String, usize>>,
    most: AtomicUsize,
    twice: AtomicUsize,
}

impl Occupancy {
    fn enter(&self, key: &str) {
        let mut now = self.now.lock();
        *now.entry(key.into()).or_default() += 1;
        self.most.fetch_max(now.values().sum(), Ordering::SeqCst);
        self.twice.fetch_add(usize::from(now[key] > 1), Ordering::SeqCst);
    }

    fn leave(&self, key: &str) {
        *self.now.lock().get_mut(key).unwrap() -= 1;
    }
}

#[tokio::test(start_paused = true)]
async fn r5_keys_run_in_parallel_up_to_the_limit_and_none_twice_at_once() {
    let names: Vec<_> = (0..20).map(|n| format!("c-{n}")).collect();
    let mut f = Fixture::new(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    f.controller().max_concurrent_reconciles(7);
    let occupancy = Arc::new(Occupancy::default());
    let inside = Arc::clone(&occupancy);
    f.handle(move |observed: Observed<ConfigMap>| {
        let (inside, name) = (Arc::clone(&inside), observed.key().name.to_owned());
        async move {
            inside.enter(&name);
            tokio::time::sleep(Duration::from_millis(30)).await;
            inside.leave(&name);
            Ok(Action::await_change())
        }
    });
    f.run();
    for round in 1..=5 {
        for name in &names[..10] {
            f.apply(name, &round.to_string()).await;
        }
        tokio::time::sleep(Duration::from_millis(11)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(occupancy.most.load(Ordering::SeqCst), 7);
    assert_eq!(occupancy.twice.load(Ordering::SeqCst), 0);
    assert_eq!(f.metric("controller_runtime_max_concurrent_reconciles"), 7);
}

#[tokio::test(start_paused = true)]
async fn r6_every_existing_object_is_reconciled_once_after_the_start() {
    let names: Vec<_> = (0..50).map(|n| format!("c-{n}")).collect();
    let mut f = Fixture::new(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    f.controller().max_concurrent_reconciles(4);
    f.record("");
    f.run();
    f.settle().await;
    let mut calls = f.calls.take();
    assert_eq!(calls.len(), 50, "{calls:?}");
    calls.sort();
    calls.dedup();
    assert_eq!(calls.len(), 50);
    assert_eq!(f.queue_metric("workqueue_adds_total"), 50);
    assert_eq!(f.queue_depth(), 0);
    assert_eq!(f.queue_metric("workqueue_queue_duration_seconds_count"), 50);
    assert_eq!(f.queue_metric("workqueue_work_duration_seconds_count"), 50);
}

#[tokio::test(start_paused = true)]
async fn r6_an_initial_object_that_has_changed_meanwhile_runs_once() {
    let mut f = Fixture::new(&["a", "b", "c"]).await;
    let gate = f.record_gated();
    f.run();
    let first = f.calls.next(1).await.remove(0);
    // While that one runs, the other two wait in the initial list.
    let waiting: Vec<_> = ["a", "b", "c"].into_iter().filter(|name| !first.starts_with(name)).collect();
    f.apply(waiting[0], "1").await;
    gate.add_permits(10);
    f.settle().await;
    assert_eq!(f.calls.take(), [format!("{}=1", waiting[0]), format!("{}=0", waiting[1])]);
}

#[tokio::test(start_paused = true)]
async fn r6_events_during_a_reconcile_lead_to_one_more_afterwards() {
    let mut f = Fixture::new(&["a"]).await;
    f.controller().max_concurrent_reconciles(4);
    let gate = f.record_gated();
    f.run();
    assert_eq!(f.calls.next(1).await, ["a=0"]);
    for value in ["1", "2", "3"] {
        f.apply("a", value).await;
    }
    f.settle().await;
    assert!(f.calls.all().is_empty(), "not while it runs");
    assert_eq!(f.metric("controller_runtime_active_workers"), 1);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(f.queue_metric("workqueue_unfinished_work_seconds") >= 3);
    assert!(f.queue_metric("workqueue_longest_running_processor_seconds") >= 3);
    gate.add_permits(2);
    f.settle().await;
    assert_eq!(f.calls.take(), ["a=3"]);
    assert_eq!(f.queue_metric("workqueue_longest_running_processor_seconds"), 0);
}

#[tokio::test(start_paused = true)]
async fn r7_a_handler_sees_the_cache_at_least_as_new_as_the_event() {
    let mut f = Fixture::new(&[]).await;
    let (calls, reader) = (f.calls.clone(), f.cache.reader::<ConfigMap>());
    f.handle(move |observed: Observed<ConfigMap>| {
        let cached = reader.get("default", observed.key().name).unwrap();
        calls.add(format!("{} {}", show(&observed), cached.is_some()));
        async { Ok(Action::await_change()) }
    });
    f.run();
    f.settle().await;
    f.apply("a", "1").await;
    assert_eq!(f.calls.next(1).await, ["a=1 true"]);
    f.delete::<ConfigMap>("a").await;
    assert_eq!(f.calls.next(1).await, ["-a=1 removed false"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_running_handlers_end_and_begins_nothing_new() {
    let mut f = Fixture::new(&["a", "b"]).await;
    let entered = Arc::new(Notify::new());
    let (entering, shutdown) = (Arc::clone(&entered), f.controller().context().shutdown().clone());
    let told = shutdown.clone();
    f.handle(move |_: Observed<ConfigMap>| {
        let (entering, shutdown) = (Arc::clone(&entering), shutdown.clone());
        async move {
            entering.notify_one();
            shutdown.cancelled().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(Action::await_change())
        }
    });
    f.record("");
    let running = f.run();
    entered.notified().await;
    assert!(!told.is_cancelled());
    let stopped = Instant::now();
    f.stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(stopped.elapsed().as_secs(), 5);
    assert_eq!(f.calls.all().len(), 1);
}

/// A handler that never returns. Its attempts keep the value alive.
fn holding_forever(held: &Arc<()>) -> impl ReconcileHandler<ConfigMap> + use<> {
    let holding = Arc::clone(held);
    move |_: Observed<ConfigMap>| {
        let held = Arc::clone(&holding);
        async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok(Action::await_change())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_after_the_stop_returns_once_the_handlers_are_dropped() {
    let mut f = Fixture::new(&["a"]).await;
    let held = Arc::new(());
    f.record("");
    f.handle(holding_forever(&held));
    let abort = CancellationToken::new();
    let running = f.controller.take().unwrap().run_until(f.stop.clone(), abort.clone());
    let stopping = async {
        f.calls.next(1).await;
        f.stop.cancel();
        f.settle().await;
        assert_eq!(Arc::strong_count(&held), 3, "the handler may still end");
        abort.cancel();
    };
    // In one task, so that nothing else runs between the end of the controller and the check.
    let (ended, ()) = tokio::join!(running, stopping);
    ended.unwrap();
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_running_controller_drops_its_handlers_and_its_gauges() {
    let mut f = Fixture::new(&["a"]).await;
    let held = Arc::new(());
    let told = f.controller().context().shutdown().clone();
    f.record("");
    f.handle(holding_forever(&held));
    let running = f.run();
    f.calls.next(1).await;
    assert_eq!(Arc::strong_count(&held), 3);
    assert_eq!(f.queue_depth(), 0);
    running.abort();
    f.settle().await;
    assert_eq!(Arc::strong_count(&held), 1, "nothing keeps the handlers");
    assert!(told.is_cancelled());
    let metrics = f.metrics();
    assert!(!metrics.contains("workqueue_depth"), "the queue is gone: {metrics}");
}

#[tokio::test(start_paused = true)]
async fn x4_a_controller_starts_when_every_kind_is_synced() {
    use memory_apiserver::{FaultPlan, On, RequestFault, Times};
    let mut f = Fixture::unsynced(&["a"]);
    f.server.inject(&FaultPlan::request(On::kind("secrets"), Times::Always, RequestFault::Drop));
    f.cache.spawn().unwrap();
    f.record("");
    f.run();
    f.cache.wait_for_sync_of::<ConfigMap>().await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(f.calls.all().is_empty(), "secrets are not synced");
    f.server.clear_faults();
    assert_eq!(f.calls.next(1).await, ["a=0"]);
}
