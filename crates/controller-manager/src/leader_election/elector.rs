//! [`Elector`]: takes the lease, renews it, releases it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::events::Announcer;
use super::leadership::LeaseLost;
use super::lease_api::{LeaseApi, LeaseError};
use super::metrics::ElectionMetrics;
use super::options::LeaderElectionOptions;
use super::record::{Observed, created, held, holder, released};
use super::status::Status;
use crate::fence::{Clock, Fence};

/// Longest wait after an answer that only a change of the cluster can improve.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// How often a problem that lasts is logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// How often the release is tried if somebody else changes the lease meanwhile.
const RELEASE_ATTEMPTS: usize = 3;

/// How an elector and its manager talk.
pub(super) struct Signals {
    /// Cancelled by the elector when it has won.
    pub(super) won: CancellationToken,
    /// Cancelled by the manager when the lease is to be released.
    pub(super) stop: CancellationToken,
    /// Set by the elector when the lease is lost.
    pub(super) lost: watch::Sender<Option<LeaseLost>>,
}

/// How a renewal has failed.
enum RenewError {
    /// The Lease names another holder, or none.
    Taken(String),
    /// The lease may still be ours.
    Failed(LeaseError),
}

impl From<LeaseError> for RenewError {
    fn from(error: LeaseError) -> Self {
        Self::Failed(error)
    }
}

pub(super) struct Elector {
    options: LeaderElectionOptions,
    api: LeaseApi,
    clock: Clock,
    fence: Fence,
    status: Status,
    metrics: ElectionMetrics,
    announcer: Announcer,
    observed: Option<Observed>,
    /// True if this process has tried to take the lease, and has not seen since that another one holds it. Then the lease
    /// may be its own, even if no answer said so.
    tried: bool,
    /// Spreads the requests of several processes. Seeded by the identity, so that a test can repeat it.
    chance: StdRng,
    /// The problem that was logged last, and when.
    reported: Option<(String, Duration)>,
}

impl Elector {
    pub(super) fn new(
        options: LeaderElectionOptions,
        client: Client,
        clock: Clock,
        fence: Fence,
        status: Status,
        metrics: ElectionMetrics,
    ) -> Self {
        // With the default times, a second request fits into the deadline after one without an answer.
        let timeout = options.renew_deadline / 2;
        let mut seed = DefaultHasher::new();
        options.identity.hash(&mut seed);
        Self {
            api: LeaseApi::new(client.clone(), &options.namespace, &options.name, timeout),
            announcer: Announcer::new(client, &options.identity),
            chance: StdRng::seed_from_u64(seed.finish()),
            observed: None,
            tried: false,
            reported: None,
            options,
            clock,
            fence,
            status,
            metrics,
        }
    }

    /// Runs until the lease is lost, or until it is released because the manager stops.
    pub(super) async fn run(mut self, signals: Signals) {
        let Signals { won, stop, lost } = signals;
        let lease = self.options.lease();
        tracing::info!(lease, identity = self.options.identity, "waiting for the lease");
        if !self.acquire(&stop).await {
            if self.tried {
                self.release().await;
            }
            return;
        }
        tracing::info!(lease, identity = self.options.identity, "became leader");
        self.metrics.leads.set(1);
        won.cancel();
        self.announce_leading();
        match self.lead(&stop).await {
            Some(loss) => {
                tracing::error!(lease, cause = loss.cause, "stopped leading");
                self.metrics.leads.set(0);
                lost.send_replace(Some(loss));
                self.announce_stopped().await;
            }
            None => {
                if let Some(lease) = self.release().await {
                    self.announcer.stopped_leading(&lease).await;
                }
            }
        }
    }

