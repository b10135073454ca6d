//! [`Kubelet`]: binds Pods to nodes, runs them, and ends them, without a container.
//!
//! It plays three parts of a cluster: the scheduler, the kubelet of each node, and the controller that marks the Pods
//! of a node that is silent. A controller sees the same fields as with kwok's stages `pod/fast`, and those that kwok
//! leaves out: `started`, restarts, readiness gates, and containers that end before their Pod is removed.
//!
//! ```text
//!  Kubelet (rules, nodes) ──▶ Worker ──▶ course   pure: the next step of one Pod
//!  events of the store ─────▶    │         └─▶ status, container   pure: the fields of a Pod
//!                                └─▶ lifecycle   writes, and what follows from them
//! ```
//!
//! One task does all of this from the events of the store. It waits in the time of tokio, and writes times of the clock
//! of the server. It ends with the server.

mod agenda;
mod container;
mod control;
mod course;
mod known;
mod nodes;
mod outcome;
mod pods;
mod status;
mod worker;

pub use control::Kubelet;
pub use outcome::PodOutcome;
pub use pods::Pods;

pub(crate) use worker::start;
