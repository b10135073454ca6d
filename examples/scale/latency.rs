//! Measures how long after the API server's response to a write a wait ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use sandbox_manager::Provider;
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::cache::Cache;
use sandbox_manager::dev::workload;
use sandbox_manager::shared_cache::Event;
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::report::Report;

/// Timeout of every step.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Number of writers of a burst, and of the stream of events.
const WRITERS: usize = 32;

/// Number of waits that start at once.
const BURST: usize = 300;

/// Number of writes of the stream of events.
const EVENTS: usize = 5_000;

/// Measures on the fleet. `writes` is a client that the cache does not use.
pub(crate) async fn measure(
    fleet: &Fleet,
    writer: kube::Client,
    objects: usize,
    count: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let api: Api<Sandbox> = Api::namespaced(writer, workload::NAMESPACE);
    let claimed = move |n: usize| workload::name((2 * n + 1) % objects);
    let mut waits = Vec::new();
    for n in 0..count {
        waits.push(one_wait(&fleet.cache, &api, &claimed(n % 10)).await?);
    }
    report.add_percentiles("wait_from_ack", waits);
    let names = (0..BURST.min(objects / 2)).map(&claimed).collect();
    report.add_percentiles("burst_from_ack", burst(&fleet.cache, &api, names).await?);
    let mut reconciles = Vec::new();
    fleet.reconciles.note_versions();
    for n in 0..count {
        reconciles.push(one_reconcile(fleet, &api, &claimed(n % 10), n).await?);
    }
    report.add_percentiles("reconcile_from_ack", reconciles);
    report.add("events_per_s", events_per_second(&fleet.cache, &api, objects).await?, 0);
    Ok(())
}

fn ready(is: bool) -> Value {
    let condition = |kind: &str, status: bool, reason: &str| {
        json!({"type": kind, "status": if status { "True" } else { "False" }, "reason": reason, "message": "",
               "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    json!({"status": {"conditions": [condition("Ready", is, "PodReady"), condition("InplaceUpdate", true, "Succeeded")]}})
}

async fn set(api: &Api<Sandbox>, name: &str, change: Value) -> anyhow::Result<Sandbox> {
    let written = api.patch_status(name, &PatchParams::default(), &Patch::Merge(change)).await;
    written.with_context(|| format!("writing the status of {name}"))
}

/// Returns the microseconds from `acknowledged` to `at`; 0 if `at` is earlier.
fn since(acknowledged: Instant, at: Instant) -> f64 {
    at.saturating_duration_since(acknowledged).as_secs_f64() * 1e6
}

/// Spawns a task that waits for a sandbox that is not ready. The task returns the time at which the wait
/// ended.
async fn waiting(
    cache: &Cache,
    api: &Api<Sandbox>,
    name: &str,
) -> anyhow::Result<tokio::task::JoinHandle<anyhow::Result<Instant>>> {
    let unready = Arc::new(set(api, name, ready(false)).await?);
    let version = unready.resource_version().context("a version")?;
    cache.await_version::<Sandbox>(&version, TIMEOUT).await?;
    let task = cache.sandbox_wait_ready_task(&unready);
    let (registered, begun) = tokio::sync::oneshot::channel();
    let handle = tokio::spawn(async move {
        let mut wait = Box::pin(task.wait(TIMEOUT));
        // The wait is registered once it has been polled.
        anyhow::ensure!(futures::poll!(&mut wait).is_pending(), "it is ready already");
        let _ = registered.send(());
        wait.await?;
        Ok(Instant::now())
    });
    begun.await.context("the wait ended early")?;
    Ok(handle)
}

async fn one_wait(cache: &Cache, api: &Api<Sandbox>, name: &str) -> anyhow::Result<f64> {
    let waiting = waiting(cache, api, name).await?;
    set(api, name, ready(true)).await?;
    let acknowledged = Instant::now();
    Ok(since(acknowledged, waiting.await??))
}

/// Starts all waits at once, with the maximum number of writers.
async fn burst(cache: &Cache, api: &Api<Sandbox>, names: Vec<String>) -> anyhow::Result<Vec<f64>> {
    let waits = stream::iter(names).map(async |name| {
        let waiting = waiting(cache, api, &name).await?;
        anyhow::Ok((name, waiting))
    });
    let waits: Vec<_> = waits.buffer_unordered(WRITERS).try_collect().await?;
    let written = stream::iter(waits).map(|(name, waiting)| {
        let api = api.clone();
        // Each write has its own task, like independent writers.
        async move {
            let acknowledged = tokio::spawn(async move {
                set(&api, &name, ready(true)).await?;
                anyhow::Ok(Instant::now())
            });
            anyhow::Ok((acknowledged.await??, waiting))
        }
    });
    let written: Vec<_> = written.buffer_unordered(WRITERS).try_collect().await?;
    let mut micros = Vec::new();
    for (acknowledged, waiting) in written {
        micros.push(since(acknowledged, waiting.await??));
    }
    Ok(micros)
}

async fn one_reconcile(fleet: &Fleet, api: &Api<Sandbox>, name: &str, n: usize) -> anyhow::Result<f64> {
    let message = format!("reconcile {n} at {}", jiff::Timestamp::now());
    let written = set(api, name, json!({"status": {"message": message}})).await?;
    let acknowledged = Instant::now();
    let version = written.resource_version().context("a version")?;
    let seen = async {
        loop {
            if let Some(at) = fleet.reconciles.seen(&version) {
                return at;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    Ok(since(acknowledged, tokio::time::timeout(TIMEOUT, seen).await.context("not reconciled")?))
}

/// Returns the status patches per second that a subscriber receives. Each patches another object, so none are
/// merged.
async fn events_per_second(cache: &Cache, api: &Api<Sandbox>, objects: usize) -> anyhow::Result<f64> {
    let mut subscription = cache.subscribe::<Sandbox>().context("sandboxes are in scope")?;
    while subscription.try_next().is_some() {}
    let count = EVENTS.min(objects);
    // The text is new each time, because a patch without changes causes no event.
    let mark = format!("events {}", jiff::Timestamp::now());
    let started = Instant::now();
    let writes = stream::iter(0..count).map(|i| {
        let (api, message) = (api.clone(), mark.clone());
        async move {
            let write =
                async move { set(&api, &workload::name(i), json!({"status": {"message": message}})).await };
            tokio::spawn(write).await??;
            anyhow::Ok(())
        }
    });
    let writes = writes.buffer_unordered(WRITERS).try_for_each(async |()| Ok(()));
    let seen = async {
        let mut seen = 0;
        while seen < count {
            match subscription.next().await.context("the subscription ended")? {
                Event::Applied { new, .. } if message(&new) == Some(&mark) => seen += 1,
                _ => {}
            }
        }
        anyhow::Ok(())
    };
    let both = async { tokio::try_join!(writes, seen) };
    tokio::time::timeout(10 * TIMEOUT, both).await.context("not every event was seen")??;
    Ok(f64::from(u32::try_from(count)?) / started.elapsed().as_secs_f64())
}

fn message(sandbox: &Sandbox) -> Option<&str> {
    sandbox.status.as_ref()?.message.as_deref()
}