    /// Returns true once this process holds the lease, and false if it was stopped before.
    async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        let mut backoff = self.options.retry_period;
        while !stop.is_cancelled() {
            let result = self.try_acquire(stop).await;
            if let Ok(true) = result {
                return true;
            }
            let refused = matches!(result, Err(LeaseError::Refused(_)));
            let longest = if refused { backoff } else { self.options.retry_period };
            backoff = if refused { (2 * backoff).min(MAX_BACKOFF.max(longest)) } else { longest };
            if let Err(error) = result {
                self.report(&error);
            }
            stop.run_until_cancelled(sleep(self.jittered(longest))).await;
        }
        false
    }

    /// Takes the lease if it is free. Only the first request is given up when the process stops: the answer to the second
    /// says whether there is a lease to release.
    async fn try_acquire(&mut self, stop: &CancellationToken) -> Result<bool, LeaseError> {
        let Some(found) = stop.run_until_cancelled(self.api.get()).await else { return Ok(false) };
        let taken = if let Some(lease) = found? {
            let observed = self.observe(lease).clone();
            let now = self.clock.now();
            if !observed.is_free(&self.options, now) {
                let holder = holder(&observed.lease).map(str::to_owned);
                self.status.led_by(holder.as_deref(), false);
                self.reported = None;
                // An earlier write of this process that still arrives fails: the lease has changed since.
                self.tried = false;
                return Ok(false);
            }
            self.tried = true;
            self.write(Some(observed.lease.clone())).await
        } else {
            self.tried = true;
            self.write(None).await
        };
        match taken {
            // The fence is shut if the process did not run meanwhile; the next attempt finds the lease to be ours.
            Ok(()) => Ok(self.fence.check().is_ok()),
            Err(LeaseError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Renews until that fails (`Some`) or `stop` is cancelled (`None`).
    async fn lead(&mut self, stop: &CancellationToken) -> Option<LeaseLost> {
        let mut problem = "the process did not run".to_owned();
        loop {
            let wait = self.jittered(self.options.retry_period).min(self.fence.remaining());
            stop.run_until_cancelled(sleep(wait)).await?;
            // Before the request: a process that was paused must not renew a lease that others may take.
            let remaining = self.fence.remaining();
            if remaining.is_zero() {
                let deadline = self.options.renew_deadline.as_secs_f64();
                return Some(self.lost(format!("not renewed for {deadline} s: {problem}")));
            }
            match stop.run_until_cancelled(timeout(remaining, self.renew())).await? {
                Ok(Ok(())) => "the process did not run".clone_into(&mut problem),
                Ok(Err(RenewError::Taken(cause))) => return Some(self.lost(cause)),
                Ok(Err(RenewError::Failed(error))) => {
                    problem = error.to_string();
                    self.report(&error);
                }
                Err(_) => "no answer from the API server".clone_into(&mut problem),
            }
        }
    }

    async fn renew(&mut self) -> Result<(), RenewError> {
        let known = self.observed.as_ref().map(|observed| observed.lease.clone());
        match self.write(known).await {
            Err(LeaseError::Conflict) => {}
            result => return Ok(result?),
        }
        // Somebody has changed the lease, or the answer to an earlier renewal was lost.
        self.metrics.slow_path.inc();
        let found = self.api.get().await?;
        if let Some(lease) = &found {
            match holder(lease) {
                Some(holder) if holder == self.options.identity => {}
                Some(other) => return Err(RenewError::Taken(format!("{other} has taken it"))),
                None => return Err(RenewError::Taken("its holder was removed".to_owned())),
            }
        }
        Ok(self.write(found).await?)
    }

    /// Creates the Lease, or replaces it, with this process as its holder. Opens the fence for the renew deadline, counted
    /// from before the request: others count from later.
    async fn write(&mut self, known: Option<Lease>) -> Result<(), LeaseError> {
        let started = self.clock.now();
        let written = match known {
            Some(lease) => self.api.replace(&held(lease, &self.options, Timestamp::now())).await,
            None => self.api.create(&created(&self.options, Timestamp::now())).await,
        }?;
        self.observe(written);
        self.fence.open_until(started + self.options.renew_deadline);
        self.status.led_by(Some(&self.options.identity), true);
        self.reported = None;
        Ok(())
    }

    /// Gives the lease back if this process holds it, so that others need not wait until it expires. Returns
    /// the released Lease.
    async fn release(&mut self) -> Option<Lease> {
        self.fence.close();
        self.metrics.leads.set(0);
        let known = self.observed.take().map(|observed| observed.lease);
        match self.try_release(known).await {
            Ok(released) => {
                if released.is_some() {
                    self.status.led_by(None, false);
                    tracing::info!(lease = self.options.lease(), "released the lease");
                }
                released
            }
            Err(error) => {
                tracing::warn!(%error, "cannot release the lease, another process takes it when it expires");
                None
            }
        }
    }

    /// Returns the Lease after the release; `None` if this process does not hold it.
    async fn try_release(&self, mut known: Option<Lease>) -> Result<Option<Lease>, LeaseError> {
        let is_ours = |lease: &Lease| holder(lease) == Some(&self.options.identity);
        for _ in 0..RELEASE_ATTEMPTS {
            let ours = match known.take().filter(is_ours) {
                Some(lease) => Some(lease),
                // The answer to the last write was lost, or was not waited for.
                None => self.api.get().await?.filter(is_ours),
            };
            let Some(lease) = ours else { return Ok(None) };
            match self.api.replace(&released(lease, Timestamp::now())).await {
                Err(LeaseError::Conflict) => {}
                answer => return answer.map(Some),
            }
        }
        Err(LeaseError::Conflict)
    }

    /// Shuts the fence at once: whatever the reason, another process may lead.
    fn lost(&self, cause: String) -> LeaseLost {
        let remaining = self.fence.remaining();
        self.fence.close();
        self.status.failed(format!("lost: {cause}"));
        LeaseLost { lease: self.options.lease(), cause, remaining }
    }

    fn observe(&mut self, lease: Lease) -> &Observed {
        let now = self.clock.now();
        if let Some(observed) = &mut self.observed {
            observed.update(lease, now);
        } else {
            self.observed = Some(Observed::new(lease, now));
        }
        self.observed.as_ref().expect("set above")
    }

    /// Between three quarters of a time and the whole: a released lease is taken within the retry period.
    fn jittered(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.chance.random_range(0.75..=1.0))
    }

    /// Shows a problem in the health, and logs it when it is new and then at intervals.
    fn report(&mut self, error: &LeaseError) {
        let (text, now) = (error.to_string(), self.clock.now());
        self.status.failed(text.clone());
        let is_known =
            self.reported.as_ref().is_some_and(|(known, at)| *known == text && now < *at + REPORT_INTERVAL);
        if !is_known {
            tracing::warn!(lease = self.options.lease(), error = text, "leader election fails, retrying");
            self.reported = Some((text, now));
        }
    }

    fn announce_leading(&self) {
        let (announcer, lease) = (self.announcer.clone(), self.observed.clone());
        if let Some(Observed { lease, .. }) = lease {
            tokio::spawn(async move { announcer.became_leader(&lease).await });
        }
    }

    async fn announce_stopped(&self) {
        if let Some(observed) = &self.observed {
            self.announcer.stopped_leading(&observed.lease).await;
        }
    }
}
