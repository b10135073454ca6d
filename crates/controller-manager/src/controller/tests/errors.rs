//! Errors, panics, timeouts and wishes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;
use shared_cache::LookupError;
use tokio::time::Instant;

use crate::controller::test_support::{Fixture, show};
use crate::controller::{Action, HandlerError, Observed};

/// True as many times as the counter says.
fn count_down(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

fn milliseconds(times: &[Instant]) -> Vec<u128> {
    times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_millis()).collect()
}

#[tokio::test(start_paused = true)]
async fn r3_an_error_stops_the_chain_is_counted_and_backs_off_from_5_ms_doubling_until_success() {
    let mut f = Fixture::new(&["a"]).await;
    let times = Arc::new(Mutex::new(Vec::new()));
    let failing = Arc::new(AtomicUsize::new(6));
    let (noted, left) = (Arc::clone(&times), Arc::clone(&failing));
    f.handle(move |_: Observed<ConfigMap>| {
        noted.lock().push(Instant::now());
        let fail = count_down(&left);
        async move { if fail { Err("no".into()) } else { Ok(Action::await_change()) } }
    });
    f.record("after:");
    f.run();
    f.calls.next(1).await;
    // A timer is exact to a millisecond, and rounds up.
    let grown = |delays: &[u128]| {
        delays.iter().zip([5, 10, 20, 40, 80, 160]).all(|(&delay, due)| (due..=due + 1).contains(&delay))
    };
    let delays = milliseconds(&times.lock());
    assert!(grown(&delays) && delays.len() == 6, "{delays:?}");
    assert_eq!(f.metric("controller_runtime_reconcile_errors_total"), 6);
    assert_eq!((f.results("error"), f.results("success")), (6, 1));
    assert_eq!(f.queue_metric("workqueue_retries_total"), 6);

    times.lock().clear();
    failing.store(2, Ordering::SeqCst);
    f.apply("a", "1").await;
    f.calls.next(1).await;
    let delays = milliseconds(&times.lock());
    assert!(grown(&delays) && delays.len() == 2, "starts anew after a success: {delays:?}");
}

#[tokio::test(start_paused = true)]
async fn r3_keys_back_off_on_their_own() {
    let mut f = Fixture::new(&["bad", "good"]).await;
    let calls = f.calls.clone();
    f.handle(move |observed: Observed<ConfigMap>| {
        let bad = observed.key().name == "bad";
        if !bad {
            calls.add(show(&observed));
        }
        async move { if bad { Err("always".into()) } else { Ok(Action::await_change()) } }
    });
    f.run();
    f.calls.next(1).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let changed = Instant::now();
    f.apply("good", "1").await;
    f.calls.next(1).await;
    assert_eq!(changed.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn r3_of_the_wishes_of_all_handlers_the_soonest_is_granted() {
    let mut f = Fixture::new(&["a"]).await;
    for seconds in [90, 20, 60] {
        f.handle(
            move |_: Observed<ConfigMap>| async move { Ok(Action::requeue(Duration::from_secs(seconds))) },
        );
    }
    f.record("");
    f.run();
    f.calls.next(1).await;
    let start = Instant::now();
    f.calls.next(1).await;
    assert_eq!(start.elapsed().as_secs(), 20);
    assert!(f.results("requeue_after") >= 1);
}

#[tokio::test(start_paused = true)]
async fn x2_a_failing_handler_does_not_take_the_wishes_of_those_before_it() {
    for (wish, expected) in [(20, 10), (3, 3)] {
        let mut f = Fixture::new(&["a"]).await;
        let options =
            crate::QueueOptions { first_backoff: Duration::from_secs(10), ..crate::QueueOptions::default() };
        f.controller().queue_options(options);
        f.handle(move |_: Observed<ConfigMap>| async move { Ok(Action::requeue(Duration::from_secs(wish))) });
        f.record("before:");
        f.handle(|_: Observed<ConfigMap>| async { Err("always".into()) });
        f.record("after:");
        f.run();
        assert_eq!(f.calls.next(1).await, ["before:a=0"]);
        let start = Instant::now();
        assert_eq!(f.calls.next(1).await, ["before:a=0"]);
        assert_eq!(start.elapsed().as_secs(), expected, "wish {wish}");
        f.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn r4_a_panic_is_an_error_of_its_key_and_stops_nothing_else() {
    let mut f = Fixture::new(&["a", "b"]).await;
    let left = AtomicUsize::new(2);
    f.handle(move |observed: Observed<ConfigMap>| {
        let panics = observed.key().name == "a" && count_down(&left);
        // Once before the future exists, and once inside of it.
        assert!(!(panics && left.load(Ordering::SeqCst) == 1), "early");
        async move {
            assert!(!panics, "late");
            Ok(Action::await_change())
        }
    });
    f.record("");
    f.run();
    let mut calls = f.calls.next(2).await;
    calls.sort();
    assert_eq!(calls, ["a=0", "b=0"]);
    f.settle().await;
    assert_eq!(f.metric("controller_runtime_reconcile_panics_total"), 2);
    assert_eq!(f.metric("controller_runtime_reconcile_errors_total"), 2);
    assert_eq!(f.metric("controller_runtime_active_workers"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_that_exceeds_its_timeout_is_dropped_and_backs_off() {
    /// The key must run again even if dropping the handler panics.
    struct PanicsWhenDropped(bool);
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            assert!(!self.0, "a panic that belongs to the test");
        }
    }
    let mut f = Fixture::new(&["a"]).await;
    f.controller().timeout(Duration::from_secs(5));
    f.record("before:");
    let calls = AtomicUsize::new(0);
    f.handle(move |_: Observed<ConfigMap>| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            let _bomb = PanicsWhenDropped(call == 0);
            if call < 2 {
                std::future::pending::<()>().await;
            }
            Ok(Action::await_change())
        }
    });
    f.record("after:");
    let start = Instant::now();
    f.run();
    assert_eq!(f.calls.next(4).await, ["before:a=0", "before:a=0", "before:a=0", "after:a=0"]);
    assert_eq!(start.elapsed().as_secs(), 10);
    f.settle().await;
    assert_eq!(f.metric("controller_runtime_reconcile_panics_total"), 1);
    assert_eq!(f.metric("controller_runtime_reconcile_timeouts_total"), 1);
    assert_eq!(f.metric("controller_runtime_reconcile_errors_total"), 2);
}

#[tokio::test(start_paused = true)]
async fn x4_a_kind_that_is_not_synced_is_a_quiet_requeue() {
    let mut f = Fixture::new(&["a"]).await;
    f.record("before:");
    let left = AtomicUsize::new(3);
    f.handle(move |_: Observed<ConfigMap>| {
        let unsynced = count_down(&left);
        async move {
            if unsynced {
                return Err(HandlerError::from(LookupError::NotSynced { kind: "Secret".into() }));
            }
            Ok(Action::await_change())
        }
    });
    f.record("after:");
    let start = Instant::now();
    f.run();
    let calls = f.calls.next(5).await;
    assert_eq!(calls, ["before:a=0", "before:a=0", "before:a=0", "before:a=0", "after:a=0"]);
    assert_eq!(start.elapsed().as_secs(), 3, "a second each");
    f.settle().await;
    assert_eq!(f.metric("controller_runtime_reconcile_errors_total"), 0);
    assert_eq!((f.results("requeue_after"), f.results("success")), (3, 1));
}
