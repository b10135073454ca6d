//! Metrics of the controllers, under the names and labels that controller-runtime's dashboards read.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// Bounds of controller-runtime's `controller_runtime_reconcile_time_seconds`.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25,
    1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0,
    50.0, 60.0,
];

/// How a reconcile ended, as the label `result` says it.
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

/// The metric families of all controllers of one process. Cheap to clone.
#[derive(Clone)]
pub struct ControllerMetricFamilies {
    reconciles: IntCounterVec,
    errors: IntCounterVec,
    panics: IntCounterVec,
    seconds: HistogramVec,
    active: IntGaugeVec,
    max: IntGaugeVec,
    depths: Depths,
    adds: IntCounterVec,
    retries: IntCounterVec,
}

impl ControllerMetricFamilies {
    /// Makes the families and registers them.
    ///
    /// # Errors
    ///
    /// If the registry has families of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<_, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| -> Result<_, prometheus::Error> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let controller = &["controller"];
        let queue = &["controller", "name"];
        let seconds =
            HistogramOpts::new("controller_runtime_reconcile_time_seconds", "Time that a reconcile took.");
        let seconds = HistogramVec::new(seconds.buckets(SECONDS.to_vec()), controller)?;
        registry.register(Box::new(seconds.clone()))?;
        let depths = Depths::new()?;
        registry.register(Box::new(depths.clone()))?;
        Ok(Self {
            seconds,
            reconciles: counter(
                "controller_runtime_reconcile_total",
                "Reconciles by result.",
                &["controller", "result"],
            )?,
            errors: counter(
                "controller_runtime_reconcile_errors_total",
                "Reconciles that failed.",
                controller,
            )?,
            panics: counter(
                "controller_runtime_reconcile_panics_total",
                "Reconciles that panicked.",
                controller,
            )?,
            active: gauge("controller_runtime_active_workers", "Reconciles that run now.", controller)?,
            max: gauge(
                "controller_runtime_max_concurrent_reconciles",
                "Most reconciles at once.",
                controller,
            )?,
            depths,
            adds: counter("workqueue_adds_total", "Keys that were queued.", queue)?,
            retries: counter(
                "workqueue_retries_total",
                "Keys that were queued again after a failure.",
                queue,
            )?,
        })
    }

    /// The metrics of one controller, every series present from the start.
    pub(super) fn of(&self, controller: &str, max_concurrent_reconciles: u16) -> ControllerMetrics {
        self.max.with_label_values(&[controller]).set(max_concurrent_reconciles.into());
        for result in ReconcileResult::ALL {
            self.reconciles.with_label_values(&[controller, result.as_str()]);
        }
        ControllerMetrics {
            reconciles: self.reconciles.clone(),
            errors: self.errors.with_label_values(&[controller]),
            panics: self.panics.with_label_values(&[controller]),
            seconds: self.seconds.with_label_values(&[controller]),
            active: self.active.with_label_values(&[controller]),
            depths: self.depths.clone(),
            adds: self.adds.with_label_values(&[controller, controller]),
            retries: self.retries.with_label_values(&[controller, controller]),
            controller: controller.to_owned(),
        }
    }
}

/// The metrics of one controller.
#[derive(Clone)]
pub(super) struct ControllerMetrics {
    controller: String,
    reconciles: IntCounterVec,
    errors: prometheus::IntCounter,
    panics: prometheus::IntCounter,
    seconds: prometheus::Histogram,
    active: prometheus::IntGauge,
    depths: Depths,
    adds: prometheus::IntCounter,
    retries: prometheus::IntCounter,
}

impl ControllerMetrics {
    pub(super) fn queued(&self) {
        self.adds.inc();
    }

    /// Says where the depth of this controller's queue is to be read whenever it is scraped.
    pub(super) fn read_depth(&self, depth: impl Fn() -> usize + Send + Sync + 'static) {
        self.depths.readers.lock().insert(self.controller.clone(), Box::new(depth));
    }

    pub(super) fn retried(&self) {
        self.retries.inc();
    }

    pub(super) fn panicked(&self) {
        self.panics.inc();
    }

    /// Counts a worker as active and takes the time until the guard is dropped, finished or not.
    pub(super) fn work(&self) -> impl Drop + use<> {
        struct Working(prometheus::IntGauge, prometheus::Histogram, tokio::time::Instant);
        impl Drop for Working {
            fn drop(&mut self) {
                self.0.dec();
                self.1.observe(self.2.elapsed().as_secs_f64());
            }
        }
        self.active.inc();
        Working(self.active.clone(), self.seconds.clone(), tokio::time::Instant::now())
    }

    pub(super) fn reconciled(&self, result: ReconcileResult) {
        self.reconciles.with_label_values(&[&self.controller, result.as_str()]).inc();
        if result == ReconcileResult::Error {
            self.errors.inc();
        }
    }
}

/// Reads the number of keys that wait for their reconcile, by controller.
type DepthReaders = BTreeMap<String, Box<dyn Fn() -> usize + Send + Sync>>;

/// `workqueue_depth`, read off the queues themselves when it is scraped: what waits is partly in the
/// subscription, where nobody counts it.
#[derive(Clone)]
struct Depths {
    gauge: IntGaugeVec,
    readers: Arc<Mutex<DepthReaders>>,
}

impl Depths {
    fn new() -> Result<Self, prometheus::Error> {
        let opts = Opts::new("workqueue_depth", "Keys that wait for their reconcile.");
        Ok(Self { gauge: IntGaugeVec::new(opts, &["controller", "name"])?, readers: Arc::default() })
    }
}

impl Collector for Depths {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (controller, depth) in &*self.readers.lock() {
            let depth = i64::try_from(depth()).unwrap_or(i64::MAX);
            self.gauge.with_label_values(&[controller, controller]).set(depth);
        }
        self.gauge.collect()
    }
}
