//! [`ClaimMetrics`]: the metrics of the engine (Q7), with the names of OpenKruise Agents' manager.

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};
use shared_cache::Reader;

use super::claimed::LockType;
use super::error::ClaimError;
use super::ready_queue::ReadyQueue;
use crate::api::v1alpha1::{Sandbox, SandboxSet};

/// The upper limits of the histograms of times, in seconds.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 50.0];

/// The upper limits of the histogram of retries.
const RETRIES: [f64; 6] = [0.0, 1.0, 2.0, 5.0, 10.0, 20.0];

/// The value of `result` for what has succeeded.
const SUCCESS: &str = "success";

/// The metrics of an engine. Cheap to clone; all clones count together.
#[derive(Clone)]
pub(super) struct ClaimMetrics {
    claims: IntCounterVec,
    claim_seconds: HistogramVec,
    claim_retries: Histogram,
    pauses: Counted,
    resumes: Counted,
    swept: IntCounter,
}

/// The count and the times of one action.
#[derive(Clone)]
struct Counted {
    total: IntCounterVec,
    seconds: HistogramVec,
}

impl Counted {
    fn new(total: &str, seconds: &str, what: &str) -> Result<Self, prometheus::Error> {
        let total = Opts::new(total, format!("{what}, by result."));
        let help = format!("{what}: time until the sandbox was in its new state.");
        let seconds = HistogramOpts::new(seconds, help);
        Ok(Self {
            total: IntCounterVec::new(total, &["namespace", "result"])?,
            seconds: HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["namespace"])?,
        })
    }

    fn count(&self, result: Result<&Arc<Sandbox>, &ClaimError>, elapsed: Duration) {
        // The namespace of a sandbox that was not found is not known, and is the user's text.
        let (namespace, result) = match result {
            Ok(sandbox) => (sandbox.namespace_or_empty(), SUCCESS),
            Err(error) => ("", error.reason()),
        };
        self.total.with_label_values(&[namespace, result]).inc();
        if result == SUCCESS {
            self.seconds.with_label_values(&[namespace]).observe(elapsed.as_secs_f64());
        }
    }
}

impl ClaimMetrics {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let seconds = HistogramOpts::new(
            "sandbox_claim_duration_seconds",
            "Time that a claim took, by how it got its sandbox.",
        );
        let retries = HistogramOpts::new(
            "sandbox_claim_retries",
            "Candidates that others were faster to change, in one claim.",
        );
        Ok(Self {
            claims: IntCounterVec::new(
                Opts::new("sandbox_claim_total", "Claims, by result and by how they got their sandbox."),
                &["namespace", "result", "lock_type"],
            )?,
            claim_seconds: HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["namespace", "lock_type"])?,
            claim_retries: Histogram::with_opts(retries.buckets(RETRIES.to_vec()))?,
            pauses: Counted::new(
                "sandbox_pause_total",
                "sandbox_pause_duration_seconds",
                "Pauses that users asked for",
            )?,
            resumes: Counted::new(
                "sandbox_resume_total",
                "sandbox_resume_duration_seconds",
                "Resumes that users asked for",
            )?,
            swept: IntCounter::new(
                "sandbox_manager_claims_swept_total",
                "Sandboxes that were removed because nobody answered for their claim.",
            )?,
        })
    }

    /// Registers the metrics, and the lengths of the ready queues.
    pub(super) fn register(
        &self,
        registry: &Registry,
        ready: &Arc<ReadyQueue>,
        sets: &Reader<SandboxSet>,
    ) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.claims.clone()))?;
        registry.register(Box::new(self.claim_seconds.clone()))?;
        registry.register(Box::new(self.claim_retries.clone()))?;
        for counted in [&self.pauses, &self.resumes] {
            registry.register(Box::new(counted.total.clone()))?;
            registry.register(Box::new(counted.seconds.clone()))?;
        }
        registry.register(Box::new(self.swept.clone()))?;
        registry.register(Box::new(PoolReady::new(ready, sets)?))
    }

    /// Counts a claim. The namespace of a pool that does not exist is a text of the user, and no label.
    pub(super) fn claimed(
        &self,
        namespace: &str,
        outcome: Result<LockType, &ClaimError>,
        elapsed: Duration,
        retries: u32,
    ) {
        let (namespace, result, lock_type) = match outcome {
            Ok(lock_type) => (namespace, SUCCESS, lock_type.as_str()),
            Err(error @ (ClaimError::PoolNotFound { .. } | ClaimError::Invalid(_))) => {
                ("", error.reason(), "")
            }
            Err(error) => (namespace, error.reason(), ""),
        };
        self.claims.with_label_values(&[namespace, result, lock_type]).inc();
        if result == SUCCESS {
            self.claim_seconds.with_label_values(&[namespace, lock_type]).observe(elapsed.as_secs_f64());
            self.claim_retries.observe(retries.into());
        }
    }

    pub(super) fn paused(&self, result: Result<&Arc<Sandbox>, &ClaimError>, elapsed: Duration) {
        self.pauses.count(result, elapsed);
    }

    pub(super) fn resumed(&self, result: Result<&Arc<Sandbox>, &ClaimError>, elapsed: Duration) {
        self.resumes.count(result, elapsed);
    }

    pub(super) fn swept(&self) {
        self.swept.inc();
    }
}

/// The lengths of the ready queues. They are read when the metrics are, so that a claim does not pay for them, and a set
/// that is gone has none.
struct PoolReady {
    ready: Arc<ReadyQueue>,
    sets: Reader<SandboxSet>,
    gauge: IntGaugeVec,
}

impl PoolReady {
    fn new(ready: &Arc<ReadyQueue>, sets: &Reader<SandboxSet>) -> Result<Self, prometheus::Error> {
        let help = "Sandboxes of a pool that can be claimed now, as far as this process knows.";
        let gauge = IntGaugeVec::new(Opts::new("sandbox_manager_pool_ready", help), &["namespace", "pool"])?;
        Ok(Self { ready: Arc::clone(ready), sets: sets.clone(), gauge })
    }
}

impl Collector for PoolReady {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.reset();
        for set in self.sets.list(None).unwrap_or_default() {
            let length = self.ready.len(set.metadata.uid.as_deref().unwrap_or_default());
            let gauge = self.gauge.with_label_values(&[set.namespace_or_empty(), set.name_or_empty()]);
            gauge.set(i64::try_from(length).unwrap_or(i64::MAX));
        }
        self.gauge.collect()
    }
}
