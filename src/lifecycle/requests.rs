//! What the requests of all controllers have in common.

use std::fmt::Debug;
use std::time::Duration;

use controller_manager::HandlerError;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, Preconditions};
use kube::core::Status;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use shared_cache::SharedCache;

/// How long a request may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// When to look again if the cache does not show an own write yet. Its event leads to a reconcile before that.
pub(crate) const UNSEEN_WRITE: Duration = Duration::from_secs(1);

/// What the API server answers, with HTTP 500, if a webhook of its admission does not.
const WEBHOOK_FAILED: &str = "failed calling webhook";

/// Returns true if a webhook of the admission has failed. Admission comes before storage, so nothing was done.
pub(crate) fn is_failed_webhook(answer: &Status) -> bool {
    answer.code == 500 && answer.message.contains(WEBHOOK_FAILED)
}

/// Deletes an object unless it has changed: the change leads to a new decision. Returns true if the object is gone, or
/// goes when its finalizers are removed.
///
/// # Errors
///
/// If the API server refuses for another reason, or does not answer within [`REQUEST_TIMEOUT`].
pub(crate) async fn delete_unchanged<K>(cache: &SharedCache, object: &K) -> Result<bool, HandlerError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let meta = object.meta();
    let api: Api<K> = Api::namespaced(cache.client().clone(), meta.namespace.as_deref().unwrap_or_default());
    let preconditions =
        Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    let name = meta.name.as_deref().unwrap_or_default();
    match tokio::time::timeout(REQUEST_TIMEOUT, api.delete(name, &parameters)).await {
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(false),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(true),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(_)) => Ok(true),
        Err(_) => Err(no_answer(&format!("deletion of {name}"))),
    }
}

/// The error of a request that takes longer than [`REQUEST_TIMEOUT`].
pub(crate) fn no_answer(request: &str) -> HandlerError {
    format!("{request}: no answer within {} s", REQUEST_TIMEOUT.as_secs()).into()
}
