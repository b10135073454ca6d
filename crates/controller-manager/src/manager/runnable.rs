//! [`Runnable`]: a part of the process that the manager runs.

use std::any::type_name;
use std::borrow::Cow;
use std::error::Error;
use std::future::Future;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// A part of the process that runs beside the controllers. Implemented by any type, and by closures:
///
/// ```
/// use controller_manager::{CancellationToken, Runnable};
///
/// fn takes_runnables(_: impl Runnable) {}
/// takes_runnables(|stop: CancellationToken| async move {
///     stop.cancelled().await;
///     Ok(())
/// });
/// ```
pub trait Runnable: Send + 'static {
    /// Runs until `stop` is cancelled. Called once every kind of the cache that is not optional is synced.
    ///
    /// It may end earlier. An error or a panic shuts the manager down, which then returns
    /// [`ManagerError::Task`](crate::ManagerError::Task). After the shutdown has begun, the runnable has the grace
    /// period left; then it is dropped at the point that it has reached. If the lease is lost, a leader-only runnable has
    /// only the rest of the renew deadline.
    fn run(
        self,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send;

    /// The name in errors.
    fn name(&self) -> Cow<'static, str> {
        type_name::<Self>().into()
    }
}

impl<F, Fut> Runnable for F
where
    F: FnOnce(CancellationToken) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send,
{
    fn run(
        self,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send {
        self(stop)
    }
}

/// Starts a runnable.
type Start =
    Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, Result<(), Box<dyn Error + Send + Sync>>> + Send>;

/// A [`Runnable`] behind a pointer.
pub(super) struct ErasedRunnable {
    pub(super) name: String,
    pub(super) is_leader_only: bool,
    pub(super) start: Start,
}

impl ErasedRunnable {
    pub(super) fn new<R: Runnable>(runnable: R, is_leader_only: bool) -> Self {
        let name = runnable.name().into_owned();
        // Called inside of the future, so that a panic of `run` itself is one of the task.
        Self { name, is_leader_only, start: Box::new(|stop| async move { runnable.run(stop).await }.boxed()) }
    }
}
