//! [`finalizer`]: a cleanup that no deletion can skip.

use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use kube::runtime::finalizer::{self as kube_finalizer, Event};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::action::Action;
use super::handler::HandlerError;

pub use kube::runtime::finalizer::Event as FinalizerEvent;

/// Reconciles an object that must be cleaned up before it is gone.
///
/// Calls [`kube::runtime::finalizer()`], whose guarantees hold: the finalizer is added before the first
/// [`FinalizerEvent::Apply`], and removed after [`FinalizerEvent::Cleanup`] has succeeded. So a cleanup happens even if
/// no manager runs when the object is deleted. The name of the finalizer must be qualified, such as
/// `example.com/volume`.
///
/// Call it with the object of [`Observed::Present`](crate::Observed::Present). The call that adds the finalizer does
/// not call `reconcile`; the change of the object leads to the next call, so a predicate of the controller must accept
/// it ([`generation_changed`](shared_cache::predicates::generation_changed) does not).
///
/// # Errors
///
/// The error of `reconcile`, or the error of the request that adds or removes the finalizer.
pub async fn finalizer<K, F, Fut>(
    api: &Api<K>,
    finalizer_name: &str,
    object: Arc<K>,
    reconcile: F,
) -> Result<Action, HandlerError>
where
    K: Resource + Clone + DeserializeOwned + Serialize + Debug + Send + Sync + 'static,
    F: FnOnce(FinalizerEvent<K>) -> Fut + Send,
    Fut: Future<Output = Result<Action, HandlerError>> + Send,
{
    // The delay of kube's action cannot be read, so ours comes back beside it.
    let wish = OnceLock::new();
    let reconcile = |event: Event<K>| async {
        let action = reconcile(event).await.map_err(ReconcileError)?;
        wish.get_or_init(|| action);
        Ok(action.into())
    };
    match kube_finalizer::finalizer(api, finalizer_name, object, reconcile).await {
        Ok(_) => Ok(wish.get().copied().unwrap_or_default()),
        Err(
            kube_finalizer::Error::ApplyFailed(ReconcileError(error))
            | kube_finalizer::Error::CleanupFailed(ReconcileError(error)),
        ) => Err(error),
        Err(error) => Err(error.into()),
    }
}

/// Carries the error of a handler through kube's helper, which takes only types that implement `Error`.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct ReconcileError(HandlerError);
