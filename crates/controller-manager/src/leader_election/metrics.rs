//! [`ElectionMetrics`]: the metrics of client-go's leader election.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// The series of one lease.
#[derive(Clone)]
pub(crate) struct ElectionMetrics {
    /// `leader_election_master_status{name}`
    pub(super) leads: IntGauge,
    /// `leader_election_slowpath_total{name}`
    pub(super) slow_path: IntCounter,
}

impl ElectionMetrics {
    pub(super) fn register(registry: &Registry, name: &str) -> Result<Self, prometheus::Error> {
        let leads = IntGaugeVec::new(
            Opts::new("leader_election_master_status", "1 if this process holds the lease, otherwise 0."),
            &["name"],
        )?;
        let slow_path = IntCounterVec::new(
            Opts::new(
                "leader_election_slowpath_total",
                "Number of renewals that had to read the lease first, because it was changed by somebody else.",
            ),
            &["name"],
        )?;
        registry.register(Box::new(leads.clone()))?;
        registry.register(Box::new(slow_path.clone()))?;
        Ok(Self { leads: leads.with_label_values(&[name]), slow_path: slow_path.with_label_values(&[name]) })
    }
}
