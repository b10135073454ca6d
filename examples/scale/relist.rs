//! Measures relists in which nothing has changed.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::fleet::Fleet;
use crate::process;
use crate::report::Report;

/// Number of relists. The median of their CPU time counts, because the operating system counts in steps of 10 ms.
const RELISTS: usize = 3;

/// Timeout of one relist.
const TIMEOUT: Duration = Duration::from_mins(30);

pub(crate) async fn measure(fleet: &Fleet, report: &mut Report) -> anyhow::Result<()> {
    let settled = process::memory()?.resident;
    process::forget_peak()?;
    let (mut seconds, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..RELISTS {
        let (started, cpu_before) = (Instant::now(), process::cpu()?);
        relist(fleet).await?;
        seconds.push(started.elapsed().as_secs_f64());
        cpu.push(process::cpu()?.saturating_sub(cpu_before).as_secs_f64());
    }
    report.add_median("relist_s", seconds, 2);
    report.add_median("relist_cpu_s", cpu, 2);
    report.add("relist_peak_to_settled", process::memory()?.peak / settled, 3);
    Ok(())
}

/// Ends the watch of sandboxes. Returns once the cache has listed again and watches again.
async fn relist(fleet: &Fleet) -> anyhow::Result<()> {
    let mut kinds = fleet.cache.kinds().iter();
    let sandboxes = kinds.find(|kind| kind.plural() == "sandboxes").context("sandboxes are cached")?;
    let before = sandboxes.report().relists;
    fleet.expiry.expire();
    let end = Instant::now() + TIMEOUT;
    loop {
        let report = sandboxes.report();
        if report.relists > before && report.stale_for.is_none() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the cache has not listed again: {report:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
