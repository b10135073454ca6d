//! [`dispatch`]: starts attempts as their keys become due.

use std::sync::Arc;

use shared_cache::CacheObject;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::reconciler::Reconciler;

/// Runs attempts, at most `limit` at once, until `stop` is cancelled. Then starts none any more, and returns once those
/// that run have ended, or have been dropped because `abort` was cancelled.
///
/// Dropping the future aborts the attempts.
pub(super) async fn dispatch<K: CacheObject>(
    reconciler: Arc<Reconciler<K>>,
    limit: usize,
    stop: CancellationToken,
    abort: CancellationToken,
) {
    let mut attempts = JoinSet::new();
    loop {
        let next_due = start_attempts(&reconciler, limit, &mut attempts);
        let has_room = attempts.len() < limit;
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = attempts.join_next(), if !attempts.is_empty() => check(ended),
            () = reconciler.queue.wait_until_due(), if has_room => {}
            () = sleep_until(next_due), if has_room => {}
        }
        while let Some(ended) = attempts.try_join_next() {
            check(ended);
        }
    }
    let all_ended = async {
        while let Some(ended) = attempts.join_next().await {
            check(ended);
        }
    };
    if abort.run_until_cancelled(all_ended).await.is_none() {
        attempts.shutdown().await;
    }
}

/// Starts attempts while there is room for them. Returns when the next key is due, if there is one.
fn start_attempts<K: CacheObject>(
    reconciler: &Arc<Reconciler<K>>,
    limit: usize,
    attempts: &mut JoinSet<()>,
) -> Option<Instant> {
    while attempts.len() < limit {
        match reconciler.queue.pop() {
            Ok(attempt) => {
                attempts.spawn(Arc::clone(reconciler).run(attempt));
            }
            Err(next_due) => return next_due,
        }
    }
    None
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Panics of handlers end inside of the attempt.
fn check(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an attempt ended without a result");
    }
}
