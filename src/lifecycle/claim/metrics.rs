//! [`ClaimMetrics`]: how claims of sandboxes end, and how long they take.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

/// The upper limits of the histogram, in seconds. A claim from a full pool takes milliseconds, one that waits takes as
/// long as a pod.
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0];

/// The metrics of all claims together. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub(super) struct ClaimMetrics {
    /// A sandbox was taken from the pool.
    pub(super) taken: IntCounter,
    /// A sandbox was created.
    pub(super) created: IntCounter,
    /// The pool had no sandbox.
    pub(super) no_stock: IntCounter,
    /// Somebody else has changed the candidate, and the next one is tried.
    pub(super) conflict: IntCounter,
    /// The API server has refused a request, or has not answered.
    pub(super) error: IntCounter,
    seconds: Histogram,
}

impl ClaimMetrics {
    /// Creates the metrics and registers them.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Tries to claim one sandbox, by result: taken, created, no_stock, conflict, error. A conflict is a \
                    sandbox that somebody else has changed at the same time, after which the next one is tried.";
        let claims = IntCounterVec::new(Opts::new("sandbox_manager_claims_total", help), &["result"])?;
        registry.register(Box::new(claims.clone()))?;
        let options = HistogramOpts::new(
            "sandbox_manager_claim_seconds",
            "Time from the first try of a SandboxClaim until each of its sandboxes was claimed.",
        );
        let seconds = Histogram::with_opts(options.buckets(SECONDS.to_vec()))?;
        registry.register(Box::new(seconds.clone()))?;
        let of = |result: &str| claims.with_label_values(&[result]);
        Ok(Self {
            taken: of("taken"),
            created: of("created"),
            no_stock: of("no_stock"),
            conflict: of("conflict"),
            error: of("error"),
            seconds,
        })
    }

    /// Notes that a sandbox was claimed so long after the first try of its claim.
    pub(super) fn claimed_after(&self, duration: Duration) {
        self.seconds.observe(duration.as_secs_f64());
    }
}
