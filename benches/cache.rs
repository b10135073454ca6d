//! Compares the cache with plain kube-rs: a reflector of a typed Sandbox, on the same objects in one process.
//!
//! `cargo bench --bench cache` measures the times. In each group `cache` is this cache and `kube` is plain
//! kube-rs. `tests/allocations.rs` measures the memory of both.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark ends at the first error, and documents itself above"
)]

#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;
use std::sync::{Barrier, LazyLock};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kube::runtime::reflector::ObjectRef;
use sandbox_manager::api::v1alpha1::{LABEL_SANDBOX_CLAIMED, LABEL_SANDBOX_POOL, Sandbox};
use sandbox_manager::cache::{GetClaimedSandboxOptions, ListSandboxesInPoolOptions, ListSandboxesOptions};
use sandbox_manager::dev::workload;
use sandbox_manager::shared_cache::CachedResource;
use sandbox_manager::{Cache, Provider as _};

use support::peer::{PlainSandbox, Reflected};
use support::playback::Playback;
use support::{Running, runtime};

/// Number of objects in the cache.
const OBJECTS: usize = 5_000;

/// Number of objects in the large fleet.
const FLEET: usize = 20_000;

/// Recorded once for all benchmarks.
static PLAYBACK: LazyLock<Playback> = LazyLock::new(|| runtime().block_on(Playback::record(OBJECTS)));

/// Decodes an object from JSON.
fn decode(c: &mut Criterion) {
    let json = PLAYBACK.objects().remove(0);
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Bytes(json.len() as u64));
    // Another member of the pool exists, as in most real fleets. Members of a pool share their template.
    let _other = Sandbox::decode(&json).unwrap();
    group.bench_function("cache", |b| b.iter(|| Sandbox::decode(black_box(&json)).unwrap()));
    group.bench_function("kube", |b| {
        b.iter(|| serde_json::from_str::<PlainSandbox>(black_box(&json)).unwrap());
    });
    group.finish();
}

/// Reads the initial list until the store returns its objects.
fn insert(c: &mut Criterion) {
    let (runtime, playback) = (runtime(), &*PLAYBACK);
    let mut group = c.benchmark_group("insert");
    group.throughput(Throughput::Elements(OBJECTS as u64)).sample_size(10);
    group.bench_function("cache", |b| b.iter(|| runtime.block_on(Running::start(playback))));
    group.bench_function("kube", |b| b.iter(|| runtime.block_on(Reflected::start(playback))));
    group.finish();
}

/// Reads a change of each object until the store contains the changes.
fn update(c: &mut Criterion) {
    let (runtime, playback) = (runtime(), &*PLAYBACK);
    let mut group = c.benchmark_group("update");
    group.throughput(Throughput::Elements(OBJECTS as u64)).sample_size(10);
    group.bench_function("cache", |b| {
        let running = runtime.block_on(Running::start(playback));
        b.iter_custom(|rounds| {
            timed(rounds, || {
                let (changes, version) = playback.change_all();
                let started = Instant::now();
                playback.send(changes);
                runtime.block_on(running.wait_for_version(version));
                started.elapsed()
            })
        });
    });
    group.bench_function("kube", |b| {
        let mut reflected = runtime.block_on(Reflected::start(playback));
        b.iter_custom(|rounds| {
            timed(rounds, || {
                let (changes, _) = playback.change_all();
                let started = Instant::now();
                playback.send(changes);
                runtime.block_on(reflected.changed(OBJECTS));
                started.elapsed()
            })
        });
    });
    group.finish();
}

/// Measures from the end of a watch with an expired version to the end of the next list. No object has
/// changed.
fn relist(c: &mut Criterion) {
    let (runtime, playback) = (runtime(), &*PLAYBACK);
    let mut group = c.benchmark_group("relist");
    group.throughput(Throughput::Elements(OBJECTS as u64)).sample_size(10);
    group.bench_function("cache", |b| {
        let running = runtime.block_on(Running::start(playback));
        b.iter(|| {
            let version = playback.expire();
            runtime.block_on(running.wait_for_version(version));
        });
    });
    group.bench_function("kube", |b| {
        let mut reflected = runtime.block_on(Reflected::start(playback));
        b.iter(|| {
            playback.expire();
            runtime.block_on(reflected.relisted());
        });
    });
    group.finish();
}

