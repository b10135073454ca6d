//! [`ReconcileHandler`]: what the user of a controller writes.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use shared_cache::{CacheObject, LookupError, NotSynced};

use super::action::Action;
use super::observed::Observed;

/// Any error; `?` converts the errors of a handler into it.
///
/// A [`LookupError::NotSynced`] in it, as the error itself or among its sources, is not an error of the handler: the
/// cache cannot answer yet. The key is reconciled again a second later, without a count and without a warning.
pub type HandlerError = Box<dyn Error + Send + Sync>;

/// Brings something in line with an object. Implemented by any type, and by closures that return futures:
///
/// ```
/// use std::time::Duration;
///
/// use controller_manager::{Action, HandlerError, Observed, ReconcileHandler};
/// use k8s_openapi::api::core::v1::ConfigMap;
///
/// struct Audit;
///
/// impl ReconcileHandler<ConfigMap> for Audit {
///     async fn reconcile(&self, observed: Observed<ConfigMap>) -> Result<Action, HandlerError> {
///         println!("{}", observed.key());
///         Ok(match observed {
///             Observed::Present(_) => Action::requeue(Duration::from_secs(300)),
///             _ => Action::await_change(),
///         })
///     }
/// }
///
/// fn takes_handlers(_: impl ReconcileHandler<ConfigMap>) {}
/// takes_handlers(Audit);
/// takes_handlers(|_: Observed<ConfigMap>| async { Ok(Action::await_change()) });
/// takes_handlers(async |_: Observed<ConfigMap>| Ok(Action::await_change()));
/// ```
pub trait ReconcileHandler<K>: Send + Sync + 'static {
    /// Called for every object once after the start and after every change of it; changes are merged while the key
    /// waits. Never called twice at once for one key.
    ///
    /// The future is spawned, so it may take long. After the shutdown has begun, it has the grace period left; then it
    /// is dropped at the point that it has reached.
    ///
    /// An error stops the handlers that follow, and the key runs again after an exponential back-off; a panic does the
    /// same. After an error all handlers run again, so a handler must be idempotent.
    fn reconcile(&self, observed: Observed<K>) -> impl Future<Output = Result<Action, HandlerError>> + Send;
}

impl<K, F, Fut> ReconcileHandler<K> for F
where
    F: Fn(Observed<K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Action, HandlerError>> + Send,
{
    fn reconcile(&self, observed: Observed<K>) -> impl Future<Output = Result<Action, HandlerError>> + Send {
        self(observed)
    }
}

/// A [`ReconcileHandler`] behind a pointer.
pub(super) trait ErasedHandler<K>: Send + Sync {
    fn reconcile_boxed(&self, observed: Observed<K>) -> BoxFuture<'_, Result<Action, HandlerError>>;
}

impl<K: CacheObject, H: ReconcileHandler<K>> ErasedHandler<K> for H {
    fn reconcile_boxed(&self, observed: Observed<K>) -> BoxFuture<'_, Result<Action, HandlerError>> {
        // Called inside of the future, so that a handler that panics before its first await panics when polled.
        async move { self.reconcile(observed).await }.boxed()
    }
}

/// The handlers of a controller, in the order of their registration.
pub(super) type Handlers<K> = Vec<Arc<dyn ErasedHandler<K>>>;

/// True if the error, or one of its sources, is [`LookupError::NotSynced`].
///
/// `anyhow::Error` hides the type of the error that it was made of, but not the sources of that error. So the source
/// [`NotSynced`] is searched for, too.
pub(super) fn is_not_synced(error: &HandlerError) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(&**error);
    while let Some(cause) = next {
        if cause.is::<NotSynced>() || matches!(cause.downcast_ref(), Some(LookupError::NotSynced { .. })) {
            return true;
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] LookupError);

    fn not_synced() -> LookupError {
        LookupError::NotSynced { kind: "ConfigMap".into() }
    }

    #[test]
    fn x4_an_unsynced_lookup_is_found_among_the_sources() {
        assert!(is_not_synced(&not_synced().into()));
        assert!(is_not_synced(&Outer(not_synced()).into()));
        assert!(is_not_synced(&anyhow::Error::new(not_synced()).into()));
        assert!(is_not_synced(&anyhow::Error::new(Outer(not_synced())).into()));
        let with_context = Err::<(), _>(not_synced()).context("looking up").unwrap_err();
        assert!(is_not_synced(&with_context.into()));
    }

    #[test]
    fn x4_other_errors_are_errors() {
        let not_found = || LookupError::NotFound { kind: "ConfigMap".into(), id: "a".into() };
        assert!(!is_not_synced(&not_found().into()));
        assert!(!is_not_synced(&Outer(not_found()).into()));
        assert!(!is_not_synced(&"cache of ConfigMap is not synced yet".into()));
    }
}
