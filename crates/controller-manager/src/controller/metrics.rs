//! Metrics of the controllers, under the names and labels of controller-runtime.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use tokio::time::Instant;

use crate::queue::QueueMetricFamilies;

/// Bounds of controller-runtime's `controller_runtime_reconcile_time_seconds`.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25,
    1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0,
    50.0, 60.0,
];

const LABELS: [&str; 1] = ["controller"];

/// How a reconcile ended; the label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReconcileResult {
    Success,
    RequeueAfter,
    Error,
}

impl ReconcileResult {
    const ALL: [Self; 3] = [Self::Success, Self::RequeueAfter, Self::Error];

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::RequeueAfter => "requeue_after",
            Self::Error => "error",
        }
    }
}

/// The metric families of all controllers and work queues of one registry. Cheap to clone.
#[derive(Clone)]
pub struct ControllerMetricFamilies {
    reconciles: IntCounterVec,
    errors: IntCounterVec,
    panics: IntCounterVec,
    timeouts: IntCounterVec,
    seconds: HistogramVec,
    active: IntGaugeVec,
    max: IntGaugeVec,
    pub(super) queues: QueueMetricFamilies,
}

impl ControllerMetricFamilies {
    /// Creates the families and registers them.
    ///
    /// # Errors
    ///
    /// If the registry has families of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<_, prometheus::Error> {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let gauge = |name: &str, help: &str| -> Result<_, prometheus::Error> {
            let family = IntGaugeVec::new(Opts::new(name, help), &LABELS)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let seconds =
            HistogramOpts::new("controller_runtime_reconcile_time_seconds", "Seconds that a reconcile took.");
        let seconds = HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &LABELS)?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            reconciles: counter(
                "controller_runtime_reconcile_total",
                "Number of reconciles, by result.",
                &["controller", "result"],
            )?,
            errors: counter(
                "controller_runtime_reconcile_errors_total",
                "Number of reconciles that failed.",
                &LABELS,
            )?,
            panics: counter(
                "controller_runtime_reconcile_panics_total",
                "Number of reconciles that panicked.",
                &LABELS,
            )?,
            timeouts: counter(
                "controller_runtime_reconcile_timeouts_total",
                "Number of reconciles that were dropped because they exceeded the reconcile timeout.",
                &LABELS,
            )?,
            seconds,
            active: gauge("controller_runtime_active_workers", "Number of reconciles that run now.")?,
            max: gauge(
                "controller_runtime_max_concurrent_reconciles",
                "Largest number of reconciles that may run at once.",
            )?,
            queues: QueueMetricFamilies::register(registry)?,
        })
    }

    /// The metrics of one controller. Every series exists from the start.
    pub(super) fn of(&self, controller: &str, max_concurrent_reconciles: usize) -> ControllerMetrics {
        let max = i64::try_from(max_concurrent_reconciles).unwrap_or(i64::MAX);
        self.max.with_label_values(&[controller]).set(max);
        let result = |result: ReconcileResult| {
            (result, self.reconciles.with_label_values(&[controller, result.as_str()]))
        };
        ControllerMetrics {
            reconciles: ReconcileResult::ALL.map(result),
            errors: self.errors.with_label_values(&[controller]),
            panics: self.panics.with_label_values(&[controller]),
            timeouts: self.timeouts.with_label_values(&[controller]),
            seconds: self.seconds.with_label_values(&[controller]),
            active: self.active.with_label_values(&[controller]),
        }
    }
}

/// The metrics of one controller.
#[derive(Clone)]
pub(super) struct ControllerMetrics {
    reconciles: [(ReconcileResult, IntCounter); 3],
    errors: IntCounter,
    panics: IntCounter,
    timeouts: IntCounter,
    seconds: Histogram,
    active: IntGauge,
}

/// Counts a reconcile as active, and observes its duration when it is dropped, finished or not.
pub(super) struct ActiveWorker {
    active: IntGauge,
    seconds: Histogram,
    start: Instant,
}

impl Drop for ActiveWorker {
    fn drop(&mut self) {
        self.active.dec();
        self.seconds.observe(self.start.elapsed().as_secs_f64());
    }
}

impl ControllerMetrics {
    pub(super) fn start_worker(&self) -> ActiveWorker {
        self.active.inc();
        ActiveWorker { active: self.active.clone(), seconds: self.seconds.clone(), start: Instant::now() }
    }

    pub(super) fn panicked(&self) {
        self.panics.inc();
    }

    pub(super) fn timed_out(&self) {
        self.timeouts.inc();
    }

    pub(super) fn reconciled(&self, result: ReconcileResult) {
        for (_, counter) in self.reconciles.iter().filter(|(of, _)| *of == result) {
            counter.inc();
        }
        if result == ReconcileResult::Error {
            self.errors.inc();
        }
    }
}
