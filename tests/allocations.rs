//! Measures the memory of the cache by counting allocations.
//!
//! Counts do not depend on the speed or load of the machine. The tables of `docs/performance.md` are written by
//! `UPDATE_GENERATED=1 cargo test --test allocations`.

#![allow(clippy::panic, clippy::unwrap_used, reason = "nothing but tests")]

#[path = "../benches/support/mod.rs"]
mod support;

#[path = "integration/support/generated.rs"]
#[allow(dead_code, reason = "one of its checks is needed here")]
mod generated;

use std::fmt::Write as _;
use std::hint::black_box;
use std::mem::take;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Secret;
use memory_apiserver::ApiServer;
use parking_lot::Mutex;
use sandbox_manager::api::v1alpha1::{
    ANNOTATION_OWNER, LABEL_SANDBOX_CLAIMED, LABEL_SANDBOX_NAME, LABEL_SANDBOX_POOL, LABEL_SANDBOX_TEMPLATE,
    LABEL_TEMPLATE_HASH, Sandbox, crds,
};
use sandbox_manager::cache::{
    GetClaimedSandboxOptions, ListSandboxesInPoolOptions, ListSandboxesOptions, Scope, indexes,
};
use sandbox_manager::dev::workload;
use sandbox_manager::options::BindAddress;
use sandbox_manager::shared_cache::{CachedResource, Check, WaitAction};
use sandbox_manager::{Action, Cache, Manager, Observed, Provider as _, SandboxManagerOptions};
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use support::peer::Reflected;
use support::playback::Playback;
use support::{Running, runtime};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Allocations are counted for the whole process, so only one test runs at a time.
static COUNTING: Mutex<()> = Mutex::new(());

/// Number of sandboxes of the workload. With this many, one-time allocations are negligible.
const OBJECTS: usize = 1_000;

/// Returns the bytes on the heap and the number of allocations since the program started to count.
fn count() -> (usize, u64) {
    let stats = dhat::HeapStats::get();
    (stats.curr_bytes, stats.total_blocks)
}

/// Returns the result of `make` and the bytes that it keeps on the heap.
fn heap<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let (before, _) = count();
    let product = make();
    (product, count().0 - before)
}

/// Returns how many allocations `run` makes. The test harness may allocate at the same time, so the lowest of
/// several runs counts.
fn allocations<T>(mut run: impl FnMut() -> T) -> u64 {
    let once = |_| {
        let (_, before) = count();
        black_box(run());
        count().1 - before
    };
    (0..10).map(once).min().unwrap()
}

/// Returns true if two texts differ only in numbers, and only slightly. The layout of hash tables is random.
fn is_close(is: &str, should_be: &str) -> bool {
    let words = |text: &str| text.split([' ', '*', '\n']).map(str::to_owned).collect::<Vec<_>>();
    let (is, should_be) = (words(is), words(should_be));
    is.len() == should_be.len()
        && is.iter().zip(&should_be).all(|(is, should_be)| {
            match (is.parse::<u64>(), should_be.parse::<u64>()) {
                (Ok(is), Ok(should_be)) => is.abs_diff(should_be) <= 8.max(should_be / 50),
                _ => is == should_be,
            }
        })
}

/// Asserts that the text between the markers of this name is close to `expected`.
fn assert_documented(name: &str, expected: &str) {
    generated::assert_section_from("docs/performance.md", name, |is| {
        if is_close(is, expected) { is } else { expected }.to_owned()
    });
}

fn profiler() -> dhat::Profiler {
    dhat::Profiler::builder().testing().build()
}

fn decoded(playback: &Playback) -> Vec<Sandbox> {
    playback.objects().iter().map(|json| Sandbox::decode(json).unwrap()).collect()
}

/// Returns sandbox `i` as after a claim: the metadata of its template names its user and the sandbox itself. The spec
/// of the template stays that of the pool.
fn claimed(i: usize) -> Value {
    let mut object = workload::sandbox(i);
    let labels = &mut object["spec"]["template"]["metadata"]["labels"];
    for (key, value) in [
        (ANNOTATION_OWNER, format!("550e8400-e29b-41d4-a716-{i:012}")),
        (LABEL_SANDBOX_CLAIMED, "false".to_owned()),
        (LABEL_SANDBOX_NAME, workload::name(i)),
        (LABEL_SANDBOX_POOL, workload::pool(i)),
        (LABEL_SANDBOX_TEMPLATE, workload::pool(i)),
        (LABEL_TEMPLATE_HASH, "5844467cf5".to_owned()),
    ] {
        labels[key] = value.into();
    }
    object
}

