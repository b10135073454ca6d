//! `claims`: how long claims take over HTTP, beside one PUT to the same API server.
//!
//! The managers are processes of their own, so their CPU time and memory are measured without the clients, which run
//! in this process.

mod e2b_client;
mod loads;
mod managers;
mod put;

pub(crate) use self::managers::{ManageArguments, manage};

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::DeleteParams;
use sandbox_manager::e2b::{KeyStore, NewEntry};
use secrecy::ExposeSecret;

use self::e2b_client::Claim;
use self::loads::Endpoints;
use self::managers::{LEASE, Managers};
use self::put::Puts;
use crate::ClusterArguments;
use crate::pool::{FEW, Pool, PoolArguments};
use crate::report::Report;

/// Name of the set that is created.
const SET: &str = "scale-claims";

/// The most claims of one client, and of the crowd.
const CLAIMS: usize = 150;

/// Number of clients of the crowd.
const CROWD: usize = 100;

/// Number of claims at once.
const BURST: usize = 300;

#[derive(Args)]
pub(crate) struct ClaimsArguments {
    /// Number of members of the pool.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(10..=20_000))]
    count: u16,
    /// Number of replicas of the manager. Several elect a leader, and each serves a part of the clients.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    managers: u16,
    /// Claims per second of the steady load.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// How long the steady load lasts, in seconds. 0: leave it out.
    #[arg(long, value_name = "S", default_value_t = 10)]
    steady: u32,
    #[command(flatten)]
    pool: PoolArguments,
}

/// Starts the managers, measures, and removes what was created.
pub(crate) async fn run(cluster: &ClusterArguments, arguments: &ClaimsArguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (cluster, server) = arguments.pool.cluster(cluster, folder.path())?;
    let pool = arguments.pool.of(cluster.connector()?.client()?, SET);
    pool.ensure_absent().await?;
    let keys = KeyStore::new(pool.client.clone(), &pool.namespace);
    let key = keys.add(NewEntry::new("scale", &pool.namespace)).await?;
    let managers = Managers::start(arguments.managers, &pool.namespace, &cluster, folder.path());
    let measured = async {
        let managers = managers?;
        let mut run = Run {
            pool: &pool,
            endpoints: Endpoints::new(managers.e2b(), key.key.expose_secret(), SET),
            managers,
            arguments,
            report: Report::new(arguments.pool.json),
        };
        let measured = run.measure().await;
        // The managers run still: they remove the pods.
        let cleaned = pool.clean_up().await;
        run.managers.explain(measured)?;
        cleaned?;
        anyhow::Ok(run.report)
    };
    let measured = measured.await;
    keys.remove(&key.id).await?;
    let leases: Api<Lease> = Api::namespaced(pool.client.clone(), &pool.namespace);
    if arguments.managers > 1 {
        leases.delete(LEASE, &DeleteParams::default()).await.context("deleting the lease")?;
    }
    measured?.finish();
    drop(server);
    Ok(())
}

struct Run<'a> {
    pool: &'a Pool,
    managers: Managers,
    endpoints: Endpoints,
    arguments: &'a ClaimsArguments,
    report: Report,
}

