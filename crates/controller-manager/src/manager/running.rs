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
use crate::leader_election::{ElectionMetrics, LeaderElection, Leadership};

/// How long the shutdown waits for the destructors of what it has dropped.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a manager consists of when it starts.
pub(super) struct Parts {
    pub(super) cache: SharedCache,
    pub(super) election: Option<(ElectionMetrics, LeaderElection)>,
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
    let synced = cache.clone();
    let start_election = |(metrics, election): (ElectionMetrics, LeaderElection)| {
        election.start(metrics, async move { synced.wait_for_cache_sync().await })
    };
    let mut leadership = parts.election.map(start_election);
    let leading = leadership.as_ref().map(Leadership::won);
    let mut tasks = start(&cache, controllers, runnables, &Phases { leading, stop: &stop, abort: &abort });
    let mut failure = tokio::select! {
        () = shutdown.cancelled() => None,
        failure = tasks.failure() => Some(failure),
        lost = lost(&mut leadership) => Some(lost),
        never = report(&health) => match never {},
    };
    if let Some(error) = &failure {
        tracing::error!(%error, "shutting down");
    }
    health.shut_down();
    stop.cancel();
    let in_time = end(&mut tasks, &mut leadership, &mut failure, parts.grace_period).await;
    if in_time {
        if let Some(leadership) = leadership {
            leadership.release().await;
        }
    } else {
        abort.cancel();
        if tokio::time::timeout(ABORT_TIMEOUT, tasks.ended(&mut failure)).await.is_err() {
            tracing::warn!("handlers block their thread and cannot be dropped");
        }
        // The lease is not released: a write of a handler that was dropped may be on its way.
        drop(leadership);
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

/// Resolves when the lease is lost; never without a leader election. Cancel safe.
async fn lost(leadership: &mut Option<Leadership>) -> ManagerError {
    match leadership {
        Some(leadership) => leadership.lost().await.into(),
        None => std::future::pending().await,
    }
}

/// Waits for the tasks, and returns true if they have ended in time. That is the grace period, or the rest of the renew
/// deadline if the lease is lost.
async fn end(
    tasks: &mut Tasks,
    leadership: &mut Option<Leadership>,
    failure: &mut Option<ManagerError>,
    grace_period: Duration,
) -> bool {
    let mut left = grace_period;
    if !matches!(failure, Some(ManagerError::LeaseLost(_))) {
        let started = tokio::time::Instant::now();
        let loss = tokio::select! {
            in_time = tokio::time::timeout(left, tasks.ended(failure)) => {
                if in_time.is_err() {
                    tracing::warn!(?grace_period, "handlers are still running, dropping them");
                }
                return in_time.is_ok();
            }
            loss = lost(leadership) => loss,
        };
        tracing::error!(error = %loss, "lost the lease during the shutdown");
        left = grace_period.saturating_sub(started.elapsed());
        failure.get_or_insert(loss);
    }
    if let Some(ManagerError::LeaseLost(loss)) = failure {
        left = left.min(loss.remaining);
    }
    let in_time = tokio::time::timeout(left, tasks.ended(failure)).await.is_ok();
    if !in_time {
        tracing::warn!("handlers are still running after the lease was lost, dropping them");
    }
    in_time
}

/// What tasks wait for.
struct Phases<'a> {
    /// Cancelled when this process leads; `None` without a leader election.
    leading: Option<&'a CancellationToken>,
    stop: &'a CancellationToken,
    abort: &'a CancellationToken,
}

impl Phases<'_> {
    /// Resolves when a task may start; with false if it is too late.
    fn reached(&self, is_leader_only: bool) -> impl Future<Output = bool> + Send + use<> {
        let (stop, leading) = (self.stop.clone(), self.leading.filter(|_| is_leader_only).cloned());
        async move {
            match leading {
                Some(leading) => stop.run_until_cancelled(leading.cancelled()).await.is_some(),
                None => true,
            }
        }
    }
}

/// Spawns controllers and runnables. Both wait for the cache, and leader-only ones for the lease.
fn start(
    cache: &SharedCache,
    controllers: Controllers,
    runnables: Vec<ErasedRunnable>,
    phases: &Phases<'_>,
) -> Tasks {
    let Phases { stop, abort, .. } = phases;
    let mut tasks = Tasks::default();
    for controller in controllers.into_runnable() {
        let name = format!("controller {:?}", controller.name());
        let reached = phases.reached(controller.is_leader_only());
        let running = controller.run((*stop).clone(), (*abort).clone());
        tasks.spawn(name, async { if reached.await { Ok(running.await?) } else { Ok(()) } });
    }
    for ErasedRunnable { name, is_leader_only, start } in runnables {
        let (cache, stop, abort) = (cache.clone(), (*stop).clone(), (*abort).clone());
        let reached = phases.reached(is_leader_only);
        tasks.spawn(name, async move {
            let synced = stop.run_until_cancelled(cache.wait_for_cache_sync()).await.is_some();
            if !synced || !reached.await {
                return Ok(());
            }
            abort.run_until_cancelled_owned(start(stop)).await.unwrap_or(Ok(()))
        });
    }
    tasks
}
