//! Metrics of all waits of one cache.

use std::collections::HashMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts};
use tokio::time::Instant;

use super::error::{WaitAction, WaitConflict, WaitError};

/// From 1 ms, the minimum duration of a wait, to 10 min, the maximum that users wait.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
    600.0,
];

/// Counts and times waits. Cheap to clone; shared by all kinds.
#[derive(Clone)]
pub(crate) struct WaitMetrics {
    seconds: HistogramVec,
    active: IntGaugeVec,
    conflicts: IntCounterVec,
}

impl WaitMetrics {
    pub(crate) fn new() -> Self {
        Self::try_new().expect("names and labels in this file are valid")
    }

    fn try_new() -> Result<Self, prometheus::Error> {
        let seconds =
            HistogramOpts::new("wait_duration_seconds", "Duration of waits, by action and outcome.");
        Ok(Self {
            seconds: HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["action", "outcome"])?,
            active: IntGaugeVec::new(
                Opts::new("waits_active", "Number of waits in progress, by action."),
                &["action"],
            )?,
            conflicts: IntCounterVec::new(
                Opts::new(
                    "wait_conflicts_total",
                    "Number of waits rejected because the opposite action was in progress.",
                ),
                &["existing", "requested"],
            )?,
        })
    }

    /// Returns a collector of these metrics under names with a prefix.
    pub(crate) fn with_prefix(&self, prefix: &str) -> Result<PrefixedWaitMetrics, prometheus::Error> {
        let rename = |desc: &Desc| {
            let name = format!("{prefix}_{}", desc.fq_name);
            Desc::new(name, desc.help.clone(), desc.variable_labels.clone(), HashMap::new())
        };
        let metrics = self.clone();
        let all = [metrics.seconds.desc(), metrics.active.desc(), metrics.conflicts.desc()].concat();
        let descriptions = all.into_iter().map(rename).collect::<Result<_, _>>()?;
        Ok(PrefixedWaitMetrics { prefix: prefix.to_owned(), metrics, descriptions })
    }

    pub(super) fn conflict(&self, conflict: &WaitConflict) {
        self.conflicts.with_label_values(&[conflict.existing.as_str(), conflict.requested.as_str()]).inc();
    }

    /// Counts a wait as active until the guard is dropped.
    pub(super) fn begin(&self, action: WaitAction) -> ActiveWait {
        self.active.with_label_values(&[action.as_str()]).inc();
        ActiveWait { metrics: self.clone(), action, started: Instant::now(), outcome: "cancelled" }
    }
}

/// The metrics of all waits under names with a prefix.
pub(crate) struct PrefixedWaitMetrics {
    prefix: String,
    metrics: WaitMetrics,
    descriptions: Vec<Desc>,
}

impl Collector for PrefixedWaitMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let WaitMetrics { seconds, active, conflicts } = &self.metrics;
        let mut families = [seconds.collect(), active.collect(), conflicts.collect()].concat();
        for family in &mut families {
            family.set_name(format!("{}_{}", self.prefix, family.name()));
        }
        families
    }
}

/// A wait in progress. A wait that is dropped without an outcome counts as cancelled.
pub(super) struct ActiveWait {
    metrics: WaitMetrics,
    action: WaitAction,
    started: Instant,
    outcome: &'static str,
}

impl ActiveWait {
    pub(super) fn end<T>(mut self, result: &Result<T, WaitError>) {
        self.outcome = result.as_ref().map_or_else(WaitError::reason, |_| "satisfied");
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }
}

impl Drop for ActiveWait {
    fn drop(&mut self) {
        let action = self.action.as_str();
        self.metrics.active.with_label_values(&[action]).dec();
        let elapsed = self.started.elapsed().as_secs_f64();
        self.metrics.seconds.with_label_values(&[action, self.outcome]).observe(elapsed);
    }
}