/// Looks up one object by name, and the free members of one of ten pools.
fn lookups(c: &mut Criterion) {
    let (runtime, playback) = (runtime(), &*PLAYBACK);
    let _context = runtime.enter();
    let cache = Cache::builder(playback.client()).build();
    runtime.block_on(cache.start()).unwrap();
    let store = runtime.block_on(Reflected::start(playback)).store;
    let names: Vec<_> = (0..OBJECTS).map(workload::name).collect();

    let mut group = c.benchmark_group("get");
    let (reader, mut next) = (cache.reader::<Sandbox>(), 0);
    group.bench_function("cache", |b| {
        b.iter(|| {
            next = (next + 7) % OBJECTS;
            reader.get(workload::NAMESPACE, &names[next]).unwrap().unwrap()
        });
    });
    group.bench_function("kube", |b| {
        b.iter(|| {
            next = (next + 7) % OBJECTS;
            store.get(&ObjectRef::new(&names[next]).within(workload::NAMESPACE)).unwrap()
        });
    });
    group.finish();

    let pool = workload::pool(0);
    let mut group = c.benchmark_group("list_pool");
    group.throughput(Throughput::Elements(OBJECTS as u64 / workload::POOLS as u64));
    group.bench_function("cache", |b| {
        b.iter(|| {
            let options = ListSandboxesInPoolOptions { namespace: None, pool: &pool };
            cache.list_sandboxes_in_pool(options).unwrap()
        });
    });
    group.bench_function("kube", |b| {
        b.iter(|| {
            let all = store.state().into_iter();
            all.filter(|sandbox| is_free_member(sandbox, &pool)).collect::<Vec<_>>()
        });
    });
    group.finish();
    runtime.block_on(cache.stop());
}

/// Looks up claimed sandboxes on one, two and eight threads, and lists a pool and the whole of a large fleet.
fn fleet(c: &mut Criterion) {
    let runtime = runtime();
    let playback = runtime.block_on(Playback::record(FLEET));
    let _context = runtime.enter();
    let cache = Cache::builder(playback.client()).build();
    runtime.block_on(cache.start()).unwrap();
    let claimed = (0..FLEET / 2).map(|i| (i * 7919) % (FLEET / 2) * 2 + 1);
    let ids: Vec<_> = claimed.map(|i| format!("{}--{}", workload::NAMESPACE, workload::name(i))).collect();

    let mut group = c.benchmark_group("get_claimed");
    group.throughput(Throughput::Elements(1));
    for threads in [1, 2, 8] {
        group.bench_function(format!("{threads} threads"), |b| {
            b.iter_custom(|rounds| get_claimed(&cache, &ids, threads, rounds));
        });
    }
    group.finish();

    let mut group = c.benchmark_group("lists of a fleet");
    let pool = workload::pool(0);
    let members = ListSandboxesInPoolOptions { namespace: None, pool: &pool };
    group.bench_function("list_pool", |b| b.iter(|| cache.list_sandboxes_in_pool(members).unwrap()));
    let all = ListSandboxesOptions::default();
    group.bench_function("list_all", |b| b.iter(|| cache.list_sandboxes(all).unwrap()));
    group.bench_function("count_active", |b| b.iter(|| cache.count_active_sandboxes(all).unwrap()));
    group.finish();
    runtime.block_on(cache.stop());
}

/// Returns how long the threads take for `rounds` lookups in total. Each thread starts at another sandbox.
fn get_claimed(cache: &Cache, ids: &[String], threads: usize, rounds: u64) -> Duration {
    let share = usize::try_from(rounds).unwrap().div_ceil(threads);
    let barrier = Barrier::new(threads);
    let look = &|thread: usize| {
        let ids = ids.iter().cycle().skip(thread * ids.len() / threads).take(share);
        barrier.wait();
        let started = Instant::now();
        for id in ids {
            let options = GetClaimedSandboxOptions { namespace: None, sandbox_id: id };
            black_box(cache.get_claimed_sandbox(options).unwrap());
        }
        (started, Instant::now())
    };
    let times: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || look(thread))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let started = times.iter().map(|(started, _)| *started).min().unwrap();
    times.iter().map(|(_, ended)| *ended).max().unwrap() - started
}

fn is_free_member(sandbox: &PlainSandbox, pool: &str) -> bool {
    let label = |key: &str| sandbox.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    label(LABEL_SANDBOX_POOL).is_some_and(|value| value == pool)
        && label(LABEL_SANDBOX_CLAIMED).is_some_and(|value| value == "false")
}

fn timed(rounds: u64, mut round: impl FnMut() -> Duration) -> Duration {
    (0..rounds).map(|_| round()).sum()
}

criterion_group!(benches, decode, insert, update, relist, lookups, fleet);
criterion_main!(benches);
