//! Tests behaviours F of the waits, on a scripted API server under paused time.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::noop_waker_ref;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::test_support::{Feed, Fixture, sandbox};
use super::*;
use crate::api::v1alpha1::{Checkpoint, Sandbox, SandboxPhase};
use parking_lot::Mutex;
use shared_cache::{CacheCollector, CacheObject, Check, WaitAction, WaitError, WaitTask};

const LONG: Duration = Duration::from_mins(1);

type Waited = Result<Arc<Sandbox>, WaitError>;

async fn start(sandboxes: &[Fixture]) -> Feed {
    let listed: Vec<_> = sandboxes.iter().map(Fixture::listed).collect();
    Feed::start(&listed).await
}

fn cached(feed: &Feed, name: &str) -> Arc<Sandbox> {
    feed.cache.reader::<Sandbox>().get("ns", name).unwrap().unwrap()
}

fn claimed() -> Fixture {
    sandbox("a").claimed()
}

/// Waits in a separate task; returns once the wait is registered.
async fn spawn_wait(task: WaitTask<Sandbox>, timeout: Duration) -> JoinHandle<Waited> {
    let waiting = tokio::spawn(async move { task.wait(timeout).await });
    settle().await;
    waiting
}

/// Runs every task until it waits.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn version(sandbox: &Sandbox) -> &str {
    sandbox.metadata.resource_version.as_deref().unwrap()
}

/// A condition for tests: the message of the status sets the result.
fn scripted(sandbox: &Sandbox) -> Check {
    match sandbox.status.as_ref().and_then(|status| status.message.as_deref()) {
        Some("done") => Check::Satisfied,
        Some("broken") => Check::failed("it broke"),
        Some("panic") => panic!("on demand"),
        other => Check::not_yet(format!("message is {other:?}")),
    }
}

fn saying(message: &str) -> Fixture {
    claimed().status("message", message)
}

/// Returns the number of sandboxes that callers wait for.
fn awaited(feed: &Feed) -> usize {
    feed.cache.kinds().iter().find(|kind| kind.plural() == "sandboxes").unwrap().waits()
}

/// Waits for one object with a condition that reads nothing else.
async fn wait_once<K: CacheObject>(
    cache: &SandboxCache,
    object: &Arc<K>,
    action: &'static str,
    condition: impl Fn(&K) -> Check + Send + Sync + 'static,
    timeout: Duration,
) -> Result<Arc<K>, WaitError> {
    cache.wait_task(object, WaitAction::new(action), move |object, _| condition(object)).wait(timeout).await
}

/// Starts a wait for [`scripted`] and returns once it is registered.
async fn spawn_scripted(feed: &Feed, timeout: Duration) -> JoinHandle<Waited> {
    let (cache, object) = (feed.cache.clone(), cached(feed, "a"));
    let waiting = tokio::spawn(async move { wait_once(&cache, &object, "Script", scripted, timeout).await });
    settle().await;
    waiting
}

#[tokio::test(start_paused = true)]
async fn f1_the_cache_waits_for_any_condition_on_any_kind_by_name() {
    use k8s_openapi::api::core::v1::{PersistentVolume, Secret};
    let volume = |phase: &str| json!({"metadata": {"name": "pv", "uid": "pv", "resourceVersion": "1"}, "status": {"phase": phase}});
    let scope = Scope { persistent_volumes: true, ..Scope::default() };
    let mut feed = Feed::unsynced(|builder| builder.scope(scope));
    feed.sync(&[("persistentvolumes", volume("Pending"))]).await;
    let object = feed.cache.reader::<PersistentVolume>().get("", "pv").unwrap().unwrap();
    let condition = |volume: &PersistentVolume| match volume.status.as_ref().and_then(|s| s.phase.as_deref())
    {
        Some("Bound") => Check::Satisfied,
        _ => Check::not_yet("not bound"),
    };
    let cache = feed.cache.clone();
    let waiting = tokio::spawn(async move { wait_once(&cache, &object, "Bind", condition, LONG).await });
    settle().await;
    feed.send("persistentvolumes", "MODIFIED", &volume("Bound")).await;
    assert!(waiting.await.unwrap().is_ok());

    let secret = Arc::new(Secret::default());
    let error = wait_once(&feed.cache, &secret, "Rotate", |_| Check::Satisfied, LONG).await.unwrap_err();
    assert_eq!(error.reason(), "out_of_scope");
}

