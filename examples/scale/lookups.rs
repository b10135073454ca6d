//! Measures the time of lookups, on one thread and on several threads.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sandbox_manager::Provider;
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::cache::{
    Cache, GetClaimedSandboxOptions, ListSandboxesInPoolOptions, ListSandboxesOptions, indexes,
};
use sandbox_manager::dev::workload;

use crate::report::Report;

/// How long each lookup is repeated.
const TIME: Duration = Duration::from_millis(500);

/// How long each number of threads is measured, in each round.
const THREAD_TIME: Duration = Duration::from_millis(500);

/// How often each number of threads is measured, in turn. The medians count.
const THREAD_ROUNDS: usize = 3;

/// Ids of claimed sandboxes in random order.
const IDS: usize = 4096;

pub(crate) fn measure(cache: &Cache, objects: usize, report: &mut Report) {
    let ids = ids(objects);
    let mut next = 0;
    let get = nanos(|| {
        next = (next + 1) % ids.len();
        black_box(get_claimed(cache, &ids[next]));
    });
    report.add("get_claimed_ns", get, 0);
    let pool = workload::pool(0);
    let options = ListSandboxesInPoolOptions { namespace: None, pool: &pool };
    report.add("list_pool_ns", nanos(|| drop(black_box(cache.list_sandboxes_in_pool(options)))), 0);
    let user = workload::user(1);
    let options = ListSandboxesOptions { namespace: None, user: user.as_deref() };
    report.add("list_user_ns", nanos(|| drop(black_box(cache.list_sandboxes(options)))), 0);
    let all = ListSandboxesOptions::default();
    report.add("list_all_ns", nanos(|| drop(black_box(cache.list_sandboxes(all)))), 0);
    let reader = cache.reader::<Sandbox>();
    let free = || black_box(reader.find(indexes::SANDBOX_POOL, &pool, Sandbox::is_ready));
    report.add("find_in_pool_ns", nanos(|| drop(free())), 0);
    let get = |id: &str| get_claimed(cache, id);
    let rounds: Vec<_> = (0..THREAD_ROUNDS)
        .map(|_| [1, 2, 8].map(|threads| operations_per_second(&vec![&ids; threads], get)))
        .collect();
    let of = |at: usize| rounds.iter().map(|round| round[at]).collect();
    report.add_median("get_claimed_1_thread_ops_per_s", of(0), 0);
    report.add_median("get_claimed_2_threads_ops_per_s", of(1), 0);
    report.add_median("get_claimed_8_threads_ops_per_s", of(2), 0);
    let over_one = rounds.iter().map(|[one, two, _]| two / one).collect();
    report.add_median("get_claimed_2_threads_over_1", over_one, 2);
    let (left, right) = ids.split_at(ids.len() / 2);
    let own = rounds.iter().map(|[one, ..]| operations_per_second(&[left, right], get) / one).collect();
    report.add_median("get_claimed_own_2_threads_over_1", own, 2);
    report.add_median("plain_map_2_threads_over_1", plain_map(cache, &ids), 2);
}

/// Returns how many times more lookups of the same objects two threads do than one, in a map that nobody can change.
/// This is what the processor allows: the map has no lock, and a lookup writes nothing but the count of references of
/// its object.
fn plain_map(cache: &Cache, ids: &[String]) -> Vec<f64> {
    let found = ids.iter().filter_map(|sandbox_id| {
        let sandbox = cache.get_claimed_sandbox(GetClaimedSandboxOptions { namespace: None, sandbox_id });
        Some((sandbox_id.as_str(), sandbox.ok()?))
    });
    let map: HashMap<&str, Arc<Sandbox>> = found.collect();
    let get = |id: &str| black_box(map.get(id).cloned()).is_some();
    let rounds =
        (0..THREAD_ROUNDS).map(|_| [1, 2].map(|threads| operations_per_second(&vec![ids; threads], get)));
    rounds.map(|[one, two]| two / one).collect()
}

fn ids(objects: usize) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(1);
    let claimed = (0..IDS).map(|_| 2 * random.random_range(0..(objects / 2).max(1)) + 1);
    claimed.map(|i| format!("{}--{}", workload::NAMESPACE, workload::name(i))).collect()
}

fn get_claimed(cache: &Cache, sandbox_id: &str) -> bool {
    cache.get_claimed_sandbox(GetClaimedSandboxOptions { namespace: None, sandbox_id }).is_ok()
}

/// Returns the nanoseconds per call: the median of ten batches.
fn nanos(mut call: impl FnMut()) -> f64 {
    let mut batches: Vec<f64> = (0..10)
        .map(|_| {
            let (started, mut calls) = (Instant::now(), 0_u32);
            while started.elapsed() < TIME / 10 {
                // The clock is read once per 16 calls.
                for _ in 0..16 {
                    call();
                }
                calls += 16;
            }
            started.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    batches[batches.len() / 2]
}

/// Returns the lookups per second of one thread for each list of ids. Threads with the same list begin at different
/// places of it.
fn operations_per_second<Ids: AsRef<[String]> + Sync>(
    lists: &[Ids],
    get: impl Fn(&str) -> bool + Sync,
) -> f64 {
    let end = Instant::now() + THREAD_TIME;
    let counts: Vec<u32> = std::thread::scope(|scope| {
        let worker = |(thread, ids): (usize, &Ids)| {
            let (ids, get) = (ids.as_ref(), &get);
            let first = thread * ids.len() / lists.len();
            let mut ids = ids[first..].iter().chain(&ids[..first]).cycle();
            let mut count = 0_u32;
            while Instant::now() < end {
                for id in ids.by_ref().take(64) {
                    black_box(get(id));
                }
                count += 64;
            }
            count
        };
        let workers: Vec<_> =
            lists.iter().enumerate().map(|list| scope.spawn(move || worker(list))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_default()).collect()
    });
    counts.into_iter().map(f64::from).sum::<f64>() / THREAD_TIME.as_secs_f64()
}
