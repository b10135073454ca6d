//! [`LifecycleMetrics`]: the metrics of the lifecycle controllers.
//!
//! The series of controller-runtime, such as `controller_runtime_reconcile_total`, have the names of the controllers in
//! their label `controller`.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

/// The upper limits of the histogram of start times, in seconds.
const START_SECONDS: [f64; 11] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// The metrics of the lifecycle controllers. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct LifecycleMetrics {
    pub(crate) pods_created: IntCounter,
    /// By `reason`: the reason of the API server's answer.
    pub(crate) pod_create_failures: IntCounterVec,
    /// By `timer`: `shutdownTime`, `pauseTime`.
    pub(crate) timers_fired: IntCounterVec,
    pub(crate) start_seconds: Histogram,
    pub(crate) events_dropped: IntCounter,
}

impl LifecycleMetrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    ///
    /// If the registry already has a family of one of the names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        // With the first values at 0, so that the family exists from the beginning and `increase` sees the first event.
        let counters = |name: &str, help: &str, label: &str, values: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            for value in values {
                counters.with_label_values(&[value]);
            }
            Ok::<_, prometheus::Error>(counters)
        };
        let start = HistogramOpts::new(
            "sandbox_manager_sandbox_start_seconds",
            "Time from the creation of a sandbox until its pod was ready for the first time.",
        );
        let start_seconds = Histogram::with_opts(start.buckets(START_SECONDS.to_vec()))?;
        registry.register(Box::new(start_seconds.clone()))?;
        Ok(Self {
            pods_created: counter("sandbox_manager_pods_created_total", "Pods created for sandboxes.")?,
            pod_create_failures: counters(
                "sandbox_manager_pod_create_failures_total",
                "Pods and volume claims that the API server refused, by the reason of its answer.",
                "reason",
                &["Forbidden"],
            )?,
            timers_fired: counters(
                "sandbox_manager_sandbox_timers_total",
                "Sandboxes that were deleted or paused because their time had come, by timer.",
                "timer",
                &["shutdownTime", "pauseTime"],
            )?,
            start_seconds,
            events_dropped: counter(
                "sandbox_manager_events_dropped_total",
                "Kubernetes events that were dropped because too many waited.",
            )?,
        })
    }
}