#[tokio::test(start_paused = true)]
async fn f2_each_change_of_the_key_is_checked_at_once_and_no_other() {
    let mut feed = start(&[claimed(), sandbox("b")]).await;
    let checked = Arc::new(Mutex::new(Vec::new()));
    let (seen, object, cache) = (Arc::clone(&checked), cached(&feed, "a"), feed.cache.clone());
    let condition = move |sandbox: &Sandbox| {
        seen.lock().push(version(sandbox).to_owned());
        scripted(sandbox)
    };
    let waiting = tokio::spawn(async move { wait_once(&cache, &object, "Script", condition, LONG).await });
    settle().await;
    assert_eq!(std::mem::take(&mut *checked.lock()), ["1", "1"], "the caller's object, then the stored one");
    feed.apply(&sandbox("b")).await;
    assert!(checked.lock().is_empty());
    feed.apply(&saying("1")).await;
    feed.apply(&saying("2")).await;
    assert_eq!(*checked.lock(), ["1002", "1003"], "before the informer goes on");
    let start = Instant::now();
    feed.apply(&saying("done")).await;
    let satisfied = waiting.await.unwrap().unwrap();
    assert_eq!(
        (version(&satisfied), start.elapsed()),
        ("1004", Duration::ZERO),
        "the object that satisfied it"
    );
}

