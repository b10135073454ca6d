//! [`Endpoints`]: the loads of claims on the E2B API.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::CROWD;
use super::e2b_client::{Claim, E2bClient};

/// Where the API is served, and what is claimed there.
#[derive(Clone)]
pub(super) struct Endpoints {
    addresses: Arc<[SocketAddr]>,
    key: Arc<str>,
    template: &'static str,
    /// The ids of the sandboxes that a claim was given, and that were not killed.
    held: Arc<Mutex<HashSet<String>>>,
}

/// What a load has led to.
pub(super) struct Load {
    pub(super) claims: Vec<Claim>,
    /// From the first request to the last answer.
    pub(super) took: Duration,
}

impl Endpoints {
    pub(super) fn new(addresses: Vec<SocketAddr>, key: &str, template: &'static str) -> Self {
        Self { addresses: addresses.into(), key: key.into(), template, held: Arc::default() }
    }

    /// Connects a client. Clients with consecutive numbers are spread over the managers.
    pub(super) async fn connect(&self, number: usize) -> anyhow::Result<E2bClient> {
        E2bClient::connect(self.addresses[number % self.addresses.len()], &self.key).await
    }

    pub(super) async fn connect_all(&self, count: usize) -> anyhow::Result<Vec<E2bClient>> {
        try_join_all((0..count).map(|number| self.connect(number))).await
    }

    /// Claims a sandbox, and fails if another claim holds it.
    pub(super) async fn claim(&self, client: &mut E2bClient) -> anyhow::Result<Claim> {
        let claim = client.claim(self.template).await?;
        ensure!(self.held.lock().insert(claim.id.clone()), "sandbox {} was claimed twice", claim.id);
        Ok(claim)
    }

    async fn kill(&self, client: &mut E2bClient, id: &str) -> anyhow::Result<()> {
        // A new member may get the name of one that is gone, so this comes first.
        self.held.lock().remove(id);
        client.kill(id).await
    }

    /// All clients claim at the same time, each one sandbox after the other, until `count` are claimed.
    pub(super) async fn crowd(&self, clients: Vec<E2bClient>, count: usize) -> anyhow::Result<Load> {
        let left = Arc::new(AtomicUsize::new(count));
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for mut client in clients {
            let (endpoints, left) = (self.clone(), Arc::clone(&left));
            tasks.spawn(async move {
                let mut claims = Vec::new();
                let take = |left: usize| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    claims.push(endpoints.claim(&mut client).await?);
                }
                anyhow::Ok(claims)
            });
        }
        let mut claims = Vec::new();
        while let Some(done) = tasks.join_next().await {
            claims.extend(done.context("a client panicked")??);
        }
        Ok(Load { claims, took: started.elapsed() })
    }

    /// Begins a claim in each period, whether or not earlier ones were answered, and kills each claimed sandbox.
    pub(super) async fn steady(&self, period: Duration, count: u32) -> anyhow::Result<Load> {
        let idle = Arc::new(Mutex::new(self.connect_all(CROWD).await?));
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (started, mut tasks, mut claims) = (Instant::now(), JoinSet::new(), Vec::new());
        for number in 0..count {
            ticks.tick().await;
            let (endpoints, idle) = (self.clone(), Arc::clone(&idle));
            tasks.spawn(async move {
                let client = idle.lock().pop();
                let mut client = match client {
                    Some(client) => client,
                    None => endpoints.connect(number as usize).await?,
                };
                let claim = endpoints.claim(&mut client).await?;
                endpoints.kill(&mut client, &claim.id).await?;
                idle.lock().push(client);
                anyhow::Ok(claim)
            });
            while let Some(done) = tasks.try_join_next() {
                claims.push(done.context("a client panicked")??);
            }
        }
        while let Some(done) = tasks.join_next().await {
            claims.push(done.context("a client panicked")??);
        }
        Ok(Load { claims, took: started.elapsed() })
    }
}
