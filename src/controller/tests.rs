//! Behaviours R of a controller on a cache that the test feeds, under paused time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use prometheus::{Registry, TextEncoder};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::api::v1alpha1::Sandbox;
use crate::cache::test_support::{Feed, Fixture, sandbox};

/// How long a call is waited for, on the paused clock.
const PATIENCE: Duration = Duration::from_mins(10);

/// What handlers were called with, in order.
type Calls = Arc<Mutex<Vec<String>>>;

struct Fixtures {
    feed: Feed,
    registry: Registry,
    calls: Calls,
    controller: Option<Controller<Sandbox>>,
    stop: CancellationToken,
}

fn show(observed: &Observed<Sandbox>) -> String {
    let version = |sandbox: &Sandbox| sandbox.metadata.resource_version.clone().unwrap();
    match observed {
        Observed::Present(sandbox) => format!("{}@{}", observed.key().name, version(sandbox)),
        Observed::Deleted { key, last_known } => {
            format!("-{}@{}", key.name, last_known.as_deref().map_or_else(String::new, version))
        }
    }
}

async fn fixtures(concurrency: u16, sandboxes: &[Fixture]) -> Fixtures {
    let listed: Vec<_> = sandboxes.iter().map(Fixture::listed).collect();
    let feed = Feed::start(&listed).await;
    let registry = Registry::new();
    let families = ControllerMetricFamilies::register(&registry).unwrap();
    let controller = Controller::new("sandbox", feed.cache.clone(), concurrency, families);
    Fixtures {
        feed,
        registry,
        calls: Calls::default(),
        controller: Some(controller),
        stop: CancellationToken::new(),
    }
}

impl Fixtures {
    fn handle(&mut self, handler: impl ReconcileHandler<Sandbox>) {
        self.controller.as_mut().unwrap().add_reconcile_handler(handler);
    }

    /// A handler that notes what it is called with, under a prefix.
    fn record(&mut self, prefix: &'static str) {
        let calls = Arc::clone(&self.calls);
        self.handle(move |observed: Observed<Sandbox>| {
            calls.lock().push(format!("{prefix}{}", show(&observed)));
            async { Ok(Action::await_change()) }
        });
    }

    fn run(&mut self) -> JoinHandle<()> {
        tokio::spawn(self.controller.take().unwrap().run(self.stop.clone()))
    }

