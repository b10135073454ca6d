//! [`Leadership`]: what the manager knows of a running election.

use std::time::Duration;

use shared_cache::RuntimeThread;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fence::Fence;

/// The lease was lost. The process must end, because another one leads or will lead soon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lost the lease {lease}: {cause}")]
pub struct LeaseLost {
    /// Namespace and name of the lease.
    pub lease: String,
    /// What has happened.
    pub cause: String,
    /// How much of the renew deadline was left. Leader-only handlers may end in this time; their writes are refused
    /// already.
    pub remaining: Duration,
}

/// A running election. Dropping it ends the election and refuses all further writes, but leaves the lease as it is: other
/// processes take it when it has expired.
pub(crate) struct Leadership {
    pub(super) won: CancellationToken,
    pub(super) stop: CancellationToken,
    pub(super) lost: watch::Receiver<Option<LeaseLost>>,
    pub(super) task: JoinHandle<()>,
    pub(super) fence: Fence,
    /// After the task in the order of dropping.
    pub(super) _thread: Option<RuntimeThread>,
}

impl Leadership {
    /// Cancelled once this process leads.
    pub(crate) fn won(&self) -> &CancellationToken {
        &self.won
    }

    /// Resolves when the lease is lost after it was won. Cancel safe.
    pub(crate) async fn lost(&mut self) -> LeaseLost {
        match self.lost.wait_for(Option::is_some).await {
            Ok(lost) => lost.clone(),
            Err(_) => None,
        }
        .unwrap_or_else(|| LeaseLost {
            lease: self.fence.lease().to_owned(),
            cause: "the task that renews it has ended".to_owned(),
            remaining: Duration::ZERO,
        })
    }

    /// Releases the lease if this process holds it, so that another one can take it at once. Call it when all
    /// leader-only work has ended.
    pub(crate) async fn release(mut self) {
        self.stop.cancel();
        // A panic of the task was reported by `lost`, and leaves nothing to release.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.fence.close();
        self.task.abort();
    }
}
