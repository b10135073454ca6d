//! [`run`]: starts the parts of a manager in order, and stops them in order.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use shared_cache::SharedCache;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::controllers::Controllers;
use super::error::ManagerError;
use super::health::ManagerHealth;
use super::listeners::Listeners;
use super::report::report;
use super::runnable::ErasedRunnable;
use super::tasks::Tasks;
use crate::leader_election::{ElectionMetrics, LeaderElection, Leadership, LeaseLost};

/// How long the shutdown waits for the destructors of what it has dropped.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the shutdown waits for the release of the lease. It may come at the end of the grace period, and the kubelet
/// kills the pod 10 s after that.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

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

    let (stop, abort) = (CancellationToken::new(), Abort::new());
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
        lost = lost(&mut leadership) => Some(lost.into()),
        never = report(&health) => match never {},
    };
    if let Some(error) = &failure {
        tracing::error!(%error, "shutting down");
    }
    health.shut_down();
    stop.cancel();
    let in_time = end(&mut tasks, &mut leadership, &mut failure, &abort, parts.grace_period).await;
    if !in_time {
        abort.all.cancel();
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
async fn lost(leadership: &mut Option<Leadership>) -> LeaseLost {
    match leadership {
        Some(leadership) => leadership.lost().await,
        None => std::future::pending().await,
    }
}

/// Releases the lease, unless the API server does not answer.
async fn release(leadership: Leadership) {
    if tokio::time::timeout(RELEASE_TIMEOUT, leadership.release()).await.is_err() {
        let timeout = RELEASE_TIMEOUT;
        tracing::warn!(?timeout, "the lease may not be released, another process takes it when it expires");
    }
}

/// Waits for the tasks, and returns true if they have ended within the grace period. Releases the lease as soon as the
/// leader-only ones have ended: nobody does their work until another process leads, and the others may take long.
///
/// Once the lease is lost, leader-only tasks are dropped after the rest of the renew deadline. The others go on.
async fn end(
    tasks: &mut Tasks,
    leadership: &mut Option<Leadership>,
    failure: &mut Option<ManagerError>,
    abort: &Abort,
    grace_period: Duration,
) -> bool {
    let grace = tokio::time::sleep(grace_period);
    tokio::pin!(grace);
    let mut leading_until = match failure {
        Some(ManagerError::LeaseLost(loss)) => Some(Instant::now() + loss.remaining),
        _ => None,
    };
    loop {
        let leads = leadership.is_some();
        let ended =
            async { if leads { tasks.leader_only_ended(failure).await } else { tasks.ended(failure).await } };
        tokio::select! {
            // What has ended in time has, though the release of the lease took the rest of it.
            biased;
            () = ended => match leadership.take() {
                Some(leadership) => {
                    leading_until = None;
                    release(leadership).await;
                }
                None => return true,
            },
            () = &mut grace => {
                tracing::warn!(?grace_period, "handlers are still running, dropping them");
                return false;
            }
            loss = lost(leadership), if leading_until.is_none() => {
                tracing::error!(error = %loss, "lost the lease during the shutdown");
                leading_until = Some(Instant::now() + loss.remaining);
                failure.get_or_insert(loss.into());
            }
            () = reached(leading_until), if !abort.leader_only.is_cancelled() => {
                tracing::warn!("the lease is lost, leader-only work that still runs is dropped");
                abort.leader_only.cancel();
            }
        }
    }
}

/// Resolves at this time, or never.
async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Drops tasks at the point that they have reached.
struct Abort {
    all: CancellationToken,
    /// Cancelled with `all`, or before.
    leader_only: CancellationToken,
}

impl Abort {
    fn new() -> Self {
        let all = CancellationToken::new();
        Self { leader_only: all.child_token(), all }
    }

    fn token(&self, is_leader_only: bool) -> CancellationToken {
        if is_leader_only { self.leader_only.clone() } else { self.all.clone() }
    }
}

/// What tasks wait for.
struct Phases<'a> {
    /// Cancelled when this process leads; `None` without a leader election.
    leading: Option<&'a CancellationToken>,
    stop: &'a CancellationToken,
    abort: &'a Abort,
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
        let is_leader_only = controller.is_leader_only();
        let reached = phases.reached(is_leader_only);
        let running = controller.run((*stop).clone(), abort.token(is_leader_only));
        tasks.spawn(name, is_leader_only, async { if reached.await { Ok(running.await?) } else { Ok(()) } });
    }
    for ErasedRunnable { name, is_leader_only, start } in runnables {
        let (cache, stop, abort) = (cache.clone(), (*stop).clone(), abort.token(is_leader_only));
        let reached = phases.reached(is_leader_only);
        tasks.spawn(name, is_leader_only, async move {
            let synced = stop.run_until_cancelled(cache.wait_for_cache_sync()).await.is_some();
            if !synced || !reached.await {
                return Ok(());
            }
            abort.run_until_cancelled_owned(start(stop)).await.unwrap_or(Ok(()))
        });
    }
    tasks
}
