//! [`E2bMetrics`]: the metrics of the API. Their labels have few values: no id of a user, a sandbox or a key.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

use super::route::Operation;

/// The upper limits of the histogram of requests, in seconds. A claim from a full pool takes milliseconds; a create takes
/// up to 50 s.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0];

/// The operation of a request that has none: an unknown path or a wrong method.
const NO_OPERATION: &str = "unknown";

/// The metrics of the API. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub(super) struct E2bMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    creating: IntGauge,
}

/// Counts a create that is under way until it is dropped.
pub(super) struct Creating(IntGauge);

impl Drop for Creating {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl E2bMetrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    ///
    /// If the registry already has a family of one of the names.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = Opts::new(
            "sandbox_manager_e2b_requests_total",
            "Requests to the E2B API, by operation and HTTP status. The code 499 counts clients that hung up before the answer.",
        );
        let requests = IntCounterVec::new(requests, &["operation", "code"])?;
        registry.register(Box::new(requests.clone()))?;
        // The family exists from the beginning, and `increase` sees the first request.
        requests.with_label_values(&[Operation::CreateSandbox.as_str(), "201"]);
        let seconds = HistogramOpts::new(
            "sandbox_manager_e2b_request_seconds",
            "Time from the head of a request to the E2B API to its answer, by operation.",
        );
        let seconds = HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["operation"])?;
        registry.register(Box::new(seconds.clone()))?;
        seconds.with_label_values(&[Operation::CreateSandbox.as_str()]);
        let creating = IntGauge::new(
            "sandbox_manager_e2b_creates_in_progress",
            "Sandboxes that are being created for requests to the E2B API.",
        )?;
        registry.register(Box::new(creating.clone()))?;
        Ok(Self { requests, seconds, creating })
    }

    /// Counts an answer.
    pub(super) fn answered(&self, operation: Option<Operation>, code: u16, took: Duration) {
        let operation = operation.map_or(NO_OPERATION, Operation::as_str);
        self.requests.with_label_values(&[operation, &code.to_string()]).inc();
        self.seconds.with_label_values(&[operation]).observe(took.as_secs_f64());
    }

    pub(super) fn creating(&self) -> Creating {
        self.creating.inc();
        Creating(self.creating.clone())
    }
}
