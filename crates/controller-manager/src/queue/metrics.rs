//! Metrics of the work queues, under the names and labels of controller-runtime.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use super::gauges::{Depth, QueueGauges};

/// The labels of all families. controller-runtime writes the name of the controller into both.
const LABELS: [&str; 2] = ["controller", "name"];
/// The labels of the depth, and the priorities of controller-runtime for changes and for the initial list.
const DEPTH_LABELS: [&str; 3] = ["controller", "name", "priority"];
const HIGH: &str = "0";
const LOW: &str = "-100";

/// The metric families of all queues of one registry. Cheap to clone.
#[derive(Clone)]
pub(crate) struct QueueMetricFamilies {
    adds: IntCounterVec,
    retries: IntCounterVec,
    queue_duration: HistogramVec,
    work_duration: HistogramVec,
    gauges: GaugeFamilies,
}

/// The counters and histograms of one queue.
#[derive(Clone)]
pub(crate) struct QueueMetrics {
    pub(super) adds: IntCounter,
    pub(super) retries: IntCounter,
    pub(super) queue_duration: Histogram,
    pub(super) work_duration: Histogram,
}

impl QueueMetricFamilies {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<_, prometheus::Error> {
            let family = IntCounterVec::new(Opts::new(name, help), &LABELS)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let histogram = |name: &str, help: &str| -> Result<_, prometheus::Error> {
            let buckets = prometheus::exponential_buckets(1e-8, 10.0, 12)?;
            let family = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &LABELS)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let gauges = GaugeFamilies::new()?;
        registry.register(Box::new(gauges.clone()))?;
        Ok(Self {
            adds: counter("workqueue_adds_total", "Number of keys that were queued.")?,
            retries: counter(
                "workqueue_retries_total",
                "Number of keys that were scheduled to run again after a delay, because of an error or on request.",
            )?,
            queue_duration: histogram(
                "workqueue_queue_duration_seconds",
                "Seconds that a key was queued before its handlers were called.",
            )?,
            work_duration: histogram(
                "workqueue_work_duration_seconds",
                "Seconds from taking a key out of the queue to the end of its handlers.",
            )?,
            gauges,
        })
    }

    /// The metrics of one controller's queue.
    pub(crate) fn of(&self, controller: &str) -> QueueMetrics {
        let labels = [controller; 2];
        QueueMetrics {
            adds: self.adds.with_label_values(&labels),
            retries: self.retries.with_label_values(&labels),
            queue_duration: self.queue_duration.with_label_values(&labels),
            work_duration: self.work_duration.with_label_values(&labels),
        }
    }

    /// Reads the gauges off a queue from now on, until it is dropped.
    pub(crate) fn watch(&self, controller: &str, queue: Weak<dyn QueueGauges>) {
        self.gauges.queues.lock().push((controller.to_owned(), queue));
    }
}

/// Queues by the names of their controllers.
type NamedQueues = Vec<(String, Weak<dyn QueueGauges>)>;

/// The gauges, read off the queues at each scrape. They do not keep a queue alive.
#[derive(Clone)]
struct GaugeFamilies {
    depth: IntGaugeVec,
    unfinished: GaugeVec,
    longest: GaugeVec,
    queues: Arc<Mutex<NamedQueues>>,
}

impl GaugeFamilies {
    fn new() -> Result<Self, prometheus::Error> {
        let depth = Opts::new(
            "workqueue_depth",
            "Number of keys whose run is due, by priority: 0 for changes, -100 for the initial list.",
        );
        let unfinished = Opts::new(
            "workqueue_unfinished_work_seconds",
            "Seconds that the attempts that run now have run so far, added up.",
        );
        let longest = Opts::new(
            "workqueue_longest_running_processor_seconds",
            "Seconds that the oldest attempt that runs now has run so far.",
        );
        Ok(Self {
            depth: IntGaugeVec::new(depth, &DEPTH_LABELS)?,
            unfinished: GaugeVec::new(unfinished, &LABELS)?,
            longest: GaugeVec::new(longest, &LABELS)?,
            queues: Arc::default(),
        })
    }

    fn read(&self, controller: &str, queue: &dyn QueueGauges) {
        let labels = [controller; 2];
        let running = queue.running_for();
        let longest = running.iter().max().copied().unwrap_or_default();
        let unfinished: Duration = running.iter().sum();
        let Depth { high, low } = queue.depth();
        for (priority, depth) in [(HIGH, high), (LOW, low)] {
            let depth = i64::try_from(depth).unwrap_or(i64::MAX);
            self.depth.with_label_values(&[controller, controller, priority]).set(depth);
        }
        self.unfinished.with_label_values(&labels).set(unfinished.as_secs_f64());
        self.longest.with_label_values(&labels).set(longest.as_secs_f64());
    }

    fn families(&self) -> [&dyn Collector; 3] {
        [&self.depth, &self.unfinished, &self.longest]
    }
}

impl Collector for GaugeFamilies {
    fn desc(&self) -> Vec<&Desc> {
        self.families().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut queues = self.queues.lock();
        self.depth.reset();
        self.unfinished.reset();
        self.longest.reset();
        queues.retain(|(_, queue)| queue.strong_count() > 0);
        for (controller, queue) in &*queues {
            if let Some(queue) = queue.upgrade() {
                self.read(controller, &*queue);
            }
        }
        let families = self.families().into_iter().flat_map(Collector::collect);
        families.filter(|family| !family.get_metric().is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl QueueGauges for Fixed {
        fn depth(&self) -> Depth {
            Depth { high: 7, low: 8 }
        }

        fn running_for(&self) -> Vec<Duration> {
            vec![Duration::from_secs(2), Duration::from_secs(3)]
        }
    }

    #[test]
    fn a_queue_is_read_while_it_lives_and_forgotten_afterwards() {
        let registry = Registry::new();
        let families = QueueMetricFamilies::register(&registry).unwrap();
        let queue = Arc::new(Fixed);
        let weak: Weak<Fixed> = Arc::downgrade(&queue);
        families.watch("test", weak);
        let values = || -> Vec<_> {
            let gauges = registry.gather();
            let values = |family: &MetricFamily| -> Vec<_> {
                family.get_metric().iter().map(|metric| metric.get_gauge().get_value()).collect()
            };
            gauges.iter().map(|family| format!("{} {:?}", family.name(), values(family))).collect()
        };
        let expected = [
            "workqueue_depth [8.0, 7.0]",
            "workqueue_longest_running_processor_seconds [3.0]",
            "workqueue_unfinished_work_seconds [5.0]",
        ];
        assert_eq!(values(), expected);
        drop(queue);
        assert!(values().is_empty());
        assert!(families.gauges.queues.lock().is_empty());
    }
}
