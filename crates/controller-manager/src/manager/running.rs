//! [`run`]: starts the parts of a manager in order, and stops them in order.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use shared_cache::SharedCache;
use tokio_util::sync::CancellationToken;

use super::controllers::Controllers;
use super::error::ManagerError;
use super::health::ManagerHealth;
use super::listeners::Listeners;
use super::report::report;
use super::runnable::ErasedRunnable;
use super::tasks::Tasks;

/// How long the shutdown waits for the destructors of what it has dropped.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a manager consists of when it starts.
pub(super) struct Parts {
    pub(super) cache: SharedCache,
    pub(super) health: Arc<ManagerHealth>,
    pub(super) listeners: Listeners,
    pub(super) metrics_router: Router,
    pub(super) health_router: Router,
    pub(super) controllers: Controllers,
    pub(super) runnables: Vec<ErasedRunnable>,
    pub(super) grace_period: Duration,
}

/// Runs until `shutdown` is cancelled or a task fails. Dropping the future drops everything that runs.
pub(super) async fn run(parts: Parts, shutdown: CancellationToken) -> Result<(), ManagerError> {
    let Parts { cache, health, listeners, metrics_router, health_router, controllers, runnables, .. } = parts;
    let close = CancellationToken::new();
    let _closed_at_the_end = close.clone().drop_guard();
    let servers = listeners.serve(&metrics_router, &health_router, &close).await?;
    cache.spawn()?;
    health.started();
    let _stopped_at_the_end = cache.stop_on_drop();

    let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
    let mut tasks = start(&cache, controllers, runnables, &stop, &abort);
    let mut failure = tokio::select! {
        () = shutdown.cancelled() => None,
        failure = tasks.failure() => Some(failure),
        never = report(&health) => match never {},
    };
    if let Some(error) = &failure {
        tracing::error!(%error, "shutting down");
    }
    health.shut_down();
    stop.cancel();
    let in_time = tokio::time::timeout(parts.grace_period, tasks.ended(&mut failure)).await.is_ok();
    if !in_time {
        tracing::warn!(grace_period = ?parts.grace_period, "handlers are still running, dropping them");
        abort.cancel();
        if tokio::time::timeout(ABORT_TIMEOUT, tasks.ended(&mut failure)).await.is_err() {
            tracing::warn!("handlers block their thread and cannot be dropped");
        }
    }
    cache.stop().await;
    close.cancel();
    servers.wait().await;
    tracing::info!("stopped");
    match failure {
        Some(error) => Err(error),
        None if in_time => Ok(()),
        None => Err(ManagerError::GracePeriod(parts.grace_period)),
    }
}

/// Spawns controllers and runnables. Both wait for the cache.
fn start(
    cache: &SharedCache,
    controllers: Controllers,
    runnables: Vec<ErasedRunnable>,
    stop: &CancellationToken,
    abort: &CancellationToken,
) -> Tasks {
    let mut tasks = Tasks::default();
    for controller in controllers.into_runnable() {
        let name = format!("controller {:?}", controller.name());
        let running = controller.run(stop.clone(), abort.clone());
        tasks.spawn(name, async { Ok(running.await?) });
    }
    for ErasedRunnable { name, start } in runnables {
        let (cache, stop, abort) = (cache.clone(), stop.clone(), abort.clone());
        tasks.spawn(name, async move {
            if stop.run_until_cancelled(cache.wait_for_cache_sync()).await.is_none() {
                return Ok(());
            }
            abort.run_until_cancelled_owned(start(stop)).await.unwrap_or(Ok(()))
        });
    }
    tasks
}
