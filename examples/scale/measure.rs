//! `measure`: syncs, looks up and waits, and prints the times.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::cache::indexes;
use sandbox_manager::controller_manager::Connector;
use sandbox_manager::dev::workload;

use crate::fleet::Fleet;
use crate::latency::Latencies;
use crate::raw_watch::RawWatch;
use crate::report::Report;
use crate::scraper::Scraper;
use crate::{bare_list, lookups, process, relist, updates};

#[derive(Args)]
pub(crate) struct MeasureArguments {
    /// Print one JSON object instead of one line per key.
    #[arg(long)]
    json: bool,
    /// Number of waits and reconciles that are measured one at a time.
    #[arg(long, value_name = "N", default_value_t = 300)]
    waits: u32,
    /// Measure only the sync, memory and relists.
    #[arg(long)]
    sync_only: bool,
    /// Scrape /metrics every 100 ms during the measurement. One half of the waits is measured without it.
    #[arg(long)]
    scrape: bool,
}

/// Time between the sync and the reading of memory, and between the relists and the lookups.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

pub(crate) async fn run(connector: &Connector, arguments: &MeasureArguments) -> anyhow::Result<()> {
    let mut report = Report::new(arguments.json);
    let writer = connector.client()?;
    // Opens the connection before the measurement, so that its time is not counted.
    let _ = writer.apiserver_version().await;
    let base = process::memory()?.resident;
    process::forget_peak()?;
    let (started, cpu) = (Instant::now(), process::cpu()?);

    let fleet = Fleet::start(connector, arguments.scrape).await?;
    let (sync, sync_cpu) = (started.elapsed(), process::cpu()?.saturating_sub(cpu));
    let objects = fleet.cache.reader::<Sandbox>().len()?;
    ensure!(objects > 1, "there are no sandboxes: scale load --count 20000");
    let synced = Instant::now();
    fleet.settle().await?;
    let drained = synced.elapsed();
    tokio::time::sleep(SETTLED_AFTER.saturating_sub(synced.elapsed())).await;
    let memory = process::memory()?;

    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 of them")]
    let number = objects as f64;
    report.add("objects", number, 0);
    report.add("sync_s", sync.as_secs_f64(), 2);
    report.add("sync_cpu_s", sync_cpu.as_secs_f64(), 2);
    report.add("drain_s", drained.as_secs_f64(), 2);
    report.add("settled_cpu_s", process::cpu()?.saturating_sub(cpu).as_secs_f64(), 2);
    report.add("rss_base_mib", base, 1);
    report.add("rss_mib", memory.resident, 1);
    report.add("rss_peak_mib", memory.peak, 1);
    report.add("rss_kib_per_object", (memory.resident - base) * 1024.0 / number, 2);
    relist::measure(&fleet, &mut report).await?;
    if !arguments.sync_only {
        // The API server is busy for a while after the lists.
        tokio::time::sleep(SETTLED_AFTER).await;
        let members = workload_members(&fleet)?;
        ensure!(members > 1, "there are no sandboxes of the workload: scale load --count 20000");
        let cache = fleet.cache.clone();
        report = tokio::task::spawn_blocking(move || {
            lookups::measure(&cache, members, &mut report);
            report
        })
        .await?;
        let scraper = fleet.metrics.map(Scraper::start);
        let (raw, second) = (RawWatch::start(connector).await?, RawWatch::start(connector).await?);
        let measured =
            Latencies { fleet: &fleet, writer: &writer, raw: &raw, second: &second, objects: members };
        measured.measure(arguments.waits as usize, scraper.as_ref(), &mut report).await?;
        if let Some(scraper) = scraper {
            report.add_percentiles("scrape", scraper.stop()?);
        }
    }
    fleet.stop().await?;
    bare_list::measure(connector, &mut report).await?;
    if !arguments.sync_only {
        updates::measure(&writer, &mut report).await?;
    }
    report.finish();
    Ok(())
}

/// Returns the number of sandboxes like those that `load` creates. Other sandboxes may exist.
fn workload_members(fleet: &Fleet) -> anyhow::Result<usize> {
    let reader = fleet.cache.reader::<Sandbox>();
    let count = |i| reader.count(indexes::SANDBOX_POOL, &workload::pool(i), |_| true);
    Ok((0..workload::POOLS).map(count).sum::<Result<usize, _>>()?)
}
