//! Leader election by a Lease: one process of several does the work that only one may do.
//!
//! ```text
//!  Elector ── GET, PUT ──▶ Lease          on a thread and a connection of its own
//!     │ opens until "start of the last renewal + renew deadline"
//!     ▼
//!   Fence ◀── asked before each write ── clients of leader-only handlers
//! ```
//!
//! The manager starts a [`LeaderElection`], and gets a [`Leadership`]: when it has won, when it has lost, and how to
//! release. `record` has the rules of the Lease as pure functions. Nothing here knows a controller.

mod election;
mod elector;
mod events;
mod leadership;
mod lease_api;
mod metrics;
mod options;
mod place;
mod record;
mod status;

#[cfg(test)]
mod tests;

pub use election::{LeaderElection, LeaderElectionError};
pub use leadership::LeaseLost;
pub use options::{InvalidLeaderElection, LeaderElectionOptions};
pub use place::{pod_identity, pod_namespace};

pub(crate) use leadership::Leadership;
pub(crate) use metrics::ElectionMetrics;
pub(crate) use status::Status;
