//! Candidates for one lease on an API server in memory, under paused time. Each has a clock and a network of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Request;
use k8s_openapi::api::coordination::v1::Lease;
use kube::client::Body;
use kube::{Api, Client};
use memory_apiserver::{ApiServer, Verb};
use prometheus::{Registry, TextEncoder};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::{BoxError, service_fn};

use super::super::leadership::{Leadership, LeaseLost};
use super::super::status::Status;
use super::super::{LeaderElection, LeaderElectionOptions};
use crate::fence::{Clock, Fence};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A clock that goes with tokio's, and that a test can set forward: time in which the process was stopped.
#[derive(Clone, Default)]
pub(super) struct TestClock {
    jumped: Arc<AtomicU64>,
}

impl TestClock {
    pub(super) fn clock(&self, offset: Duration) -> Clock {
        let (start, jumped) = (Instant::now(), Arc::clone(&self.jumped));
        Clock::new(move || start.elapsed() + offset + Duration::from_millis(jumped.load(Ordering::SeqCst)))
    }

    pub(super) fn jump(&self, by: Duration) {
        self.jumped.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

/// The network of one process. While it is frozen, neither requests nor answers arrive.
#[derive(Clone)]
pub(super) struct Network {
    frozen: watch::Sender<bool>,
}

impl Network {
    pub(super) fn new() -> Self {
        Self { frozen: watch::Sender::new(false) }
    }

    pub(super) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    pub(super) fn lead(&self, client: Client) -> Client {
        let frozen = self.frozen.clone();
        let namespace = client.default_namespace().to_owned();
        let service = service_fn(move |request: Request<Body>| {
            let (client, mut frozen) = (client.clone(), frozen.subscribe());
            async move {
                frozen.wait_for(|frozen| !frozen).await?;
                let answer = client.send(request).await?;
                frozen.wait_for(|frozen| !frozen).await?;
                Ok::<_, BoxError>(answer)
            }
        });
        Client::new(service, namespace)
    }
}

/// Stops a process, as SIGSTOP does: its tasks do not run, and everything else goes on.
#[derive(Clone)]
pub(super) struct Pauser {
    paused: watch::Sender<bool>,
}

impl Pauser {
    fn new() -> Self {
        Self { paused: watch::Sender::new(false) }
    }

    pub(super) fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    async fn run(self, mut task: BoxFuture<'static, ()>) {
        let mut paused = self.paused.subscribe();
        loop {
            let goes_on = paused.wait_for(|paused| !paused).await.is_ok();
            assert!(goes_on, "the sender is in `self`");
            tokio::select! {
                biased;
                _ = paused.changed() => {}
                () = &mut task => return,
            }
        }
    }
}

/// A process that competes for the lease.
pub(super) struct Candidate {
    pub(super) clock: TestClock,
    pub(super) process: Pauser,
    pub(super) network: Network,
    pub(super) fence: Fence,
    pub(super) status: Status,
    pub(super) leadership: Leadership,
    registry: Registry,
}

pub(super) fn options(identity: &str) -> LeaderElectionOptions {
    LeaderElectionOptions::new("default", "lock", identity)
}

impl Candidate {
    pub(super) fn start(server: &ApiServer, identity: &str) -> Self {
        Self::start_with(server.client(), options(identity), Duration::ZERO)
    }

    /// Its clock shows `offset` more than that of the others.
    pub(super) fn start_with(client: Client, options: LeaderElectionOptions, offset: Duration) -> Self {
        let (clock, network, registry) = (TestClock::default(), Network::new(), Registry::new());
        let client = network.lead(client);
        let election = LeaderElection::with_clock(options, client, clock.clock(offset)).unwrap();
        let metrics = election.register(&registry).unwrap();
        let (fence, status) = (election.fence().clone(), election.status().clone());
        let process = Pauser::new();
        let pauser = process.clone();
        let leadership = election.start_as(metrics, std::future::ready(()), |task| pauser.run(task));
        Self { clock, process, network, fence, status, leadership, registry }
    }

    pub(super) fn may_write(&self) -> bool {
        self.fence.check().is_ok()
    }

    /// Waits until it leads; fails if that takes longer than `limit` of virtual time.
    pub(super) async fn wins_within(&self, limit: Duration) {
        let won = tokio::time::timeout(limit, self.leadership.won().cancelled()).await;
        assert!(won.is_ok(), "it does not lead after {limit:?}: {:?}", self.status.check());
        assert!(self.may_write());
    }

    pub(super) async fn loses_within(&mut self, limit: Duration) -> LeaseLost {
        let lost = tokio::time::timeout(limit, self.leadership.lost()).await;
        let lost = lost.unwrap_or_else(|_| panic!("it still leads after {limit:?}"));
        assert!(!self.may_write());
        lost
    }

    /// The line of a series of its metrics.
    pub(super) fn metric(&self, name: &str) -> String {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}{{name=\"lock\"}} ")));
        line.unwrap_or_else(|| panic!("{name} is not in {text}")).to_owned()
    }
}

pub(super) fn leases(server: &ApiServer) -> Api<Lease> {
    Api::namespaced(server.client_without_faults(), "default")
}

/// The lease: its holder, its transitions and its duration in seconds.
pub(super) async fn lease(server: &ApiServer) -> (String, i32, i32) {
    let spec = leases(server).get("lock").await.unwrap().spec.unwrap();
    (
        spec.holder_identity.unwrap(),
        spec.lease_transitions.unwrap_or_default(),
        spec.lease_duration_seconds.unwrap(),
    )
}

/// How many writes of the lease have arrived.
pub(super) fn lease_writes(server: &ApiServer) -> usize {
    let requests = server.requests();
    let is_write = |verb| matches!(verb, Verb::Create | Verb::Update);
    requests.iter().filter(|request| request.resource == "leases" && is_write(request.verb)).count()
}