#[tokio::test(start_paused = true)]
async fn f2_conditions_run_outside_of_every_lock() {
    let mut feed = start(&[claimed()]).await;
    let (cache, object) = (feed.cache.clone(), cached(&feed, "a"));
    let inner = feed.cache.clone();
    let condition = move |sandbox: &Sandbox| {
        // Each of these takes a lock that waits also take.
        let looked_up = inner.reader::<Sandbox>().get("ns", "a").is_ok();
        let sandbox = Arc::new(sandbox.clone());
        let task = inner.sandbox_pause_task(&sandbox).unwrap();
        let mut nested = pin!(task.wait(Duration::ZERO));
        let polled = nested.as_mut().poll(&mut Context::from_waker(noop_waker_ref()));
        assert!(looked_up && polled.is_ready());
        scripted(&sandbox)
    };
    let waiting = tokio::spawn(async move { wait_once(&cache, &object, "Script", condition, LONG).await });
    settle().await;
    feed.apply(&saying("done")).await;
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn f3_a_change_between_the_callers_object_and_the_wait_is_not_missed() {
    let mut feed = start(&[claimed()]).await;
    let old = cached(&feed, "a");
    feed.apply(&saying("done")).await;
    let satisfied = wait_once(&feed.cache, &old, "Script", scripted, LONG).await.unwrap();
    assert_eq!(version(&satisfied), "1001");
}

#[tokio::test(start_paused = true)]
async fn f4_pause_and_resume_of_one_sandbox_conflict_and_nothing_else_does() {
    let mut feed = start(&[claimed(), sandbox("b").claimed()]).await;
    let (a, b) = (cached(&feed, "a"), cached(&feed, "b"));
    let pause = feed.cache.sandbox_pause_task(&a).unwrap();
    let conflict = feed.cache.sandbox_resume_task(&a).unwrap_err();
    assert_eq!((conflict.existing, conflict.requested), (PAUSE, RESUME));
    assert_eq!(conflict.to_string(), "Sandbox ns/a: Resume conflicts with Pause, which is in progress");
    assert!(feed.cache.sandbox_resume_task(&b).is_ok(), "another sandbox");
    let reborn = Arc::new(sandbox("a").uid("other").typed(9));
    assert!(feed.cache.sandbox_resume_task(&reborn).is_ok(), "another incarnation");
    let ready = spawn_wait(feed.cache.sandbox_wait_ready_task(&a), LONG).await;
    let custom = spawn_scripted(&feed, LONG).await;
    let second = feed.cache.sandbox_pause_task(&a).unwrap();

    let first = tokio::spawn(async move { pause.wait(LONG).await });
    let second = tokio::spawn(async move { second.wait(LONG).await });
    settle().await;
    first.abort();
    settle().await;
    assert_eq!(feed.cache.sandbox_resume_task(&a).unwrap_err().existing, PAUSE, "the other still waits");
    feed.apply(&claimed().phase("Paused").condition("SandboxPaused", "True", "SetPause")).await;
    assert!(second.await.unwrap().is_ok(), "one leaving does not affect the other");
    assert!(feed.cache.sandbox_resume_task(&a).is_ok());
    ready.abort();
    custom.abort();
}

#[tokio::test(start_paused = true)]
async fn f5_a_task_holds_its_sandbox_from_its_making_until_it_is_dropped_or_has_waited() {
    let feed = start(&[claimed()]).await;
    let a = cached(&feed, "a");
    let task = feed.cache.sandbox_resume_task(&a).unwrap();
    assert!(feed.cache.sandbox_pause_task(&a).is_err());
    drop(task);
    let task = feed.cache.sandbox_pause_task(&a).unwrap();
    assert!(feed.cache.sandbox_resume_task(&a).is_err());
    assert_eq!(task.wait(Duration::from_secs(1)).await.unwrap_err().reason(), "not_satisfied");
    assert!(feed.cache.sandbox_resume_task(&a).is_ok());
}

#[tokio::test(start_paused = true)]
async fn f6_the_callers_own_object_may_satisfy_or_fail_a_lazy_wait_without_registering() {
    let feed = start(&[]).await;
    let own = |fixture: Fixture| Arc::new(fixture.typed(5));
    let done = own(saying("done"));
    let satisfied = wait_once(&feed.cache, &done, "Script", scripted, LONG).await.unwrap();
    assert!(Arc::ptr_eq(&satisfied, &done));
    let error = wait_once(&feed.cache, &own(saying("broken")), "Script", scripted, LONG).await.unwrap_err();
    assert_eq!(error.to_string(), "Script of Sandbox ns/a: it broke");
    assert_eq!(error.reason(), "failed");
}

#[tokio::test(start_paused = true)]
async fn f7_a_timeout_of_zero_checks_the_stored_object_once() {
    let mut feed = start(&[claimed()]).await;
    let old = cached(&feed, "a");
    let at_once = || wait_once(&feed.cache, &old, "Script", scripted, Duration::ZERO);
    assert_eq!(at_once().await.unwrap_err().reason(), "not_satisfied");
    let start = Instant::now();
    feed.apply(&saying("done")).await;
    assert_eq!(
        version(&wait_once(&feed.cache, &old, "Script", scripted, Duration::ZERO).await.unwrap()),
        "1001"
    );
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn f8_a_timeout_says_object_action_time_what_was_seen_and_what_was_missing() {
    let mut feed = start(&[claimed()]).await;
    let task = feed.cache.sandbox_wait_ready_task(&cached(&feed, "a"));
    let waiting = spawn_wait(task, Duration::from_millis(2500)).await;
    feed.apply(&claimed().condition("Ready", "False", "PodNotReady").generation(2).observed(1)).await;
    let error = waiting.await.unwrap().unwrap_err();
    let expected = "WaitReady of Sandbox ns/a not done after 2.500 s: the status is of generation 1, the spec of 2 \
                    (last seen at version 1001)";
    assert_eq!(error.to_string(), expected);
    let WaitError::NotSatisfied { target, last_observed, .. } = error else { panic!("{error}") };
    assert_eq!((target.object.as_ref().unwrap().to_string().as_str(), target.action), ("ns/a", WAIT_READY));
    assert_eq!(last_observed.as_deref(), Some("1001"));
}

#[tokio::test(start_paused = true)]
async fn f9_dropping_the_future_leaves_nothing_behind() {
    let feed = start(&[claimed()]).await;
    let waiting = spawn_scripted(&feed, LONG).await;
    assert_eq!(awaited(&feed), 1);
    waiting.abort();
    settle().await;
    assert_eq!(awaited(&feed), 0);
    let text = metrics(&feed);
    assert!(text.contains("sandbox_manager_waits_active{action=\"Script\"} 0\n"), "{text}");
    let cancelled =
        "sandbox_manager_wait_duration_seconds_count{action=\"Script\",outcome=\"cancelled\"} 1\n";
    assert!(text.contains(cancelled), "{text}");
}

#[tokio::test(start_paused = true)]
async fn f10_a_deleted_or_replaced_object_ends_the_wait_at_once() {
    for replaced in [false, true] {
        let mut feed = start(&[claimed()]).await;
        let waiting = spawn_scripted(&feed, LONG).await;
        let start = Instant::now();
        if replaced {
            feed.apply(&saying("done").uid("other")).await;
        } else {
            feed.delete(&claimed()).await;
        }
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "Script of Sandbox ns/a: the object was deleted or left the scope of the cache"
        );
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn f10_an_object_that_was_gone_before_the_wait_began_is_gone() {
    let mut feed = start(&[claimed()]).await;
    let old = cached(&feed, "a");
    feed.delete(&claimed()).await;
    let error = wait_once(&feed.cache, &old, "Script", scripted, LONG).await.unwrap_err();
    assert_eq!(error.reason(), "gone");
    feed.apply(&saying("done").uid("other")).await;
    let error = wait_once(&feed.cache, &old, "Script", scripted, LONG).await.unwrap_err();
    assert_eq!(error.reason(), "gone", "another object has its name");
}

#[tokio::test(start_paused = true)]
async fn f10_an_earlier_incarnation_says_nothing() {
    let mut feed = start(&[saying("done").uid("earlier")]).await;
    let later = Arc::new(claimed().typed(1005));
    let cache = feed.cache.clone();
    let waiting = tokio::spawn(async move { wait_once(&cache, &later, "Script", scripted, LONG).await });
    settle().await;
    feed.delete(&claimed().uid("earlier")).await;
    assert!(!waiting.is_finished());
    for _ in 0..4 {
        feed.apply(&saying("done")).await;
    }
    assert_eq!(version(&waiting.await.unwrap().unwrap()), "1005");
}

#[tokio::test(start_paused = true)]
async fn f11_a_floor_keeps_older_states_from_satisfying_or_failing() {
    let mut feed = start(&[saying("broken")]).await;
    let old = cached(&feed, "a");
    let task = feed.cache.sandbox_wait_ready_task(&old);
    drop(task);
    let task = scripted_task(&feed, &old).after("1003");
    let waiting = spawn_wait(task.clone(), LONG).await;
    feed.apply(&saying("done")).await;
    feed.apply(&saying("broken")).await;
    settle().await;
    assert!(!waiting.is_finished());
    feed.apply(&saying("done")).await;
    assert_eq!(version(&waiting.await.unwrap().unwrap()), "1003");
    let error = task.after("5000").wait(Duration::from_secs(1)).await.unwrap_err();
    assert!(
        error.to_string().contains("no state of version 5000 or newer was seen (no state that counts"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn f11_without_a_floor_the_callers_object_is_the_floor() {
    let mut feed = start(&[saying("done")]).await;
    let newer = Arc::new(claimed().typed(1002));
    let waiting = spawn_wait(scripted_task(&feed, &newer), LONG).await;
    feed.apply(&saying("broken")).await;
    settle().await;
    assert!(!waiting.is_finished(), "neither the stored state nor the event is as new");
    feed.apply(&saying("done")).await;
    assert_eq!(version(&waiting.await.unwrap().unwrap()), "1002");
}

/// Returns a task for [`scripted`].
fn scripted_task(feed: &Feed, object: &Arc<Sandbox>) -> WaitTask<Sandbox> {
    feed.cache.wait_task(object, WaitAction::new("Script"), |sandbox, _| scripted(sandbox))
}

#[tokio::test(start_paused = true)]
async fn f12_a_flap_before_the_waiter_runs_re_arms_the_wait() {
    let mut feed = start(&[claimed()]).await;
    let task = scripted_task(&feed, &cached(&feed, "a"));
    let mut wait = pin!(task.wait(LONG));
    let mut poll = || wait.as_mut().poll(&mut Context::from_waker(noop_waker_ref()));
    assert!(poll().is_pending());
    feed.apply(&saying("done")).await;
    feed.apply(&saying("not any more")).await;
    assert!(poll().is_pending());
    feed.apply(&saying("broken")).await;
    feed.apply(&saying("done")).await;
    let Poll::Ready(Ok(satisfied)) = poll() else { panic!("not satisfied") };
    assert_eq!(version(&satisfied), "1004");
}

#[tokio::test(start_paused = true)]
async fn f13_while_the_watch_is_down_live_reads_end_waits() {
    let mut feed = start(&[claimed(), sandbox("b").claimed()]).await;
    let waiting = spawn_scripted(&feed, LONG).await;
    let (cache, other) = (feed.cache.clone(), cached(&feed, "b"));
    let mut gone = pin!(wait_once(&cache, &other, "Script", scripted, LONG));
    assert!(gone.as_mut().poll(&mut Context::from_waker(noop_waker_ref())).is_pending());
    let cut = Instant::now();
    feed.cut("sandboxes");
    let mut reads = 0;
    while reads < 4 {
        let exchange = feed.server.next().await;
        let name = exchange.path.rsplit('/').next().unwrap();
        match (name, reads) {
            ("sandboxes", _) => exchange.status(500, "InternalError", &[]),
            (_, 0..2) => {
                let round = cut.elapsed();
                assert!(round >= Duration::from_secs(9) && round <= Duration::from_secs(11), "{round:?}");
                let state = if name == "a" { claimed() } else { sandbox("b").claimed() };
                exchange.json(&serde_json::to_value(state.typed(1)).unwrap());
                reads += 1;
            }
            ("a", _) => {
                exchange.json(&serde_json::to_value(saying("done").typed(1009)).unwrap());
                reads += 1;
            }
            _ => {
                exchange.status(404, "NotFound", &[]);
                reads += 1;
            }
        }
    }
    assert_eq!(version(&waiting.await.unwrap().unwrap()), "1009");
    assert_eq!(gone.await.unwrap_err().reason(), "gone");
    assert_eq!(version(&cached(&feed, "a")), "1", "only the watch writes the store");
}

#[tokio::test(start_paused = true)]
async fn f13_while_the_watch_is_up_nothing_is_read_live() {
    let mut feed = start(&[claimed()]).await;
    let waiting = spawn_scripted(&feed, Duration::from_secs(50)).await;
    assert_eq!(waiting.await.unwrap().unwrap_err().reason(), "not_satisfied");
    assert!(feed.server.try_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn f14_ten_thousand_waits_cost_no_tasks_or_timers_but_the_callers_own() {
    let all: Vec<_> = (0..1000).map(|i| sandbox(&format!("s-{i}"))).collect();
    let mut feed = start(&all).await;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let objects: Vec<_> = (0..1000).map(|i| cached(&feed, &format!("s-{i}"))).collect();
    let cache = feed.cache.clone();
    let mut waits: Vec<_> = (0..10_000)
        .map(|i| Box::pin(wait_once(&cache, &objects[i % 1000], "Script", scripted, LONG)))
        .collect();
    let mut context = Context::from_waker(noop_waker_ref());
    for wait in &mut waits {
        assert!(wait.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), tasks);
    for sandbox in &all {
        feed.apply(&sandbox.clone().status("message", "done")).await;
    }
    for wait in &mut waits {
        assert!(wait.as_mut().poll(&mut context).is_ready());
    }
    drop(waits);
    assert_eq!(awaited(&feed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_panics_fails_its_own_wait_and_no_other() {
    let mut feed = start(&[claimed()]).await;
    let panicking = spawn_scripted(&feed, LONG).await;
    let calm = spawn_wait(feed.cache.sandbox_wait_ready_task(&cached(&feed, "a")), LONG).await;
    feed.apply(&saying("panic")).await;
    assert_eq!(
        panicking.await.unwrap().unwrap_err().to_string(),
        "Script of Sandbox ns/a: the condition panicked"
    );
    assert!(!calm.is_finished());
    feed.apply(&claimed().ready().pod_ip("10.0.0.1")).await;
    assert!(calm.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn u1_a_pause_that_has_begun_is_waited_for_although_the_sandbox_is_no_longer_pausable() {
    let mut feed = start(&[claimed().ready()]).await;
    let object = cached(&feed, "a");
    assert!(object.pausable().allowed);
    let task = feed.cache.sandbox_pause_task(&object).unwrap();
    let pausing = tokio::spawn(async move { task.wait(LONG).await });
    settle().await;
    feed.apply(&claimed().paused(true).condition("Ready", "False", "PodReady")).await;
    assert!(!cached(&feed, "a").pausable().allowed);
    settle().await;
    assert!(!pausing.is_finished());
    feed.apply(&claimed().paused(true).phase("Paused").condition("SandboxPaused", "True", "SetPause")).await;
    assert_eq!(pausing.await.unwrap().unwrap().phase(), Some(&SandboxPhase::Paused));
}

#[tokio::test(start_paused = true)]
async fn u1_a_resume_is_not_done_while_the_spec_asks_for_a_pause() {
    let mut feed = start(&[claimed().ready().paused(true)]).await;
    let object = cached(&feed, "a");
    assert!(!object.resumable(jiff::Timestamp::now()).allowed);
    let task = feed.cache.sandbox_resume_task(&object).unwrap();
    let resuming = tokio::spawn(async move { task.wait(LONG).await });
    settle().await;
    assert!(!resuming.is_finished());
    feed.apply(&claimed().ready().paused(false)).await;
    assert!(resuming.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn stopping_the_cache_ends_every_wait_and_every_later_one() {
    let feed = start(&[claimed()]).await;
    let object = cached(&feed, "a");
    let waiting = spawn_scripted(&feed, LONG).await;
    let pause = feed.cache.sandbox_pause_task(&object).unwrap();
    let pausing = tokio::spawn(async move { pause.wait(LONG).await });
    settle().await;
    feed.cache.stop().await;
    assert_eq!(
        waiting.await.unwrap().unwrap_err().to_string(),
        "Script of Sandbox ns/a: the cache was stopped"
    );
    assert_eq!(pausing.await.unwrap().unwrap_err().reason(), "stopped");
    let error = wait_once(&feed.cache, &object, "Script", scripted, LONG).await.unwrap_err();
    assert_eq!(error.reason(), "stopped");
}

#[tokio::test(start_paused = true)]
async fn a_wait_on_a_cache_that_is_not_synced_or_does_not_watch_the_namespace_says_so() {
    let feed = Feed::unsynced(|builder| builder);
    let object = Arc::new(claimed().typed(5));
    let error = wait_once(&feed.cache, &object, "Script", scripted, LONG).await.unwrap_err();
    assert_eq!(error.reason(), "not_synced");
    let scope = Scope { sandbox_namespace: Some("other".into()), ..Scope::default() };
    let feed = Feed::unsynced(|builder| builder.scope(scope));
    let error = wait_once(&feed.cache, &object, "Script", scripted, LONG).await.unwrap_err();
    assert_eq!(error.reason(), "out_of_scope");
}

#[tokio::test(start_paused = true)]
async fn g4_a_checkpoint_that_the_cache_does_not_know_yet_is_waited_for() {
    let checkpoint = |status| json!({"metadata": {"namespace": "ns", "name": "c", "uid": "c", "resourceVersion": "1"}, "spec": {}, "status": status});
    let mut feed = start(&[]).await;
    let mut created = checkpoint(json!({}));
    created["metadata"]["resourceVersion"] = json!("1001");
    let created: Arc<Checkpoint> = Arc::new(serde_json::from_value(created).unwrap());
    let task = feed.cache.checkpoint_task(&created);
    let waiting = tokio::spawn(async move { task.wait(LONG).await });
    settle().await;
    assert!(!waiting.is_finished());
    feed.send("checkpoints", "ADDED", &checkpoint(json!({"phase": "Creating"}))).await;
    feed.send("checkpoints", "MODIFIED", &checkpoint(json!({"phase": "Succeeded", "checkpointId": "x"})))
        .await;
    assert_eq!(waiting.await.unwrap().unwrap().checkpoint_id(), Some("x"));
}

#[tokio::test(start_paused = true)]
async fn g2_a_resume_takes_only_a_status_that_knows_of_the_callers_write() {
    let paused =
        claimed().phase("Paused").condition("SandboxPaused", "True", "SetPause").generation(3).observed(3);
    let mut feed = start(std::slice::from_ref(&paused)).await;
    let task = feed.cache.sandbox_resume_task(&cached(&feed, "a")).unwrap();
    let written = claimed().phase("Running").ready().generation(4).observed(3);
    let task = task.after_write(&written.typed(1001));
    let waiting = tokio::spawn(async move { task.wait(LONG).await });
    settle().await;
    feed.apply(&written).await;
    settle().await;
    assert!(!waiting.is_finished(), "ready, but from before the write");
    feed.apply(&written.observed(4)).await;
    assert_eq!(version(&waiting.await.unwrap().unwrap()), "1002");
}

#[tokio::test(start_paused = true)]
async fn waits_are_counted_and_timed_by_action_and_outcome() {
    let mut feed = start(&[claimed()]).await;
    let object = cached(&feed, "a");
    let _hold = feed.cache.sandbox_pause_task(&object).unwrap();
    feed.cache.sandbox_resume_task(&object).unwrap_err();
    let waiting = spawn_scripted(&feed, LONG).await;
    assert!(metrics(&feed).contains("sandbox_manager_waits_active{action=\"Script\"} 1\n"));
    feed.apply(&saying("done")).await;
    waiting.await.unwrap().unwrap();
    let text = metrics(&feed);
    for line in [
        "sandbox_manager_waits_active{action=\"Script\"} 0",
        "sandbox_manager_wait_duration_seconds_count{action=\"Script\",outcome=\"satisfied\"} 1",
        "sandbox_manager_wait_conflicts_total{existing=\"Pause\",requested=\"Resume\"} 1",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} is missing from\n{text}");
    }
}

fn metrics(feed: &Feed) -> String {
    let registry = prometheus::Registry::new();
    registry.register(Box::new(CacheCollector::new(&feed.cache, "sandbox_manager").unwrap())).unwrap();
    prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
}

/// Runs on real threads: many waits on few objects, each of which ends at a different round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_concurrent_waits_on_a_thousand_objects_under_churn_all_end_right() {
    const OBJECTS: usize = 1000;
    const ROUNDS: usize = 10;
    let name = |i: usize| format!("s-{i}");
    let all: Vec<_> = (0..OBJECTS).map(|i| sandbox(&name(i)).status("message", "0")).collect();
    let mut feed = start(&all).await;
    let wrong = Arc::new(AtomicUsize::new(0));
    let waits: Vec<_> = (0..OBJECTS * ROUNDS)
        .map(|i| {
            let (cache, object, round) =
                (feed.cache.clone(), cached(&feed, &name(i % OBJECTS)), 1 + i / OBJECTS);
            let reached = move |sandbox: &Sandbox| -> Check {
                let said = sandbox.status.as_ref().unwrap().message.as_deref().unwrap();
                if said.parse::<usize>().unwrap() >= round {
                    Check::Satisfied
                } else {
                    Check::not_yet(said.to_owned())
                }
            };
            let wrong = Arc::clone(&wrong);
            tokio::spawn(async move {
                // Every tenth wait times out early and starts again, so that removing and waking happen at
                // the same time.
                if i % 10 == 0 {
                    let _ =
                        wait_once(&cache, &object, "Round", reached, Duration::from_micros(i as u64 % 700))
                            .await;
                }
                match wait_once(&cache, &object, "Round", reached, Duration::from_mins(5)).await {
                    Ok(sandbox) if matches!(reached(&sandbox), Check::Satisfied) => {}
                    _ => drop(wrong.fetch_add(1, Ordering::SeqCst)),
                }
            })
        })
        .collect();
    for round in 1..=ROUNDS {
        for sandbox in &all {
            feed.apply(&sandbox.clone().status("message", &round.to_string())).await;
        }
    }
    for wait in waits {
        wait.await.unwrap();
    }
    assert_eq!(wrong.load(Ordering::SeqCst), 0);
    assert_eq!(awaited(&feed), 0);
}