/// Returns sandbox `i` with a template whose metadata and spec differ from those of every other sandbox.
fn distinct(i: usize) -> Value {
    let mut object = claimed(i);
    object["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = workload::name(i).into();
    object
}

/// A part of an object, and the function that removes it.
type Part = (&'static str, fn(&mut Sandbox));

const PARTS: [Part; 9] = [
    ("name, namespace, UID, version", |sandbox| {
        let meta = &mut sandbox.metadata;
        drop((take(&mut meta.name), take(&mut meta.namespace), take(&mut meta.uid)));
        drop(take(&mut meta.resource_version));
    }),
    ("labels", |sandbox| drop(take(&mut sandbox.metadata.labels))),
    ("annotations (of every second one)", |sandbox| drop(take(&mut sandbox.metadata.annotations))),
    ("owner reference (of every second one)", |sandbox| drop(take(&mut sandbox.metadata.owner_references))),
    ("spec.template, shared within a pool", |sandbox| drop(take(&mut sandbox.spec.template))),
    ("the rest of spec", |sandbox| drop(take(&mut sandbox.spec))),
    ("status.conditions", |sandbox| {
        drop(sandbox.status.as_mut().map(|status| take(&mut status.conditions)));
    }),
    ("status.podInfo", |sandbox| drop(sandbox.status.as_mut().map(|status| take(&mut status.pod_info)))),
    ("the rest of status", |sandbox| drop(take(&mut sandbox.status))),
];

/// Returns the bytes of each part of a cached sandbox.
fn parts(playback: &Playback) -> Vec<(String, usize)> {
    let mut objects = decoded(playback);
    let mut rows = vec![
        ("the object itself, fields in place".to_owned(), size_of::<Sandbox>()),
        ("reference counts".to_owned(), 2 * size_of::<usize>()),
    ];
    for (name, remove) in PARTS {
        let (before, _) = count();
        objects.iter_mut().for_each(remove);
        rows.push((name.to_owned(), (before - count().0) / OBJECTS));
    }
    for object in &objects {
        assert_eq!(object.metadata.managed_fields, None);
    }
    let (running, total) = heap(|| runtime_with(playback));
    let known: usize = rows.iter().map(|(_, bytes)| bytes).sum();
    rows.push(("store and indexes".to_owned(), total / OBJECTS - known));
    drop(running);
    rows
}

/// Returns a synced informer and its runtime.
fn runtime_with(playback: &Playback) -> (Running, tokio::runtime::Runtime) {
    let runtime = runtime();
    (runtime.block_on(Running::start(playback)), runtime)
}

/// Returns a synced cache and its runtime.
fn cache(playback: &Playback) -> (Cache, tokio::runtime::Runtime) {
    let runtime = runtime();
    let cache = {
        let _context = runtime.enter();
        Cache::builder(playback.client()).build()
    };
    runtime.block_on(cache.start()).unwrap();
    (cache, runtime)
}

fn record() -> Playback {
    runtime().block_on(Playback::record(OBJECTS))
}

#[test]
fn memory_of_a_cached_sandbox_is_what_the_table_says() {
    let _alone = COUNTING.lock();
    let playback = record();
    // One-time allocations of the first object are not counted.
    drop(runtime_with(&playback));
    let _profiler = profiler();
    let rows = parts(&playback);
    let total: usize = rows.iter().map(|(_, bytes)| bytes).sum();
    let mut text = "| Part | Bytes |\n|---|---:|\n".to_owned();
    for (name, bytes) in rows {
        writeln!(text, "| {name} | {bytes} |").unwrap();
    }
    writeln!(text, "| **a sandbox in the cache** | **{total}** |").unwrap();
    assert_documented("memory", &text);
}

#[test]
fn memory_with_templates_that_differ_is_what_the_table_says() {
    let _alone = COUNTING.lock();
    let (shared, claimed, distinct) =
        (record(), runtime().block_on(Playback::record_with(OBJECTS, claimed)), {
            runtime().block_on(Playback::record_with(OBJECTS, distinct))
        });
    drop(runtime_with(&shared));
    let _profiler = profiler();
    let bytes = |playback: &Playback| {
        let (running, bytes) = heap(|| runtime_with(playback));
        drop(running);
        bytes / OBJECTS
    };
    let (shared, claimed, distinct) = (bytes(&shared), bytes(&claimed), bytes(&distinct));
    let text = format!(
        "| Templates of the sandboxes | Bytes of a sandbox |\n|---|---:|\n\
         | equal within a pool | {shared} |\n\
         | of claimed sandboxes: metadata differs, spec is equal within a pool | {claimed} |\n\
         | all different | {distinct} |\n"
    );
    // Neither may come near a decoded template, which takes 20 KB.
    assert!(claimed < shared + 700, "{text}");
    assert!(distinct < shared + 2_400, "{text}");
    assert_documented("template memory", &text);
}

#[test]
fn y6_a_secret_that_nobody_needs_costs_as_much_as_its_name() {
    let _alone = COUNTING.lock();
    let secret = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": name, "namespace": "system"}, "data": {"blob": "QUJD".repeat(230_000)},
        })
    };
    let server = ApiServer::new();
    for crd in crds() {
        server.load(&serde_json::to_value(crd).unwrap()).unwrap();
    }
    let names: Vec<_> = (0..10).map(|i| format!("other-{i}")).collect();
    for name in &names {
        server.load(&secret(name)).unwrap();
    }
    let scope = Scope { system_namespace: Some("system".into()), ..Scope::default() };
    let start = || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let cache = {
            let _context = runtime.enter();
            Cache::builder(server.client()).scope(scope.clone()).build()
        };
        runtime.block_on(cache.start()).unwrap();
        (cache, runtime)
    };
    // One-time allocations, also of the server, are not counted.
    drop(start());
    let _profiler = profiler();
    let ((cache, _runtime), bytes) = heap(start);
    assert_eq!(cache.reader::<Secret>().len().unwrap(), names.len());
    assert!(cache.reader::<Secret>().get("system", &names[0]).unwrap().unwrap().data.is_none());
    assert!(bytes < 600_000, "{bytes} bytes for {} Secrets of 0.7 MB", names.len());
}

