//! [`PoolMetrics`]: how many sandboxes the sets create and delete.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// The counters of all sets together. The label `reason` is one of `scale-down`, `rollout`, `dead`.
#[derive(Clone, Debug)]
pub(super) struct PoolMetrics {
    pub(super) created: IntCounter,
    pub(super) scaled_down: IntCounter,
    pub(super) rolled_out: IntCounter,
    pub(super) dead: IntCounter,
    pub(super) status_writes: IntCounter,
}

impl PoolMetrics {
    /// Creates the counters and registers them.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let created = counter("sandbox_manager_pool_created_total", "Sandboxes that sets have created.")?;
        let help = "Sandboxes that sets have deleted, by reason: scale-down, rollout, dead.";
        let deleted = IntCounterVec::new(Opts::new("sandbox_manager_pool_deleted_total", help), &["reason"])?;
        registry.register(Box::new(deleted.clone()))?;
        Ok(Self {
            created,
            scaled_down: deleted.with_label_values(&["scale-down"]),
            rolled_out: deleted.with_label_values(&["rollout"]),
            dead: deleted.with_label_values(&["dead"]),
            status_writes: counter(
                "sandbox_manager_pool_status_writes_total",
                "Writes of the status of sets.",
            )?,
        })
    }
}
