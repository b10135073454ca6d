//! Measures how long after a write a wait ends and a handler is called: after the API server's response to the write,
//! and after the arrival of the event at a watch that decodes nothing.

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
use crate::raw_watch::RawWatch;
use crate::report::Report;
use crate::scraper::Scraper;

/// Timeout of every step.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Number of writers of a burst, and of the stream of events.
const WRITERS: usize = 32;

/// Number of waits that start at once.
const BURST: usize = 300;

/// Number of writes of the stream of events.
const EVENTS: usize = 5_000;

/// Number of waits after which scraping is paused or goes on.
const SCRAPE_BLOCK: usize = 50;

/// What the latencies are measured with.
pub(crate) struct Latencies<'a> {
    pub(crate) fleet: &'a Fleet,
    /// A client that the cache does not use.
    pub(crate) writer: &'a kube::Client,
    pub(crate) raw: &'a RawWatch,
    /// A second watch of the same sort. Between the two lies what the API server and the scheduler of the kernel add.
    pub(crate) second: &'a RawWatch,
    /// Number of sandboxes of the workload.
    pub(crate) objects: usize,
}

/// The delays of one write, in microseconds.
struct Delay {
    /// After the response to the write. 0 if the event came first.
    from_ack: f64,
    /// After the arrival of the event at the raw watch. Negative if the cache was faster.
    over_raw: f64,
    /// At the second raw watch, after the arrival at the first. Negative if the second was faster.
    second: f64,
    /// Of a task that the raw watch wakes, after the arrival of the event there.
    wake: f64,
    /// Of decoding the event at the raw watch.
    decode: f64,
}

/// The end of a wait, and the version that ended it.
struct WaitEnd {
    at: Instant,
    version: String,
}

type Waiting = tokio::task::JoinHandle<anyhow::Result<WaitEnd>>;

impl Latencies<'_> {
    /// Measures everything; `count` waits and reconciles one at a time.
    pub(crate) async fn measure(
        &self,
        count: usize,
        scraper: Option<&Scraper>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let api: Api<Sandbox> = Api::namespaced(self.writer.clone(), workload::NAMESPACE);
        self.waits(&api, count, scraper, report).await?;
        let names = (0..BURST.min(self.objects / 2)).map(|n| self.claimed(n)).collect();
        add(report, "burst", &self.burst(&api, names).await?);
        let mut reconciles = Vec::new();
        self.fleet.reconciles.note_versions();
        for n in 0..count {
            reconciles.push(self.one_reconcile(&api, n).await?);
        }
        add(report, "reconcile", &reconciles);
        report.add("events_per_s", events_per_second(&self.fleet.cache, &api, self.objects).await?, 0);
        Ok(())
    }

    /// Returns the name of a claimed sandbox.
    fn claimed(&self, n: usize) -> String {
        workload::name((2 * n + 1) % self.objects)
    }

    /// Measures waits one at a time. With a scraper, measures as many more while it scrapes.
    async fn waits(
        &self,
        api: &Api<Sandbox>,
        count: usize,
        scraper: Option<&Scraper>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let (mut quiet, mut disturbed) = (Vec::new(), Vec::new());
        for n in 0..if scraper.is_some() { 2 * count } else { count } {
            let is_scraped = scraper.is_some() && (n / SCRAPE_BLOCK) % 2 == 1;
            if let Some(scraper) = scraper {
                scraper.pause(!is_scraped);
            }
            let waits = if is_scraped { &mut disturbed } else { &mut quiet };
            waits.push(self.one_wait(api, &self.claimed(n % 10)).await?);
        }
        add(report, "wait", &quiet);
        if !disturbed.is_empty() {
            report.add_percentiles(
                "scraped_wait_over_raw",
                disturbed.iter().map(|wait| wait.over_raw).collect(),
            );
        }
        Ok(())
    }

    async fn one_wait(&self, api: &Api<Sandbox>, name: &str) -> anyhow::Result<Delay> {
        let waiting = waiting(&self.fleet.cache, api, name).await?;
        set(api, name, ready(true)).await?;
        let acknowledged = Instant::now();
        self.delay(acknowledged, &waiting.await??).await
    }

    /// Starts all waits at once, with the maximum number of writers.
    async fn burst(&self, api: &Api<Sandbox>, names: Vec<String>) -> anyhow::Result<Vec<Delay>> {
        let waits = stream::iter(names).map(async |name| {
            let waiting = waiting(&self.fleet.cache, api, &name).await?;
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
        let mut delays = Vec::new();
        for (acknowledged, waiting) in written {
            delays.push(self.delay(acknowledged, &waiting.await??).await?);
        }
        Ok(delays)
    }

    async fn one_reconcile(&self, api: &Api<Sandbox>, n: usize) -> anyhow::Result<Delay> {
        let message = format!("reconcile {n} at {}", jiff::Timestamp::now());
        let written = set(api, &self.claimed(n % 10), json!({"status": {"message": message}})).await?;
        let acknowledged = Instant::now();
        let version = written.resource_version().context("a version")?;
        let seen = async {
            loop {
                if let Some(at) = self.fleet.reconciles.seen(&version) {
                    return at;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let at = tokio::time::timeout(TIMEOUT, seen).await.context("not reconciled")?;
        self.delay(acknowledged, &WaitEnd { at, version }).await
    }

    async fn delay(&self, acknowledged: Instant, end: &WaitEnd) -> anyhow::Result<Delay> {
        let raw = self.raw.seen(&end.version).await?;
        let second = self.second.seen(&end.version).await?;
        Ok(Delay {
            from_ack: micros(acknowledged, end.at).max(0.0),
            over_raw: micros(raw.line, end.at),
            second: micros(raw.line, second.line),
            wake: micros(raw.line, raw.task),
            decode: raw.decode.as_secs_f64() * 1e6,
        })
    }
}

fn add(report: &mut Report, name: &str, delays: &[Delay]) {
    report.add_percentiles(&format!("{name}_from_ack"), delays.iter().map(|delay| delay.from_ack).collect());
    report.add_percentiles(&format!("{name}_over_raw"), delays.iter().map(|delay| delay.over_raw).collect());
    report.add_percentiles(&format!("{name}_second_raw"), delays.iter().map(|delay| delay.second).collect());
    report.add_percentiles(&format!("{name}_bare_wake"), delays.iter().map(|delay| delay.wake).collect());
    report.add_percentiles(&format!("{name}_bare_decode"), delays.iter().map(|delay| delay.decode).collect());
}

/// Returns the microseconds from one time to another; negative if the second is earlier.
fn micros(from: Instant, to: Instant) -> f64 {
    let forward = to.saturating_duration_since(from).as_secs_f64();
    (forward - from.saturating_duration_since(to).as_secs_f64()) * 1e6
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

/// Spawns a task that waits for a sandbox that is not ready. The task returns the end of the wait.
async fn waiting(cache: &Cache, api: &Api<Sandbox>, name: &str) -> anyhow::Result<Waiting> {
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
        let sandbox = wait.await?;
        let at = Instant::now();
        Ok(WaitEnd { at, version: sandbox.resource_version().context("a version")? })
    });
    begun.await.context("the wait ended early")?;
    Ok(handle)
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