impl Run<'_> {
    fn count(&self) -> usize {
        self.arguments.count.into()
    }

    async fn measure(&mut self) -> anyhow::Result<()> {
        self.managers.wait_until_ready().await?;
        self.report.add("members", f64::from(self.arguments.count), 0);
        self.report.add("managers", f64::from(self.arguments.managers), 0);
        let begun = self.managers.cpu()?;
        self.fill().await?;
        self.one_client().await?;
        self.crowd().await?;
        let memory = self.managers.memory()?;
        let mut cpu = self.managers.cpu()?.saturating_sub(begun);
        if self.count() >= BURST {
            self.burst().await?;
        }
        if self.arguments.steady > 0 {
            self.steady().await?;
        }
        let begun = self.managers.cpu()?;
        let started = Instant::now();
        self.pool.scale(FEW).await?;
        self.pool.wait_for(FEW).await?;
        self.report.add("scale_down_s", started.elapsed().as_secs_f64(), 2);
        cpu += self.managers.cpu()?.saturating_sub(begun);
        self.report.add("cpu_s", cpu.as_secs_f64(), 2);
        self.report.add("rss_mib", memory.resident, 1);
        self.report.add("rss_peak_mib", self.managers.memory()?.peak, 1);
        Ok(())
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        self.pool.create(self.count()).await?;
        self.pool.wait_for(self.count()).await?;
        self.report.add("fill_s", started.elapsed().as_secs_f64(), 2);
        Ok(())
    }

    /// One client: a claim, then a PUT of the same object, in turn.
    async fn one_client(&mut self) -> anyhow::Result<()> {
        let mut client = self.endpoints.connect(0).await?;
        let puts = Puts::new(self.pool);
        self.wait_until_full().await?;
        let (mut claims, mut put_times) = (Vec::new(), Vec::new());
        for _ in 0..CLAIMS.min(self.count()) {
            let claim = self.endpoints.claim(&mut client).await?;
            put_times.push(puts.put(&claim.id).await?);
            claims.push(claim);
        }
        let [claim, put] = [self.record("claim", &claims), self.report.add_times("put", &put_times)];
        self.report.add("claim_over_put", claim / put, 2);
        Ok(())
    }

    async fn crowd(&mut self) -> anyhow::Result<()> {
        let claims = CLAIMS.min(self.count());
        let clients = self.endpoints.connect_all(CROWD.min(claims)).await?;
        self.wait_until_full().await?;
        let load = self.endpoints.crowd(clients, claims).await?;
        self.report.add("crowd_s", load.took.as_secs_f64(), 3);
        self.record("crowd", &load.claims);
        self.wait_until_full().await?;
        let ids: Vec<_> = load.claims.into_iter().map(|claim| claim.id).collect();
        let (times, took) = Puts::new(self.pool).crowd(ids, CROWD).await?;
        self.report.add("put_crowd_s", took.as_secs_f64(), 3);
        self.report.add_times("put_crowd", &times);
        Ok(())
    }

    async fn burst(&mut self) -> anyhow::Result<()> {
        let clients = self.endpoints.connect_all(BURST).await?;
        let load = self.endpoints.crowd(clients, BURST).await?;
        self.report.add("burst_ms", load.took.as_secs_f64() * 1e3, 0);
        self.record("burst", &load.claims);
        self.wait_until_full().await
    }

    /// Claims at a fixed rate, whether or not earlier claims were answered. Each sandbox is killed after its claim.
    async fn steady(&mut self) -> anyhow::Result<()> {
        let (rate, number) = (self.arguments.rate, self.arguments.rate * self.arguments.steady);
        let begun = self.managers.cpu()?;
        let load = self.endpoints.steady(Duration::from_secs(1) / rate, number).await?;
        let ready = self.managers.ready_members(self.pool).await?;
        let cpu = self.managers.cpu()?.saturating_sub(begun);
        self.report.add("steady_per_s", f64::from(number) / load.took.as_secs_f64(), 0);
        self.record("steady", &load.claims);
        self.report.add("steady_ready", f64::from(ready), 0);
        self.report.add("steady_cpu_s", cpu.as_secs_f64(), 2);
        self.wait_until_full().await
    }

    /// Waits until every manager knows all members as ready, and the status of the set says so.
    async fn wait_until_full(&self) -> anyhow::Result<()> {
        self.managers.wait_for_members(self.pool, self.arguments.count.into()).await?;
        self.pool.wait_for(self.count()).await
    }

    /// Reports the times of claims, and returns their median.
    fn record(&mut self, name: &str, claims: &[Claim]) -> f64 {
        self.report.add_times(name, &claims.iter().map(|claim| claim.took).collect::<Vec<_>>())
    }
}
