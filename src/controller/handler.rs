//! What a user of a [`Controller`](super::Controller) writes: a [`ReconcileHandler`].

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use shared_cache::{CachedResource, KeyRef, ObjectKey};

/// Any error; `?` makes one of whatever a handler runs into.
pub type HandlerError = Box<dyn Error + Send + Sync>;

/// What is to be reconciled.
#[derive(Debug)]
pub enum Observed<K> {
    /// The object as the cache has it now, at least as new as what triggered the reconcile.
    Present(Arc<K>),
    /// The object is gone from the cache: deleted, out of the label selector, or unreadable. A handler that
    /// cleans up outside of the cluster should make sure by a live read first.
    Deleted {
        /// Namespace and name that it had.
        key: ObjectKey,
        /// The last state that was seen of it.
        last_known: Option<Arc<K>>,
    },
}

impl<K> Clone for Observed<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Present(object) => Self::Present(Arc::clone(object)),
            Self::Deleted { key, last_known } => {
                Self::Deleted { key: key.clone(), last_known: last_known.clone() }
            }
        }
    }
}

impl<K: CachedResource> Observed<K> {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> KeyRef<'_> {
        match self {
            Self::Present(object) => KeyRef::of(&**object),
            Self::Deleted { key, .. } => key.into(),
        }
    }

    /// The newest state that is known.
    #[must_use]
    pub fn object(&self) -> Option<&Arc<K>> {
        match self {
            Self::Present(object) => Some(object),
            Self::Deleted { last_known, .. } => last_known.as_ref(),
        }
    }
}

/// What should follow a successful reconcile. The name and constructors are those of kube's `Action`, whose
/// delay can't be read, which choosing the soonest of several takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Action {
    requeue_after: Option<Duration>,
}

impl Action {
    /// Reconcile again after this time even if nothing changes.
    #[must_use]
    pub const fn requeue(after: Duration) -> Self {
        Self { requeue_after: Some(after) }
    }

    /// Reconcile again when something changes.
    #[must_use]
    pub const fn await_change() -> Self {
        Self { requeue_after: None }
    }

    /// After which time to reconcile even if nothing changes.
    #[must_use]
    pub const fn requeue_after(self) -> Option<Duration> {
        self.requeue_after
    }

    /// The one of two that comes back sooner.
    #[must_use]
    pub fn soonest(self, other: Self) -> Self {
        let both = self.requeue_after.into_iter().chain(other.requeue_after);
        Self { requeue_after: both.min() }
    }
}

impl From<Action> for kube::runtime::controller::Action {
    fn from(action: Action) -> Self {
        action.requeue_after.map_or_else(Self::await_change, Self::requeue)
    }
}

/// Brings something in line with an object. Implemented by any type, and by closures that return futures:
///
/// ```
/// use std::time::Duration;
/// use sandbox_manager::api::v1alpha1::Sandbox;
/// use sandbox_manager::controller::{Action, HandlerError, Observed, ReconcileHandler};
///
/// struct Audit;
///
/// impl ReconcileHandler<Sandbox> for Audit {
///     async fn reconcile(&self, observed: Observed<Sandbox>) -> Result<Action, HandlerError> {
///         println!("{}", observed.key());
///         Ok(Action::requeue(Duration::from_secs(300)))
///     }
/// }
///
/// let closure = |_: Observed<Sandbox>| async { Ok(Action::await_change()) };
/// fn takes_handlers(_: impl ReconcileHandler<Sandbox>) {}
/// takes_handlers(Audit);
/// takes_handlers(closure);
/// ```
pub trait ReconcileHandler<K>: Send + Sync + 'static {
    /// Called for every object once after the start and after every change of it, merged while it waits; never
    /// twice at once for one key. The future is spawned, so it may take long, but at a shutdown it has only
    /// the grace period left before it is dropped where it stands.
    ///
    /// An error stops the handlers that follow and brings the key back with exponential back-off; so does a
    /// panic. Must be idempotent: after an error all handlers run again.
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

impl<K: CachedResource, H: ReconcileHandler<K>> ErasedHandler<K> for H {
    fn reconcile_boxed(&self, observed: Observed<K>) -> BoxFuture<'_, Result<Action, HandlerError>> {
        // Called inside, so that a handler that panics before its first await does so in its own future.
        async move { self.reconcile(observed).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r3_the_soonest_requeue_wins() {
        let (soon, late) = (Action::requeue(Duration::from_secs(1)), Action::requeue(Duration::from_secs(9)));
        for (a, b, expected) in [
            (soon, late, soon),
            (late, soon, soon),
            (Action::await_change(), late, late),
            (late, Action::await_change(), late),
            (Action::await_change(), Action::await_change(), Action::await_change()),
        ] {
            assert_eq!(a.soonest(b), expected);
        }
    }
}
