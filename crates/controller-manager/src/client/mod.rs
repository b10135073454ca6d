//! The client of the API server: found by kubeconfig or in the cluster, through a proxy if the environment names one,
//! limited in its rate, counted in metrics.
//!
//! ```text
//!  access ──▶ kubeconfig, proxy        which cluster, through which proxy
//!  connector ──▶ rate_limit ──▶ transport ──▶ count ──▶ kube's client
//!                                  └──▶ credential_store ──▶ credentials, helper
//! ```

mod access;
mod certificates;
mod connector;
mod count;
mod credential_store;
mod credentials;
mod error;
mod helper;
mod kubeconfig;
mod no_proxy;
mod proxy;
mod rate_limit;
#[cfg(test)]
mod tests;
mod tls_problem;
mod transport;

pub use access::ClusterAccess;
pub use connector::{Connector, ConnectorOptions};
pub use error::ClientError;
pub use rate_limit::RateLimit;

#[cfg(test)]
pub(crate) fn rate_limit_for_tests(per_second: u32, burst: u32) -> rate_limit::RateLimitLayer {
    rate_limit::RateLimitLayer::new(std::sync::Arc::new(rate_limit::RateLimit::new(per_second, burst)))
}
