//! The client of the API server: found by kubeconfig or in the cluster, limited in its rate, counted in metrics.

mod access;
mod connector;
mod count;
mod error;
mod rate_limit;

pub use access::ClusterAccess;
pub use connector::{Connector, ConnectorOptions};
pub use error::ClientError;

#[cfg(test)]
pub(crate) fn rate_limit_for_tests(per_second: u32, burst: u32) -> rate_limit::RateLimitLayer {
    rate_limit::RateLimitLayer::new(std::sync::Arc::new(rate_limit::RateLimit::new(per_second, burst)))
}