#[test]
fn memory_and_allocations_stay_far_below_those_of_plain_kube() {
    let _alone = COUNTING.lock();
    let playback = record();
    let _profiler = profiler();
    let measure = |sync: &mut dyn FnMut() -> Box<dyn std::any::Any>| {
        let (_, made) = count();
        let (synced, bytes) = heap(sync);
        let made = count().1 - made;
        drop(synced);
        (bytes / OBJECTS, made / OBJECTS as u64)
    };
    let ours = measure(&mut || Box::new(runtime_with(&playback)));
    let peers = measure(&mut || {
        let runtime = runtime();
        Box::new((runtime.block_on(Reflected::start(&playback)), runtime))
    });
    let text = format!(
        "| An object | Cache | Plain kube-rs |\n|---|---:|---:|\n\
         | Bytes on the heap | {} | {} |\n| Allocations to store it | {} | {} |\n",
        ours.0, peers.0, ours.1, peers.1,
    );
    assert!(10 * ours.0 <= peers.0, "{text}");
    assert!(6 * ours.1 <= peers.1, "{text}");
    assert_documented("peer memory", &text);
}

#[test]
fn single_lookups_allocate_nothing() {
    let _alone = COUNTING.lock();
    let (cache, _runtime) = cache(&record());
    let _profiler = profiler();
    let id = format!("{}--{}", workload::NAMESPACE, workload::name(1));
    let claimed = GetClaimedSandboxOptions { namespace: None, sandbox_id: &id };
    assert_eq!(allocations(|| cache.get_claimed_sandbox(claimed).unwrap()), 0);
    let (reader, name) = (cache.reader::<Sandbox>(), workload::name(2));
    assert_eq!(allocations(|| reader.get(workload::NAMESPACE, &name).unwrap().unwrap()), 0);
    let pool = workload::pool(0);
    let free = || reader.find(indexes::SANDBOX_POOL, &pool, Sandbox::is_ready).unwrap().unwrap();
    assert_eq!(allocations(free), 0);
    assert_eq!(allocations(|| reader.count(indexes::SANDBOX_POOL, &pool, |_| true).unwrap()), 0);
}

#[test]
fn lists_allocate_once() {
    let _alone = COUNTING.lock();
    let (cache, _runtime) = cache(&record());
    let _profiler = profiler();
    let pool = workload::pool(0);
    let members = ListSandboxesInPoolOptions { namespace: None, pool: &pool };
    assert_eq!(cache.list_sandboxes_in_pool(members).unwrap().len(), OBJECTS / workload::POOLS);
    assert_eq!(allocations(|| cache.list_sandboxes_in_pool(members).unwrap()), 1);
    let user = workload::user(1);
    let owned = ListSandboxesOptions { namespace: None, user: user.as_deref() };
    assert_eq!(cache.list_sandboxes(owned).unwrap().len(), OBJECTS / workload::USERS);
    assert_eq!(allocations(|| cache.list_sandboxes(owned).unwrap()), 1);
    assert_eq!(allocations(|| cache.list_sandboxes(ListSandboxesOptions::default()).unwrap()), 1);
}

/// Asserts that the heap comes down to so many bytes. The task of the watch may still hold what it has just read.
fn assert_at_most(bytes: usize, runtime: &tokio::runtime::Runtime) {
    let end = Instant::now() + Duration::from_secs(30);
    while count().0 > bytes {
        assert!(Instant::now() < end, "{} bytes stay, at most {bytes} are right", count().0);
        runtime.block_on(tokio::time::sleep(Duration::from_millis(5)));
    }
}

