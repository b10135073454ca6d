//! The client of the API server: found by kubeconfig or in the cluster, limited in its rate, counted in metrics.

mod access;
mod connector;
mod count;
mod error;
mod rate_limit;

pub use access::ClusterAccess;
pub use connector::{Connector, ConnectorOptions};
pub use error::ClientError;
