//! [`LeaderElection`]: an election that does not run yet.

use std::io;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use prometheus::Registry;
use shared_cache::RuntimeThread;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::elector::{Elector, Signals};
use super::leadership::Leadership;
use super::metrics::ElectionMetrics;
use super::options::{InvalidLeaderElection, LeaderElectionOptions};
use super::status::Status;
use crate::client::{ClientError, Connector};
use crate::fence::{Clock, Fence};

/// Why a leader election could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaderElectionError {
    /// The options contradict each other.
    #[error("leader election: {0}")]
    Options(#[from] InvalidLeaderElection),
    /// No client for the lease could be created.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The operating system has started no thread for the renewal.
    #[error("leader election: cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// A leader election by a Lease, for [`ManagerBuilder::leader_election`](crate::ManagerBuilder::leader_election).
///
/// # Guarantees
///
/// - At any moment at most one process may write as the leader, under the assumptions below. Writes by the clients of
///   leader-only work are refused from `renew_deadline` after the moment at which the last successful renewal was sent,
///   and another process takes the lease not before `lease_duration` after it has seen that renewal.
/// - Each process measures time by its own clock that nobody sets. The times in the Lease are for people.
/// - A process leads at most once: when it has lost the lease, its manager ends with
///   [`ManagerError::LeaseLost`](crate::ManagerError::LeaseLost).
/// - A lease that was released is taken within `retry_period`, unless the API server has just refused the requests of the
///   other processes (401, 403, 404). These ask again after 30 s at the latest, or after `retry_period` if it is longer.
/// - A failure of the API server, a missing permission and a missing namespace are reported and retried.
///
/// # Assumptions
///
/// - The clocks of two machines run at the same rate, but for the factor `lease_duration / renew_deadline`.
/// - On Linux the clock is `CLOCK_BOOTTIME`, which goes on while the process is stopped and the machine is suspended.
///   Elsewhere it may stand still while the machine is suspended, and the leader's writes are then not refused after it.
/// - A write is executed within `lease_duration - renew_deadline` after it was handed to its connection, or never. Until
///   then it can be refused; after that, neither the connection nor the network can be told to forget it. A network that
///   delays a request for longer can break this, and so can a pause of the process between the two: the connection may
///   send the request when the process goes on. Only a precondition in the request (a resource version or a UID)
///   protects against that, so writes that must not come late need one.
/// - Nobody deletes the Lease or changes its holder by hand.
pub struct LeaderElection {
    options: LeaderElectionOptions,
    client: Client,
    clock: Clock,
    fence: Fence,
    status: Status,
    thread: Option<RuntimeThread>,
}

impl LeaderElection {
    /// Uses this client, on the runtime on which the manager runs.
    ///
    /// # Errors
    ///
    /// [`LeaderElectionError::Options`].
    pub fn new(options: LeaderElectionOptions, client: Client) -> Result<Self, LeaderElectionError> {
        Self::with_clock(options, client, Clock::system())
    }

    /// Uses a connection and a rate limit of its own, on a thread of its own. So neither many requests nor handlers
    /// that keep the runtime busy hold up a renewal.
    ///
    /// # Errors
    ///
    /// [`LeaderElectionError`].
    pub fn connect(
        options: LeaderElectionOptions,
        connector: &Connector,
    ) -> Result<Self, LeaderElectionError> {
        let thread = RuntimeThread::start("leader-election").map_err(LeaderElectionError::Thread)?;
        let client = {
            let _runtime = thread.handle().enter();
            connector.with_own_rate_limit().client()?
        };
        Ok(Self { thread: Some(thread), ..Self::new(options, client)? })
    }

    pub(super) fn with_clock(
        options: LeaderElectionOptions,
        client: Client,
        clock: Clock,
    ) -> Result<Self, LeaderElectionError> {
        options.validate()?;
        let fence = Fence::new(&options.lease(), clock.clone());
        Ok(Self { options, client, clock, fence, status: Status::default(), thread: None })
    }

    /// Open while this process leads.
    pub(crate) fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Who leads.
    pub(crate) fn status(&self) -> &Status {
        &self.status
    }

    pub(crate) fn register(&self, registry: &Registry) -> Result<ElectionMetrics, prometheus::Error> {
        ElectionMetrics::register(registry, &self.options.name)
    }

    /// Competes for the lease once `ready` has resolved: a process that cannot work yet must not hold it.
    pub(crate) fn start(
        self,
        metrics: ElectionMetrics,
        ready: impl Future<Output = ()> + Send + 'static,
    ) -> Leadership {
        self.start_as(metrics, ready, std::convert::identity)
    }

    /// As [`Self::start`]; `wrap` decides when the elector is polled.
    pub(super) fn start_as<F: Future<Output = ()> + Send + 'static>(
        self,
        metrics: ElectionMetrics,
        ready: impl Future<Output = ()> + Send + 'static,
        wrap: impl FnOnce(BoxFuture<'static, ()>) -> F,
    ) -> Leadership {
        let Self { options, client, clock, fence, status, thread } = self;
        let (sender, lost) = watch::channel(None);
        let (won, stop) = (CancellationToken::new(), CancellationToken::new());
        let signals = Signals { won: won.clone(), stop: stop.clone(), lost: sender };
        let elector = Elector::new(options, client, clock, fence.clone(), status, metrics);
        let stopped = stop.clone();
        let elector = async move {
            if stopped.run_until_cancelled(ready).await.is_some() {
                elector.run(signals).await;
            }
        };
        let elector = wrap(elector.boxed());
        let task = match &thread {
            Some(thread) => thread.handle().spawn(elector),
            None => tokio::spawn(elector),
        };
        Leadership { won, stop, lost, task, fence, _thread: thread }
    }
}