    /// Waits until there are so many calls, and takes them out.
    async fn calls(&self, count: usize) -> Vec<String> {
        let start = Instant::now();
        while self.calls.lock().len() < count {
            assert!(start.elapsed() < PATIENCE, "not {count} calls: {:?}", self.calls.lock());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let calls = std::mem::take(&mut *self.calls.lock());
        assert_eq!(calls.len(), count, "{calls:?}");
        calls
    }

    /// Lets everything that is due happen.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    fn metric(&self, line: &str) -> u64 {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let value = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{line} is missing from\n{text}")).parse().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn r2_handlers_are_called_in_registration_order_with_the_newest_object() {
    let mut f = fixtures(1, &[sandbox("a")]).await;
    f.record("1:");
    f.record("2:");
    f.run();
    assert_eq!(f.calls(2).await, ["1:a@1", "2:a@1"]);
    f.feed.apply(&sandbox("a")).await;
    f.feed.apply(&sandbox("a")).await;
    f.settle().await;
    let calls = std::mem::take(&mut *f.calls.lock());
    assert!(calls.chunks(2).all(|pair| pair[0][2..] == pair[1][2..]), "{calls:?}");
    assert!(calls.ends_with(&["1:a@1002".into(), "2:a@1002".into()]), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn r2_a_deletion_arrives_with_the_last_known_object() {
    let mut f = fixtures(1, &[sandbox("a")]).await;
    f.record("");
    f.run();
    assert_eq!(f.calls(1).await, ["a@1"]);
    f.feed.delete(&sandbox("a")).await;
    assert_eq!(f.calls(1).await, ["-a@1001"]);
}

#[tokio::test(start_paused = true)]
async fn r2_a_deletion_is_shown_before_the_new_object_of_the_same_name() {
    let mut f = fixtures(1, &[sandbox("a")]).await;
    f.record("");
    f.run();
    assert_eq!(f.calls(1).await, ["a@1"]);
    f.feed.delete(&sandbox("a")).await;
    f.feed.apply(&sandbox("a").uid("new")).await;
    f.settle().await;
    let calls = f.calls.lock().clone();
    assert_eq!(calls[..2], ["-a@1001", "a@1002"]);
    assert!(calls[2..].iter().all(|call| call == "a@1002"));
}

#[tokio::test(start_paused = true)]
async fn r2_a_deletion_comes_back_until_all_handlers_have_succeeded_with_it() {
    let mut f = fixtures(1, &[sandbox("a")]).await;
    f.record("");
    let failures = AtomicUsize::new(2);
    f.handle(move |observed: Observed<Sandbox>| {
        let fail = matches!(observed, Observed::Deleted { .. })
            && failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        async move { if fail { Err("not yet".into()) } else { Ok(Action::await_change()) } }
    });
    f.run();
    assert_eq!(f.calls(1).await, ["a@1"]);
    f.feed.delete(&sandbox("a")).await;
    f.settle().await;
    assert_eq!(f.calls(3).await, ["-a@1001", "-a@1001", "-a@1001"]);
}

#[tokio::test(start_paused = true)]
async fn r3_an_error_stops_the_chain_is_counted_and_backs_off_from_5_ms_doubling_until_success() {
    let mut f = fixtures(1, &[sandbox("a")]).await;
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&times);
    let failing = Arc::new(AtomicUsize::new(6));
    let left = Arc::clone(&failing);
    f.handle(move |_: Observed<Sandbox>| {
        noted.lock().push(Instant::now());
        let fail = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        async move { if fail { Err("no".into()) } else { Ok(Action::await_change()) } }
    });
    f.record("after:");
    f.run();
    f.calls(1).await;
    let delays = |times: &[Instant]| -> Vec<u128> {
        times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_millis()).collect()
    };
    let grown = |delays: &[u128]| {
        delays.iter().zip([5, 10, 20, 40, 80, 160]).all(|(&delay, due)| (due..=due + 4).contains(&delay))
    };
    assert!(grown(&delays(&times.lock())), "{:?}", delays(&times.lock()));
    assert_eq!(times.lock().len(), 7);
    assert_eq!(f.metric("controller_runtime_reconcile_errors_total{controller=\"sandbox\"}"), 6);
    assert_eq!(f.metric("controller_runtime_reconcile_total{controller=\"sandbox\",result=\"error\"}"), 6);
    assert_eq!(f.metric("controller_runtime_reconcile_total{controller=\"sandbox\",result=\"success\"}"), 1);
    assert_eq!(f.metric("workqueue_retries_total{controller=\"sandbox\",name=\"sandbox\"}"), 6);

    times.lock().clear();
    failing.store(2, Ordering::SeqCst);
    f.feed.apply(&sandbox("a")).await;
    f.calls(1).await;
    assert!(grown(&delays(&times.lock())), "starts anew after a success: {:?}", delays(&times.lock()));
}

#[tokio::test(start_paused = true)]
async fn r3_keys_back_off_on_their_own() {
    let mut f = fixtures(2, &[sandbox("bad"), sandbox("good")]).await;
    let calls = Arc::clone(&f.calls);
    f.handle(move |observed: Observed<Sandbox>| {
        let bad = observed.key().name == "bad";
        if !bad {
            calls.lock().push(show(&observed));
        }
        async move { if bad { Err("always".into()) } else { Ok(Action::await_change()) } }
    });
    f.run();
    f.calls(1).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let changed = Instant::now();
    f.feed.apply(&sandbox("good")).await;
    f.calls(1).await;
    assert!(changed.elapsed() < Duration::from_millis(10), "{:?}", changed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn r3_the_longest_delay_is_1000_s() {
    let (queue, _store) = WorkQueue::new(metrics_alone());
    let event = crate::informer::Event::Applied { old: None, new: Arc::new(sandbox("a").typed(1)) };
    let key = ObjectRef::from_obj(&queue.enqueue(event));
    let delays: Vec<_> = (0..40)
        .map(|_| {
            let turn = queue.begin(&key);
            queue.finish(&key, &turn, ended(Outcome::Failed))
        })
        .collect();
    assert_eq!(delays[..3], [5, 10, 20].map(Duration::from_millis));
    assert_eq!(delays[17], Duration::from_millis(5 << 17));
    assert_eq!(delays[39], Duration::from_secs(1000));
    assert_eq!(queue.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn r3_every_success_makes_the_back_off_start_anew() {
    let (queue, _store) = WorkQueue::new(metrics_alone());
    let event = || crate::informer::Event::Applied { old: None, new: Arc::new(sandbox("a").typed(1)) };
    let key = ObjectRef::from_obj(&queue.enqueue(event()));
    let run = |outcome: Outcome, meanwhile: bool| {
        let turn = queue.begin(&key);
        if meanwhile {
            queue.enqueue(event());
        }
        queue.finish(&key, &turn, ended(outcome))
    };
    // A success that comes back, one with an event meanwhile, and one after which nothing is left to do.
    for (outcome, meanwhile) in [(Outcome::Requeue, false), (Outcome::Done, true), (Outcome::Done, false)] {
        let delays = [run(Outcome::Failed, false), run(Outcome::Failed, false)];
        assert_eq!(delays, [5, 10].map(Duration::from_millis), "before {outcome:?}");
        run(outcome, meanwhile);
        queue.enqueue(event());
    }
    assert_eq!(run(Outcome::Failed, false), Duration::from_millis(5));
}

/// The end of a reconcile that was done with the deletion it began with, unless it failed.
fn ended(outcome: Outcome) -> Ended {
    Ended { outcome, deletion_done: outcome != Outcome::Failed }
}

fn metrics_alone() -> ControllerMetrics {
    ControllerMetricFamilies::register(&Registry::new()).unwrap().of("test", 1)
}

#[tokio::test(start_paused = true)]
async fn r3_of_the_wishes_of_all_handlers_to_come_back_the_soonest_is_granted() {
    let mut f = fixtures(1, &[sandbox("a")]).await;
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&times);
    f.handle(move |_: Observed<Sandbox>| {
        noted.lock().push(Instant::now());
        async { Ok(Action::requeue(Duration::from_secs(90))) }
    });
    // It fails once, with a wish of its own for every other time.
    let failures = AtomicUsize::new(1);
    f.handle(move |_: Observed<Sandbox>| {
        let fail = failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        async move { if fail { Err("once".into()) } else { Ok(Action::requeue(Duration::from_secs(20))) } }
    });
    f.handle(|_: Observed<Sandbox>| async { Ok(Action::requeue(Duration::from_mins(1))) });
    f.run();
    tokio::time::sleep(Duration::from_secs(70)).await;
    let times = times.lock();
    assert_eq!(times.len(), 5, "{times:?}");
    let delays: Vec<_> = times.windows(2).map(|pair| pair[1].duration_since(pair[0])).collect();
    let about = |due: u64| Duration::from_millis(due)..=Duration::from_millis(due + 5);
    assert!(about(5).contains(&delays[0]), "the back-off is sooner than a wish of 90 s: {delays:?}");
    for delay in &delays[1..] {
        assert!(about(20_000).contains(delay), "the soonest of all wishes: {delays:?}");
    }
    let results = "controller_runtime_reconcile_total{controller=\"sandbox\",result=";
    assert_eq!(f.metric(&format!("{results}\"error\"}}")), 1);
    assert_eq!(f.metric(&format!("{results}\"requeue_after\"}}")), 4);
}

#[tokio::test(start_paused = true)]
async fn r4_a_panic_is_an_error_of_its_key_and_stops_nothing_else() {
    let mut f = fixtures(1, &[sandbox("a"), sandbox("b")]).await;
    let panics = AtomicUsize::new(2);
    f.handle(move |observed: Observed<Sandbox>| {
        let panic = observed.key().name == "a"
            && panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        // Once before the future is made and once inside of it.
        assert!(!(panic && panics.load(Ordering::SeqCst) == 1), "early");
        async move {
            assert!(!panic, "late");
            Ok(Action::await_change())
        }
    });
    f.record("");
    f.run();
    let mut calls = f.calls(2).await;
    calls.sort();
    assert_eq!(calls, ["a@1", "b@1"]);
    assert_eq!(f.metric("controller_runtime_reconcile_panics_total{controller=\"sandbox\"}"), 2);
    assert_eq!(f.metric("controller_runtime_reconcile_errors_total{controller=\"sandbox\"}"), 2);
    assert_eq!(f.metric("controller_runtime_active_workers{controller=\"sandbox\"}"), 0);
}

/// Counts who is inside of the handler, in all and by key.
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
    let names: Vec<_> = (0..20).map(|i| format!("s-{i}")).collect();
    let all: Vec<_> = names.iter().map(|name| sandbox(name)).collect();
    let mut f = fixtures(7, &all).await;
    let occupancy = Arc::new(Occupancy::default());
    let inside = Arc::clone(&occupancy);
    f.handle(move |observed: Observed<Sandbox>| {
        let (inside, name) = (Arc::clone(&inside), observed.key().name.to_owned());
        async move {
            inside.enter(&name);
            tokio::time::sleep(Duration::from_millis(30)).await;
            inside.leave(&name);
            Ok(Action::await_change())
        }
    });
    f.record("");
    f.run();
    for _ in 0..5 {
        for sandbox in &all[..10] {
            f.feed.apply(sandbox).await;
        }
        tokio::time::sleep(Duration::from_millis(11)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(occupancy.most.load(Ordering::SeqCst), 7);
    assert_eq!(occupancy.twice.load(Ordering::SeqCst), 0);
    assert_eq!(f.metric("controller_runtime_max_concurrent_reconciles{controller=\"sandbox\"}"), 7);
}

#[tokio::test(start_paused = true)]
async fn r6_every_existing_object_is_reconciled_once_after_the_start() {
    let all: Vec<_> = (0..50).map(|i| sandbox(&format!("s-{i}"))).collect();
    let mut f = fixtures(4, &all).await;
    f.record("");
    f.run();
    f.settle().await;
    let mut calls = f.calls(50).await;
    calls.sort();
    calls.dedup();
    assert_eq!(calls.len(), 50);
    assert_eq!(f.metric("workqueue_adds_total{controller=\"sandbox\",name=\"sandbox\"}"), 50);
    assert_eq!(f.metric("workqueue_depth{controller=\"sandbox\",name=\"sandbox\"}"), 0);
}

#[tokio::test(start_paused = true)]
async fn r6_events_during_a_reconcile_lead_to_one_more_afterwards() {
    let mut f = fixtures(4, &[sandbox("a")]).await;
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (entering, gate) = (Arc::clone(&entered), Arc::clone(&go));
    f.record("");
    f.handle(move |_: Observed<Sandbox>| {
        let (entering, gate) = (Arc::clone(&entering), Arc::clone(&gate));
        async move {
            entering.notify_one();
            gate.acquire().await?.forget();
            Ok(Action::await_change())
        }
    });
    f.run();
    entered.notified().await;
    for _ in 0..3 {
        f.feed.apply(&sandbox("a")).await;
    }
    f.settle().await;
    assert_eq!(f.calls(1).await, ["a@1"], "not while it runs");
    assert_eq!(f.metric("workqueue_depth{controller=\"sandbox\",name=\"sandbox\"}"), 1);
    assert_eq!(f.metric("controller_runtime_active_workers{controller=\"sandbox\"}"), 1);
    go.add_permits(1);
    entered.notified().await;
    go.add_permits(1);
    f.settle().await;
    assert_eq!(f.calls(1).await, ["a@1003"]);
}

#[tokio::test(start_paused = true)]
async fn r7_a_handler_sees_the_cache_at_least_as_new_as_the_event() {
    let mut f = fixtures(1, &[]).await;
    let reader = f.feed.cache.reader::<Sandbox>();
    let calls = Arc::clone(&f.calls);
    f.handle(move |observed: Observed<Sandbox>| {
        let cached = reader.get("ns", observed.key().name).unwrap();
        calls.lock().push(format!("{} {}", show(&observed), cached.is_some()));
        async { Ok(Action::await_change()) }
    });
    f.run();
    f.settle().await;
    f.feed.apply(&sandbox("a")).await;
    assert_eq!(f.calls(1).await, ["a@1001 true"]);
    f.feed.delete(&sandbox("a")).await;
    assert_eq!(f.calls(1).await, ["-a@1002 false"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_running_handlers_end_and_begins_nothing_new() {
    let mut f = fixtures(1, &[sandbox("a"), sandbox("b")]).await;
    let entered = Arc::new(Notify::new());
    let entering = Arc::clone(&entered);
    f.handle(move |_: Observed<Sandbox>| {
        let entering = Arc::clone(&entering);
        async move {
            entering.notify_one();
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(Action::await_change())
        }
    });
    f.record("");
    let running = f.run();
    entered.notified().await;
    let stopped = Instant::now();
    f.stop.cancel();
    running.await.unwrap();
    assert_eq!(stopped.elapsed().as_secs(), 5);
    assert_eq!(f.calls.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_controller_does_not_start_before_its_kind_is_synced() {
    let feed = Feed::unsynced(|builder| builder);
    let families = ControllerMetricFamilies::register(&Registry::new()).unwrap();
    let mut controller = Controller::<Sandbox>::new("sandbox", feed.cache.clone(), 1, families);
    let calls = Calls::default();
    let noted = Arc::clone(&calls);
    controller.add_reconcile_handler(move |observed: Observed<Sandbox>| {
        noted.lock().push(show(&observed));
        async { Ok(Action::await_change()) }
    });
    let stop = CancellationToken::new();
    let running = tokio::spawn(controller.run(stop.clone()));
    let mut feed = feed;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(calls.lock().is_empty());
    feed.sync(&[sandbox("a").listed()]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(*calls.lock(), ["a@1"]);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_remembered_of_a_key_that_has_no_work_outstanding() {
    use crate::informer::Event;
    let (queue, store) = WorkQueue::new(metrics_alone());
    let applied = |version| Event::Applied { old: None, new: Arc::new(sandbox("a").typed(version)) };
    let deleted = |version| Event::Deleted {
        last_known: Arc::new(sandbox("a").typed(version)),
        final_state_unknown: false,
    };
    let key = ObjectRef::from_obj(&queue.enqueue(applied(1)));

    let turn = queue.begin(&key);
    queue.enqueue(applied(2));
    queue.finish(&key, &turn, ended(Outcome::Done));
    assert_eq!(queue.len(), 1, "an event came meanwhile");

    let turn = queue.begin(&key);
    queue.finish(&key, &turn, ended(Outcome::Requeue));
    assert_eq!(queue.len(), 1, "it comes back, and kube must find it then");

    queue.enqueue(deleted(3));
    let turn = queue.begin(&key);
    assert!(turn.deleted.is_some());
    queue.finish(&key, &turn, ended(Outcome::Done));
    assert_eq!(queue.len(), 0);
    assert!(store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn r2_a_deletion_is_owed_of_each_object_that_handlers_were_shown_and_of_no_other() {
    use crate::informer::Event;
    let (queue, _store) = WorkQueue::new(metrics_alone());
    let object = |uid: &str, version| Arc::new(sandbox("a").uid(uid).typed(version));
    let applied = |uid: &str, version| Event::Applied { old: None, new: object(uid, version) };
    let deleted =
        |uid: &str, version| Event::Deleted { last_known: object(uid, version), final_state_unknown: false };
    let owed = |turn: &queue::Turn<Sandbox>| turn.deleted.as_ref().and_then(|gone| gone.metadata.uid.clone());
    let key = ObjectRef::from_obj(&queue.enqueue(applied("first", 1)));
    queue.enqueue(deleted("first", 2));
    let turn = queue.begin(&key);
    assert_eq!(owed(&turn).as_deref(), Some("first"));

    assert!(!queue.show(&key, &object("second", 3)), "no event has told of it yet");
    queue.enqueue(applied("second", 3));
    assert!(queue.show(&key, &object("second", 3)));
    queue.enqueue(deleted("second", 4));
    queue.enqueue(applied("third", 5));
    queue.enqueue(deleted("third", 6));
    queue.finish(&key, &turn, ended(Outcome::Done));

    let turn = queue.begin(&key);
    assert_eq!(owed(&turn).as_deref(), Some("second"));
    queue.finish(&key, &turn, ended(Outcome::Done));
    assert_eq!(queue.len(), 0, "the third came and went unseen");
}

#[tokio::test(start_paused = true)]
async fn r3_a_deletion_whose_handler_wants_it_back_comes_back() {
    let mut f = fixtures(1, &[sandbox("a")]).await;
    let left = AtomicUsize::new(2);
    f.record("");
    f.handle(move |observed: Observed<Sandbox>| {
        let again = matches!(observed, Observed::Deleted { .. })
            && left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok();
        async move {
            Ok(if again {
                Action::requeue(Duration::from_secs(10))
            } else {
                Action::await_change()
            })
        }
    });
    f.run();
    assert_eq!(f.calls(1).await, ["a@1"]);
    f.feed.delete(&sandbox("a")).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(f.calls(3).await, ["-a@1001", "-a@1001", "-a@1001"]);
}

#[tokio::test(start_paused = true)]
async fn r2_a_deletion_that_is_done_is_not_shown_again_because_the_new_object_fails() {
    let mut f = fixtures(1, &[sandbox("a")]).await;
    f.record("");
    let failures = AtomicUsize::new(1);
    f.handle(move |observed: Observed<Sandbox>| {
        let reborn = observed.object().is_some_and(|sandbox| sandbox.metadata.uid.as_deref() == Some("new"));
        let fail =
            reborn && failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        async move { if fail { Err("not yet".into()) } else { Ok(Action::await_change()) } }
    });
    f.run();
    assert_eq!(f.calls(1).await, ["a@1"]);
    f.feed.delete(&sandbox("a")).await;
    f.feed.apply(&sandbox("a").uid("new")).await;
    f.settle().await;
    let calls = f.calls.lock().clone();
    assert_eq!(calls.iter().filter(|call| *call == "-a@1001").count(), 1, "{calls:?}");
    assert!(calls.ends_with(&["a@1002".into(), "a@1002".into()]), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn r2_deletions_are_reconciled_once_when_the_whole_kind_goes() {
    let mut f = fixtures(1, &[sandbox("a"), sandbox("b")]).await;
    f.record("");
    f.run();
    f.calls(2).await;
    f.feed.cut("sandboxes");
    while f.feed.cache.reader::<Sandbox>().has_synced() {
        f.feed.server.next().await.status(404, "NotFound", &[]);
        f.settle().await;
    }
    let mut calls = f.calls(2).await;
    calls.sort();
    assert_eq!(calls, ["-a@1", "-b@1"]);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(f.calls.lock().is_empty());
    assert_eq!(f.metric("controller_runtime_reconcile_errors_total{controller=\"sandbox\"}"), 0);
}

#[tokio::test(start_paused = true)]
async fn keys_wait_in_the_subscription_and_not_in_the_scheduler() {
    let all: Vec<_> = (0..1000).map(|i| sandbox(&format!("s-{i}"))).collect();
    let mut f = fixtures(1, &all).await;
    let gate = Arc::new(Semaphore::new(0));
    let opening = Arc::clone(&gate);
    f.record("");
    f.handle(move |_: Observed<Sandbox>| {
        let gate = Arc::clone(&opening);
        async move {
            gate.acquire().await?.forget();
            Ok(Action::await_change())
        }
    });
    f.run();
    f.settle().await;
    assert_eq!(f.calls.lock().len(), 1);
    assert_eq!(
        f.metric("workqueue_depth{controller=\"sandbox\",name=\"sandbox\"}"),
        999,
        "all that wait count"
    );
    let adds = f.metric("workqueue_adds_total{controller=\"sandbox\",name=\"sandbox\"}");
    assert!(adds <= 1 + u64::try_from(SMALLEST_QUEUE).unwrap(), "{adds}");
    gate.add_permits(1000);
    f.calls(1000).await;
    f.settle().await;
    assert_eq!(f.metric("workqueue_depth{controller=\"sandbox\",name=\"sandbox\"}"), 0);
}

/// On the real clock, since `shutdownTime` is wall time.
#[tokio::test]
async fn b2_a_handler_is_called_when_time_alone_has_changed_the_state() {
    use crate::api::v1alpha1::StateKind;
    let soon = jiff::Timestamp::now() + Duration::from_millis(300);
    let mut f = fixtures(1, &[sandbox("a").ready().shutdown_at(soon)]).await;
    let calls = Arc::clone(&f.calls);
    f.handle(move |observed: Observed<Sandbox>| {
        let dead = observed.object().unwrap().state(jiff::Timestamp::now()).kind == StateKind::Dead;
        calls.lock().push(format!("{} dead: {dead}", show(&observed)));
        async { Ok(Action::await_change()) }
    });
    f.run();
    let told = async {
        while f.calls.lock().last().is_none_or(|last| last != "a@1 dead: true") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
}
