//! [`LeaseApi`]: the requests for one Lease, each with a deadline.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use shared_cache::error_text;

/// Why a request for the Lease has failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LeaseError {
    /// Somebody else has changed, created or removed the Lease meanwhile.
    #[error("another process has changed the lease")]
    Conflict,
    /// The API server rejects the request until somebody changes the cluster: a permission or a namespace is missing.
    #[error("{0}")]
    Refused(String),
    /// The API server has failed, or did not answer.
    #[error("{0}")]
    Failed(String),
}

pub(super) struct LeaseApi {
    api: Api<Lease>,
    namespace: String,
    name: String,
    timeout: Duration,
}

impl LeaseApi {
    /// A request without an answer fails after `timeout`.
    pub(super) fn new(client: Client, namespace: &str, name: &str, timeout: Duration) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, namespace: namespace.to_owned(), name: name.to_owned(), timeout }
    }

    /// `None` if there is no such Lease.
    pub(super) async fn get(&self) -> Result<Option<Lease>, LeaseError> {
        self.answer("get", self.api.get_opt(&self.name)).await
    }

    pub(super) async fn create(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        self.answer("create", self.api.create(&PostParams::default(), lease)).await
    }

    /// Fails with [`LeaseError::Conflict`] unless the Lease still has the resource version of `lease`.
    pub(super) async fn replace(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        self.answer("update", self.api.replace(&self.name, &PostParams::default(), lease)).await
    }

    async fn answer<T>(
        &self,
        verb: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, LeaseError> {
        match tokio::time::timeout(self.timeout, request).await {
            Ok(answer) => answer.map_err(|error| self.classified(verb, &error)),
            Err(_) => Err(LeaseError::Failed(format!(
                "no answer to the {verb} of the lease within {} s",
                self.timeout.as_secs_f64()
            ))),
        }
    }

    fn classified(&self, verb: &str, error: &kube::Error) -> LeaseError {
        let Self { namespace, name, .. } = self;
        let text = error_text(error);
        let kube::Error::Api(status) = error else { return LeaseError::Failed(text) };
        match (status.code, verb) {
            (409, _) | (404, "update") => LeaseError::Conflict,
            (404, _) => LeaseError::Refused(format!(
                "cannot create the lease {name:?}: the namespace {namespace:?} does not exist"
            )),
            (403, _) => LeaseError::Refused(format!(
                "no permission to {verb} leases.coordination.k8s.io {name:?} in namespace {namespace:?}: {text}"
            )),
            (401 | 400 | 405 | 422, _) => {
                LeaseError::Refused(format!("cannot {verb} the lease {namespace}/{name}: {text}"))
            }
            _ => LeaseError::Failed(format!("cannot {verb} the lease {namespace}/{name}: {text}")),
        }
    }
}