#[test]
fn relists_keep_memory_level() {
    let _alone = COUNTING.lock();
    let playback = record();
    let _profiler = profiler();
    let (running, runtime) = runtime_with(&playback);
    let relist = || {
        let version = playback.expire();
        runtime.block_on(running.wait_for_version(version));
    };
    let (before, _) = count();
    (0..5).for_each(|_| relist());
    assert_at_most(before + before / 50, &runtime);
}

#[test]
fn updates_keep_memory_level() {
    let _alone = COUNTING.lock();
    let playback = record();
    let _profiler = profiler();
    let (running, runtime) = runtime_with(&playback);
    let (before, _) = count();
    for _ in 0..5 {
        let (changes, version) = playback.change_all();
        playback.send(changes);
        runtime.block_on(running.wait_for_version(version));
    }
    assert_at_most(before + before / 20, &runtime);
}

/// Number of waits that are registered at once.
const WAITS: usize = 100_000;

type Waiting = Pin<Box<dyn Future<Output = bool>>>;

/// Asserts that each wait takes at most 200 bytes of the cache while it is registered. The futures and what they own,
/// such as the condition and the name, are the caller's.
fn assert_waits_are_small(kind: &str, mut waits: Vec<Waiting>) {
    assert_eq!(waits.len(), WAITS);
    let context = &mut Context::from_waker(Waker::noop());
    let (pending, bytes) =
        heap(|| waits.iter_mut().map(|wait| wait.as_mut().poll(context)).filter(Poll::is_pending).count());
    assert_eq!(pending, WAITS, "{kind}");
    let bytes = bytes / WAITS;
    assert!(bytes <= 200, "{kind}: {bytes} bytes");
    let (before, _) = count();
    drop(waits);
    assert!(count().0 + bytes * WAITS / 2 < before, "{kind}: the registrations are kept");
}

#[test]
fn w4_a_registered_wait_takes_at_most_200_bytes() {
    let _alone = COUNTING.lock();
    let (cache, runtime) = cache(&record());
    let _context = runtime.enter();
    let _profiler = profiler();
    let hour = Duration::from_hours(1);
    let objects = cache.reader::<Sandbox>().list(None).unwrap();
    let action = WaitAction::new("Never");
    let tasks = (0..WAITS).map(|i| -> Waiting {
        let task = cache.wait_task(&objects[i % OBJECTS], action, |_, _| Check::not_yet("not done"));
        Box::pin(async move { task.wait(hour).await.is_ok() })
    });
    assert_waits_are_small("waits for objects", tasks.collect());
    let names = (0..WAITS).map(|i| -> Waiting {
        let exists = |sandbox: Option<&Sandbox>| sandbox.is_some();
        let wait = cache.wait_for((workload::NAMESPACE, &*format!("later-{i}")), exists).timeout(hour);
        Box::pin(wait.into_future().map(|ended| ended.is_ok()))
    });
    assert_waits_are_small("waits for names", names.collect());
}

/// Returns the runtime of a manager after a change of every object, with a handler that returns or does not return
/// from that change.
fn changed_manager(playback: &Playback, returns: bool) -> tokio::runtime::Runtime {
    let runtime = runtime();
    runtime.block_on(async {
        let mut options = SandboxManagerOptions::default();
        options.metrics.bind_address = BindAddress::Off;
        options.health.bind_address = BindAddress::Off;
        let mut manager = Manager::builder(options).client(playback.client()).build().unwrap();
        let is_stuck = Arc::new(AtomicBool::new(false));
        let stuck = is_stuck.clone();
        manager.sandbox_controller().add_reconcile_handler(move |_: Observed<Sandbox>| {
            let stuck = stuck.load(Ordering::Relaxed);
            async move {
                if stuck {
                    std::future::pending::<()>().await;
                }
                Ok(Action::await_change())
            }
        });
        let cache = manager.cache().clone();
        tokio::spawn(manager.run(CancellationToken::new()));
        cache.wait_for_cache_sync().await;
        // The clock advances only when all tasks are idle.
        tokio::time::sleep(Duration::from_secs(1)).await;
        // An object of the initial list waits without an entry in the queue. A changed one has an entry.
        is_stuck.store(!returns, Ordering::Relaxed);
        playback.send(playback.change_all().0);
        tokio::time::sleep(Duration::from_secs(1)).await;
    });
    runtime
}

#[test]
fn memory_of_a_key_that_waits_for_its_handler_is_what_the_text_says() {
    let _alone = COUNTING.lock();
    let playback = record();
    drop(changed_manager(&playback, true));
    let _profiler = profiler();
    // One after the other: a second manager shares some memory with the first.
    let (idle, without) = heap(|| changed_manager(&playback, true));
    drop(idle);
    let (_stuck, with) = heap(|| changed_manager(&playback, false));
    assert_documented(
        "queue",
        &format!("A key that waits in the queue takes {} bytes.\n", (with - without) / OBJECTS),
    );
}
